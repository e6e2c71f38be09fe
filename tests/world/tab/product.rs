//! A client whose mind is the product's: `src/client` decides what is said.
//!
//! Promise: the world's own client stays beside it and sees each frame, in both directions, before
//! or as it is acted on. So the server is held to the same laws, and where the two clients think
//! otherwise of a log, an answer or a position, one of them is wrong, and the seed fails.

use std::collections::BTreeSet;

use highwater::client::{Client, Config, Event, Input, Output};
use highwater::wire::{Ack, Append, BaseHeld, ClientFrame, Id, Open, Position, ServerFrame, Start};

use crate::held::Held;
use crate::oracle::demand;
use crate::session::token;
use crate::shared::Shared;

use super::{CAPABILITIES, Tab, Wants};

/// Its requests are numbered from 1 on; what the world asks for beside it, from here on.
const BESIDE: u32 = 1 << 20;

pub struct Product {
    client: Client,
    /// The name of its next writer, should it need one.
    pub(super) spare: Id,
    /// What its app was refused, or what ended, since it stated it last: it may have dropped what
    /// it had of it.
    let_go: BTreeSet<String>,
    /// What it has let go since it stated it last: it has to state nothing of that.
    dropped: BTreeSet<String>,
    /// Logs that it asked for anew before their end had come: with that, or with the socket or the
    /// channel, what it had of them is gone.
    ending: BTreeSet<u64>,
    /// What it has asked for at any time.
    known: BTreeSet<String>,
}

impl Tab {
    /// From now on the product's client decides.
    pub fn hand_over(&mut self) {
        let mut config = Config::new(self.connection, self.writing.id);
        config.capabilities = CAPABILITIES.to_vec();
        config.ack_after = Some(30);
        self.product = Some(Product {
            client: Client::new(config),
            spare: Id::NONE,
            let_go: BTreeSet::new(),
            dropped: BTreeSet::new(),
            ending: BTreeSet::new(),
            known: BTreeSet::new(),
        });
        self.next = BESIDE;
    }

    /// Its socket is open.
    pub(super) fn opened(&mut self, shared: &mut Shared) {
        let spare = Id(shared.random.next().to_be_bytes().repeat(2).try_into().unwrap());
        let token = token(self.issued, self.user, self.grants);
        let Some(product) = &mut self.product else { return };
        product.spare = spare;
        let config = product.client.config_mut();
        (config.token, config.visible) = (Some(token), self.visible);
        self.wish();
        self.input(Input::Open { spare }, shared);
    }

    /// Its socket is over.
    pub(super) fn closed(&mut self, shared: &mut Shared) {
        self.ends();
        self.input(Input::Closed, shared);
    }

    /// No end will come of what was let go.
    fn ends(&mut self) {
        let Some(product) = &mut self.product else { return };
        let ended = std::mem::take(&mut product.ending);
        self.logs.retain(|log, _| !ended.contains(log));
    }

    /// A frame comes: to both.
    pub(super) fn hears(&mut self, (frame, size): (ServerFrame, usize), shared: &mut Shared) {
        if self.product.is_none() {
            return self.frame(frame, shared);
        }
        // The world's client closes at that word, so the other one is told of it first.
        let last = matches!(frame, ServerFrame::Bye(_));
        let log = log_of(&frame);
        let opened = match &frame {
            ServerFrame::Subscribed(told) => Some(told.name.clone()),
            _ => None,
        };
        if !last {
            self.frame(frame.clone(), shared);
        }
        match (&frame, &mut self.product) {
            (ServerFrame::State(told), _) if !told.active => self.ends(),
            (ServerFrame::Unsubscribed(told), Some(product)) => {
                product.ending.remove(&told.log);
            }
            _ => {}
        }
        self.input(Input::Frame(frame.clone(), size), shared);
        if last {
            self.frame(frame, shared);
        }
        log.into_iter().for_each(|log| self.same_log(log));
        // What the back end opens, the app has again.
        if let (Some(name), Some(product)) = (opened, &mut self.product)
            && product.client.open_list().iter().any(|open| open.name == name)
        {
            product.dropped.remove(&name);
        }
    }

    /// What it does by itself, and what its app wants.
    pub(super) fn product_says(&mut self, shared: &mut Shared) {
        self.input(Input::Time, shared);
        if !self.welcomed {
            return;
        }
        if shared.now >= self.asked_at {
            self.asked_at = shared.now + 300;
            self.wish();
            self.said(shared);
        }
    }

    /// The app says again what it wants: what was refused, or ended, the client let go.
    fn wish(&mut self) {
        let Some(product) = &mut self.product else { return };
        let wanted = product.client.open_list();
        for (name, (start, priority)) in &self.wants {
            if !wanted.iter().any(|open| open.name == *name) {
                if !product.known.insert(name.clone()) {
                    product.let_go.insert(name.clone());
                }
                product.client.open(name, *start, *priority);
            }
        }
    }

    /// Its app lets a log go.
    pub(super) fn lets_go(&mut self, name: &str, shared: &mut Shared) {
        if let Some(product) = &mut self.product {
            if product.client.open_list().iter().any(|open| open.name == name) {
                product.dropped.insert(name.to_owned());
            }
            product.client.close_log(name);
        }
        self.said(shared);
    }

    /// Something is done with the product's client, by its app.
    pub(super) fn by_app(&mut self, shared: &mut Shared, act: impl FnOnce(&mut Client)) {
        if let Some(product) = &mut self.product {
            act(&mut product.client);
        }
        self.said(shared);
    }

    fn input(&mut self, input: Input<'_>, shared: &mut Shared) {
        if let Some(product) = &mut self.product {
            product.client.handle(shared.now, input);
        }
        self.said(shared);
    }

    /// What it wants done, is.
    fn said(&mut self, shared: &mut Shared) {
        while let Some(output) = self.product.as_mut().and_then(|product| product.client.poll()) {
            match output {
                Output::Send(frame) => {
                    self.notes(&frame, shared);
                    self.send(frame, shared);
                }
                Output::Tell(event) => self.told(&event),
                Output::Close => self.end(shared),
                Output::Connect { not_before, spread } => {
                    let at = not_before + shared.random.below(spread + 1);
                    self.back_at = self.back_at.max(at);
                }
            }
        }
    }

    fn told(&self, event: &Event) {
        match event {
            Event::Breach(breach) => panic!("the product's client: {breach}"),
            Event::Jump { .. } | Event::Repeat { .. } => panic!("law 5: {event:?}"),
            Event::Settled { writer, seq, outcome } if *writer == self.writing.id => {
                let known = self.writing.outcome(*seq);
                demand!(known == Some(outcome), "promise 4: {seq} is {outcome:?}, not {known:?}");
            }
            Event::Renumbered { to, .. } => {
                let id = self.writing.id;
                demand!(*to == id, "promise 15: its writer is {to}, and {id} was handed in");
            }
            _ => {}
        }
    }

    /// It is about to say that: it is held against what the world's client knows, who takes it for
    /// its own word.
    fn notes(&mut self, frame: &ClientFrame, shared: &mut Shared) {
        match frame {
            ClientFrame::Hello(hello) => {
                self.states(&hello.positions);
                self.asks_for(0, &hello.open, &hello.bases);
                let wanted = |name: &str| hello.open.iter().any(|open| open.name == name);
                self.logs.retain(|_, held| wanted(&held.name) && held.stated());
                let oldest = self.writing.oldest();
                let at = hello.writers.first().map(|at| (at.writer, at.oldest));
                demand!(at == Some((self.writing.id, oldest)), "law 8: {at:?}, not {oldest}");
            }
            ClientFrame::Activate(ask) => {
                self.requests.insert(ask.request, Wants::One);
                self.asks_for(0, &ask.open, &ask.bases);
                self.logs.retain(|_, held| held.stated());
            }
            ClientFrame::Subscribe(ask) => {
                let names: Vec<_> = ask.open.iter().map(|open| open.name.clone()).collect();
                let named = |name: &String| names.contains(name);
                self.logs.retain(|_, held| held.open || held.stated() || !named(&held.name));
                self.asks_for(ask.request, &ask.open, &ask.bases);
                self.requests.insert(ask.request, Wants::Names(names));
            }
            ClientFrame::Unsubscribe(ask) => {
                self.requests.insert(ask.request, Wants::Logs(ask.logs.clone()));
            }
            ClientFrame::Seek(ask) => drop(self.requests.insert(ask.request, Wants::One)),
            ClientFrame::Refresh(ask) => drop(self.requests.insert(ask.request, Wants::One)),
            ClientFrame::Append(append) => self.appends(append),
            ClientFrame::Ack(ack) => self.acknowledges(ack, shared),
            _ => {}
        }
    }

    fn states(&self, told: &[Position]) {
        let own = self.position.as_slice();
        demand!(told == own, "promise 15: it states {told:?}, and has seen {own:?}");
    }

    fn asks_for(&mut self, request: u32, open: &[Open], bases: &[BaseHeld]) {
        let names = open.iter().map(|open| open.name.clone()).collect();
        let (own, own_bases) = self.opens(request, names);
        let mut afresh = Vec::new();
        for (one, other) in open.iter().zip(own) {
            let (name, said, known) = (&one.name, one.have, other.have);
            let Some(product) = &mut self.product else { return };
            let (dropped, anew) = (product.dropped.remove(name), product.let_go.remove(name));
            product.known.insert(name.clone());
            let less = (dropped || anew) && said.is_none();
            let fits = if dropped { less } else { less || said == known };
            demand!(fits, "promise 8: {name}: it says that it has {said:?}, not {known:?}");
            if dropped || anew {
                afresh.push(name.clone());
                let open = |held: &&Held| held.open && !held.held && held.name == *name;
                let open = self.logs.values().filter(open);
                product.ending.extend(open.map(|held| held.log));
            }
            if said != known {
                self.logs.retain(|_, held| held.open || held.name != *name);
                self.asked.remove(&(request, name.clone()));
            }
            let asked = self.asked.entry((request, name.clone())).or_default();
            asked.less |= one.start != Start::State;
        }
        let anew = |base: &BaseHeld| {
            let name = self.logs.get(&base.log).map(|held| &held.name);
            name.is_none_or(|name| afresh.contains(name))
        };
        let told = bases.iter().all(|base| own_bases.contains(base));
        let kept = own_bases.iter().all(|base| bases.contains(base) || anew(base));
        demand!(told && kept, "law 4: it has begun {bases:?}, not {own_bases:?}");
        for base in own_bases.iter().filter(|base| !bases.contains(base)) {
            let open = self.logs.get(&base.log).is_some_and(|held| held.open);
            match (&mut self.product, open) {
                (Some(product), true) => drop(product.ending.insert(base.log)),
                _ => drop(self.logs.remove(&base.log)),
            }
        }
    }

    fn appends(&self, append: &Append) {
        if append.writer != self.writing.id {
            return;
        }
        self.states(&append.positions);
        for item in &append.items {
            let known = self.writing.pending.iter().find(|known| known.seq == item.seq);
            demand!(known == Some(item), "promise 4: it sends {item:?}, not {known:?}");
        }
        let names = append.items.iter().filter_map(|item| self.writing.made(item.seq));
        names.for_each(|made| {
            let said = append.made.iter().any(|said| said.position == made);
            demand!(said, "promise 15: {made:?} is not said");
        });
    }

    fn acknowledges(&mut self, ack: &Ack, shared: &mut Shared) {
        let own = self.received;
        self.acknowledged = own;
        self.moved.clear();
        demand!(ack.received == own, "law 6: it has received {}, not {own}", ack.received);
        let mut claims = Vec::new();
        for cursor in &ack.cursors {
            let held = self.logs.get(&cursor.log).filter(|held| held.open && held.holds());
            let own = held.map(|held| held.cursor);
            demand!(own == Some(cursor.next), "law 6: it is at {cursor:?}, not at {own:?}");
            claims.push((
                cursor.log,
                cursor.next,
                self.heard.get(&cursor.log).copied().unwrap_or(0),
            ));
        }
        if let Some(link) = self.link {
            shared.oracle.acknowledges(link, &claims);
        }
    }

    /// Both know the same of a log.
    fn same_log(&self, log: u64) {
        let Some(product) = &self.product else { return };
        let (one, own) = (product.client.logs().get(&log), self.logs.get(&log));
        let (Some(one), Some(own)) = (one, own) else { return };
        // Where nothing is held the cursor says nothing.
        let (at, own_at) = (one.holds().then_some(one.cursor), own.holds().then_some(own.cursor));
        let one = (&one.name, at, one.open, one.complete, one.begun());
        let own = (&own.name, own_at, own.open, own.complete, own.begun());
        demand!(one == own, "two clients of log {log}: {one:?}, and {own:?}");
    }

    /// It has all that the world's client has, and nothing is left to be said.
    pub fn same(&self) {
        let Some(product) = &self.product else { return };
        for (log, held) in self.logs.iter().filter(|(_, held)| held.open && !held.held) {
            let known = product.client.logs().get(log).is_some_and(|log| log.shown());
            demand!(known, "promise 14: {} is shown by one client of two", held.name);
            self.same_log(*log);
        }
        let left = product.client.unanswered();
        demand!(left == 0, "promise 3: {left} appends of it have no answer");
    }
}

const fn log_of(frame: &ServerFrame) -> Option<u64> {
    match frame {
        ServerFrame::Subscribed(told) => Some(told.log),
        ServerFrame::Unsubscribed(told) => Some(told.log),
        ServerFrame::Reset(told) => Some(told.log),
        ServerFrame::Gap(told) => Some(told.log),
        ServerFrame::Base(told) => Some(told.log),
        ServerFrame::BaseRecords(told) => Some(told.log),
        ServerFrame::Records(told) => Some(told.log),
        _ => None,
    }
}
