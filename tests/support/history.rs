//! What the client does with positions, as section 8.11 of the protocol says.

use highwater::wire::{Item, Made, Met, Position, Target, Welcome};

use super::client::Client;

impl Client {
    pub(super) fn welcomed(&mut self, welcome: Welcome) {
        assert_eq!(welcome.connection, self.id);
        assert_eq!(welcome.version, 1);
        assert!(self.welcome.is_none(), "welcome comes once");
        if let Some(token) = &welcome.token {
            self.token = Some(token.clone());
        }
        self.active = welcome.met != Met::Waiting;
        self.reason = None;
        self.position = welcome.positions.first().copied();
        assert!(self.position.is_some(), "welcome tells where the server stands");
        if welcome.other_history {
            self.other_history(&welcome);
        }
        self.welcome = Some(welcome);
    }

    pub(super) fn stated(&self) -> Vec<Position> {
        self.position.into_iter().filter(|_| self.history).collect()
    }

    /// Where the log ids that items name were made, as it was told.
    pub(super) fn made(&self, items: &[Item]) -> Vec<Made> {
        let made = |item: &Item| match item.to {
            Target::Log(log) => {
                self.known_made.get(&log).map(|position| Made { log, position: *position })
            }
            Target::Name(_) => None,
        };
        items.iter().filter_map(made).filter(|_| self.history).collect()
    }

    /// It has seen a place of the era that its socket stands in.
    pub(super) fn raise(&mut self, batch: u64) {
        if let Some(known) = &mut self.position
            && batch > known.batch
        {
            *known = Position { batch, chain: None, ..*known };
        }
    }

    /// What it holds is of another history: all of it is to be reset, and its writer is over.
    pub(super) fn other_history(&mut self, welcome: &Welcome) {
        assert!(self.history, "only who states positions is told");
        self.others += 1;
        self.seen.clear();
        self.shown.clear();
        self.logs.values_mut().for_each(|held| held.stale = true);
        let own = welcome.writers.iter().find(|mark| mark.writer == self.writing.id);
        let old = self.writing.begin_anew(own.map_or(0, |own| own.mark));
        self.over.push(old);
    }
}
