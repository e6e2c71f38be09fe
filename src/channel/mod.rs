//! Delivery: from a durable record to the sockets of those who may read it.
//!
//! Promise: pull by cursor. What is kept per reader is a cursor and a partial frame; nothing grows
//! with its lag (promise 5). A frame is encoded once per encoding and written straight to each
//! caught-up socket; a socket that would block is marked behind and reads on, from the log's
//! in-memory tail or the store, when it drains. All output of a socket takes one way out, in order.
//! Between two resets each record of a log goes out once, in offset order (promise 1), and what
//! cannot be delivered is told before anything later (promise 7).
//!
//! Locks are taken in one order: a log's watch, then a socket. `docs/architecture.md` tells the way
//! of a record through this room.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod acks;
mod appending;
mod asked;
mod asking;
mod awaited;
mod closing;
mod dispatch;
mod due;
mod encode;
#[cfg(test)]
mod fixture;
mod going;
mod hub;
mod opening;
mod owed;
pub mod panics;
mod pieces;
mod pump;
mod readable;
mod refusals;
mod silence;
mod socket;
mod tail;
mod upload;
mod wait;
mod way;
mod who;

pub use appending::{Appending, refused, settle};
pub use asked::{Asked, Ticket};
pub use closing::Closing;
pub use dispatch::Dispatcher;
pub use encode::{control, ws_close};
pub use hub::{Hub, HubLimits, HubStats};
pub use opening::{Opening, Spent};
pub use pump::Pumps;
pub use readable::{Readable, Revoking};
pub use refusals::Refusals;
pub use socket::{Abilities, Socket, SocketInfo};
pub use wait::LogWait;
pub use way::Way;

#[cfg(test)]
mod tests;
