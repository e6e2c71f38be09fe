//! The manifests of tables: which files are in force.
//!
//! Promise: a table whose `current` or manifest is cut or altered, or of which a file is missing,
//! is not opened. The engine writes
//! the manifest's checksum into `current` and does not look at it again; read wrong, a manifest
//! would have it clear away the files that it does not name.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
    let mut tables = 0;
    for folder in folders(store)? {
        if made && !folder.join(CURRENT).exists() {
            continue;
        }
        // Before the engine opens any: it clears away what older manifests named, table by table,
        // and would find out only at the last one.
        let manifest = in_force(&folder)?;
        if let Some((gone, _)) = files(&manifest)?.iter().find(|(file, _)| !file.exists()) {
            return Err(damaged(gone, "is missing"));
        }
        tables += 1;
    }
    Ok(tables)
}

/// The folders of all tables.
pub(in crate::store) fn folders(store: &Path) -> Result<Vec<PathBuf>, Harm> {
    let folder = store.join(TABLES);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if absent(&error) => return Err(damaged(&folder, "is missing")),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for table in entries {
        let folder = table?.path();
        let number = folder.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
        match number.filter(|_| folder.is_dir()) {
            Some(number) => found.push((number, folder)),
            None => return Err(damaged(&folder, "is no table's folder")),
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, folder)| folder).collect())
}

/// The manifest in force of a table, as whole as it was written.
pub(in crate::store) fn in_force(folder: &Path) -> Result<PathBuf, Harm> {
    let current = folder.join(CURRENT);
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
    Ok(manifest)
}

/// The files that a manifest names, with their checksums (XXH3, 128 bits).
pub(in crate::store) fn files(manifest: &Path) -> Result<Vec<(PathBuf, u128)>, Harm> {
    let unreadable = |why: &dyn std::fmt::Display| damaged(manifest, &format!("({why})"));
    let reader = sfa::Reader::new(manifest).map_err(|error| unreadable(&error))?;
    let tables = reader.toc().section(b"tables");
    let tables = tables.ok_or_else(|| unreadable(&"it names no files"))?;
    let mut from = tables.buf_reader(manifest)?;
    let folder = manifest.with_file_name("tables");
    let mut found = Vec::new();
    for _ in 0..byte(&mut from)? {
        for _ in 0..byte(&mut from)? {
            for _ in 0..u32::from_le_bytes(read_array(&mut from)?) {
                let id = u64::from_le_bytes(read_array(&mut from)?);
                let _kind_of_sum = byte(&mut from)?;
                let sum = u128::from_le_bytes(read_array(&mut from)?);
                let _number: [u8; 8] = read_array(&mut from)?;
                found.push((folder.join(id.to_string()), sum));
            }
        }
    }
    Ok(found)
}

fn byte(from: &mut impl Read) -> io::Result<u8> {
    read_array(from).map(|[byte]| byte)
}

fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(path: &Path, why: &str) -> Harm {
    Harm::Damaged(format!("{} {why}", path.display()))
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
