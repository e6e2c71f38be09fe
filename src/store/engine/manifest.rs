//! The manifests of tables: which files are in force.
//!
//! Promise: a table whose `current` or manifest is cut or altered is not opened. The engine writes
//! the manifest's checksum into `current` and does not look at it again; read wrong, a manifest
//! would have it clear away the files that it does not name.

use std::fs;
use std::io;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::Harm;

/// Folder of the engine that has one folder per table.
pub(in crate::store) const TABLES: &str = "keyspaces";
/// Names the manifest in force of a table: number, checksum of the manifest, kind of checksum.
const CURRENT: &str = "current";
const CURRENT_BYTES: usize = 25;

/// Checks the manifests of all tables: how many there are. Where tables are `made` just now, a
/// crash may have left one without any: the engine clears it away, and whoever opens the store
/// looks for those that must be there.
pub(in crate::store) fn manifests(store: &Path, made: bool) -> Result<usize, Harm> {
    let folder = store.join(TABLES);
    let damaged = |path: &Path, why: &str| Harm::Damaged(format!("{} {why}", path.display()));
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if absent(&error) => return Err(damaged(&folder, "is missing")),
        Err(error) => return Err(error.into()),
    };
    let mut tables = 0;
    for table in entries {
        let folder = table?.path();
        let number = folder.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
        if number.is_none() || !folder.is_dir() {
            return Err(damaged(&folder, "is no table's folder"));
        }
        let current = folder.join(CURRENT);
        if made && !current.exists() {
            continue;
        }
        let bytes = read(&current)?;
        let fields: Option<&[u8; CURRENT_BYTES]> = bytes.as_slice().try_into().ok();
        let Some((number, rest)) = fields.and_then(|fields| fields.split_first_chunk::<8>()) else {
            return Err(damaged(&current, "has not the length that it is written with"));
        };
        let manifest = folder.join(format!("v{}", u64::from_le_bytes(*number)));
        let mut hash = Xxh3::new();
        hash.update(&read(&manifest)?);
        let sum = hash.digest128().to_le_bytes();
        if rest.strip_prefix(sum.as_slice()) != Some(&[0]) {
            return Err(damaged(&manifest, "or the file `current` beside it is altered"));
        }
        tables += 1;
    }
    Ok(tables)
}

fn read(path: &Path) -> Result<Vec<u8>, Harm> {
    fs::read(path).map_err(|error| match absent(&error) {
        true => Harm::Damaged(format!("{} is missing", path.display())),
        false => error.into(),
    })
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
