//! One world: nodes, links and clients on one heap of events, from one seed. First harm, then all
//! is healed, and within a bound everybody has to have everything.

use std::collections::BTreeSet;

use highwater::connection::Budgets;
use highwater::fold::{Command, Settings};
use highwater::journal::{Faults, MemoryCluster};
use highwater::log::Rule;
use highwater::wire::{
    ClientFrame, Id, Open, Pattern, Payload, PutSnapshot, Reason, Record, SnapshotRule, Start,
    Target, Whom,
};

use crate::node::{JOURNAL, NewEra, Node, Ticket};
use crate::oracle::demand;
use crate::random::Random;
use crate::rows;
use crate::session::Asked;
use crate::shared::{Shared, Turn};
use crate::tab::{Tab, Wants};
use crate::weights::{Act, Weights};

pub const NAMES: [&str; 6] = ["a/1", "a/2", "b/1", "latest/1", "latest/2", "client/1"];
const USERS: [&str; 2] = ["ann", "bob"];
const ALL: &[&str] = &["**"];
const GRANTS: [&[&str]; 4] = [ALL, &["a/**", "client/**"], &["latest/**"], &["b/**", "a/1"]];
/// Milliseconds between two acts of harm.
const PACE: u64 = 60;
/// Turns within which a healed world has to converge.
const MOST_TURNS: usize = 60_000;

/// What a run came to.
pub struct Outcome {
    pub trace: u64,
    pub turns: usize,
    pub deliveries: u64,
}

/// Which history is run: the seed's, less what was found to make no difference.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    pub without: Vec<Act>,
    pub skip: BTreeSet<usize>,
    pub steps: Option<usize>,
    /// Whether each act is printed.
    pub tell: bool,
    /// Whether each frame and each batch is, too.
    pub frames: bool,
}

pub struct World {
    seed: u64,
    shared: Shared,
    nodes: Vec<Node>,
    tabs: Vec<Tab>,
    cluster: Option<MemoryCluster>,
    /// A copy of the store, as of a batch.
    backup: Option<(u64, highwater::rows::MemoryRows)>,
    /// A node has to begin another era before others start.
    era_due: bool,
    payload: u64,
    cut: Cut,
}

fn settings() -> Settings {
    let rule = |pattern: &str, snapshot| Rule {
        pattern: Pattern::parse(pattern).unwrap(),
        snapshot,
        ask_after: 1_000,
        retain_records: 0,
        retain_bytes: 0,
        retain_seconds: 0,
    };
    let rules =
        vec![rule("latest/**", SnapshotRule::Latest), rule("client/**", SnapshotRule::Client)];
    let budgets = Budgets {
        connections_per_user: 12,
        active_per_user: 6,
        active_per_device: 6,
        active_total: 20,
        subscriptions: 8,
        activate_after_ms: 300,
        snapshot_bytes: 10_000,
    };
    Settings { rules, budgets, auto_create: true }
}

fn id(random: &mut Random) -> Id {
    let words = [random.next().to_be_bytes(), random.next().to_be_bytes()].concat();
    Id(words.try_into().unwrap())
}

impl World {
    pub fn run(seed: u64, cut: Cut) -> Outcome {
        let weights = Weights::draw(seed).without(&cut.without);
        let steps = cut.steps.unwrap_or(weights.steps).min(weights.steps);
        let mut world = Self::new(seed, weights, cut);
        for step in 0..steps {
            let at = world.shared.now + PACE * (step as u64 + 1);
            world.shared.at(at, Turn::Act(step));
        }
        let end = world.shared.now + PACE * (steps as u64 + 2);
        let mut turns = 0;
        while world.shared.now < end {
            world.turn();
            turns += 1;
        }
        world.heal();
        turns += world.converge();
        world.last_words();
        turns += world.converge();
        world.check();
        Outcome { trace: world.shared.trace, turns, deliveries: world.shared.oracle.deliveries }
    }

    fn new(seed: u64, weights: Weights, cut: Cut) -> Self {
        let faults = Faults {
            seed,
            refused_per_mille: weights.refused_per_mille,
            unknown_per_mille: weights.unknown_per_mille,
        };
        let cluster = weights.shared.then(|| MemoryCluster::new(JOURNAL, faults));
        let count = if weights.shared { 2 } else { 1 };
        let node = |number| Node::new(number, cluster.clone(), settings());
        let nodes: Vec<Node> = (0..count).map(node).collect();
        let tabs = weights.tabs;
        let mut shared = Shared::new(seed, weights);
        shared.frames = cut.frames;
        let mut world = Self {
            seed,
            shared,
            nodes,
            tabs: Vec::new(),
            cluster,
            backup: None,
            era_due: true,
            payload: 0,
            cut,
        };
        let mut random = Random::of(seed, 3);
        for number in 0..tabs {
            let user = USERS[usize::from(number > 2)];
            let mut tab = Tab::new(number, user, id(&mut random), id(&mut random));
            tab.open(random.pick(&NAMES), Start::State, random.below(3) as u8);
            world.hand_over(&mut tab);
            world.tabs.push(tab);
            let at = world.shared.now + random.below(200);
            world.shared.at(at, Turn::Tab(number));
        }
        for number in 0..count {
            world.shared.at(world.shared.now, Turn::Start(number));
        }
        world.shared.at(world.shared.now, Turn::Tick);
        world
    }

    fn turn(&mut self) {
        let turn = self.shared.next().expect("somebody always has a turn");
        match turn {
            Turn::Act(step) => self.act(step),
            Turn::Node(number) => {
                self.nodes[number].turn(&mut self.shared);
                let first = &self.nodes[0];
                if self.era_due && first.up && !first.busy() && first.new_era == NewEra::No {
                    self.era_due = false;
                }
            }
            Turn::Tab(number) => self.tabs[number].turn(&mut self.shared),
            Turn::NodeGone(link) => {
                let it = &mut self.shared.links[link];
                if !std::mem::replace(&mut it.node_gone, true) {
                    let node = it.node;
                    self.nodes[node].gone(link);
                }
            }
            Turn::ClientGone(link) => {
                let tab = self.shared.links[link].tab;
                if self.tabs[tab].link == Some(link) {
                    // What has arrived by now is read first.
                    self.tabs[tab].turn(&mut self.shared);
                    self.tabs[tab].gone(&mut self.shared);
                }
            }
            Turn::Start(number) => self.start(number),
            Turn::Tick => {
                (0..self.nodes.len())
                    .for_each(|number| self.shared.at(self.shared.now, Turn::Node(number)));
                (0..self.tabs.len())
                    .for_each(|number| self.shared.at(self.shared.now, Turn::Tab(number)));
                self.shared.at(self.shared.now + 20, Turn::Tick);
            }
        }
    }

    fn start(&mut self, number: usize) {
        if number > 0 && self.era_due {
            self.shared.at(self.shared.now + 50, Turn::Start(number));
            return;
        }
        self.nodes[number].start(&mut self.shared);
    }

    fn tell(&self, what: &str) {
        if self.cut.tell {
            println!("  {:>6} {what}", self.shared.now - 1_000_000);
        }
    }

    /// One act: what it does follows from the seed, its number and how things are.
    fn act(&mut self, step: usize) {
        let mut random = Random::of(self.seed, 100 + step as u64);
        let act = self.shared.weights.pick(&mut random);
        if self.cut.skip.contains(&step) {
            return;
        }
        let tab = random.below(self.tabs.len() as u64) as usize;
        self.tell(&format!("#{step} {act} (tab {tab})"));
        match act {
            Act::Append => self.append(tab, &mut random),
            Act::Open => {
                let starts = [Start::State, Start::State, Start::Committed, Start::Earliest];
                let (name, start) = (random.pick(&NAMES), random.pick(&starts));
                self.tabs[tab].open(name, start, random.below(3) as u8);
            }
            Act::Close => {
                let name = random.pick(&NAMES);
                self.tabs[tab].close(name, &mut self.shared);
            }
            Act::Seek => self.seek(tab, &mut random),
            Act::Snapshot => self.snapshot(tab, &mut random),
            Act::Hide => self.hide(tab),
            Act::Leave => self.leave(tab, random.one_in(3)),
            Act::Reload => self.reload(tab, &mut random),
            Act::Duplicate => self.duplicate(tab, &mut random),
            Act::Cut => {
                if let Some(link) = self.tabs[tab].link {
                    self.shared.cut(link);
                }
            }
            Act::Stall => {
                if let Some(link) = self.tabs[tab].link {
                    self.shared.links[link].stalled = self.shared.now + random.below(2_000);
                }
            }
            Act::Crash => self.crash(&mut random),
            Act::Lose => self.lose(&mut random),
            Act::Regrant => self.tabs[tab].regrant(random.pick(&GRANTS), &mut self.shared),
            _ => self.command(act, tab, &mut random),
        }
    }

    fn any_node(&mut self, random: &mut Random) -> Option<&mut Node> {
        let number = random.below(self.nodes.len() as u64) as usize;
        Some(&mut self.nodes[number]).filter(|node| node.up)
    }

    /// What operators and back ends ask for.
    fn command(&mut self, act: Act, tab: usize, random: &mut Random) {
        let (user, connection) = (self.tabs[tab].user.to_owned(), self.tabs[tab].connection);
        let (name, now) = (random.pick(&NAMES), self.shared.now);
        let Some(node) = self.any_node(random) else { return };
        let log = rows::log_of(&node.rows, name);
        let head = log.and_then(|log| rows::log_row(&node.rows, log)).map_or(0, |row| row.head);
        let open = Open { name: name.to_owned(), have: None, start: Start::State, priority: 1 };
        let command = match (act, log) {
            (Act::Downgrade, _) => {
                Command::Downgrade { connection, generation: None, reason: Reason::Lag }
            }
            (Act::Forget, _) => Command::Forget { connection, generation: None },
            (Act::Revoke, _) => {
                let asked = Asked::Revoke(user.clone(), now);
                let command = Command::Revoke { whom: Whom::User(user), before_ms: now };
                return node.submit(command, usize::MAX, asked);
            }
            (Act::Trim, Some(log)) => Command::Trim { log, to: random.below(head + 1) },
            (Act::Delete, Some(log)) => Command::DeleteLog { log },
            (Act::BackEnd, Some(log)) if random.one_in(2) => {
                Command::UnsubscribeUser { user, logs: vec![log] }
            }
            (Act::BackEnd, _) => Command::SubscribeUser { user, open: vec![open] },
            _ => return,
        };
        node.inbox.push((command, None::<Ticket>));
    }

    fn record(&mut self, random: &mut Random) -> Record {
        self.payload += 1;
        let key = format!("k{}", random.below(4));
        let filler = "x".repeat(random.pick(&[1, 1, 10, 200]));
        let payload = (!random.one_in(5)).then(|| format!("{}{filler}", self.payload));
        Record { key: Some(key), payload: payload.map(Payload::text), ..Record::default() }
    }

    fn append(&mut self, tab: usize, random: &mut Random) {
        for _ in 0..1 + random.below(3) {
            let name = random.pick(&NAMES);
            let record = self.record(random);
            let held = self.tabs[tab].logs.values().find(|held| held.name == name && held.open);
            let to = match held {
                Some(held) if random.one_in(2) => Target::Log(held.log),
                _ => Target::Name(name.to_owned()),
            };
            self.tabs[tab].write(to, record, &mut self.shared);
        }
    }

    fn seek(&mut self, tab: usize, random: &mut Random) {
        let tab = &mut self.tabs[tab];
        let open = tab.logs.values().filter(|held| held.open && !held.held);
        let Some(held) = open.min_by_key(|held| held.log ^ random.below(8)) else { return };
        let (log, to) = (held.log, Start::Offset(random.below(held.cursor + 1)));
        let to = if random.one_in(3) { Start::State } else { to };
        if tab.welcomed && tab.active {
            tab.seek(log, to, &mut self.shared);
        }
    }

    fn snapshot(&mut self, tab: usize, random: &mut Random) {
        let tab = &mut self.tabs[tab];
        if !tab.welcomed || !tab.active {
            return;
        }
        let fits = |held: &&crate::held::Held| {
            held.rule == SnapshotRule::Client && held.holds() && held.open
        };
        let Some(held) = tab.logs.values().find(fits) else { return };
        let Some(state) = held.state.filter(|_| held.cursor > 0) else { return };
        let (log, offset, bytes) = (held.log, held.cursor, state.to_be_bytes());
        let request = tab.request(Wants::Parts);
        // Some uploads are never finished.
        let parts = if random.one_in(5) { 1 } else { 2 };
        for part in 0..parts {
            let data = bytes[part as usize * 4..][..4].to_vec();
            let data = Payload::binary(data.into());
            let last = part == 1;
            let put = PutSnapshot { request, log, offset, version: 1, part, last, data };
            tab.send(ClientFrame::PutSnapshot(put), &mut self.shared);
        }
    }

    fn hide(&mut self, tab: usize) {
        let tab = &mut self.tabs[tab];
        tab.visible = !tab.visible;
        tab.show(&mut self.shared);
    }

    fn leave(&mut self, tab: usize, forget: bool) {
        let tab = &mut self.tabs[tab];
        if tab.welcomed {
            tab.leave(forget, &mut self.shared);
            (tab.leaving, tab.requests) = (true, Default::default());
            if forget {
                tab.generation = 0;
            }
        }
    }

    /// The page is loaded anew: it keeps the connection and nothing else.
    fn reload(&mut self, tab: usize, random: &mut Random) {
        self.tabs[tab].end(&mut self.shared);
        self.renew(tab, random);
    }

    fn renew(&mut self, tab: usize, random: &mut Random) {
        let old = &self.tabs[tab];
        let mut new = Tab::new(tab, old.user, old.connection, id(random));
        (new.wants, new.grants) = (old.wants.clone(), old.grants);
        self.hand_over(&mut new);
        self.tabs[tab] = new;
    }

    /// Some tabs have the product's client.
    fn hand_over(&self, tab: &mut Tab) {
        let every = self.shared.weights.product;
        if every > 0 && tab.number.is_multiple_of(every) {
            tab.hand_over();
        }
    }

    /// A second page with the connection of the first, which lives on for a while.
    fn duplicate(&mut self, tab: usize, random: &mut Random) {
        if self.tabs.len() > 7 || self.tabs[tab].dead {
            return;
        }
        let number = self.tabs.len();
        let old = &self.tabs[tab];
        let mut new = Tab::new(number, old.user, old.connection, id(random));
        (new.wants, new.grants) = (old.wants.clone(), old.grants);
        self.hand_over(&mut new);
        self.tabs.push(new);
        self.shared.at(self.shared.now, Turn::Tab(number));
    }

    fn crash(&mut self, random: &mut Random) {
        let number = random.below(self.nodes.len() as u64) as usize;
        if self.cluster.is_none() && random.one_in(2) {
            let batch = self.nodes[0].fold.as_ref().map(|fold| fold.known().batch);
            if let Some(batch) = batch.filter(|_| !self.nodes[0].busy()) {
                self.backup = Some((batch, self.nodes[0].synced.clone()));
            }
        }
        self.nodes[number].crash(&mut self.shared);
        let at = self.shared.now + 50 + random.below(500);
        self.shared.at(at, Turn::Start(number));
    }

    /// The tail is lost: of the journal, or by a backup that is put in the store's place.
    fn lose(&mut self, random: &mut Random) {
        let batch = match &self.cluster {
            Some(cluster) => {
                cluster.heal();
                let lost = 1 + random.below(12);
                let head = cluster.ends().head;
                cluster.lose(lost as usize);
                head.saturating_sub(lost)
            }
            None => match self.backup.take() {
                Some((batch, rows)) => {
                    self.nodes[0].crash(&mut self.shared);
                    self.nodes[0].synced = rows;
                    batch
                }
                None => return,
            },
        };
        for link in 0..self.shared.links.len() {
            // Nothing of the other history is on its way any more.
            self.shared.links[link].end();
            self.shared.at(self.shared.now + 5, Turn::ClientGone(link));
            self.shared.at(self.shared.now + 5, Turn::NodeGone(link));
        }
        for number in 0..self.nodes.len() {
            self.nodes[number].crash(&mut self.shared);
            if self.cluster.is_some() {
                self.nodes[number].synced = Default::default();
            }
            let at = self.shared.now + 50;
            self.shared.at(at, Turn::Start(number));
        }
        if let Some(cluster) = &self.cluster {
            cluster.fail(Faults {
                seed: random.next(),
                refused_per_mille: self.shared.weights.refused_per_mille,
                unknown_per_mille: self.shared.weights.unknown_per_mille,
            });
        }
        if self.cluster.is_some() {
            self.nodes[0].new_era = NewEra::Due;
        }
        self.era_due = true;
        // Generations of the other history mean nothing here.
        self.tabs.iter_mut().for_each(|tab| tab.generation = 0);
        self.shared.oracle.cut(batch);
    }

    /// Nothing goes wrong from here on.
    fn heal(&mut self) {
        self.tell("healed");
        self.shared.healed = true;
        if let Some(cluster) = &self.cluster {
            cluster.heal();
        }
        for number in 0..self.nodes.len() {
            self.shared.at(self.shared.now, Turn::Start(number));
        }
        for link in &mut self.shared.links {
            (link.stalled, link.room) = (0, 1 << 20);
        }
        for at in 0..self.tabs.len() {
            // Of several pages with one connection the last stays.
            let last = self.tabs.iter().rposition(|tab| tab.connection == self.tabs[at].connection);
            if last != Some(at) {
                self.tabs[at].end(&mut self.shared);
                self.tabs[at].dead = true;
                continue;
            }
            self.tabs[at].regrant(ALL, &mut self.shared);
            for name in NAMES {
                self.tabs[at].open(name, Start::State, 1);
            }
        }
    }

    /// Runs until everybody has everything: how many turns it took.
    fn converge(&mut self) -> usize {
        for turns in 0..MOST_TURNS {
            self.turn();
            if turns % 64 == 0 && self.missing().is_none() {
                return turns;
            }
        }
        let missing = self.missing().unwrap_or_default();
        panic!("promise 14: after {MOST_TURNS} turns without a fault: {missing}");
    }

    /// What somebody still lacks.
    fn missing(&self) -> Option<String> {
        if let Some(node) = self.nodes.iter().find(|node| !node.up || node.busy()) {
            return Some(format!("node {} is busy", node.number));
        }
        let head = |node: &Node| node.fold.as_ref().map(|fold| fold.known().batch);
        if self.nodes.iter().any(|node| head(node) != head(&self.nodes[0])) {
            return Some("a node is behind".to_owned());
        }
        for tab in self.tabs.iter().filter(|tab| !tab.dead) {
            if !tab.welcomed || !tab.active {
                return Some(format!("tab {} has no channel, {:?}", tab.number, tab.last));
            }
            let (pending, open) = (tab.writing.pending.len(), tab.requests.len());
            if pending > 0 || tab.requests.values().any(|wants| *wants != Wants::Parts) {
                let which = &tab.requests;
                return Some(format!("tab {}: {pending} appends, {open} {which:?}", tab.number));
            }
            for name in tab.wants.keys() {
                let held = tab.logs.values().find(|held| held.name == *name);
                let Some(held) = held.filter(|held| held.shown()) else {
                    return Some(format!("tab {}: {name} is not shown: {held:?}", tab.number));
                };
                let row = rows::log_row(&self.nodes[0].rows, held.log);
                let head = row.filter(|row| !row.deleted).map(|row| row.head);
                if head != Some(held.cursor) {
                    let at = held.cursor;
                    return Some(format!("tab {}: {name} {at} of {head:?}", tab.number));
                }
            }
        }
        None
    }

    /// One more record in each log has to reach everybody: whoever was left out of live delivery
    /// is found out.
    fn last_words(&mut self) {
        let mut random = Random::of(self.seed, 4);
        let Some(tab) = self.tabs.iter().position(|tab| !tab.dead) else { return };
        for name in NAMES {
            let record = self.record(&mut random);
            let to = Target::Name(name.to_owned());
            self.tabs[tab].write(to, record, &mut self.shared);
        }
    }

    fn check(&mut self) {
        for node in &self.nodes {
            self.shared.oracle.compare(&node.rows);
            node.committed(&mut self.shared);
            crate::model::check(&node.rows, node.fold.as_ref().unwrap());
        }
        if let [one, other] = &self.nodes[..] {
            demand!(one.rows == other.rows, "promise 13: two nodes have folded differently");
        }
        for tab in self.tabs.iter().filter(|tab| !tab.dead) {
            tab.logs
                .values()
                .filter(|held| held.open)
                .for_each(|held| held.check(&self.shared.oracle));
            tab.same();
        }
    }
}
