//! Rates: who has asked too often in this second, and when to come back.
//!
//! Promise: a decision costs one or two atomic steps and no IO, and is made before any other work.
//! One user's excess takes from that user's budget alone. Users and logs are known here by a keyed
//! 64-bit hash, so an entry is small whatever the name; two that collide would share one budget.
//! Entries that have their full budget back are dropped by [`Rates::sweep`], which also runs by
//! itself every [`SWEEP_EVERY`] decisions: so the maps hold no more than those who asked within
//! the time in which a budget fills, and that many.
//!
//! Of several budgets the first that is short refuses; what the ones before it gave is not
//! returned. That only ever delays the one who was refused.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::Limits;
use crate::wire::{Code, Refusal};

/// Decisions between two sweeps that nobody asked for.
const SWEEP_EVERY: u64 = 65_536;

/// Bytes are counted in cells of this size: governor's intervals are whole nanoseconds, and a cell
/// of one byte would round away much of a large rate.
const CELL_BYTES: u64 = 64;

/// Most appends in one frame; a budget of less than that a second still lets a full frame pass.
const APPENDS_PER_FRAME: u32 = 1_024;

type Keyed<C> = RateLimiter<u64, DashMapStateStore<u64>, C, NoOpMiddleware<<C as Clock>::Instant>>;
type Single<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The rates of a node. The clock is governor's own, or a test's.
pub struct Rates<C: Clock = DefaultClock> {
    appends: Keyed<C>,
    bytes: Keyed<C>,
    logs: Option<Keyed<C>>,
    handshakes: Single<C>,
    requests: Quota,
    hash: RandomState,
    decisions: AtomicU64,
    clock: C,
}

impl Rates {
    /// The rates that these limits set, by the machine's monotonic clock.
    pub fn new(limits: &Limits) -> Self {
        Self::with_clock(limits, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rates<C> {
    /// The rates that these limits set, by that clock.
    pub fn with_clock(limits: &Limits, clock: C) -> Self {
        let largest = u64::from(limits.frame_bytes.max(limits.http_body_bytes));
        let appends = per_second(limits.appends_per_user_second, APPENDS_PER_FRAME);
        let bytes =
            per_second(cells(limits.append_bytes_per_user_second).get(), cells(largest).get());
        let logs = (limits.appends_per_log_second > 0)
            .then(|| per_second(limits.appends_per_log_second, APPENDS_PER_FRAME));
        Self {
            appends: RateLimiter::dashmap_with_clock(appends, clock.clone()),
            bytes: RateLimiter::dashmap_with_clock(bytes, clock.clone()),
            logs: logs.map(|quota| RateLimiter::dashmap_with_clock(quota, clock.clone())),
            handshakes: RateLimiter::direct_with_clock(
                per_second(limits.handshakes_per_second, 1),
                clock.clone(),
            ),
            requests: per_second(limits.frames_per_socket_second, 1),
            hash: RandomState::new(),
            decisions: AtomicU64::new(0),
            clock,
        }
    }

    /// Takes so many appends of so many bytes together from a user's budgets.
    ///
    /// # Errors
    /// `rate` with the time after which the budget that was short has enough.
    pub fn check(&self, user: &str, appends: u32, bytes: u64) -> Result<(), Refusal> {
        self.sweep_now_and_then();
        let key = self.hash.hash_one(user);
        let Some(appends) = NonZeroU32::new(appends) else { return Ok(()) };
        self.take(&self.appends, key, appends, "appends of this user in a second")?;
        self.take(&self.bytes, key, cells(bytes), "bytes appended by this user in a second")
    }

    /// Takes so many appends from a log's budget, where logs have one.
    ///
    /// # Errors
    /// `rate` with the time after which the budget has enough.
    pub fn check_log(&self, log: &str, appends: u32) -> Result<(), Refusal> {
        let (Some(logs), Some(appends)) = (&self.logs, NonZeroU32::new(appends)) else {
            return Ok(());
        };
        self.sweep_now_and_then();
        self.take(logs, self.hash.hash_one(log), appends, "appends to this log in a second")
    }

    /// Takes one handshake from the node's budget.
    ///
    /// # Errors
    /// `overloaded` with the time after which the next one passes.
    pub fn check_handshake(&self) -> Result<(), Refusal> {
        self.handshakes.check().map_err(|until| {
            Refusal::because(Code::Overloaded, "too many handshakes in a second")
                .after(self.wait(&until))
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
        for limiter in [&self.appends, &self.bytes].into_iter().chain(&self.logs) {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    /// Entries held now, over all maps.
    pub fn entries(&self) -> usize {
        self.appends.len() + self.bytes.len() + self.logs.as_ref().map_or(0, RateLimiter::len)
    }

    fn sweep_now_and_then(&self) {
        if self.decisions.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.sweep();
        }
    }

    fn take(
        &self,
        limiter: &Keyed<C>,
        key: u64,
        count: NonZeroU32,
        what: &str,
    ) -> Result<(), Refusal> {
        let outcome = limiter.check_key_n(&key, count).or_else(|most| {
            // More at once than the budget can ever hold: it takes the whole of it, so that a
            // request which passed the limits on size is delayed and not refused for ever.
            let all = NonZeroU32::new(most.0).unwrap_or(NonZeroU32::MIN);
            limiter.check_key_n(&key, all.min(count))
        });
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => {
                Err(Refusal::because(Code::Rate, format!("too many {what}"))
                    .after(self.wait(&until)))
            }
            Err(most) => Err(Refusal::because(
                Code::Rate,
                format!("too many {what}: at most {} at once", most.0),
            )
            .after(1_000)),
        }
    }

    fn wait(&self, until: &NotUntil<C::Instant>) -> u32 {
        wait_ms(until, &self.clock)
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

/// A quota that fills at that rate and holds a second of it, or one whole request if that is more.
fn per_second(rate: u32, request: u32) -> Quota {
    let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
    let burst = NonZeroU32::new(request).map_or(rate, |request| request.max(rate));
    Quota::per_second(rate).allow_burst(burst)
}

/// So many bytes in cells, rounded up.
fn cells(bytes: u64) -> NonZeroU32 {
    let cells = u32::try_from(bytes.div_ceil(CELL_BYTES)).unwrap_or(u32::MAX);
    NonZeroU32::new(cells).unwrap_or(NonZeroU32::MIN)
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

    fn rates(change: impl FnOnce(&mut Limits)) -> (Rates<FakeRelativeClock>, FakeRelativeClock) {
        let mut limits = Limits::DEFAULT;
        change(&mut limits);
        let clock = FakeRelativeClock::default();
        (Rates::with_clock(&limits, clock.clone()), clock)
    }

    #[test]
    fn a_user_spends_its_own_budget_and_no_other() {
        let (rates, clock) = rates(|limits| limits.appends_per_user_second = 2_000);
        rates.check("ana", 2_000, 0).unwrap();
        let refusal = rates.check("ana", 500, 0).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), (Code::Rate, 250));
        rates.check("ben", 2_000, 0).unwrap();
        clock.advance(Duration::from_millis(u64::from(refusal.retry_after) - 1));
        assert_eq!(rates.check("ana", 500, 0).unwrap_err().retry_after, 1);
        clock.advance(Duration::from_millis(1));
        rates.check("ana", 500, 0).unwrap();
    }

    #[test]
    fn bytes_count_too_and_the_average_holds() {
        let (rates, clock) = rates(|limits| {
            limits.append_bytes_per_user_second = 8 << 20;
            limits.appends_per_user_second = 10_000_000;
        });
        let mut passed = 0u64;
        for _ in 0..10_000 {
            if rates.check("ana", 1, 64 << 10).is_ok() {
                passed += 64 << 10;
            }
            clock.advance(Duration::from_millis(1));
        }
        let ideal = 11 * (8u64 << 20);
        assert!(passed <= ideal + ideal / 100 && passed >= ideal - ideal / 50, "{passed}");
    }

    #[test]
    fn the_largest_request_passes_a_small_budget_and_pays_for_it() {
        let (rates, clock) = rates(|limits| {
            limits.append_bytes_per_user_second = 64 << 10;
            limits.http_body_bytes = 1 << 20;
            limits.appends_per_user_second = 10;
        });
        rates.check("ana", 1, 1 << 20).unwrap();
        let refusal = rates.check("ana", 1, 1 << 20).unwrap_err();
        assert_eq!(refusal.retry_after, 16_000, "1 MiB at 64 KiB a second");
        rates.check("ben", 1_024, 1).unwrap();
        rates.check("cid", 5_000, u64::MAX).unwrap();
        clock.advance(Duration::from_secs(3));
        rates.check("cid", 1, 180 << 10).unwrap();
        assert_eq!(rates.check("cid", 1, 20 << 10).unwrap_err().code, Code::Rate);
    }

    #[test]
    fn a_log_has_a_budget_only_where_one_is_set() {
        let (rates_without, _) = rates(|_| {});
        for _ in 0..10 {
            rates_without.check_log("a", u32::MAX).unwrap();
        }
        assert_eq!(rates_without.entries(), 0);
        let (rates, _) = rates(|limits| limits.appends_per_log_second = 2_000);
        rates.check_log("a", 2_000).unwrap();
        assert_eq!(rates.check_log("a", 1).unwrap_err().code, Code::Rate);
        rates.check_log("b", 2_000).unwrap();
        rates.check_log("a", 0).unwrap();
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
        let (rates, clock) = rates(|_| {});
        for user in 0..1_000 {
            rates.check(&format!("user {user}"), 1, 1).unwrap();
        }
        assert_eq!(rates.entries(), 2_000);
        rates.sweep();
        assert_eq!(rates.entries(), 2_000, "nobody's budget is full yet");
        clock.advance(Duration::from_secs(5));
        rates.check("ana", 1, 1).unwrap();
        rates.sweep();
        assert_eq!(rates.entries(), 2);
    }

    #[test]
    fn sweeps_come_by_themselves() {
        let (rates, clock) = rates(|_| {});
        for user in 0..SWEEP_EVERY {
            rates.check(&user.to_string(), 1, 1).unwrap();
            clock.advance(Duration::from_millis(1));
        }
        assert!(rates.entries() < 100, "{}", rates.entries());
    }
}
