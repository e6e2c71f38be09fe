//! What the pumps have to do: sockets that wait for a turn, and reads that wait for a disk.
//!
//! Promise: a socket stands in here once, and whoever waits longest is next. The pump that serves
//! from memory takes turns only, and hands on whatever has to be read from the disk: so who is
//! behind on what is in memory waits for no disk, however many others do.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::socket::Socket;
use crate::delivery::Output;

/// How long a pump waits for work before it looks whether it is to end.
const WAIT: Duration = Duration::from_millis(100);

/// What a pump may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// It reads from the disk, and waits for it.
    Disk,
    /// It serves what is in memory, and waits for nothing.
    Memory,
}

/// What a pump does next.
#[derive(Debug)]
pub(super) enum Work {
    /// A turn of a socket.
    Turn(Arc<Socket>),
    /// What a socket's turn came to, which another pump may not do.
    Read(Arc<Socket>, Box<Output>),
}

#[derive(Debug, Default)]
struct Waiting {
    turns: VecDeque<Arc<Socket>>,
    reads: VecDeque<(Arc<Socket>, Box<Output>)>,
    /// Whether a read was taken last, so that a turn is next.
    read: bool,
}

/// The queue of a node's pumps.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    work: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sockets that wait.
    pub(super) fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.turns.len() + waiting.reads.len()
    }

    /// A socket waits for a turn.
    pub(super) fn push(&self, socket: Arc<Socket>) {
        self.lock().turns.push_back(socket);
        self.work.notify_one();
    }

    /// A read waits for a pump that may wait for the disk; its socket has no turn until then.
    pub(super) fn hand_on(&self, socket: Arc<Socket>, output: Output) {
        self.lock().reads.push_back((socket, Box::new(output)));
        // Who hands on is the only one that may not take it, and it is not waiting.
        self.work.notify_one();
    }

    /// What to do next; waits a while for something.
    pub(super) fn next(&self, reads: Reads) -> Option<Work> {
        let nothing = |waiting: &mut Waiting| {
            waiting.turns.is_empty() && (reads == Reads::Memory || waiting.reads.is_empty())
        };
        let (mut waiting, _) = (self.work)
            .wait_timeout_while(self.lock(), WAIT, nothing)
            .unwrap_or_else(PoisonError::into_inner);
        let turn_first = reads == Reads::Memory || waiting.read || waiting.reads.is_empty();
        if reads == Reads::Disk {
            waiting.read = !turn_first;
        }
        let turn = |waiting: &mut Waiting| waiting.turns.pop_front().map(Work::Turn);
        if turn_first && let Some(turn) = turn(&mut waiting) {
            return Some(turn);
        }
        if reads == Reads::Memory {
            return None;
        }
        let read = waiting.reads.pop_front().map(|(socket, read)| Work::Read(socket, read));
        read.or_else(|| turn(&mut waiting))
    }
}
