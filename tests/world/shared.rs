//! What all parts of a world share: the time, the heap of events, the links, and the oracle.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::link::Link;
use crate::oracle::Oracle;
use crate::random::Random;
use crate::weights::Weights;

/// Somebody's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    Act(usize),
    Node(usize),
    Tab(usize),
    /// A node finds out that a link is over.
    NodeGone(usize),
    /// A client does.
    ClientGone(usize),
    Start(usize),
    /// Everybody's, from time to time.
    Tick,
}

pub struct Shared {
    pub now: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Turn)>>,
    events: u64,
    pub random: Random,
    pub links: Vec<Link>,
    pub oracle: Oracle,
    pub weights: Weights,
    /// Hash of all that happened, in its order.
    pub trace: u64,
    /// Harm is over.
    pub healed: bool,
    /// Whether each frame and each batch is printed.
    pub frames: bool,
}

impl Shared {
    pub fn new(seed: u64, weights: Weights) -> Self {
        Self {
            now: 1_000_000,
            heap: BinaryHeap::new(),
            events: 0,
            random: Random::of(seed, 2),
            links: Vec::new(),
            oracle: Oracle::default(),
            weights,
            trace: seed,
            healed: false,
            frames: false,
        }
    }

    /// Prints what happens, where that was asked for.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.frames {
            println!("  {:>6} {}", self.now - 1_000_000, what());
        }
    }

    pub fn at(&mut self, time: u64, turn: Turn) {
        self.events += 1;
        self.heap.push(Reverse((time.max(self.now), self.events, turn)));
    }

    pub fn next(&mut self) -> Option<Turn> {
        let Reverse((time, _, turn)) = self.heap.pop()?;
        self.now = time;
        self.note(&[time, turn_number(turn)]);
        Some(turn)
    }

    /// Something happened: two runs of one seed have the same trace.
    pub fn note(&mut self, words: &[u64]) {
        for word in words {
            self.trace = (self.trace.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
        }
    }

    fn noted(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut eight = [0; 8];
            eight[..word.len()].copy_from_slice(word);
            self.note(&[u64::from_le_bytes(eight)]);
        }
    }

    fn delay(&mut self) -> u64 {
        let most = if self.healed { 1 } else { self.weights.delay };
        self.now + 1 + self.random.below(most)
    }

    /// The client sends.
    pub fn up(&mut self, link: usize, bytes: &[u8]) {
        self.noted(bytes);
        let at = self.delay();
        let it = &mut self.links[link];
        if !it.broken {
            let (at, node) = (it.up.send(bytes, at), it.node);
            self.at(at, Turn::Node(node));
        }
    }

    /// The node sends: how many bytes the kernel took.
    pub fn down(&mut self, link: usize, bytes: &[u8]) -> usize {
        let at = self.delay();
        let it = &mut self.links[link];
        let taken = bytes.len().min(it.room());
        if taken > 0 && !it.broken {
            let (at, tab) = (it.down.send(&bytes[..taken], at), it.tab);
            self.noted(&bytes[..taken]);
            self.at(at, Turn::Tab(tab));
        }
        taken
    }

    /// A link breaks at some byte of each direction.
    pub fn cut(&mut self, link: usize) {
        let (up, down) = (self.links[link].up.bytes(), self.links[link].down.bytes());
        let up = self.random.below(up as u64 + 1) as usize;
        let down = self.random.below(down as u64 + 1) as usize;
        self.links[link].cut(up, down);
        let (client, node) = (self.random.below(300), self.random.below(3_000));
        self.at(self.now + client, Turn::ClientGone(link));
        self.at(self.now + node, Turn::NodeGone(link));
    }
}

const fn turn_number(turn: Turn) -> u64 {
    match turn {
        Turn::Act(n) => n as u64,
        Turn::Node(n) => 1 << 20 | n as u64,
        Turn::Tab(n) => 2 << 20 | n as u64,
        Turn::NodeGone(n) => 3 << 20 | n as u64,
        Turn::ClientGone(n) => 4 << 20 | n as u64,
        Turn::Start(n) => 5 << 20 | n as u64,
        Turn::Tick => 6 << 20,
    }
}
