//! Which faults a seed has, and how often: each seed draws a few of them, so that no fault always
//! hides behind another (swarm testing).

use std::fmt;

use crate::random::Random;

/// What may happen in the phase of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    // What clients do.
    Append,
    Open,
    Close,
    Seek,
    Snapshot,
    Hide,
    Leave,
    Reload,
    // What goes wrong, and what is done to them.
    Cut,
    Stall,
    Duplicate,
    Crash,
    Lose,
    Downgrade,
    Revoke,
    Regrant,
    Trim,
    Delete,
    BackEnd,
    Forget,
}

impl Act {
    pub const ALL: [Self; 20] = [
        Self::Append,
        Self::Open,
        Self::Close,
        Self::Seek,
        Self::Snapshot,
        Self::Hide,
        Self::Leave,
        Self::Reload,
        Self::Cut,
        Self::Stall,
        Self::Duplicate,
        Self::Crash,
        Self::Lose,
        Self::Downgrade,
        Self::Revoke,
        Self::Regrant,
        Self::Trim,
        Self::Delete,
        Self::BackEnd,
        Self::Forget,
    ];

    /// Whether a shorter history may leave it out altogether: without appends nothing happens.
    pub const fn optional(self) -> bool {
        !matches!(self, Self::Append)
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// How often each may happen, and how the parts behave.
#[derive(Clone, Debug)]
pub struct Weights {
    acts: Vec<(Act, u64)>,
    /// Several nodes over a shared journal, or one that decides the order itself.
    pub shared: bool,
    pub refused_per_mille: u16,
    pub unknown_per_mille: u16,
    /// Bytes that the kernel takes for a reader that reads nothing.
    pub room: usize,
    /// Bytes of delivery that may be unacknowledged.
    pub window: u64,
    /// Most milliseconds that bytes are under way.
    pub delay: u64,
    /// Milliseconds between two rounds of commits of cursors.
    pub commits: u64,
    pub tabs: usize,
    pub steps: usize,
    /// Of a socket's frames with appends each so many-th is put off, as by a node that is busy:
    /// what is behind it on its way comes too early. 0: none is.
    pub busy: u64,
    /// Each so many-th tab has the product's client. 0: none has.
    pub product: usize,
}

impl Weights {
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::of(seed, 1);
        let mut acts = vec![(Act::Append, 12 + random.below(20)), (Act::Open, 3)];
        for act in Act::ALL.into_iter().skip(2) {
            // Half of the seeds have it; few have much of it.
            if random.one_in(2) {
                acts.push((act, 1 + random.below(3) * random.below(3)));
            }
        }
        let shared = random.one_in(2);
        let faulty = shared && random.one_in(2);
        let refused_per_mille = if faulty { random.below(150) as u16 } else { 0 };
        let unknown_per_mille = if faulty { random.below(300) as u16 } else { 0 };
        let room = random.pick(&[64, 300, 1_000, 20_000]);
        let window = random.pick(&[150, 600, 4_000, 65_536]);
        let delay = random.pick(&[1, 20, 200]);
        let commits = random.pick(&[20, 200, 1_000]);
        let (tabs, steps) = (2 + random.below(4) as usize, 40 + random.below(60) as usize);
        let busy = random.pick(&[0, 0, 0, 3]);
        let product = random.pick(&[0, 1, 2]);
        Self {
            acts,
            shared,
            refused_per_mille,
            unknown_per_mille,
            room,
            window,
            delay,
            commits,
            tabs,
            steps,
            busy,
            product,
        }
    }

    /// The same without some of them.
    pub fn without(mut self, left_out: &[Act]) -> Self {
        self.acts.retain(|(act, _)| !left_out.contains(act));
        self
    }

    pub fn has(&self) -> Vec<Act> {
        self.acts.iter().map(|(act, _)| *act).collect()
    }

    pub fn pick(&self, random: &mut Random) -> Act {
        let all: u64 = self.acts.iter().map(|(_, weight)| weight).sum();
        let mut at = random.below(all);
        for (act, weight) in &self.acts {
            if at < *weight {
                return *act;
            }
            at -= weight;
        }
        Act::Append
    }
}
