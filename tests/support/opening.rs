//! How the client opens logs, and what it does when it is told that one is subscribed.

use highwater::wire::{ClientFrame, Open, Start, Subscribe, Subscribed};

use super::client::Client;
use super::laws::Held;

impl Client {
    /// Subscribes to a log from now on.
    pub fn subscribe(&mut self, name: &str, start: Start, priority: u8) {
        self.wants.insert(name.to_owned(), (start, priority));
        let open = Open { name: name.to_owned(), have: None, start, priority };
        self.send(&ClientFrame::Subscribe(Subscribe {
            request: 77,
            open: vec![open],
            bases: vec![],
        }));
    }

    /// A log is announced; one that is held is opened, unless the test does that.
    pub(super) fn subscribed(&mut self, told: Subscribed) {
        if let Some(made) = told.made {
            self.known_made.insert(told.log, made);
        }
        let same = |held: &&mut Held| held.name == told.name;
        if let Some(held) = self.logs.get_mut(&told.log).filter(same) {
            held.subscribed(&told);
        } else {
            if let Some(before) = self.find(&told.name).map(|held| held.log) {
                let before = self.logs.remove(&before);
                assert!(before.is_none_or(|held| !held.open), "one log of a name");
            }
            if let Some(other) = self.logs.remove(&told.log) {
                assert!(other.stale, "a log id has one name in a history");
            }
            let mut held = Held::new(&told);
            (held.open, held.held) = (false, false);
            held.subscribed(&told);
            self.logs.insert(told.log, held);
        }
        if told.held && self.opens {
            self.subscribe(&told.name, Start::State, told.priority);
        } else if !told.held {
            self.wants.entry(told.name).or_insert((Start::State, told.priority));
        }
    }
}
