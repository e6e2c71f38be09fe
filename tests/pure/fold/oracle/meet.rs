//! How clients are met: what the model demands of it.

use std::collections::{BTreeMap, BTreeSet};

use highwater::connection::{Attach, Attached, BaseFrom, Event, Opened};
use highwater::fold::Reply;
use highwater::wire::{
    BaseHeld, Cloning, Code, Id, Met, Open, Pattern, Reason, SnapshotRule, Upto,
};

use super::{Before, Connection, Oracle, Sub};

impl Oracle {
    pub(super) fn attach(
        &mut self,
        node: (Id, u64),
        ask: &Attach,
        reply: &Reply,
        events: &[Event],
        before: &Before,
    ) {
        let (id, known) = (ask.connection, before.get(&ask.connection));
        let foreign_writer = ask
            .writers
            .iter()
            .any(|at| self.writers.get(&at.writer).is_some_and(|writer| writer.user != ask.user));
        let of_user = before.values().filter(|one| one.user == ask.user).count();
        let forgotten = self.makes_room(&ask.user, known.is_none(), events, before);
        let expect = match known {
            _ if foreign_writer => Err(Code::UnknownWriter),
            Some(known) if known.user != ask.user => Err(Code::UnknownConnection),
            None if of_user >= self.budgets.connections_per_user as usize && !forgotten => {
                Err(Code::Connections)
            }
            _ => Ok(()),
        };
        let told = match reply {
            Reply::Attached(told) => told,
            Reply::Refused(why) => return assert_eq!(Err(why.code), expect),
            other => panic!("{other:?}"),
        };
        assert_eq!(expect, Ok(()));
        match (known, self.ended.get(&id)) {
            (Some(known), _) => assert_eq!(told.generation, known.generation + 1),
            // Promise 12: no life of an id has a generation of one before.
            (None, ended) => assert!(told.generation > ended.copied().unwrap_or(0)),
        }
        let held = known.and_then(|known| known.node);
        let fenced =
            held.is_some_and(|held| self.nodes.get(&held.0).is_some_and(|n| n.0 == held.1));
        assert_eq!(fenced, events.iter().any(|event| matches!(event, Event::Fenced { .. })));
        let was_active = known.is_some_and(|known| known.active);
        assert_eq!(told.met == Met::Resumed, was_active);
        let generation = told.generation;
        self.connections.insert(
            id,
            Connection {
                user: ask.user.clone(),
                device: known.filter(|_| was_active).map_or(ask.device, |known| known.device),
                active: was_active,
                generation,
                joined: generation,
                visible: ask.visible,
                since: self.time,
                node: Some(node),
                subs: known.map(|known| known.subs.clone()).unwrap_or_default(),
                openings: known.map_or(0, |known| known.openings),
            },
        );
        if told.met == Met::Waiting {
            assert!(told.opened.is_empty() && !self.has_room(&self.connections[&id], id));
            let told = |one: &Event| match one {
                Event::Downgraded { connection, .. } => gone(events, connection),
                other => matches!(other, Event::Fenced { .. } | Event::Forgotten { .. }),
            };
            return assert!(events.iter().all(told));
        }
        self.filled(told, (ask.cloning, ask.holds), (&ask.read, &ask.make), &ask.open, before);
        self.go_on(&ask.bases, &told.opened);
        self.gave(told, events, before);
    }

    /// What goes on is a base that was stated, and all that follows it is still kept.
    pub(super) fn go_on(&self, stated: &[BaseHeld], opened: &[Opened]) {
        for one in opened {
            let Some(upto) = &one.upto else { continue };
            let base = one.base.as_ref().expect("there is a base to go on with");
            let held = BaseHeld { log: one.log, offset: base.offset(), upto: upto.clone() };
            assert!(stated.contains(&held), "{one:?}, stated {stated:?}");
            assert_eq!((one.reset, &one.gap), (None, &None), "{one:?}");
            assert!(one.start <= held.offset && held.offset <= one.head, "{one:?}");
            match (base, upto) {
                (BaseFrom::Latest(_), Upto::Key(_)) => assert_eq!(one.rule, SnapshotRule::Latest),
                (BaseFrom::Client(snapshot), Upto::Parts(parts)) => {
                    assert!(one.rule == SnapshotRule::Client && *parts < snapshot.parts);
                }
                other => panic!("a base of one kind goes on as another: {other:?}"),
            }
        }
    }

    /// Whether a connection of the user can make room for another. One that does has no socket, and
    /// is an active one only where there is no other.
    fn makes_room(&self, user: &str, is_new: bool, events: &[Event], before: &Before) -> bool {
        let runs = |node: &(Id, u64)| self.nodes.get(&node.0).is_some_and(|n| *n == (node.1, true));
        let unused = |one: &Connection| one.user == user && !one.node.as_ref().is_some_and(runs);
        let idle = before.values().any(|one| unused(one) && !one.active);
        for event in events {
            let Event::Forgotten { connection } = event else { continue };
            let one = &before[connection];
            assert!(unused(one) && is_new && !(one.active && idle), "{event:?}");
        }
        before.values().any(unused)
    }

    /// Whether a slot is free for it, or one may be taken. Called where nothing was taken.
    fn has_room(&self, new: &Connection, but: Id) -> bool {
        let others = || self.connections.iter().filter(|(id, one)| **id != but && one.active);
        let own: Vec<_> = others().map(|(_, one)| one).filter(|one| one.user == new.user).collect();
        let on_device = own.iter().filter(|one| one.device == new.device).count();
        let full = own.len() >= self.budgets.active_per_user as usize;
        let crowded = new.device.is_some() && on_device >= self.budgets.active_per_device as usize;
        let none_left = others().count() as u64 >= self.budgets.active_total;
        if !(full || crowded || none_left) {
            return true;
        }
        own.iter()
            .filter(|one| !crowded || one.device == new.device)
            .any(|one| !self.attached(one) || (new.visible && !one.visible))
    }

    /// A slot was taken from one of the user's own that nobody looked at, if at all.
    pub(super) fn gave(&self, told: &Attached, events: &[Event], before: &Before) {
        let new = &self.connections[&told.connection];
        let mut count = 0;
        for event in events {
            let Event::Downgraded { connection, reason, .. } = event else { continue };
            let victim = &before[connection];
            count += u32::from(!gone(events, connection));
            assert!(matches!(reason, Reason::Slots | Reason::NodeSlots) && victim.user == new.user);
            assert!(!self.attached(victim) || (!victim.visible && new.visible), "{victim:?}");
        }
        assert!(count <= 1 && (count == 0 || told.met != Met::Resumed));
    }

    /// Subscriptions as they were told, by a lawful rule.
    pub(super) fn filled(
        &mut self,
        told: &Attached,
        (cloning, holds): (Cloning, bool),
        (read, make): (&[Pattern], &[Pattern]),
        open: &[Open],
        before: &Before,
    ) {
        let id = told.connection;
        let time = self.time;
        let one = self.connections.get_mut(&id).unwrap();
        (one.active, one.generation, one.since) = (true, told.generation, time);
        let (own, user) = (std::mem::take(&mut one.subs), one.user.clone());
        let siblings =
            |other: &Id, one: &Connection| *other != id && one.user == user && one.active;
        let siblings: Vec<_> =
            before.iter().filter(|(other, one)| siblings(other, one)).map(|(_, one)| one).collect();
        let has_source = cloning != Cloning::None && !siblings.is_empty();
        match told.met {
            Met::Resumed => assert_eq!(told.source, None),
            Met::Cloned => assert!(has_source && before[&told.source.unwrap()].active),
            Met::Fresh => assert!(!has_source && !before.contains_key(&id)),
            Met::Restored => assert!(!has_source && before.contains_key(&id)),
            Met::Waiting => panic!("it waits, and is filled"),
        }
        let own_row = [own.clone()];
        let (best, all): (_, Vec<&Subs>) = match (told.source, cloning) {
            (Some(source), Cloning::All) => {
                (before[&source].subs.clone(), siblings.iter().map(|one| &one.subs).collect())
            }
            (Some(_), _) => (Subs::new(), Vec::new()),
            (None, _) => (own.clone(), own_row.iter().collect()),
        };
        self.takes(told, &best, &all, open, read);
        let may = |name: &str| read.iter().any(|pattern| pattern.matches(name));
        let ids: BTreeSet<u64> = told.opened.iter().map(|one| one.log).collect();
        let full = ids.len() >= self.budgets.subscriptions as usize;
        for log in self.standing.get(&user).into_iter().flatten() {
            let due = self.alive(*log) && may(&self.log(*log).unwrap().name);
            assert!(!due || full || ids.contains(log), "the back end's log {log} of {told:?}");
        }
        // Logs are made in the order in which they are asked for.
        for name in open.iter().map(|open| &open.name) {
            if told.opened.iter().any(|one| one.name == *name) {
                let makes = make.iter().any(|pattern| pattern.matches(name));
                assert!(makes || self.named(name).is_some(), "{name} was made without a right to");
                self.make(name);
            }
        }
        assert!(told.opened.iter().all(|one| may(&one.name)), "wider than its grants");
        self.opened(id, &told.opened);
        for one in &told.opened {
            let asked = open.iter().any(|open| open.name == one.name);
            let asked = asked || self.stands(id, one.log);
            assert_eq!(one.held, holds && !asked, "what was not opened is held: {one:?}");
            if one.held {
                self.held(id, one, &all);
            }
        }
        let subs = &self.connections[&id].subs;
        let ended: Vec<_> = own.keys().filter(|log| !subs.contains_key(log)).collect();
        assert!(told.ended.iter().all(|log| ended.contains(&log)));
        assert!(ended.iter().all(|log| told.ended.contains(log) || !self.alive(**log)));
    }

    /// What is taken over: all that the best source has; of what its siblings have besides, all
    /// that there is room for; nothing else.
    fn takes(&self, told: &Attached, best: &Subs, all: &[&Subs], open: &[Open], read: &[Pattern]) {
        let union: BTreeSet<u64> = all.iter().flat_map(|subs| subs.keys().copied()).collect();
        let room = (self.budgets.subscriptions as usize).saturating_sub(open.len());
        for log in union.iter().filter(|log| self.alive(**log)) {
            let name = &self.log(*log).unwrap().name;
            let opened = told.opened.iter().any(|one| one.log == *log);
            let may = read.iter().any(|pattern| pattern.matches(name));
            assert!(may || !opened, "log {log} of {told:?}");
            let due = best.contains_key(log) || union.len() <= room;
            assert!(opened || !(may && due), "log {log} of {told:?}");
        }
        for one in &told.opened {
            let asked = open.iter().any(|open| open.name == one.name);
            let standing = self.stands(told.connection, one.log);
            assert!(asked || standing || union.contains(&one.log), "nobody has {one:?}");
        }
    }

    /// Whether the back end has subscribed a connection's user to a log.
    fn stands(&self, connection: Id, log: u64) -> bool {
        let user = &self.connections[&connection].user;
        self.standing.get(user).is_some_and(|logs| logs.contains(&log))
    }

    /// One that is held stands at the greatest cursor that one of those has committed; below the
    /// start it is told to stand there.
    fn held(&mut self, id: Id, told: &Opened, all: &[&Subs]) {
        let head = self.head(told.log);
        let known: Vec<Sub> = all.iter().filter_map(|subs| subs.get(&told.log)).copied().collect();
        let fits = |sub: &&Sub| sub.cursor.min(head).clamp(told.start, head) == told.cursor;
        let from = known.iter().filter(fits).max_by_key(|sub| sub.cursor);
        let from = from.unwrap_or_else(|| panic!("{told:?} stands at none of {known:?}"));
        let sure = known.iter().filter(|sub| sub.sure).map(|sub| sub.cursor).max();
        assert!(sure.is_none_or(|sure| from.cursor >= sure), "{told:?} of {known:?}");
        let all_sure = known.iter().all(|sub| sub.sure);
        let sub = Sub { opening: 0, sure: all_sure, ..*from };
        self.connections.get_mut(&id).unwrap().subs.insert(told.log, sub);
    }
}

type Subs = BTreeMap<u64, Sub>;

/// Whether a connection was forgotten in the same command.
fn gone(events: &[Event], id: &Id) -> bool {
    events.iter().any(|event| matches!(event, Event::Forgotten { connection } if connection == id))
}
