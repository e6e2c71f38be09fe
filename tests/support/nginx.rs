//! A real nginx in front of a server, where one is found: `NGINX`, one that is installed, or one
//! that `scripts/nginx.sh` has unpacked. Where none is, its tests say so and test nothing.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::until;

/// A running nginx; ended when it is dropped.
pub struct Nginx {
    child: Child,
    /// Where clients connect.
    pub address: SocketAddr,
    folder: TempDir,
}

/// The program.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("NGINX").filter(|named| !named.is_empty()).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("nginx"));
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nginx/usr/sbin/nginx");
    let places = installed.chain([PathBuf::from("/usr/sbin/nginx"), unpacked]);
    named.or_else(|| places.into_iter().find(|place| place.is_file()))
}

impl Nginx {
    /// One with those lines in its `server` block, if there is an nginx.
    pub fn start(lines: &str) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("left out: there is no nginx; scripts/nginx.sh gets one (Debian)");
            return None;
        };
        // Somebody else may take the port before it does: then it ends, and another is tried.
        (0..10).find_map(|_| {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            Self::at(&program, TempDir::new().unwrap(), free, lines)
        })
    }

    fn at(program: &Path, folder: TempDir, address: SocketAddr, lines: &str) -> Option<Self> {
        let dir = folder.path().display();
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {dir}/{kind};"))
            .join(" ");
        let config = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log stderr warn;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; {places}\n\
             server {{ listen {address};\n{lines}\n}} }}\n"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut own = Self { child: child.unwrap(), address, folder };
        let mut ended = false;
        until("nginx listens", || {
            ended = own.child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(address).is_ok()
        });
        let log = own.log();
        assert!(!ended || log.contains("in use"), "nginx did not start:\n{log}");
        (!ended).then_some(own)
    }

    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let mut log = String::new();
        let file = std::fs::File::open(self.folder.path().join("log"));
        file.unwrap().read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
