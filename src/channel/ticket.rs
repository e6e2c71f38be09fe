//! What was asked, and by whom: carried beside a command until its reply is told.
//!
//! Promise: a command has one reply, so whoever asked has one answer, in the form that it asked in.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::appending::Appending;
use super::opening::Opening;
use super::socket::Socket;
use crate::fold::Reply;
use crate::limit::Charged;
use crate::wire::{Ended, Welcome};

/// What a socket asked for, so that the answer finds its form.
#[derive(Debug)]
pub enum Request {
    /// To be attached, with these logs; the welcome lacks only what the fold decides.
    Attach(Box<(Welcome, Opening)>),
    /// To be active again; answered by `state`, and by the name of each log.
    Activate(Box<Opening>),
    /// Appends, with what they cost and what is told of those that the rates put off.
    Append(Box<Appending>),
    /// Subscriptions; each name is answered.
    Subscribe(Box<Opening>),
    /// Their end, why, and of which logs.
    Unsubscribe(u32, Ended, Vec<u64>),
    /// Another cursor, by that request; answered by `subscribed`.
    Seek(u32),
    /// A part of a snapshot: answered if it is refused, or is the last one.
    Snapshot {
        /// The number that all parts of the upload carry.
        request: u32,
        /// The turn by which the socket knows the upload.
        turn: u64,
        /// Whether it is the last part.
        last: bool,
        /// What the part costs.
        charged: Charged,
    },
    /// A log that it had asked for in vain is there, and it was answered then; or one that the back
    /// end had opened to it.
    Early,
    /// To leave; the answer is the close.
    Leave,
    /// Something that is done or not; 0: nobody waits for a word on it.
    Done(u32),
    /// The end of what the grants do not cover, which the socket was told at once; no answer.
    Denied(Vec<u64>),
}

/// Who waits for a command's reply.
#[derive(Debug)]
pub enum Ticket {
    /// A socket, which is told in the form that it asked in.
    Socket(Arc<Socket>, Request),
    /// Someone on this node: the batch's number and the reply.
    Caller(oneshot::Sender<(u64, Reply)>),
}
