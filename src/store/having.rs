//! Looks at a log's subscribers: who has a record.

use super::Store;
use super::read::pair;
use crate::connection::{ConnectionRow, Having};
use crate::rows::{Key, Rows, RowsError, Table};
use crate::wire::Id;

impl Store {
    /// Takes the next subscribers in, at most so many: whether the look is over. Whoever answers
    /// by it asks [`Store::settled`] then, and judges by the log's row of after that: the commit
    /// that trims a log may have moved a cursor that was seen here.
    ///
    /// # Errors
    /// [`RowsError`] when the disk cannot be read or a row does not decode.
    pub fn having(&self, having: &mut Having, most: usize) -> Result<bool, RowsError> {
        let most = most.min(having.left());
        let mut ids = self.subscribers(having.log, having.after(), most + 1)?;
        let rest = ids.len() > most;
        ids.truncate(most);
        for id in ids {
            let row = self.connection_on(id, having.log)?;
            having.add(id, row);
        }
        Ok(having.over(rest))
    }

    /// A connection with that chunk of its cursors in which a log's stands, if it has one.
    fn connection_on(&self, id: Id, log: u64) -> Result<Option<ConnectionRow>, RowsError> {
        // First whose it is: an id that is given up may be another user's from then on, and a
        // cursor of its own takes that one a commit or more.
        let Some(row) = self.get(Table::Connections, &id.0)? else { return Ok(None) };
        let chunks = id.0.to_vec()..=Key::bytes(&id.0).then(log).build();
        let chunk = self.table(Table::Cursors)?.range::<Vec<u8>, _>(chunks).next_back();
        let chunk = chunk.map(pair).transpose()?;
        ConnectionRow::read(&row, chunk.as_slice()).map(Some)
    }
}
