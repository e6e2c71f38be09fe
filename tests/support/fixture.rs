//! Data folders of older formats, as `tests/fixtures` keeps them: unpacked for one test, and what
//! the program that made them told of them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::server::{Options, Server};

/// A data folder of an older format; its files are `tests/fixtures/NAME.tar.gz` and `NAME.json`.
#[derive(Clone, Copy, Debug)]
pub struct Fixture(&'static str);

/// "highwater store 2".
pub const STORE_2: Fixture = Fixture("store-2");
/// "highwater store 3", today's: what is told of one that was made before has to stay.
pub const STORE_3: Fixture = Fixture("store-3");
/// The same format, with rows that have what they have grown by since.
pub const GROWN_3: Fixture = Fixture("store-3-grown");

impl Fixture {
    fn path(self, ending: &str) -> PathBuf {
        let name = format!("{}.{ending}", self.0);
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    /// A folder of its own with the data folder in it, named `data`.
    pub fn unpack(self) -> TempDir {
        let folder = TempDir::new().unwrap();
        let packed = self.path("tar.gz");
        let unpacked = flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap());
        tar::Archive::new(unpacked).unpack(folder.path()).unwrap();
        folder
    }

    /// A server of today on a copy of its own.
    pub fn start(self) -> Server {
        Server::start_in(self.unpack(), options())
    }

    /// What its maker told of it.
    pub fn told(self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("json")).unwrap()).unwrap()
    }
}

/// What fixtures were made with, and have to be started with: the configuration that is state.
pub fn options() -> Options {
    Options::default()
        .limit("snapshot_part_bytes", 16_384)
        .rule("state/**", "latest", "")
        .rule("demo/**", "latest", "")
        .rule("docs/**", "client", "")
        .rule("short/**", "none", "retain_records = 50")
}
