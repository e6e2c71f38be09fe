//! Purses by a clock that is told, and by chance.

use std::collections::BTreeMap;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::*;
use crate::limit::Limits;

type Node = (Arc<Rates<FakeRelativeClock>>, FakeRelativeClock);

fn node(appends: u32, bytes: u64, of_log: u32) -> Node {
    let limits = Limits {
        appends_per_user_second: appends,
        append_bytes_per_user_second: bytes,
        appends_per_log_second: of_log,
        ..Limits::DEFAULT
    };
    let clock = FakeRelativeClock::default();
    (Rates::with_clock(&limits, clock.clone()), clock)
}

fn costs(items: usize, bytes: usize, log: u64) -> Costs {
    let mut costs = Costs::with_room(items);
    (0..items).for_each(|_| costs.push(bytes, log));
    costs
}

/// What an append costs besides its record.
const ROW: usize = 64;
const WRITER: Id = Id([1; 16]);
const OTHER: Id = Id([2; 16]);

/// Takes items whose sequences begin at `first`: how many, and the time told for the rest.
fn take(
    purse: &mut Purse<FakeRelativeClock>,
    holder: Id,
    first: u64,
    costs: Costs,
) -> (usize, Option<u32>) {
    let taken = purse.charge_some(holder, costs, |at| (first + at as u64, first + at as u64 - 1));
    taken.charged.settle(|_| false);
    (taken.count, taken.refusal.map(|refusal| refusal.retry_after))
}

fn pass(clock: &FakeRelativeClock, milliseconds: u32) {
    clock.advance(Duration::from_millis(milliseconds.into()));
}

#[test]
fn a_frame_is_taken_as_far_as_it_fits_and_the_rest_at_the_time_told() {
    let (rates, clock) = node(50, 1 << 40, 0);
    let mut purse = rates.purse("ana");
    assert_eq!(take(&mut purse, WRITER, 1, costs(70, 1, 0)), (50, Some(400)));
    // What lies behind it, and what comes too early, waits with it and costs nothing.
    assert_eq!(take(&mut purse, WRITER, 71, costs(9, 1, 0)), (0, Some(400)));
    pass(&clock, 399);
    assert_eq!(take(&mut purse, WRITER, 51, costs(20, 1, 0)), (0, Some(1)));
    pass(&clock, 1);
    assert_eq!(take(&mut purse, WRITER, 71, costs(9, 1, 0)), (0, Some(1)));
    assert_eq!(take(&mut purse, WRITER, 51, costs(20, 1, 0)), (20, None));
    assert_eq!(take(&mut purse, WRITER, 71, costs(9, 1, 0)), (0, Some(180)));
}

/// What was refused in one frame may come in several, and together with what follows.
#[test]
fn what_is_set_aside_serves_the_holder_however_it_is_parted() {
    let (rates, clock) = node(50, 1 << 40, 0);
    let mut purse = rates.purse("ana");
    assert_eq!(take(&mut purse, WRITER, 1, costs(100, 1, 0)), (50, Some(1_000)));
    pass(&clock, 1_000);
    assert_eq!(take(&mut purse, WRITER, 51, costs(30, 1, 0)), (30, None));
    assert_eq!(take(&mut purse, OTHER, 1, costs(1, 1, 0)), (0, Some(20)));
    assert_eq!(take(&mut purse, WRITER, 81, costs(30, 1, 0)), (20, Some(220)));
}

#[test]
fn holders_take_turns() {
    let (rates, clock) = node(100, 1 << 40, 0);
    let (mut frames, mut singles) = (rates.purse("ana"), rates.purse("ana"));
    assert_eq!(take(&mut frames, WRITER, 1, costs(200, 1, 0)), (100, Some(1_000)));
    assert_eq!(take(&mut singles, OTHER, 1, costs(1, 1, 0)), (0, Some(1_010)));
    pass(&clock, 1_010);
    // It waits as it was told, and has what was set aside, however often the other asks.
    assert_eq!(take(&mut singles, OTHER, 1, costs(1, 1, 0)), (1, None));
    assert_eq!(take(&mut singles, OTHER, 2, costs(1, 1, 0)), (0, Some(10)));
    assert_eq!(take(&mut frames, WRITER, 101, costs(100, 1, 0)), (100, None));
}

#[test]
fn an_append_larger_than_a_second_of_the_budget_waits_and_passes() {
    let (rates, clock) = node(10, 1 << 10, 0);
    let mut purse = rates.purse("ana");
    let large = (64 << 10) - ROW;
    assert_eq!(take(&mut purse, WRITER, 1, costs(1, large, 0)), (0, Some(63_000)));
    // The budget owes all it may: others are told when they would fit, and nothing is promised.
    let mut other = rates.purse("ana");
    assert_eq!(take(&mut other, OTHER, 1, costs(1, 1024 - 64, 0)), (0, Some(64_000)));
    assert!(other.bookings.is_empty());
    pass(&clock, 63_000);
    assert_eq!(take(&mut purse, WRITER, 1, costs(1, large, 0)), (1, None));
}

#[test]
fn a_log_has_a_rate_of_its_own_that_users_share() {
    let (rates, clock) = node(1_000, 1 << 40, 50);
    let (mut ana, mut ben) = (rates.purse("ana"), rates.purse("ben"));
    let (one, two) = (rates.log_key("one"), rates.log_key("two"));
    assert_eq!(take(&mut ana, WRITER, 1, costs(50, 1, one)), (50, None));
    assert_eq!(take(&mut ben, OTHER, 1, costs(20, 1, one)), (0, Some(400)));
    assert_eq!(take(&mut ana, WRITER, 51, costs(50, 1, two)), (50, None));
    // Mixed, it is taken up to the first that does not fit.
    let mut mixed = costs(3, 1, 0);
    mixed.push(1, one);
    mixed.push(1, 0);
    assert_eq!(take(&mut ana, WRITER, 101, mixed.clone()), (3, Some(420)));
    pass(&clock, 420);
    assert_eq!(take(&mut ben, OTHER, 1, costs(20, 1, one)), (20, None));
    assert_eq!(take(&mut ana, WRITER, 104, mixed.split_off(3)), (2, None));
    assert!(ana.credit(WRITER).is_none(), "nobody knows which log will be meant");
}

#[test]
fn what_is_not_taken_up_lapses_and_what_is_dropped_goes_back() {
    let (rates, clock) = node(10, 1 << 40, 10);
    let log = rates.log_key("log");
    let (mut gone, mut left) = (rates.purse("ana"), rates.purse("ana"));
    assert_eq!(take(&mut gone, WRITER, 1, costs(310, 1, log)), (10, Some(30_000)));
    assert_eq!(take(&mut left, OTHER, 1, costs(100, 1, log)), (0, Some(40_000)));
    drop(gone);
    assert_eq!(take(&mut rates.purse("ana"), WRITER, 1, costs(1, 1, log)), (0, Some(10_100)));
    pass(&clock, 60_000);
    assert_eq!(take(&mut left, OTHER, 50, costs(5, 1, log)), (5, None), "no longer behind it");
    assert!(left.bookings.is_empty());
}

#[test]
fn a_receipt_gives_back_what_spent_nothing() {
    let (rates, _) = node(10, 1 << 40, 10);
    let log = rates.log_key("log");
    let mut purse = rates.purse("ana");
    let mut charged = purse.charge_some(WRITER, costs(10, 1, log), |_| (1, 0)).charged;
    let mut first = charged.split_to(4);
    assert_eq!((first.len(), charged.len()), (4, 6));
    drop(charged);
    let next = purse.charge_some(WRITER, costs(6, 1, log), |_| (1, 0)).charged;
    first.join(next);
    first.settle(|at| at >= 7);
    assert_eq!(take(&mut purse, WRITER, 1, costs(4, 1, log)).0, 3);
}

/// A client may send the whole frame again: what was taken of it is no second time in the way, and
/// is charged after all where it was not stored then.
#[test]
fn what_comes_again_with_what_was_refused_is_charged_when_it_is_stored() {
    let (rates, clock) = node(50, 1 << 40, 0);
    let mut purse = rates.purse("ana");
    assert_eq!(take(&mut purse, WRITER, 1, costs(70, 1, 0)), (50, Some(400)));
    pass(&clock, 400);
    let taken = purse.charge_some(WRITER, costs(70, 1, 0), |at| (at as u64 + 1, at as u64));
    assert_eq!((taken.count, taken.refusal), (70, None));
    // Ten of them had been put off by the fold.
    taken.charged.settle(|at| (10..50).contains(&at));
    assert_eq!(take(&mut purse, OTHER, 1, costs(1, 1, 0)), (0, Some(220)));
    // In several frames, too, the first of which has nothing new.
    assert_eq!(take(&mut purse, WRITER, 71, costs(20, 1, 0)), (0, Some(620)));
    pass(&clock, 620);
    assert_eq!(take(&mut purse, WRITER, 1, costs(70, 1, 0)), (70, None));
    assert_eq!(take(&mut purse, WRITER, 61, costs(30, 1, 0)), (30, None));
}

/// Sequences are the client's word: one that names a far one does not make all before it free.
#[test]
fn what_comes_again_is_bounded() {
    let (rates, clock) = node(50, 1 << 40, 0);
    let mut purse = rates.purse("ana");
    assert_eq!(take(&mut purse, WRITER, 1, costs(50, 1, 0)), (50, None));
    let far = (1 << 53) - 1;
    assert_eq!(take(&mut purse, WRITER, far, costs(1, 1, 0)), (0, Some(20)));
    pass(&clock, 20);
    let mut stored = 0;
    for round in 0..200 {
        let numbers = |at| (51 + 50 * round + at as u64, 50 + 50 * round + at as u64);
        let taken = purse.charge_some(WRITER, costs(50, 1, 0), numbers);
        stored += taken.count;
        taken.charged.settle(|_| false);
    }
    assert!(stored <= MOST_AGAIN + 2, "{stored} in the time for one");
    // And is owed from then on.
    pass(&clock, 1_000);
    assert_eq!(take(&mut purse, OTHER, 1, costs(1, 1, 0)).0, 0);
}

#[test]
fn all_or_none_takes_no_less_and_sets_all_aside() {
    let (rates, clock) = node(10, 1 << 40, 10);
    let log = rates.log_key("log");
    let mut purse = rates.purse("ana");
    let (refusal, some) = purse.charge_whole(WRITER, costs(15, 1, log)).unwrap_err();
    assert_eq!((refusal.retry_after, some), (500, true));
    let refused = rates.purse("ben").charge_whole(OTHER, costs(1, 1, log)).unwrap_err();
    assert_eq!((refused.0.retry_after, refused.1), (600, false));
    pass(&clock, 500);
    assert_eq!(purse.charge_whole(WRITER, costs(15, 1, log)).unwrap().len(), 15);
}

#[test]
fn credit_is_a_share_that_is_topped_up_and_told_when_it_is_booked() {
    let (rates, clock) = node(80, 80 << 10, 0);
    let mut purse = rates.socket_purse("ana");
    let first = purse.credit(WRITER).unwrap();
    assert_eq!((first.appends, first.bytes, first.after), (20, (20 << 10) - 20 * 64, 0));
    assert_eq!(take(&mut purse, WRITER, 1, costs(20, 1, 0)), (20, None));
    // The lower half of the budget is not given as credit while there is any.
    assert_eq!(purse.credit(WRITER).map(|credit| (credit.appends, credit.after)), Some((20, 0)));
    assert_eq!(take(&mut purse, WRITER, 21, costs(20, 1, 0)), (20, None));
    let others = take(&mut rates.purse("ana"), OTHER, 1, costs(40, 1, 0));
    assert_eq!(others, (40, None));
    let told = purse.credit(WRITER).unwrap();
    assert_eq!((told.appends, told.after), (20, 250), "it is told when it will be there");
    pass(&clock, told.after);
    assert_eq!(take(&mut purse, WRITER, 41, costs(20, 1, 0)), (20, None));
    // A refusal tells what is booked in its place.
    assert_eq!(take(&mut purse, WRITER, 61, costs(8, 1, 0)), (0, Some(100)));
    let told = purse.credit(WRITER).unwrap();
    assert_eq!((told.appends, told.bytes, told.after), (8, 8, 100));
}

#[test]
fn sockets_of_a_user_share_its_credit_and_one_too_small_is_none() {
    let (rates, _) = node(80, 1 << 30, 0);
    let mut all: Vec<_> = (0..4).map(|_| rates.socket_purse("ana")).collect();
    let told: Vec<_> = all.iter_mut().map(|one| one.credit(WRITER).unwrap().appends).collect();
    assert_eq!(told, [5, 5, 5, 5]);
    let mut many: Vec<_> = (0..30).map(|_| rates.socket_purse("ana")).collect();
    assert_eq!(many.pop().unwrap().credit(WRITER), None);
    assert_eq!(rates.purse("ana").credit(WRITER), None, "a request has none");
    drop((all, many));
    assert_eq!(rates.charge_some("ana", 1_000).0.len(), 80, "with the socket it goes back");
}

/// One client in the random runs.
#[derive(Debug, Default)]
struct Runner {
    /// The next sequence, and how many of them wait.
    next: u64,
    wants: usize,
    bytes: usize,
    /// When it may come again.
    at: u64,
    keeps_credit: bool,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Whatever sockets and requests of one user ask for: it gets no more than its rate and one
    /// second of it, and what is set aside; whoever comes back at the time told gets all of the
    /// rest; and whoever keeps to its credit is never refused.
    #[test]
    fn rates_hold_and_the_times_told_are_true(
        appends in 1_u32..400,
        log_rate in prop_oneof![Just(0_u32), 1_u32..100],
        kilobytes in 1_u64..200,
        clients in prop::collection::vec(any::<bool>(), 1..6),
        steps in prop::collection::vec(
            (0_usize..6, 1_usize..60, 1_usize..3_000, 0_u32..400),
            1..150,
        ),
    ) {
        let (rates, clock) = node(appends, kilobytes << 10, log_rate);
        let log = rates.log_key("log");
        let mut purses: Vec<_> = clients.iter().map(|_| rates.socket_purse("ana")).collect();
        let keeps = |keeps: &bool| Runner { next: 1, keeps_credit: *keeps, ..Runner::default() };
        let mut runners: Vec<_> = clients.iter().map(keeps).collect();
        let (mut now, mut taken, mut taken_bytes) = (0_u64, 0_u64, 0_u64);
        let mut times: BTreeMap<usize, Option<Credit>> = BTreeMap::new();
        for (at, purse) in purses.iter_mut().enumerate() {
            times.insert(at, purse.credit(WRITER));
        }
        for (who, items, bytes, wait) in steps {
            let who = who % runners.len();
            let (runner, purse) = (&mut runners[who], &mut purses[who]);
            // What is let lie for ten seconds lapses.
            let retries = runner.wants > 0 && now < runner.at + 9_000;
            let asks = if retries { (runner.wants, runner.bytes) } else { (items, bytes) };
            let (mut items, bytes) = asks;
            let until = if retries { runner.at } else { 0 };
            let lapsed = runner.wants > 0 && !retries;
            let credit = times[&who].filter(|_| runner.keeps_credit && !retries && !lapsed);
            let mut kept = false;
            let mut ready = now.max(until);
            if let Some(credit) = credit {
                items = items.min(credit.appends as usize);
                kept = (items * bytes) as u64 <= credit.bytes;
                // `after` counts from when it was told; the runner notes it as its time.
                ready = ready.max(runner.at);
            }
            if ready - now > 9_000 {
                // Beyond this, others would let theirs lapse.
                continue;
            }
            pass(&clock, u32::try_from(ready - now).unwrap());
            now = ready;
            let (count, after) = take(purse, WRITER, runner.next, costs(items, bytes, log));
            prop_assert!(!retries || count == items, "told {until}, came at {now}");
            prop_assert!(!kept || after.is_none(), "kept to its credit, and was refused");
            runner.next += count as u64;
            (runner.wants, runner.bytes) = (items - count, bytes);
            if runner.wants > 0 && !purse.bookings.iter().any(|one| one.holder == WRITER) {
                // Nothing was promised: too much is owed.
                runner.wants = 0;
            }
            runner.at = now + u64::from(after.unwrap_or(0));
            let credit = purse.credit(WRITER);
            if after.is_none() {
                runner.at = now + credit.map_or(0, |credit| u64::from(credit.after));
            }
            times.insert(who, credit);
            taken += count as u64;
            taken_bytes += (count * (bytes + ROW)) as u64;
            let came = |rate: u64| rate + rate * now / 1_000 + 1;
            prop_assert!(taken <= came(appends.into()), "{taken} appends by {now} ms");
            prop_assert!(taken_bytes <= came(kilobytes << 10), "{taken_bytes} bytes by {now} ms");
            prop_assert!(log_rate == 0 || taken <= came(log_rate.into()), "{taken} in the log");
            pass(&clock, wait);
            now += u64::from(wait);
        }
    }
}
