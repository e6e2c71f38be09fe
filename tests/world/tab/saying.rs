//! What a client says by itself: who it is, what it wants, how far it has come, and what it writes.

use std::collections::BTreeSet;

use highwater::wire::{
    Ack, Activate, Append, BaseHeld, ClientFrame, Cloning, Cursor, Hello, Open, Start, Subscribe,
    WriterAt,
};

use super::{CAPABILITIES, Tab, Wants};
use crate::held::Held;
use crate::link::{Link, Messages};
use crate::session::token;
use crate::shared::Shared;
use crate::writing::Writing;

impl Tab {
    pub(super) fn connect(&mut self, shared: &mut Shared) {
        let node = match shared.weights.shared {
            true => shared.random.below(2) as usize,
            false => 0,
        };
        let link = shared.links.len();
        let room = if shared.healed { 1 << 20 } else { shared.weights.room };
        shared.links.push(Link::new(self.number, node, room));
        self.link = Some(link);
        self.input = Messages::default();
        (self.received, self.acknowledged) = (0, 0);
        self.writing.sent = 0;
        self.back_at = shared.now + 400;
        if self.issued == 0 {
            self.issued = shared.now;
        }
        self.floor = self.seen.clone();
        for (log, end) in self.writing.own() {
            let floor = self.floor.entry(log).or_default();
            *floor = (*floor).max(end);
        }
        (self.said, self.leaving) = (self.issued, false);
        shared.oracle.states(link, self.position);
        if self.product.is_some() {
            return self.opened(shared);
        }
        let names: BTreeSet<String> = self.wants.keys().cloned().collect();
        let (open, bases) = self.opens(0, names.iter().cloned().collect());
        self.logs.retain(|_, held| names.contains(&held.name) && held.stated());
        let hello = Hello {
            version: 1,
            capabilities: CAPABILITIES.map(String::from).into(),
            token: Some(token(self.issued, self.user, self.grants)),
            connection: self.connection,
            device: None,
            client: String::new(),
            visible: self.visible,
            cloning: Cloning::All,
            writers: vec![WriterAt { writer: self.writing.id, oldest: self.writing.oldest() }],
            open,
            window: 0,
            positions: self.position.into_iter().collect(),
            bases,
        };
        self.send(ClientFrame::Hello(hello), shared);
    }

    pub(super) fn opens(&mut self, request: u32, names: Vec<String>) -> (Vec<Open>, Vec<BaseHeld>) {
        let mut bases = Vec::new();
        let mut open = Vec::new();
        for name in names {
            let held = self.logs.values().find(|held| held.name == name);
            let (start, priority) = self.wants.get(&name).copied().unwrap_or_default();
            let have = held.filter(|held| held.holds());
            let have = have.map(|held| Cursor { log: held.log, next: held.cursor });
            let begun = held.and_then(Held::begun);
            // Who has begun a base wants the state.
            let start = if begun.is_some() { Start::State } else { start };
            bases.extend(begun);
            let asked = self.asked.entry((request, name.clone())).or_default();
            asked.less |= have.is_some() || start != Start::State;
            asked.stated.extend(held.filter(|held| held.stated()).cloned());
            open.push(Open { name, have, start, priority });
        }
        (open, bases)
    }

    pub(super) fn says(&mut self, shared: &mut Shared) {
        if !self.welcomed {
            return;
        }
        self.acknowledge(shared);
        self.append(shared);
        if shared.now < self.asked_at {
            return;
        }
        if !self.active {
            if shared.now > self.activate_at && self.idle() {
                self.asked_at = shared.now + 200;
                let request = self.request(Wants::One);
                let (open, bases) = self.opens(0, self.wants.keys().cloned().collect());
                self.logs.retain(|_, held| held.stated());
                let ask = Activate { request, cloning: Cloning::All, open, bases };
                self.send(ClientFrame::Activate(ask), shared);
            }
            return;
        }
        let missing: Vec<String> = (self.wants.keys())
            .filter(|name| {
                !self.logs.values().any(|held| held.open && !held.held && held.name == **name)
            })
            .cloned()
            .collect();
        if !missing.is_empty() && self.idle() {
            self.asked_at = shared.now + 300;
            let request = self.request(Wants::Names(missing.clone()));
            self.logs.retain(|_, held| held.stated() || !missing.contains(&held.name));
            let (open, bases) = self.opens(request, missing);
            self.send(ClientFrame::Subscribe(Subscribe { request, open, bases }), shared);
        }
    }

    fn acknowledge(&mut self, shared: &mut Shared) {
        let new = self.received > self.acknowledged || !self.moved.is_empty();
        if !new || shared.now < self.acked_at {
            return;
        }
        self.acked_at = shared.now + if shared.healed { 5 } else { 30 };
        self.acknowledged = self.received;
        let moved = std::mem::take(&mut self.moved);
        let mut cursors = Vec::new();
        let mut claims = Vec::new();
        for log in moved {
            let Some(held) = self.logs.get(&log).filter(|held| held.open && held.holds()) else {
                continue;
            };
            cursors.push(Cursor { log, next: held.cursor });
            claims.push((log, held.cursor, self.heard.get(&log).copied().unwrap_or(0)));
        }
        if let Some(link) = self.link {
            shared.oracle.acknowledges(link, &claims);
        }
        self.send(ClientFrame::Ack(Ack { received: self.received, cursors }), shared);
    }

    fn append(&mut self, shared: &mut Shared) {
        let Writing { sent, again_at, .. } = self.writing;
        if shared.now < again_at || sent >= self.writing.pending.len() {
            return;
        }
        let (items, made) = self.writing.next(sent);
        self.writing.sent += items.len();
        let (writer, oldest) = (self.writing.id, self.writing.oldest());
        let positions = self.position.into_iter().collect();
        let append = Append { writer, oldest, items, positions, made };
        self.send(ClientFrame::Append(append), shared);
    }
}
