//! Rows of connections and users.
//!
//! Layouts are those of `docs/storage.md` §3; the order of fields is the layout.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::cursors::{self, Chunks};
use crate::rows::{Hot, Io, More, Pair, RowsError, Table, read_row};
use crate::wire::{Id, Place, Reason, codec};

/// A position that a client says it could restart from, and the opening of the log that it was
/// reached from: what was reached before the cursor was moved by word counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The log id.
    pub log: u64,
    /// The next offset it wants.
    pub next: u64,
    /// The opening, as [`Sub::opening`] has it.
    pub opening: u64,
}

/// What one client has reached, as a commit carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The connection.
    pub connection: Id,
    /// Its generation.
    pub generation: u64,
    /// The cursors that moved.
    pub reached: Vec<Reached>,
}

impl Progress {
    /// About its size in a command, in bytes.
    pub const fn weight(&self) -> usize {
        64 + self.reached.len() * 24
    }
}

/// A subscription: a log and the next offset that its client could restart from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sub {
    /// The log id.
    pub log: u64,
    /// The committed cursor.
    pub cursor: u64,
    /// Catch-up serves lower numbers first.
    pub priority: u8,
    /// The cursor stands behind a base that no commit has confirmed yet: who begins where it
    /// committed has to begin with the state.
    pub base: bool,
    /// Number of the opening that set the cursor, among those of its connection, from 1; 0: none
    /// has, it is held.
    pub opening: u64,
}

impl Sub {
    /// The cursor that the client itself has committed or brought.
    pub fn confirmed(&self) -> Option<u64> {
        (!self.base).then_some(self.cursor)
    }

    /// Whether its client has not opened it: it was taken over, and nothing of it is delivered.
    pub const fn held(&self) -> bool {
        self.opening == 0
    }

    /// The same subscription, held: its cursor stays where it is.
    pub(super) const fn hold(self) -> Self {
        Self { opening: 0, ..self }
    }

    /// Of two subscriptions to a log the cursor that is further; a confirmed one counts more.
    pub(super) fn merge(&mut self, other: &Self) {
        if (other.confirmed(), other.cursor) > (self.confirmed(), self.cursor) {
            (self.cursor, self.base) = (other.cursor, other.base);
        }
    }
}

/// The socket that a connection is attached by: a node's run. The socket itself is that node's
/// affair; a node that has started anew since, or is down, holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The node.
    pub node: Id,
    /// Number of that node's run.
    pub incarnation: u64,
}

/// A connection: what is left of a client when its socket is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Whose it is.
    pub user: String,
    /// The device it runs on.
    pub device: Option<Id>,
    /// Library and version, for people.
    pub client: String,
    /// Why it is inactive; none: it is active and holds a channel.
    pub inactive: Option<Reason>,
    /// Counts attachments and changes of state; fences what is older.
    pub generation: u64,
    /// The generation at which its socket came: what is older is a zombie's.
    pub joined: u64,
    /// Its socket, if that node still runs.
    pub attached: Option<Attachment>,
    /// Whether someone looks at it.
    pub visible: bool,
    /// When it was attached, detached or changed its state, milliseconds since 1970.
    pub since: u64,
    /// When it was made.
    pub created: u64,
    /// Place of its last commit of cursors.
    pub committed: Place,
    /// Its subscriptions, by log id.
    pub subs: Vec<Sub>,
    /// How often logs were opened for it: each time, those that were opened get the next number.
    pub openings: u64,
    /// What is to come.
    pub more: More,
    /// What is on disk.
    kept: Kept,
}

/// What is on disk of a connection, so that only what differs is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kept {
    /// Its row, with no place of a commit in it.
    row: Vec<u8>,
    /// Its cursors.
    chunks: Chunks,
}

/// The row in [`Table::Connections`]; subscriptions are kept beside it.
#[derive(Clone, Serialize, Deserialize)]
struct Main {
    user: String,
    device: Option<Id>,
    client: String,
    inactive: Option<Reason>,
    generation: u64,
    joined: u64,
    attached: Option<Attachment>,
    visible: bool,
    since: u64,
    created: u64,
    /// At least the newest commit that no chunk of cursors knows.
    committed: Place,
    openings: u64,
    more: More,
}

impl ConnectionRow {
    /// A connection that has not been attached yet: inactive, without a slot.
    pub fn new(user: &str, device: Option<Id>, time: u64) -> Self {
        Self {
            user: user.to_owned(),
            device,
            client: String::new(),
            inactive: Some(Reason::NoSlot),
            generation: 0,
            joined: 0,
            attached: None,
            visible: false,
            since: time,
            created: time,
            committed: Place::default(),
            subs: Vec::new(),
            openings: 0,
            more: More::default(),
            kept: Kept::default(),
        }
    }

    /// Puts a connection together from its row and the rows of its cursors.
    ///
    /// # Errors
    /// When one of them is damaged.
    pub fn read(row: &[u8], chunks: &[Pair]) -> Result<Self, RowsError> {
        Ok(Self::from_rows(read_row(Table::Connections, row)?, cursors::read(chunks)?))
    }

    fn from_rows(main: Main, (subs, newest, chunks): cursors::Loaded) -> Self {
        let row = codec::to_bytes(&Main { committed: Place::default(), ..main.clone() });
        Self {
            user: main.user,
            device: main.device,
            client: main.client,
            inactive: main.inactive,
            generation: main.generation,
            joined: main.joined,
            attached: main.attached,
            visible: main.visible,
            since: main.since,
            created: main.created,
            committed: main.committed.max(newest),
            subs,
            openings: main.openings,
            more: main.more,
            kept: Kept { row, chunks },
        }
    }

    fn main(&self, committed: Place) -> Main {
        Main {
            user: self.user.clone(),
            device: self.device,
            client: self.client.clone(),
            inactive: self.inactive,
            generation: self.generation,
            joined: self.joined,
            attached: self.attached,
            visible: self.visible,
            since: self.since,
            created: self.created,
            committed,
            openings: self.openings,
            more: self.more.clone(),
        }
    }

    /// Its row, without its cursors.
    pub fn row(&self) -> Vec<u8> {
        codec::to_bytes(&self.main(self.committed))
    }

    /// Takes the rows of its cursors away; its own row is the caller's.
    pub(super) fn remove_cursors(&self, id: Id, io: &mut Io<'_>) {
        cursors::remove(id, &self.kept.chunks, io);
    }

    /// Whether it holds a channel.
    pub const fn active(&self) -> bool {
        self.inactive.is_none()
    }

    /// The subscription to a log.
    pub fn sub(&self, log: u64) -> Option<&Sub> {
        let at = self.subs.binary_search_by_key(&log, |sub| sub.log).ok()?;
        self.subs.get(at)
    }

    /// The subscription to a log, to change.
    pub fn sub_mut(&mut self, log: u64) -> Option<&mut Sub> {
        let at = self.subs.binary_search_by_key(&log, |sub| sub.log).ok()?;
        self.subs.get_mut(at)
    }
}

impl Hot for ConnectionRow {
    type Key = Id;

    fn load(id: &Id, io: &Io<'_>) -> Result<Option<Self>, RowsError> {
        let Some(main) = io.get(Table::Connections, &id.0)? else { return Ok(None) };
        Ok(Some(Self::from_rows(main, cursors::load(*id, io)?)))
    }

    fn save(&mut self, id: &Id, io: &mut Io<'_>) {
        let row = codec::to_bytes(&self.main(Place::default()));
        let committed = self.committed;
        let gone = cursors::save(*id, &self.subs, committed, &mut self.kept.chunks, io);
        // Where a chunk goes, the row keeps what that chunk knew of the newest commit.
        if gone || row != self.kept.row {
            io.put(Table::Connections, id.0.to_vec(), &self.main(committed));
            self.kept.row = row;
        }
    }

    fn weight(&self) -> usize {
        let kept = self.kept.row.len() + self.kept.chunks.weight() + self.more.weight();
        self.user.len() + self.client.len() + self.subs.capacity() * size_of::<Sub>() + kept
    }
}

/// An active connection, as its user's row counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveOne {
    /// The connection.
    pub connection: Id,
    /// Its device.
    pub device: Option<Id>,
}

/// What a user holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// How many connections there are, active or not.
    pub connections: u32,
    /// Those that hold a slot, by id.
    pub active: Vec<ActiveOne>,
    /// What is to come.
    pub more: More,
}

impl UserRow {
    /// Slots that connections of a device hold.
    pub fn on_device(&self, device: Option<Id>) -> usize {
        self.active.iter().filter(|one| one.device == device).count()
    }
}

impl Hot for UserRow {
    type Key = String;

    fn load(user: &String, io: &Io<'_>) -> Result<Option<Self>, RowsError> {
        io.get(Table::Users, user.as_bytes())
    }

    fn save(&mut self, user: &String, io: &mut Io<'_>) {
        if *self == Self::default() {
            io.remove(Table::Users, user.as_bytes().to_vec());
        } else {
            io.put(Table::Users, user.as_bytes().to_vec(), self);
        }
    }

    fn weight(&self) -> usize {
        self.active.capacity() * size_of::<ActiveOne>() + self.more.weight()
    }
}

/// A node that takes commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its run; larger with each start.
    pub incarnation: u64,
    /// Whether it runs.
    pub up: bool,
    /// When that changed, milliseconds since 1970.
    pub since: u64,
    /// Serial of its last batch in this run.
    pub serial: u64,
    /// The oldest and the newest fold version that it knows.
    pub knows: (u16, u16),
    /// What it says of itself, by tag.
    pub more: More,
}

/// Tags of [`NodeRow::more`].
const CHECKPOINT: u32 = 1;
const ADDRESS: u32 = 2;
/// Longest address that is kept, in bytes.
pub const MOST_ADDRESS: usize = 255;

impl NodeRow {
    /// Its store has all batches up to this one on disk; 0: this run has not said so yet.
    pub fn checkpoint(&self) -> u64 {
        let number = |bytes: &Bytes| bytes.as_ref().try_into().map_or(0, u64::from_be_bytes);
        self.more.get(CHECKPOINT).map_or(0, number)
    }

    /// Where clients and other nodes reach it; empty: it has not said so.
    pub fn address(&self) -> &str {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        self.more.get(ADDRESS).map_or("", |bytes| text(bytes.as_ref()))
    }

    /// Keeps what it says; an address that is too long is none.
    pub(crate) fn say(&mut self, checkpoint: u64, address: &str) {
        self.more.set(CHECKPOINT, Bytes::copy_from_slice(&checkpoint.to_be_bytes()));
        if (1..=MOST_ADDRESS).contains(&address.len()) {
            self.more.set(ADDRESS, Bytes::copy_from_slice(address.as_bytes()));
        } else {
            self.more.remove(ADDRESS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::MemoryRows;

    const ID: Id = Id([5; 16]);

    /// What is not weighed is not bounded.
    #[test]
    fn promise_10_a_connection_weighs_what_it_holds() {
        let row = ConnectionRow::new("anastasia", None, 0);
        assert_eq!(row.weight(), 9);
        assert_eq!(ConnectionRow { client: "c".repeat(40), ..row.clone() }.weight(), 49);
        let mut more = row.clone();
        more.more.set(9, vec![0; 900].into());
        assert!((900..1_000).contains(&(more.weight() - 9)));
        let sub = |log| Sub { log, cursor: 0, priority: 0, base: false, opening: 1 };
        let mut full = ConnectionRow { subs: (0..1_000).map(sub).collect(), ..row };
        let subs = full.subs.capacity() * size_of::<Sub>();
        assert_eq!(full.weight(), 9 + subs);
        // On disk it is a row and 16 chunks, of which this much is known.
        let rows = MemoryRows::default();
        full.save(&ID, &mut Io::new(&rows));
        let kept = full.row().len();
        let chunks = full.weight() - 9 - subs - kept;
        assert!((16 * 24..16 * 64).contains(&chunks), "{chunks}");
    }

    #[test]
    fn promise_10_a_user_weighs_its_slots() {
        let mut row = UserRow::default();
        assert_eq!(row.weight(), 0);
        row.active = vec![ActiveOne { connection: ID, device: None }; 10];
        assert_eq!(row.weight(), 10 * size_of::<ActiveOne>());
        row.more.set(9, vec![0; 900].into());
        assert!(row.weight() >= 10 * size_of::<ActiveOne>() + 900);
    }
}
