//! A cursor in a file: how far a log was read, in which log and in which history.
//!
//! The file is written whole beside its place, synced, and renamed over the old one: a crash leaves
//! the one or the other. What is no cursor is never taken for one that has not begun.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CliError;
use super::kept::Kept;
use crate::wire::{MAX_OFFSET, Position};

/// Longest file that is read, in bytes; a cursor is much shorter.
const MOST_BYTES: u64 = 64 << 10;

/// What to do about a file that holds something else.
const ANOTHER: &str = "name another file for --cursor; one that is not there yet begins anew";

/// How far a log was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    name: String,
    log: u64,
    next: u64,
    position: Option<Position>,
}

/// A file that a cursor is kept in.
#[derive(Clone, Debug)]
pub(super) struct CursorFile {
    path: PathBuf,
    /// The log's name.
    name: String,
    /// What stands in the file, where there is one.
    saved: Option<Saved>,
}

impl CursorFile {
    /// Reads the file, if it is there, and sees whether it can be written.
    ///
    /// # Errors
    /// When it holds something else, the cursor of another log, or cannot be read or written.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self, CliError> {
        let file = Self { path: path.to_owned(), name: name.to_owned(), saved: None };
        let saved = file.load()?;
        if let Some(other) = saved.as_ref().filter(|saved| saved.name != name) {
            let problem = format!(
                "this is a cursor of {}, not of {name}: name another file for --cursor; one that \
                 is not there yet begins anew",
                other.name
            );
            return Err(CliError::Usage(format!("{}: {problem}", path.display())));
        }
        // Told before anything is written to the output, not after.
        let beside = file.beside();
        let free = File::create(&beside).and_then(|_| fs::remove_file(&beside));
        free.map_err(|error| file.unwritten(&error))?;
        Ok(Self { saved, ..file })
    }

    /// That nothing stands in the file yet, so that where to begin may be said.
    ///
    /// # Errors
    /// When it says already where to go on: what else was said is not passed over.
    pub(super) fn must_begin(&self) -> Result<(), CliError> {
        let Some(Saved { next, .. }) = &self.saved else { return Ok(()) };
        Err(CliError::Usage(format!(
            "{}: this cursor goes on at offset {next}, and --from says otherwise: leave --from out \
             to go on, or name another file for --cursor to begin anew",
            self.path.display()
        )))
    }

    /// Where to go on, and what to keep to; nothing before the first time.
    pub(super) fn begun(&self) -> Option<(u64, Kept)> {
        let Saved { log, next, position, .. } = self.saved.as_ref()?;
        Some((*next, Kept { log: Some(*log), position: *position }))
    }

    /// Writes down that everything below `next` was written, if that is news.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn save(&mut self, next: u64, kept: &Kept) -> Result<(), CliError> {
        let Some(log) = kept.log else { return Ok(()) };
        if self.saved.as_ref().is_some_and(|saved| (saved.log, saved.next) == (log, next)) {
            return Ok(());
        }
        let saved = Saved { name: self.name.clone(), log, next, position: kept.position };
        let bytes = serde_json::to_vec(&saved).map_err(CliError::failed)?;
        self.write(&bytes).map_err(|error| self.unwritten(&error))?;
        self.saved = Some(saved);
        Ok(())
    }

    fn load(&self) -> Result<Option<Saved>, CliError> {
        let shown = self.path.display();
        let mut text = String::new();
        let read = match File::open(&self.path) {
            Ok(file) => file.take(MOST_BYTES).read_to_string(&mut text).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        };
        read.map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::IsADirectory => "name a file in it for --cursor",
                // Not text, so none of ours.
                io::ErrorKind::InvalidData => ANOTHER,
                _ => "see who may read it, or name another file for --cursor",
            };
            CliError::Failed(format!("{shown}: no cursor of consume ({error}): {advice}"))
        })?;
        let saved: Result<Saved, String> = serde_json::from_str(&text).map_err(|e| e.to_string());
        let offset = |saved: Saved| match saved.next.max(saved.log) {
            ..=MAX_OFFSET => Ok(Some(saved)),
            _ => Err("a number is past 2^53-1".to_owned()),
        };
        saved.and_then(offset).map_err(|problem| {
            CliError::Failed(format!("{shown}: no cursor of consume ({problem}): {ANOTHER}"))
        })
    }

    fn beside(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".new");
        name.into()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let beside = self.beside();
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn unwritten(&self, error: &io::Error) -> CliError {
        let shown = self.path.display();
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "make its folder first, or name another file",
            io::ErrorKind::StorageFull => "make room on its disk, or name another file",
            _ => "see who may write to its folder, or name another file",
        };
        CliError::Failed(format!("{shown}: the cursor cannot be written ({error}): {advice}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let position = format!("{}.7", "07".repeat(16)).parse().unwrap();
        Kept { log: Some(5), position: Some(position) }
    }

    #[test]
    fn what_is_saved_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut file = CursorFile::open(&path, "words").unwrap();
        assert_eq!(file.begun(), None);
        file.save(9, &Kept::default()).unwrap();
        assert!(!path.exists(), "nothing was answered yet");
        file.save(9, &kept()).unwrap();
        let again = CursorFile::open(&path, "words").unwrap();
        assert_eq!(again.begun(), Some((9, kept())));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let other = CursorFile::open(&path, "other").unwrap_err();
        assert!(matches!(other, CliError::Usage(_)), "{other}");
        assert!(other.to_string().contains("name another file"), "{other}");
    }

    #[test]
    fn what_is_no_cursor_does_not_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let past = r#"{"name":"a","log":1,"next":9007199254740992,"position":null}"#;
        let strange = r#"{"name":"a","log":1,"next":1,"position":"x"}"#;
        let more = r#"{"name":"a","log":1,"next":1,"position":null,"era":1}"#;
        for text in ["", "5", "{}", past, strange, more, &" ".repeat(70_000)] {
            fs::write(&path, text).unwrap();
            let error = CursorFile::open(&path, "a").unwrap_err().to_string();
            assert!(error.contains("no cursor of consume"), "{error}");
        }
        let nowhere = folder.path().join("missing/cursor");
        let error = CursorFile::open(&nowhere, "a").unwrap_err().to_string();
        assert!(error.contains("cannot be written"), "{error}");
        assert!(error.contains("make its folder first"), "{error}");
        let error = CursorFile::open(folder.path(), "a").unwrap_err().to_string();
        assert!(error.contains("name a file in it"), "{error}");
        fs::write(&path, b"\xff\xfe").unwrap();
        let error = CursorFile::open(&path, "a").unwrap_err().to_string();
        assert!(error.contains("name another file"), "{error}");
    }

    #[test]
    fn a_cursor_that_has_begun_takes_no_other_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        let mut file = CursorFile::open(&path, "words").unwrap();
        file.must_begin().unwrap();
        file.save(9, &kept()).unwrap();
        let error = file.must_begin().unwrap_err();
        assert!(matches!(error, CliError::Usage(_)), "{error}");
        assert!(error.to_string().contains("goes on at offset 9"), "{error}");
    }
}
