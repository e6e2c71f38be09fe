//! Names, logs, records and what is made of them; writers and their outcomes.

use super::{Check, Found, PAGE, number, shown};
use crate::log::record::{RecordRow, Whose, chained};
use crate::log::{LogRow, NameRow, OriginRow, OutcomesRow, PageRow, WriterRow};
use crate::rows::{Key, Pair, Rows as _, RowsError, Table, read_row};
use crate::wire::{SnapshotRule, codec};

/// A log whose records are passed over, one after the other.
struct Passing {
    log: u64,
    row: Option<LogRow>,
    /// The next offset.
    due: u64,
    /// Bytes before it, once known.
    bytes: Option<u64>,
    /// The running hash, where all that it covers is there.
    hash: Option<[u8; 32]>,
    /// The first page that is whole: at its end the hash is known where it was not before.
    page: Option<PageRow>,
}

impl Check<'_> {
    pub(super) fn name(&mut self, (key, value): &Pair) -> Found {
        let NameRow { log, .. } = read_row(Table::Names, value)?;
        Ok(match self.store.log_row(log)? {
            None => Some(format!("{}: there is no log {log}", shown(key))),
            Some(row) if row.deleted => Some(format!("{}: log {log} is deleted", shown(key))),
            Some(row) if row.name.as_bytes() != key.as_slice() => {
                Some(format!("{}: log {log} is named {}", shown(key), row.name))
            }
            Some(_) => None,
        })
    }

    pub(super) fn log(&mut self, (key, value): &Pair) -> Found {
        let row: LogRow = read_row(Table::Logs, value)?;
        let Some(log) = number(key, 0) else { return Ok(Some("a key of another length".into())) };
        let wrong = |what: &str| Ok(Some(format!("{log} ({}): {what}", row.name)));
        if self.head.as_ref().is_some_and(|head| log >= head.next_log) {
            return wrong("its id was never given");
        }
        if row.start > row.head || row.start_bytes > row.bytes {
            return wrong("it starts behind its head");
        }
        if row.deleted {
            return Ok(None);
        }
        let named: Option<NameRow> = self.get(Table::Names, row.name.as_bytes())?;
        if named.is_none_or(|named| named.log != log) {
            return wrong("its name leads elsewhere");
        }
        for snapshot in &row.snapshots {
            let mut bytes = 0;
            for part in 0..snapshot.parts {
                let Some(part) = self.store.snapshot_part(log, snapshot.upload, part)? else {
                    return wrong(&format!("part {part} of its snapshot is missing"));
                };
                bytes += part.len() as u64;
            }
            if bytes != snapshot.bytes || snapshot.offset > row.head {
                return wrong("its snapshot is of another size, or of what is to come");
            }
        }
        Ok(None)
    }

    /// Rows of a log that there is; what belongs to a deleted one goes when files merge.
    fn of_log(&self, key: &[u8]) -> Result<Result<Option<LogRow>, String>, RowsError> {
        let row = match number(key, 0) {
            Some(log) => self.store.log_row(log)?,
            None => None,
        };
        Ok(match row {
            None => Err(format!("{}: of a log that there is not", shown(key))),
            Some(row) => Ok((!row.deleted).then_some(row)),
        })
    }

    pub(super) fn snapshot(&mut self, (key, _): &Pair) -> Found {
        self.of_log(key).map(Result::err)
    }

    pub(super) fn upload(&mut self, (key, _): &Pair) -> Found {
        self.of_log(key).map(Result::err)
    }

    /// The newest record of a key is the record at its offset, while that is kept.
    pub(super) fn latest(&mut self, (key, value): &Pair) -> Found {
        let row = match self.of_log(key)? {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(None),
            Err(what) => return Ok(Some(what)),
        };
        let wrong = |what: &str| Ok(Some(format!("{} in {}: {what}", shown(key), row.name)));
        let (Some(offset), Some(kept)) = (number(value, 0), value.get(8..)) else {
            return wrong("a row without an offset");
        };
        RecordRow::read(Table::Latest, kept)?;
        if offset >= row.head {
            return wrong("it lies past the head");
        }
        let Some(log) = number(key, 0).filter(|_| offset >= row.start) else { return Ok(None) };
        let record = self.store.get(Table::Records, &Key::of(log).then(offset).build())?;
        match record.is_some_and(|record| record == kept) {
            true => Ok(None),
            false => wrong("the record at its offset is another"),
        }
    }

    /// A closed page has records, and ends no later than where the open one begins.
    pub(super) fn page(&mut self, (key, value): &Pair) -> Found {
        let row = match self.of_log(key)? {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(None),
            Err(what) => return Ok(Some(what)),
        };
        let page: PageRow = read_row(Table::Pages, value)?;
        let sound = number(key, 8).is_some_and(|first| first < page.end);
        let wrong = !sound || page.end > row.paging.first;
        Ok(wrong.then(|| format!("{} in {}: its bounds cannot be", shown(key), row.name)))
    }

    pub(super) fn origin(&mut self, (key, value): &Pair) -> Found {
        let _row: OriginRow = read_row(Table::Origins, value)?;
        let beyond =
            |number: u64| self.head.as_ref().is_some_and(|head| number >= head.next_origin);
        Ok(number(key, 0).is_none_or(beyond).then(|| format!("{}: never given", shown(key))))
    }

    pub(super) fn writer(&mut self, (key, value): &Pair) -> Found {
        let row: WriterRow = read_row(Table::Writers, value)?;
        let wrong = row.oldest > row.mark.saturating_add(1);
        Ok(wrong.then(|| format!("{}: it confirmed what it never sent", shown(key))))
    }

    pub(super) fn outcomes(&mut self, (key, value): &Pair) -> Found {
        let row: OutcomesRow = read_row(Table::Outcomes, value)?;
        let id = key.get(..16).unwrap_or_default();
        let writer: Option<WriterRow> = self.get(Table::Writers, id)?;
        let Some(writer) = writer else {
            return Ok(Some(format!("{}: of a writer that there is not", shown(key))));
        };
        let last = row.outcomes.last().map(|outcome| outcome.seq);
        let wrong = last != number(key, 16) || last > Some(writer.mark);
        Ok(wrong.then(|| format!("{}: it ends with another sequence", shown(key))))
    }

    /// Records are dense from each log's start to its head, their sizes add up, and their running
    /// hash is the one that the log's row has.
    pub(super) fn records(&mut self) {
        self.said = 0;
        let mut passing: Option<Passing> = None;
        let mut from = Vec::new();
        loop {
            let page = match self.store.scan(Table::Records, &[], &from, PAGE) {
                Ok(page) => page,
                Err(error) => return self.say(Table::Records, error),
            };
            for pair in &page {
                self.rows += 1;
                if let Err(error) = self.record(pair, &mut passing) {
                    self.say(Table::Records, format!("{} ({error})", shown(&pair.0)));
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { break };
            from = last.iter().copied().chain([0]).collect();
        }
        self.passed(passing);
        self.empty_logs();
    }

    fn record(&mut self, pair: &Pair, passing: &mut Option<Passing>) -> Result<(), RowsError> {
        let (key, value) = pair;
        let (Some(log), Some(offset)) = (number(key, 0), number(key, 8)) else {
            self.say(Table::Records, format!("{}: a key of another length", shown(key)));
            return Ok(());
        };
        if passing.as_ref().is_none_or(|passing| passing.log != log) {
            self.passed(passing.take());
            let row = self.store.log_row(log)?;
            if row.is_none() {
                self.say(Table::Records, format!("log {log}: there is no such log"));
            }
            let row = row.filter(|row| !row.deleted);
            let due = row.as_ref().map_or(0, |row| row.start);
            let hash = row.as_ref().filter(|row| row.start <= row.hashed_from).map(|_| [0; 32]);
            let from = Key::of(log).then(due).build();
            let page = self.store.scan(Table::Pages, &log.to_be_bytes(), &from, 1)?;
            let page = page.first().map(|(_, value)| read_row(Table::Pages, value)).transpose()?;
            *passing = Some(Passing { log, row, due, bytes: None, hash, page });
        }
        let Some(passing) = passing else { return Ok(()) };
        let Some(row) = passing.row.as_ref().filter(|row| offset >= row.start) else {
            return Ok(());
        };
        if offset != passing.due || offset >= row.head {
            let what = format!(
                "log {log} ({}): record {offset} stands where {} is due",
                row.name, passing.due
            );
            self.say(Table::Records, what);
        }
        let record = RecordRow::read(Table::Records, value)?;
        let before = record.before();
        if before != passing.bytes.unwrap_or(row.start_bytes) {
            let what = format!("log {log}: the bytes before record {offset} do not add up");
            self.say(Table::Records, what);
        }
        if let Some(page) = passing.page.take_if(|page| page.end <= offset) {
            passing.hash = passing.hash.or(Some(page.hash).filter(|_| page.end == offset));
        }
        if let Some(hash) = passing.hash.filter(|_| offset >= row.hashed_from) {
            let by = match record.whose {
                Whose::Numbered(number) => Some(codec::to_bytes(&*self.store.origin(number)?)),
                Whose::Written(_) => None,
            };
            passing.hash = Some(chained(&hash, value, by.as_deref()));
        }
        passing.bytes = Some(before + record.record().size() as u64);
        passing.due = offset + 1;
        Ok(())
    }

    /// A log whose records were all passed.
    fn passed(&mut self, passing: Option<Passing>) {
        let Some(Passing { log, row: Some(row), due, bytes, hash, .. }) = passing else { return };
        let mut wrong = |what: &str| {
            self.say(Table::Records, format!("log {log} ({}): {what}", row.name));
        };
        if due != row.head {
            wrong(&format!("records end before {due}, its head is {}", row.head));
        } else if bytes.is_some_and(|bytes| bytes != row.bytes) {
            wrong("its bytes do not add up");
        } else if hash.is_some_and(|hash| row.hashed_from < row.head && hash != row.hash) {
            wrong("the running hash of its records is another");
        }
    }

    /// Logs that should have records, and have none.
    fn empty_logs(&mut self) {
        self.each(Table::Logs, |check, (key, value)| {
            // Counted when they were looked at.
            check.rows -= 1;
            let row: LogRow = read_row(Table::Logs, value)?;
            let Some(log) = number(key, 0).filter(|_| !row.deleted && row.start < row.head) else {
                return Ok(None);
            };
            let first = check.store.records(log, row.start, 1, 1)?;
            Ok(first.is_empty().then(|| format!("{log} ({}): it has no records", row.name)))
        });
        self.keys();
    }

    /// What a log keeps by key: the newest record of each key that is still there.
    fn keys(&mut self) {
        self.each(Table::Records, |check, (key, value)| {
            check.rows -= 1;
            let (Some(log), Some(offset)) = (number(key, 0), number(key, 8)) else {
                return Ok(None);
            };
            let row = check.store.log_row(log)?.filter(|row| !row.deleted);
            let Some(row) = row.filter(|row| row.rule == SnapshotRule::Latest) else {
                return Ok(None);
            };
            let record = RecordRow::read(Table::Records, value)?;
            let Some(name) = record.record().key.as_ref() else { return Ok(None) };
            if offset < row.start || record.record().payload.is_none() || row.deriving.is_some() {
                return Ok(None);
            }
            let newest = check
                .store
                .get(Table::Latest, &Key::of(log).then_bytes(name.as_bytes()).build())?;
            let newest = newest.as_ref().and_then(|newest| number(newest, 0));
            // None: a tombstone came later.
            let older = newest.is_some_and(|newest| newest < offset);
            Ok(older.then(|| format!("log {log}: a record of {name} newer than the newest")))
        });
    }
}
