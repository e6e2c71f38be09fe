//! Rates: who has asked too often in this second, and when to come back.
//!
//! Promise: a decision costs one short lock and no IO, and is made before any other work. One
//! user's excess takes from that user's budget alone. Users and logs are known here by a keyed
//! 64-bit hash, so an entry is small whatever the name; two that collide would share one budget.
//! Entries that have their full budget back are dropped by [`Rates::sweep`], which also runs by
//! itself every [`SWEEP_EVERY`] decisions: so the maps hold no more than those who asked within
//! the time in which a budget fills, those who are owed something, and users with a socket.
//!
//! Appends and their bytes have budgets of our own ([`Level`]), held by a [`Purse`]: governor can
//! neither take a part of what is asked nor set something aside nor take it back. Handshakes and
//! a socket's requests, which need none of that, are governor's.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::Limits;
use super::cost::{Charged, Costs};
use super::level::{Level, Speed};
use super::purse::{APPENDS, Kept, Purse, millis};
use crate::wire::{Code, Refusal};

/// Decisions between two sweeps that nobody asked for.
const SWEEP_EVERY: u64 = 65_536;

type Single<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A user's budgets.
#[derive(Debug, Default)]
pub(super) struct Budget {
    levels: Mutex<Levels>,
    /// Sockets that share it.
    pub(super) sockets: AtomicU32,
}

/// How full a user's budgets are.
#[derive(Debug, Default)]
pub(super) struct Levels {
    pub(super) appends: Level,
    pub(super) bytes: Level,
}

impl Budget {
    pub(super) fn lock(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rates of a node. The clock is the machine's monotonic one, or a test's.
pub struct Rates<C: Clock = DefaultClock> {
    appends: Speed,
    bytes: Speed,
    log: Option<Speed>,
    /// Running nodes, this one too: each gives an even share of what is configured.
    nodes: AtomicU32,
    users: DashMap<u64, Arc<Budget>>,
    logs: DashMap<u64, Level>,
    /// What is set aside for those who come back over HTTP.
    pub(super) kept: DashMap<u64, Kept>,
    handshakes: Single<C>,
    requests: Quota,
    hash: RandomState,
    decisions: AtomicU64,
    clock: C,
    began: C::Instant,
}

impl Rates {
    /// The rates that these limits set, by the machine's monotonic clock.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Self::with_clock(limits, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    /// The rates that these limits set, by that clock.
    pub fn with_clock(limits: &Limits, clock: C) -> Arc<Self> {
        let of_log = limits.appends_per_log_second;
        Arc::new(Self {
            appends: Speed::new(limits.appends_per_user_second.into()),
            bytes: Speed::new(limits.append_bytes_per_user_second),
            log: (of_log > 0).then(|| Speed::new(of_log.into())),
            nodes: AtomicU32::new(1),
            users: DashMap::new(),
            logs: DashMap::new(),
            kept: DashMap::new(),
            handshakes: RateLimiter::direct_with_clock(
                per_second(limits.handshakes_per_second),
                clock.clone(),
            ),
            requests: per_second(limits.frames_per_socket_second),
            hash: RandomState::new(),
            decisions: AtomicU64::new(0),
            began: clock.now(),
            clock,
        })
    }

    /// Nanoseconds since the rates were made.
    pub(super) fn now(&self) -> u64 {
        self.clock.now().duration_since(self.began).as_u64()
    }

    /// So many nodes run, this one among them: users and logs have their share of a rate here. What
    /// was charged before and is given back later may count otherwise then, up to a full budget.
    pub fn share(&self, nodes: u32) {
        self.nodes.store(nodes.max(1), Ordering::Relaxed);
    }

    fn of_node(&self, speed: Speed) -> Speed {
        speed.among(self.nodes.load(Ordering::Relaxed))
    }

    /// Appends of a user at this node.
    pub(super) fn appends(&self) -> Speed {
        self.of_node(self.appends)
    }

    /// Bytes that a user appends at this node.
    pub(super) fn bytes(&self) -> Speed {
        self.of_node(self.bytes)
    }

    /// Appends to a log at this node, where logs have a rate.
    fn log(&self) -> Option<Speed> {
        self.log.map(|speed| self.of_node(speed))
    }

    /// A purse for a socket of this user: it shares in the user's credit until it is dropped.
    pub fn socket_purse(self: &Arc<Self>, user: &str) -> Purse<C> {
        Purse::new(Arc::clone(self), self.user(user), true)
    }

    /// A purse for a request of this user, without credit.
    pub fn purse(self: &Arc<Self>, user: &str) -> Purse<C> {
        Purse::new(Arc::clone(self), self.user(user), false)
    }

    /// A user's budgets.
    fn user(&self, user: &str) -> Arc<Budget> {
        self.sweep_now_and_then();
        Arc::clone(&self.users.entry(self.key(user)).or_default())
    }

    /// Takes so many appends of a user, all or none, and sets nothing aside where they do not fit.
    ///
    /// # Errors
    /// `rate` with the time after which they would.
    pub fn check(&self, user: &str, appends: u32) -> Result<(), Refusal> {
        let (budget, now) = (self.user(user), self.now());
        let mut levels = budget.lock();
        let mut charged = levels.appends;
        let at = charged.charge(self.appends(), appends.into(), now);
        if at > now {
            return Err(Refusal::because(Code::Rate, APPENDS).after(millis(at, now)));
        }
        levels.appends = charged;
        Ok(())
    }

    /// Charges as many of so many appends as a user has left; their bytes are not known. Of the
    /// others, the time after which they would fit.
    pub fn charge_some(
        self: &Arc<Self>,
        user: &str,
        appends: u32,
    ) -> (Charged<C>, Option<Refusal>) {
        let (budget, now) = (self.user(user), self.now());
        let mut levels = budget.lock();
        let room = levels.appends.room(self.appends(), now);
        let taken = appends.min(u32::try_from(room).unwrap_or(u32::MAX));
        if taken > 0 {
            levels.appends.charge(self.appends(), taken.into(), now);
        }
        let (mut later, rest) = (levels.appends, appends - taken);
        drop(levels);
        let refusal = (rest > 0).then(|| {
            let at = later.charge(self.appends(), rest.into(), now);
            Refusal::because(Code::Rate, APPENDS).after(millis(at, now))
        });
        let (rates, costs) = (Arc::clone(self), Costs::of_appends(taken));
        (Charged { rates, user: budget, costs, handed_in: false }, refusal)
    }

    pub(super) fn hand_back(&self, user: &Budget, appends: u64, bytes: u64) {
        let mut levels = user.lock();
        levels.appends.hand_back(self.appends(), appends);
        levels.bytes.hand_back(self.bytes(), bytes);
    }

    /// Charges what was stored already: the budgets owe it.
    pub(super) fn charge_late(&self, user: &Budget, appends: u64, bytes: u64) {
        let (mut levels, now) = (user.lock(), self.now());
        levels.appends.charge(self.appends(), appends, now);
        levels.bytes.charge(self.bytes(), bytes, now);
    }

    /// Whether a log has a rate of its own.
    pub fn of_logs(&self) -> bool {
        self.log.is_some()
    }

    /// A log by which its budget is known; 0 where logs have none.
    pub fn log_key(&self, log: &str) -> u64 {
        if self.log.is_some() { self.key(log).max(1) } else { 0 }
    }

    pub(super) fn key(&self, name: impl std::hash::Hash) -> u64 {
        self.hash.hash_one(name)
    }

    /// Charges one append to a log's budget, where it has it.
    pub(super) fn charge_log(&self, log: u64, now: u64) -> bool {
        let Some(speed) = self.log().filter(|_| log != 0) else { return true };
        let mut level = self.logs.entry(log).or_default();
        let fits = level.room(speed, now) > 0;
        if fits {
            level.charge(speed, 1, now);
        }
        fits
    }

    /// Sets so many appends aside in a log's budget: when they are ripe.
    pub(super) fn book_log(&self, log: u64, appends: u64, now: u64) -> u64 {
        let Some(speed) = self.log().filter(|_| log != 0) else { return 0 };
        self.logs.entry(log).or_default().charge(speed, appends, now)
    }

    /// Time in which what a log owes comes back, and in which so many more do.
    pub(super) fn log_owes(&self, log: u64, appends: u64, now: u64) -> (u64, u64) {
        let Some(speed) = self.log().filter(|_| log != 0) else { return (0, 0) };
        let level = self.logs.get(&log).map(|level| *level).unwrap_or_default();
        (level.owed(now), speed.time(appends))
    }

    pub(super) fn hand_back_log(&self, log: u64, appends: u64) {
        if let (Some(speed), Some(mut level)) = (self.log(), self.logs.get_mut(&log)) {
            level.hand_back(speed, appends);
        }
    }

    /// Takes one handshake from the node's budget.
    ///
    /// # Errors
    /// `overloaded` with the time after which the next one passes.
    pub fn check_handshake(&self) -> Result<(), Refusal> {
        self.handshakes.check().map_err(|until| {
            Refusal::because(Code::Overloaded, "too many handshakes in a second")
                .after(wait_ms(&until, &self.clock))
        })
    }

    /// A budget of requests for one new socket.
    pub fn socket(&self) -> SocketRate<C> {
        let rate = RateLimiter::direct_with_clock(self.requests, self.clock.clone());
        SocketRate { rate, clock: self.clock.clone() }
    }

    /// Drops the entries of all who have their full budget back. Call it every few seconds, so
    /// that a quiet node gives the memory back.
    pub fn sweep(&self) {
        let now = self.now();
        self.kept.retain(|_, kept| !kept.lapse(self, now));
        self.kept.shrink_to_fit();
        // Under the map's lock nobody else can come by it.
        self.users.retain(|_, budget| {
            let full = |levels: &Levels| levels.appends.is_full(now) && levels.bytes.is_full(now);
            Arc::strong_count(budget) > 1 || !full(&budget.lock())
        });
        self.users.shrink_to_fit();
        self.logs.retain(|_, level| !level.is_full(now));
        self.logs.shrink_to_fit();
    }

    /// Entries held now, over all maps.
    pub fn entries(&self) -> usize {
        self.users.len() + self.logs.len() + self.kept.len()
    }

    fn sweep_now_and_then(&self) {
        if self.decisions.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.sweep();
        }
    }
}

impl<C: Clock> std::fmt::Debug for Rates<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").field("requests", &self.requests).finish_non_exhaustive()
    }
}

/// The budget of requests of one socket: frames other than appends and acknowledgements.
pub struct SocketRate<C: Clock = DefaultClock> {
    rate: Single<C>,
    clock: C,
}

impl<C: Clock> SocketRate<C> {
    /// Takes one request.
    ///
    /// # Errors
    /// `rate` with the time after which the next one passes.
    pub fn check(&self) -> Result<(), Refusal> {
        self.rate.check().map_err(|until| {
            Refusal::because(Code::Rate, "too many requests of this socket in a second")
                .after(wait_ms(&until, &self.clock))
        })
    }
}

impl<C: Clock> std::fmt::Debug for SocketRate<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketRate").finish_non_exhaustive()
    }
}

/// A quota that fills at that rate and holds a second of it.
fn per_second(rate: u32) -> Quota {
    Quota::per_second(NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN))
}

/// Whole milliseconds until then, rounded up and at least one.
fn wait_ms<C: Clock>(until: &NotUntil<C::Instant>, clock: &C) -> u32 {
    let wait = until.wait_time_from(clock.now());
    u32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::limit::Costs;
    use crate::wire::Id;

    fn rates(
        change: impl FnOnce(&mut Limits),
    ) -> (Arc<Rates<FakeRelativeClock>>, FakeRelativeClock) {
        let mut limits = Limits::DEFAULT;
        change(&mut limits);
        let clock = FakeRelativeClock::default();
        (Rates::with_clock(&limits, clock.clone()), clock)
    }

    #[test]
    fn each_node_that_runs_gives_an_even_share() {
        let (rates, clock) = rates(|limits| {
            limits.appends_per_user_second = 300;
            limits.appends_per_log_second = 30;
        });
        rates.share(3);
        assert_eq!(rates.charge_some("ana", 300).0.len(), 100);
        let log = rates.log_key("a log");
        assert_eq!((0..30).filter(|_| rates.charge_log(log, rates.now())).count(), 10);
        clock.advance(Duration::from_secs(1));
        // Two of them have gone, and this one gives all.
        rates.share(1);
        assert_eq!(rates.charge_some("ana", 300).0.len(), 300);
        rates.share(1_000);
        assert_eq!(rates.charge_some("ben", 300).0.len(), 1, "there is always a share");
    }

    #[test]
    fn a_user_spends_its_own_budget_and_no_other() {
        let (rates, clock) = rates(|limits| limits.appends_per_user_second = 2_000);
        rates.check("ana", 2_000).unwrap();
        let refusal = rates.check("ana", 500).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), (Code::Rate, 250));
        let (charged, more) = rates.charge_some("ben", 3_000);
        assert_eq!((charged.len(), more.unwrap().retry_after), (2_000, 500));
        charged.settle(|at| at < 1_500);
        let (_, more) = rates.charge_some("ben", 1_600);
        assert_eq!(more.unwrap().retry_after, 50, "what spent nothing was given back");
        let (mut charged, _) = rates.charge_some("cyd", 2_000);
        charged.hand_in();
        drop(charged);
        let (charged, _) = rates.charge_some("cyd", 1);
        assert!(charged.is_empty(), "who hangs up has spent it all the same");
        clock.advance(Duration::from_millis(u64::from(refusal.retry_after) - 1));
        assert_eq!(rates.check("ana", 500).unwrap_err().retry_after, 1);
        assert!(rates.charge_some("ana", 0).0.is_empty());
        clock.advance(Duration::from_millis(1));
        rates.check("ana", 500).unwrap();
        assert!(rates.charge_some("ana", 1).0.is_empty());
    }

    #[test]
    fn handshakes_and_requests_are_counted_alone() {
        let (rates, clock) = rates(|limits| {
            limits.handshakes_per_second = 2;
            limits.frames_per_socket_second = 10;
        });
        rates.check_handshake().unwrap();
        rates.check_handshake().unwrap();
        let refusal = rates.check_handshake().unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), (Code::Overloaded, 500));
        let (one, other) = (rates.socket(), rates.socket());
        for _ in 0..10 {
            one.check().unwrap();
        }
        let refusal = one.check().unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), (Code::Rate, 100));
        other.check().unwrap();
        clock.advance(Duration::from_millis(500));
        rates.check_handshake().unwrap();
        one.check().unwrap();
    }

    #[test]
    fn who_has_the_full_budget_back_is_forgotten() {
        let (rates, clock) = rates(|limits| limits.appends_per_log_second = 10);
        for user in 0..1_000 {
            rates.check(&format!("user {user}"), 1).unwrap();
            assert!(rates.charge_log(rates.log_key(&format!("log {user}")), rates.now()));
        }
        assert_eq!(rates.entries(), 2_000);
        rates.sweep();
        assert_eq!(rates.entries(), 2_000, "nobody's budget is full yet");
        clock.advance(Duration::from_secs(5));
        rates.check("ana", 1).unwrap();
        let held = rates.socket_purse("ben");
        rates.sweep();
        assert_eq!(rates.entries(), 2, "one that is short, and one with a socket");
        drop(held);
        clock.advance(Duration::from_secs(5));
        rates.sweep();
        assert_eq!(rates.entries(), 0);
    }

    /// What is kept for one who does not come back is given back and forgotten.
    #[test]
    fn what_is_kept_over_http_lapses() {
        let (rates, clock) = rates(|limits| limits.appends_per_user_second = 10);
        let many = |items| {
            let mut costs = Costs::with_room(items);
            (0..items).for_each(|_| costs.push(1, 0));
            rates.purse_again("ana", None, "a").charge_whole(Id::NONE, costs)
        };
        many(10).unwrap().settle(|_| false);
        assert_eq!(many(300).unwrap_err().0.retry_after, 30_000);
        assert_eq!(rates.entries(), 2, "a budget, and what is set aside");
        clock.advance(Duration::from_secs(29));
        assert_eq!(many(300).unwrap_err().0.retry_after, 1_000, "what was told stays true");
        clock.advance(Duration::from_secs(12));
        rates.sweep();
        assert_eq!(rates.entries(), 0);
        many(10).unwrap();
    }

    #[test]
    fn sweeps_come_by_themselves() {
        let (rates, clock) = rates(|_| {});
        for user in 0..SWEEP_EVERY {
            rates.check(&user.to_string(), 1).unwrap();
            clock.advance(Duration::from_millis(1));
        }
        assert!(rates.entries() < 100, "{}", rates.entries());
    }
}
