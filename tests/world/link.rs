//! A link between a client and a node: bytes that take their time, room that ends, and a cut at
//! any byte.

use std::collections::VecDeque;

/// One direction.
#[derive(Debug, Default)]
pub struct Lane {
    /// On their way, with the time at which they are there.
    flying: VecDeque<(u64, Vec<u8>)>,
    last: u64,
}

impl Lane {
    pub fn bytes(&self) -> usize {
        self.flying.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Puts bytes on their way; when they will be there.
    pub fn send(&mut self, bytes: &[u8], at: u64) -> u64 {
        self.last = self.last.max(at);
        self.flying.push_back((self.last, bytes.to_vec()));
        self.last
    }

    /// What has arrived.
    pub fn take(&mut self, now: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while self.flying.front().is_some_and(|(at, _)| *at <= now) {
            all.extend(self.flying.pop_front().into_iter().flat_map(|(_, bytes)| bytes));
        }
        all
    }

    /// Only the first so many bytes arrive.
    fn cut(&mut self, mut left: usize) {
        for (_, bytes) in &mut self.flying {
            bytes.truncate(left);
            left -= bytes.len();
        }
    }
}

#[derive(Debug)]
pub struct Link {
    pub tab: usize,
    pub node: usize,
    pub up: Lane,
    pub down: Lane,
    /// Nothing that is sent from here on arrives.
    pub broken: bool,
    /// The client reads nothing until then.
    pub stalled: u64,
    /// The node has noticed that it is over.
    pub node_gone: bool,
    pub room: usize,
}

impl Link {
    pub fn new(tab: usize, node: usize, room: usize) -> Self {
        Self {
            tab,
            node,
            up: Lane::default(),
            down: Lane::default(),
            broken: false,
            stalled: 0,
            node_gone: false,
            room,
        }
    }

    /// The kernel takes what it has room for.
    pub fn room(&self) -> usize {
        if self.broken { usize::MAX } else { self.room.saturating_sub(self.down.bytes()) }
    }

    /// Nothing of it arrives any more.
    pub fn end(&mut self) {
        self.broken = true;
        self.up.cut(0);
        self.down.cut(0);
    }

    pub fn cut(&mut self, up: usize, down: usize) {
        if !self.broken {
            self.broken = true;
            self.up.cut(up);
            self.down.cut(down);
        }
    }
}

/// Bytes into messages: four bytes of length before each.
#[derive(Debug, Default)]
pub struct Messages(Vec<u8>);

pub fn wrap(message: &[u8]) -> Vec<u8> {
    let mut all = (message.len() as u32).to_be_bytes().to_vec();
    all.extend_from_slice(message);
    all
}

impl Messages {
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn next(&mut self) -> Option<Vec<u8>> {
        let length = u32::from_be_bytes(self.0.get(..4)?.try_into().ok()?) as usize;
        let message = self.0.get(4..4 + length)?.to_vec();
        self.0.drain(..4 + length);
        Some(message)
    }
}
