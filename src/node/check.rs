//! Whether the rows of a store agree with one another.
//!
//! Promise: every row of every table is read, and each relation below is looked at from both ends
//! where it has two. Names and logs; records and heads, sizes and running hashes; newest records by
//! key; parts of snapshots; connections, users and subscribers; writers and outcomes; places; eras.

mod connections;
mod logs;

use std::path::Path;

use serde::de::DeserializeOwned;

use super::folder::FolderError;
use super::revoked;
use crate::fold::{Head, head_of};
use crate::log::era::Era;
use crate::log::place::PlaceRow;
use crate::rows::{Pair, Rows, RowsError, Table, read_row};
use crate::store::Store;
use crate::store::check::{CopyError, Look};

/// Rows that are read at once.
const PAGE: usize = 1_000;
/// Lines about one table; more are counted.
const MOST_SAID: usize = 100;

/// What a check came to.
#[derive(Debug, Default)]
pub struct Checked {
    /// What is wrong, one line each.
    pub wrong: Vec<String>,
    /// What is not wrong and good to know.
    pub notes: Vec<String>,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that were read; 0 where files are damaged so that they cannot be.
    pub rows: u64,
}

/// Checks the folder of a node that is stopped, without changing anything in it.
///
/// # Errors
/// [`FolderError`] where there is none, a node runs on it, or there is no room for a copy of it.
pub fn check(dir: &Path) -> Result<Checked, FolderError> {
    if !dir.join("VERSION").exists() && !dir.join("RESTORING").exists() {
        return Err(FolderError::None(dir.to_owned()));
    }
    let look = Look::at(dir)?;
    let files = look.files();
    let mut checked = Checked {
        wrong: files.wrong,
        notes: files.notes,
        files: files.files,
        bytes: files.bytes,
        rows: 0,
    };
    if dir.join(revoked::FILE).exists() {
        checked.notes.push(format!(
            "{}: the next start takes it over into the store",
            dir.join(revoked::FILE).display()
        ));
    }
    match look.open() {
        Ok(copied) => {
            let mut rows = Check::of(&copied.store);
            rows.all();
            checked.rows = rows.rows;
            checked.wrong.extend(rows.wrong);
        }
        // Nothing is wrong with the folder because of that; where something is, that is to be said.
        Err(CopyError::Temporary { dir, problem }) if checked.wrong.is_empty() => {
            return Err(FolderError::Temporary(CopyError::Temporary { dir, problem }));
        }
        Err(error @ CopyError::Temporary { .. }) => checked.notes.push(error.to_string()),
        // Said by its files already.
        Err(CopyError::Folder(_)) if !checked.wrong.is_empty() => {}
        Err(CopyError::Folder(error)) => checked.wrong.push(error.to_string()),
    }
    Ok(checked)
}

/// Rows that are held against one another.
struct Check<'a> {
    store: &'a Store,
    head: Option<Head>,
    wrong: Vec<String>,
    rows: u64,
    /// Lines about the table that is looked at.
    said: usize,
}

impl<'a> Check<'a> {
    fn of(store: &'a Store) -> Self {
        Self { store, head: None, wrong: Vec::new(), rows: 0, said: 0 }
    }

    fn all(&mut self) {
        self.head();
        for (table, of) in [
            (Table::Names, Self::name as fn(&mut Self, &Pair) -> Found),
            (Table::Logs, Self::log),
            (Table::Latest, Self::latest),
            (Table::Snapshots, Self::snapshot),
            (Table::Uploads, Self::upload),
            (Table::Writers, Self::writer),
            (Table::Outcomes, Self::outcomes),
            (Table::Connections, Self::connection),
            (Table::Cursors, Self::cursors),
            (Table::Users, Self::user),
            (Table::UserConnections, Self::user_connection),
            (Table::Subscribers, Self::subscriber),
            (Table::Nodes, Self::node),
            (Table::Places, Self::place),
            (Table::Origins, Self::origin),
            (Table::Eras, Self::era),
            (Table::Revocations, Self::unread),
            (Table::Pages, Self::page),
        ] {
            self.each(table, of);
        }
        self.records();
    }

    /// Says that something is wrong with a table, unless much was said of it already.
    fn say(&mut self, table: Table, what: impl std::fmt::Display) {
        self.said += 1;
        match self.said {
            0..=MOST_SAID => self.wrong.push(format!("{}: {what}", table.name())),
            _ if self.said == MOST_SAID + 1 => {
                self.wrong.push(format!("{}: and more of the kind", table.name()));
            }
            _ => {}
        }
    }

    /// Looks at all rows of a table, page by page.
    fn each(&mut self, table: Table, look: fn(&mut Self, &Pair) -> Found) {
        self.said = 0;
        let mut from = Vec::new();
        loop {
            let page = match self.store.scan(table, &[], &from, PAGE) {
                Ok(page) => page,
                Err(error) => return self.say(table, error),
            };
            for pair in &page {
                self.rows += 1;
                match look(self, pair) {
                    Ok(None) => {}
                    Ok(Some(what)) => self.say(table, what),
                    Err(error) => self.say(table, format!("{} ({error})", shown(&pair.0))),
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { return };
            from = last.iter().copied().chain([0]).collect();
        }
    }

    /// A row of a table; what does not have its layout is an error.
    fn get<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, RowsError> {
        self.store.get(table, key)?.map(|row| read_row(table, &row)).transpose()
    }

    fn head(&mut self) {
        self.each(Table::Meta, Self::unread);
        let kept = self.store.kept();
        match head_of(self.store) {
            Ok(Some(head)) if kept.head > 0 && kept.head != head.batch => self.say(
                Table::Meta,
                format!("the fold is at batch {}, the local journal at {}", head.batch, kept.head),
            ),
            Ok(None) if kept.head > 0 => self.say(Table::Meta, "there is no head"),
            Ok(head) => self.head = head,
            Err(error) => self.say(Table::Meta, error),
        }
    }

    fn unread(&mut self, _: &Pair) -> Found {
        Ok(None)
    }

    fn node(&mut self, (_, value): &Pair) -> Found {
        read_row::<crate::connection::NodeRow>(Table::Nodes, value).map(|_| None)
    }

    fn place(&mut self, (key, value): &Pair) -> Found {
        let row: PlaceRow = read_row(Table::Places, value)?;
        let batch = number(key, 0);
        if batch.is_none_or(|batch| self.head.as_ref().is_some_and(|head| batch > head.batch)) {
            return Ok(Some(format!("{}: a batch that there is not", shown(key))));
        }
        for run in &row.runs {
            let head = self.store.log_row(run.log)?.map_or(0, |log| log.head);
            if run.end() > head {
                let what =
                    format!("batch {}: records of log {} past its head", shown(key), run.log);
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    fn era(&mut self, (key, value): &Pair) -> Found {
        let _era: Era = read_row(Table::Eras, value)?;
        let beyond = |first: u64| self.head.as_ref().is_some_and(|head| first > head.batch);
        let wrong = number(key, 0).is_none_or(beyond);
        Ok(wrong.then(|| format!("{}: it begins behind the last batch", shown(key))))
    }
}

/// What is wrong with a row, if anything; or that it cannot be read.
type Found = Result<Option<String>, RowsError>;

/// The big-endian number at a position of a key.
fn number(key: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?))
}

/// A key, for people.
fn shown(key: &[u8]) -> String {
    let text = std::str::from_utf8(key).ok();
    match text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control)) {
        Some(text) => text.to_owned(),
        None => key.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
