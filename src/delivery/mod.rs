//! Delivery: what each socket is owed, in which order, and what is read for it.
//!
//! Promise: pure. It has no clock, no IO, no lock and no socket: [`Attachment`] is one attachment
//! of a connection as a machine, [`Tail`] the newest records of a log, [`Outbox`] what waits to be
//! written. It holds numbers of logs, and what is kept per reader is a cursor and a partial frame
//! (promise 5). Between two resets each record of a log goes out once, in offset order (promise
//! 1), and what cannot be delivered is told before anything later (promise 7).
//!
//! # How it is driven
//!
//! Whoever holds an [`Attachment`] calls it under one lock, with the time:
//!
//! - **Records as they become durable** (the hot path; it allocates nothing): [`Attachment::offer`]
//!   to each follower of the log, in order, each once. `Write`: write the frame, and say by
//!   [`Attachment::wrote`] what became of it. `Behind`: it reads for itself, so poll it.
//! - **Everything else** is an input that has a method of its own: what the fold has decided
//!   ([`attached`](Attachment::attached), [`subscribe`](Attachment::subscribe),
//!   [`end`](Attachment::end), [`downgraded`](Attachment::downgraded),
//!   [`owe`](Attachment::owe) …), what the client says
//!   ([`acknowledge`](Attachment::acknowledge), [`leave`](Attachment::leave) …), what a read came
//!   to ([`found`](Attachment::found), or [`offer_read`](Attachment::offer_read) and
//!   [`wrote_read`](Attachment::wrote_read)), that the kernel takes bytes again
//!   ([`writable`](Attachment::writable)).
//! - **Then [`Attachment::poll`]**, until it has nothing: frames to write, a slice of a log to read
//!   (outside of the lock), a look at who has a record, or the end.
//!
//! Frames go as bytes through the [`Outbox`]: while it is not [`busy`](Outbox::busy) a message is
//! written at once, and what the kernel took of it is said ([`Outbox::begun`] of a reply,
//! [`Outbox::delivered`] of a base or of records); else a reply waits ([`Outbox::push`]) and a
//! delivery does not. When the socket is writable, what waits ([`Outbox::waits`]) is written until
//! there is nothing or the kernel takes no more ([`Outbox::took`]).
//!
//! A log's followers: a new one is given, as [`Followed::offered`], the offset from which on
//! records will be offered to it; from then on it is offered every record, whether it is live or
//! not, so that it knows what it still has to read for itself. Records that cannot be offered are
//! told by [`Attachment::missed`].

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod acks;
mod attachment;
mod class;
mod closing;
mod openings;
mod outbox;
mod outcomes;
mod owed;
mod questions;
mod readable;
mod reads;
mod subscription;
mod tail;

pub use attachment::{Attachment, Offer, Output};
pub use class::Class;
pub use closing::Closing;
pub use outbox::{Outbox, REPLY_MOST, Wrote};
pub use owed::Owed;
pub use questions::{Look, refused};
pub use readable::Readable;
pub use reads::{Found, Read, Slice};
pub use subscription::{Followed, Over};
pub use tail::{Tail, TailBudget};

#[cfg(test)]
mod tests;
