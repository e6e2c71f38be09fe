//! What is printed, and kept where `--save` asks for it: the machine, the settings, the figures.

use std::fmt::Write as _;
use std::path::Path;

use crate::server::{Machine, said};
use crate::{Common, Outcome};

/// A report on its way.
#[derive(Debug)]
pub struct Report(String);

impl Report {
    /// With the head that says what was run where.
    pub fn begin(name: &str, common: &Common, machine: &Machine) -> Self {
        let mut report = Self(String::new());
        let read = |path| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let of = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
        };
        let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let source = env!("CARGO_MANIFEST_DIR");
        let git = |arguments: &[&str]| said("git", &[&["-C", source], arguments].concat());
        let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
        let changed = changed.is_some_and(|changed| !changed.is_empty());
        let data = machine.data.display().to_string();
        let kind = said("stat", &["-f", "-c", "%T", &data]).unwrap_or_default();
        let say = |report: &mut Self, key: &str, value: &str| {
            report.line(&format!("{key:<10} {value}"));
        };
        say(&mut report, "bench", name);
        say(&mut report, "date", &said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default());
        let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_default();
        let commit = if changed { commit + " with changes" } else { commit };
        say(&mut report, "commit", &commit);
        let cores = format!(
            "{} cores of {}; server on {}, load on the others",
            machine.cores,
            of(&cpu, "model name"),
            machine.core
        );
        say(&mut report, "cpu", &cores);
        say(&mut report, "memory", &of(&memory, "MemTotal"));
        say(&mut report, "kernel", &read("/proc/sys/kernel/osrelease"));
        say(&mut report, "disk", &format!("{kind}, fsync on"));
        say(&mut report, "busy", &format!("load average before the run {}", read("/proc/loadavg")));
        say(&mut report, "server", &format!("--dev --set {}", machine.settings().join(" --set ")));
        let (payload, Common { quick, acks, .. }) = (common.payload(), common);
        let settings = format!("payload {payload} B, quick {quick}, acks {acks:?}").to_lowercase();
        say(&mut report, "load", &settings);
        report
    }

    /// One line, now and in the file.
    pub fn line(&mut self, line: &str) {
        println!("{line}");
        writeln!(self.0, "{line}").ok();
    }

    /// Keeps it, if it has a name.
    pub fn end(self, name: Option<&str>) -> Outcome<()> {
        let Some(name) = name else { return Ok(()) };
        let date = said("date", &["-u", "+%Y-%m-%d"]).ok_or("no date")?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{date}-{name}.txt"));
        std::fs::write(&path, self.0)?;
        println!("kept as {}", path.display());
        Ok(())
    }
}
