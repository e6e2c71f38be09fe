//! Delivery's shell: from a durable record to the sockets of those who may read it.
//!
//! Promise: what `delivery` decides is done here, and nothing is decided here. A frame is encoded
//! once per encoding and written straight to each caught-up socket; a socket that would block reads
//! on, from the log's in-memory tail or the store, when it drains. All output of a socket takes
//! one way out, in order. Nobody waits for a socket; for the disk pumps wait, and the dispatcher
//! only where a tail has left memory, and for a row where a log begins that somebody waited for,
//! its rule changes, or an era begins.
//!
//! Locks are taken in one order: a log's watch, then a socket. `docs/architecture.md` tells the way
//! of a record through this room.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod appending;
mod closing;
mod dispatch;
mod early;
mod elsewhere;
mod encode;
mod face;
mod fanout;
#[cfg(test)]
mod fixture;
mod hints;
mod hub;
mod losing;
mod opening;
mod outgoing;
mod pace;
pub mod panics;
mod pieces;
mod pump;
mod queue;
mod refusals;
mod registry;
mod revoking;
mod silence;
mod sink;
mod snapshot_wanted;
mod socket;
mod ticket;
mod upload;
mod wait;
mod who;
mod write_out;

pub use appending::{Appending, refused, settle};
pub use dispatch::Dispatcher;
pub use elsewhere::Elsewhere;
pub use face::{Face, Form};
pub use hub::{Hub, HubLimits, HubStats};
pub use opening::{Opening, Spent};
pub use pump::Pumps;
pub use refusals::Refusals;
pub use revoking::Revoking;
pub use silence::SWEEP;
pub use sink::Sink;
pub use socket::{Counts, Socket, SocketInfo};
pub use ticket::{Request, Ticket};
pub use wait::LogWait;

// Who uses this room needs them, and not the rest of what decides.
pub use crate::delivery::{Closing, Readable};

#[cfg(test)]
mod tests;
