//! Where a reader begins in one log, as a table: what the log keeps, what the reader brings and
//! wants, where it begins, and what it is told first.

use highwater::connection::{CHEAP_DELTA, History, LONG_DELTA, Opened, Wanted, open};
use highwater::log::{LogRow, SnapshotAt};
use highwater::wire::{BaseHeld, Cursor, ResetReason, SnapshotRule, Start, Upto};

use crate::fold::world::keeps_promise_8;

const LOG: u64 = 7;

/// A log `start..head` with snapshots at these offsets.
fn log(rule: SnapshotRule, start: u64, head: u64, snapshots: &[u64]) -> LogRow {
    let at = |offset: &u64| SnapshotAt {
        offset: *offset,
        upload: 1,
        parts: 1,
        bytes: 1,
        version: 1,
        origin: None,
        views: vec![],
        confirmed: false,
        more: Default::default(),
    };
    LogRow {
        head,
        start,
        bytes: head,
        start_bytes: start,
        snapshots: snapshots.iter().map(at).collect(),
        deleted: false,
        ..LogRow::new("a", rule, 1, 0)
    }
}

fn show(opened: &Opened) -> String {
    let mut text = format!("from {}", opened.cursor);
    if let Some(reset) = opened.reset {
        text += &format!(", reset {reset:?}");
    }
    if let Some(base) = &opened.base {
        text += &format!(", base {}", base.offset());
    }
    match &opened.upto {
        Some(Upto::Parts(parts)) => text += &format!(" from part {parts}"),
        Some(Upto::Key(key)) => text += &format!(" behind {key}"),
        None => {}
    }
    if let Some(gap) = &opened.gap {
        text += &format!(", gap {}..{}", gap.from, gap.to);
    }
    text
}

fn check(
    row: &LogRow,
    have: Option<(u64, u64)>,
    start: Start,
    committed: Option<u64>,
    expect: &str,
) {
    let have = have.map(|(log, next)| Cursor { log, next });
    let (because, history) = (ResetReason::New, History::This);
    let (begun, priority) = (None, 3);
    let wanted = Wanted { have, begun, start, committed, priority, because, history };
    let opened = open(LOG, row, &wanted);
    assert_eq!((opened.log, opened.priority, opened.head), (LOG, 3, row.head));
    assert_eq!(show(&opened), expect, "{row:?} {wanted:?}");
    keeps_promise_8(&[opened]);
}

fn holds(row: &LogRow, next: u64, expect: &str) {
    check(row, Some((LOG, next)), Start::End, Some(1), expect);
}

fn starts(row: &LogRow, start: Start, committed: Option<u64>, expect: &str) {
    check(row, None, start, committed, expect);
}

#[test]
fn without_a_snapshot_what_is_held_goes_on_by_delta() {
    let whole = log(SnapshotRule::None, 0, 9, &[]);
    holds(&whole, 0, "from 0");
    holds(&whole, 4, "from 4");
    holds(&whole, 9, "from 9");
    holds(&log(SnapshotRule::None, 0, 90_000, &[]), 4, "from 4");
    holds(&log(SnapshotRule::None, 0, 0, &[]), 0, "from 0");
}

/// Part of promise 7: what a reader can no longer get is told as a range, before what follows.
#[test]
fn promise_07_a_gap_is_an_object() {
    let trimmed = log(SnapshotRule::None, 5, 9, &[]);
    holds(&trimmed, 5, "from 5");
    holds(&trimmed, 2, "from 5, gap 2..5");
    starts(&trimmed, Start::State, None, "from 5, reset New, gap 0..5");
    starts(&trimmed, Start::Offset(3), None, "from 5, gap 3..5");
    starts(&trimmed, Start::Committed, Some(4), "from 5, gap 4..5");
    let gone = log(SnapshotRule::None, 9, 9, &[]);
    holds(&gone, 2, "from 9, gap 2..9");
    starts(&gone, Start::Earliest, None, "from 9");
}

#[test]
fn another_log_id_or_past_the_head_is_a_reset_never_silence() {
    let whole = log(SnapshotRule::None, 0, 9, &[]);
    check(&whole, Some((LOG - 1, 4)), Start::End, Some(4), "from 0, reset OtherLog");
    holds(&whole, 10, "from 0, reset PastHead");
    holds(&whole, u64::MAX, "from 0, reset PastHead");
    let client = log(SnapshotRule::Client, 2, 9, &[4, 6]);
    check(&client, Some((LOG + 1, 4)), Start::End, None, "from 6, reset OtherLog, base 6");
    holds(&client, 10, "from 6, reset PastHead, base 6");
}

#[test]
fn a_trimmed_position_under_a_rule_is_a_reset_with_a_base() {
    let client = log(SnapshotRule::Client, 4, 9, &[4, 6]);
    holds(&client, 3, "from 6, reset Trimmed, base 6");
    holds(&client, 4, "from 4");
    let latest = log(SnapshotRule::Latest, 4, 9, &[]);
    holds(&latest, 3, "from 9, reset Trimmed, base 9");
}

#[test]
fn a_delta_is_sent_while_it_is_cheap_or_no_snapshot_is_newer() {
    let far = CHEAP_DELTA + 1;
    let head = 3 * CHEAP_DELTA;
    let client = log(SnapshotRule::Client, 0, head, &[far]);
    holds(&client, head - CHEAP_DELTA, "from 2000");
    holds(&client, far, "from 1001");
    holds(&client, far - 1, "from 1001, reset New, base 1001");
    let latest = log(SnapshotRule::Latest, 0, head, &[]);
    holds(&latest, head - CHEAP_DELTA, "from 2000");
    holds(&latest, head - CHEAP_DELTA - 1, "from 3000, reset New, base 3000");
    let plain = log(SnapshotRule::Client, 0, head, &[]);
    holds(&plain, 0, "from 0");
}

#[test]
fn who_holds_nothing_begins_where_it_says() {
    let whole = log(SnapshotRule::None, 0, 9, &[]);
    starts(&whole, Start::State, None, "from 0, reset New");
    starts(&whole, Start::Earliest, None, "from 0");
    starts(&whole, Start::End, None, "from 9");
    starts(&whole, Start::Offset(4), None, "from 4");
    starts(&whole, Start::Offset(9), None, "from 9");
    starts(&whole, Start::Offset(10), None, "from 0, reset PastHead");
    starts(&whole, Start::Committed, None, "from 0, reset New");
    starts(&whole, Start::Committed, Some(6), "from 6");
    starts(&whole, Start::State, Some(6), "from 0, reset New");
    let client = log(SnapshotRule::Client, 4, 9, &[4, 6]);
    starts(&client, Start::State, None, "from 6, reset New, base 6");
    starts(&client, Start::Earliest, None, "from 4");
    let latest = log(SnapshotRule::Latest, 2, 9, &[]);
    starts(&latest, Start::State, None, "from 9, reset New, base 9");
}

/// One that was cut off in a base, says how far it came, and how it would else begin.
fn begun(log: u64, offset: u64, upto: Upto) -> Wanted {
    Wanted {
        have: None,
        begun: Some(BaseHeld { log, offset, upto }),
        start: Start::State,
        committed: None,
        priority: 0,
        because: ResetReason::New,
        history: History::This,
    }
}

fn goes_on(row: &LogRow, wanted: &Wanted, expect: &str) {
    let opened = open(LOG, row, wanted);
    assert_eq!(show(&opened), expect, "{row:?} {wanted:?}");
    keeps_promise_8(&[opened]);
}

#[test]
fn a_latest_base_goes_on_behind_its_last_key_while_its_records_are_kept() {
    let anew = "from 9, reset New, base 9";
    for (start, offset, expect) in [
        (0, 6, "from 6, base 6 behind k"),
        (6, 6, "from 6, base 6 behind k"),
        (0, 9, "from 9, base 9 behind k"),
        (0, 0, "from 0, base 0 behind k"),
        (7, 6, anew),
        (0, 10, anew),
    ] {
        let row = log(SnapshotRule::Latest, start, 9, &[]);
        goes_on(&row, &begun(LOG, offset, Upto::Key("k".to_owned())), expect);
    }
    let row = log(SnapshotRule::Latest, 0, 3 * LONG_DELTA, &[]);
    let wanted = |offset| begun(LOG, offset, Upto::Key("k".to_owned()));
    goes_on(&row, &wanted(2 * LONG_DELTA), "from 200000, base 200000 behind k");
    goes_on(&row, &wanted(2 * LONG_DELTA - 1), "from 300000, reset New, base 300000");
}

#[test]
fn a_snapshot_goes_on_at_its_next_part_while_it_is_kept() {
    let mut row = log(SnapshotRule::Client, 4, 9, &[4, 6]);
    row.snapshots.iter_mut().for_each(|snapshot| snapshot.parts = 3);
    let anew = "from 6, reset New, base 6";
    for (offset, parts, expect) in [
        (6, 2, "from 6, base 6 from part 2"),
        (6, 0, "from 6, base 6 from part 0"),
        // A newer one has come meanwhile.
        (4, 1, "from 4, base 4 from part 1"),
        (3, 1, anew),
        (5, 1, anew),
        (6, 3, anew),
        (6, u32::MAX, anew),
    ] {
        goes_on(&row, &begun(LOG, offset, Upto::Parts(parts)), expect);
    }
}

/// A base is gone on with where a base would be given, and is the same: else it begins anew, or
/// there is none.
#[test]
fn a_base_goes_on_only_in_place_of_one() {
    let key = || Upto::Key("k".to_owned());
    let latest = log(SnapshotRule::Latest, 0, 9, &[]);
    let on = begun(LOG, 6, key());
    let anew = "from 9, reset New, base 9";
    goes_on(&latest, &begun(LOG + 1, 6, key()), anew);
    goes_on(&latest, &begun(LOG, 6, Upto::Parts(1)), anew);
    goes_on(&latest, &Wanted { history: History::Other, ..on.clone() }, anew);
    let have = |log, next| Wanted { have: Some(Cursor { log, next }), ..on.clone() };
    goes_on(&latest, &have(LOG, 8), "from 8");
    goes_on(&latest, &have(LOG, 10), "from 9, reset PastHead, base 9");
    goes_on(&latest, &have(LOG + 1, 8), "from 9, reset OtherLog, base 9");
    goes_on(&latest, &Wanted { start: Start::Committed, ..on.clone() }, "from 6, base 6 behind k");
    for (start, expect) in [
        (Start::End, "from 9"),
        (Start::Earliest, "from 0"),
        (Start::Offset(3), "from 3"),
        (Start::Offset(10), "from 9, reset PastHead, base 9"),
    ] {
        goes_on(&latest, &Wanted { start, ..on.clone() }, expect);
    }
    let committed = Some(5);
    let start = Start::Committed;
    goes_on(&latest, &Wanted { start, committed, ..on.clone() }, "from 5");
    // The rule is another one by now.
    let none = log(SnapshotRule::None, 0, 9, &[]);
    goes_on(&none, &on, "from 0, reset New");
    let client = log(SnapshotRule::Client, 0, 9, &[6]);
    goes_on(&client, &on, "from 6, reset New, base 6");
    goes_on(&latest, &begun(LOG, 6, Upto::Parts(0)), anew);
}
