//! The server under load: a process of its own on a core of its own, and what it has cost.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use crate::{Common, Outcome};

/// How long a server may take to listen.
const READY: Duration = Duration::from_secs(30);
/// Resident memory counts as settled when it moved less than this, in bytes,
const SETTLED: u64 = 64 << 10;
/// over so many looks one after the other,
const LOOKS: usize = 8;
/// with this between them.
const LOOK: Duration = Duration::from_millis(250);

/// The machine as a run uses it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The server's core.
    pub core: usize,
    /// How many there are.
    pub cores: usize,
    /// The server's program.
    pub server: PathBuf,
    /// Where data folders are made.
    pub data: PathBuf,
    /// Clock ticks of the kernel's accounts in a second.
    ticks: f64,
    set: Vec<String>,
}

impl Machine {
    /// Finds the server and keeps this process off its core.
    pub fn prepare(common: &Common) -> Outcome<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().unwrap_or(Path::new(".")).join("highwater");
        let server = common.server.clone().unwrap_or(beside);
        if !server.is_file() {
            let built = "build it first: cargo build --release";
            return Err(format!("there is no server at {}; {built}", server.display()).into());
        }
        let cores = std::thread::available_parallelism()?.get();
        let core = common.core.unwrap_or(cores - 1);
        if core >= cores {
            return Err(format!("core {core} of 0 to {}", cores - 1).into());
        }
        if cores > 1 {
            let others: Vec<_> =
                (0..cores).filter(|one| *one != core).map(|one| one.to_string()).collect();
            let pid = std::process::id().to_string();
            said("taskset", &["-a", "-p", "-c", &others.join(","), &pid])
                .ok_or("taskset could not be run: it comes with util-linux")?;
        }
        let ticks = said("getconf", &["CLK_TCK"]).and_then(|ticks| ticks.parse().ok());
        let ticks = ticks.unwrap_or(100.0);
        let data = common.data.clone().unwrap_or_else(std::env::temp_dir);
        Ok(Self { core, cores, server, data, ticks, set: common.set.clone() })
    }

    /// Settings of the server that a load needs: its defaults are for users that are people.
    pub fn settings(&self) -> Vec<String> {
        let mut settings: Vec<String> = [
            "limits.handshakes_per_second=1000000",
            "limits.appends_per_user_second=10000000",
            "limits.append_bytes_per_user_second=10000000000",
            "limits.sockets=19000",
        ]
        .map(str::to_owned)
        .to_vec();
        settings.extend(self.set.iter().cloned());
        settings
    }

    /// A Highwater of its own, on an empty folder.
    pub fn highwater(&self) -> Outcome<Server> {
        self.serve(Scratch::new(&self.data)?)
    }

    /// The same one again, killed and started on the folder that it leaves.
    pub fn restart(&self, server: Server) -> Outcome<Server> {
        let Server { child, scratch, .. } = server;
        drop(child);
        self.serve(scratch)
    }

    /// The same with another program as its server.
    pub fn running(&self, server: &Path) -> Outcome<Self> {
        if !server.is_file() {
            return Err(format!("there is no server at {}", server.display()).into());
        }
        Ok(Self { server: server.to_owned(), ..self.clone() })
    }

    /// A token of a user that may do everything with all logs.
    pub fn token(&self, server: &Server, user: &str) -> Outcome<String> {
        let (program, data) = (self.server.display().to_string(), server.scratch.data());
        let data = data.display().to_string();
        let grant = ["--grant", "**=read,append,snapshot", "--expires-in", "24h"];
        let make = ["token", "make", "--dev", "--data", &data, "--user", user];
        said(&program, &[&make[..], &grant[..]].concat())
            .ok_or_else(|| format!("no token could be made for {user}").into())
    }

    fn serve(&self, scratch: Scratch) -> Outcome<Server> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.core.to_string()]).arg(&self.server);
        command.args(["serve", "--listen", "127.0.0.1:0", "--dev", "--data"]);
        command.arg(scratch.data());
        for setting in self.settings() {
            command.args(["--set", &setting]);
        }
        self.start(command, scratch)
    }

    /// The bare epoll loop, with messages of that size.
    pub fn floor(&self, size: usize) -> Outcome<Server> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.core.to_string()]).arg(std::env::current_exe()?);
        command.args(["floor", &size.to_string()]);
        self.start(command, Scratch::new(&self.data)?)
    }

    fn start(&self, mut command: Command, scratch: Scratch) -> Outcome<Server> {
        let complaints = scratch.0.join("stderr");
        let stderr = std::fs::File::create(&complaints)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = Ended(command.spawn()?);
        let stdout = child.0.stdout.take().ok_or("no standard output")?;
        let (tell, told) = sync_channel(1);
        std::thread::spawn(move || {
            let line = BufReader::new(stdout).lines().next();
            tell.send(line.and_then(Result::ok)).ok();
        });
        let line = told.recv_timeout(READY).ok().flatten();
        let address = line.as_deref().and_then(|line| line.strip_prefix("listening on http://"));
        let Some(address) = address else {
            let complaints = std::fs::read_to_string(&complaints).unwrap_or_default();
            return Err(format!("the server did not start: {}", complaints.trim()).into());
        };
        let address = address.trim().parse()?;
        Ok(Server { address, ticks: self.ticks, child, scratch })
    }
}

/// What a program printed, if it ran and succeeded.
pub fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A folder that goes with this value.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(under: &Path) -> Outcome<Self> {
        for number in 0..10_000_u32 {
            let name = format!("highwater-bench-{}-{number}", std::process::id());
            match std::fs::create_dir(under.join(&name)) {
                Ok(()) => return Ok(Self(under.join(name))),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("{}: {error}", under.display()).into()),
            }
        }
        Err("too many folders of this benchmark".into())
    }

    /// The server's own folder in it.
    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} could not be removed: {error}", self.0.display());
        }
    }
}

/// A child process that ends with this value.
#[derive(Debug)]
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    ticks: f64,
    child: Ended,
    scratch: Scratch,
}

impl Server {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// CPU seconds that it has used, of user and system.
    pub fn cpu(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The second field is a name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(')').ok_or("a strange /proc/PID/stat")?;
        let ticks: Vec<f64> =
            fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / self.ticks)
    }

    /// CPU seconds that its threads have used, by name; finer than [`Server::cpu`], and without
    /// threads that have ended.
    pub fn threads(&self) -> Outcome<BTreeMap<String, f64>> {
        let mut all = BTreeMap::new();
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let thread = thread?.path();
            // It may end meanwhile.
            let (Ok(name), Ok(spent)) = (
                std::fs::read_to_string(thread.join("comm")),
                std::fs::read_to_string(thread.join("schedstat")),
            ) else {
                continue;
            };
            let spent = spent.split_whitespace().next().ok_or("an empty schedstat")?;
            *all.entry(name.trim().to_owned()).or_default() += spent.parse::<f64>()? / 1e9;
        }
        Ok(all)
    }

    /// Bytes that it has handed to the system by calls that write, and bytes of pages that it has
    /// made the system write to a disk.
    pub fn written(&self) -> Outcome<(u64, u64)> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid()))?;
        let of = |name: &str| -> Outcome<u64> {
            let line = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            Ok(line.ok_or_else(|| format!("no {name} in /proc/PID/io"))?.parse()?)
        };
        Ok((of("wchar")?, of("write_bytes")?))
    }

    /// Bytes that its data folder takes on the disk; holes of its files take none.
    pub fn disk(&self) -> Outcome<u64> {
        let data = self.scratch.data().display().to_string();
        let used = said("du", &["-s", "-k", &data]).ok_or("du could not be run")?;
        let kilobytes = used.split_whitespace().next().ok_or("du said nothing")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    }

    /// What it answers to `GET`, as text.
    pub fn get(&self, path: &str) -> Outcome<String> {
        let mut tcp = std::net::TcpStream::connect(self.address)?;
        tcp.set_read_timeout(Some(READY))?;
        let host = self.address;
        write!(tcp, "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a head")?;
        if head.split(' ').nth(1) != Some("200") {
            return Err(format!("{path} was answered with {}", head.trim()).into());
        }
        Ok(body.to_owned())
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        let kilobytes: u64 = kilobytes.ok_or("no VmRSS in /proc/PID/status")?.parse()?;
        Ok(kilobytes * 1024)
    }

    /// Its resident memory once it no longer moves; `meanwhile` is called between looks.
    pub fn settled(&self, mut meanwhile: impl FnMut(Duration) -> Outcome<()>) -> Outcome<u64> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut last = self.resident()?;
        let mut still = 0;
        while still < LOOKS {
            if Instant::now() > deadline {
                return Err("the server's memory does not settle within a minute".into());
            }
            let next = Instant::now() + LOOK;
            while Instant::now() < next {
                meanwhile(next.saturating_duration_since(Instant::now()))?;
            }
            let now = self.resident()?;
            still = if now.abs_diff(last) <= SETTLED { still + 1 } else { 0 };
            last = now;
        }
        Ok(last)
    }
}
