//! Reading: cursors, bases, gaps, acknowledgements.

use super::*;
use crate::wire::{
    Base, BaseAt, BaseHeld, BaseRecords, Cursor, Ended, Gap, GapReason, Kept, Part, Pong, Reason,
    Reset, ResetReason, State, Unsubscribed, Upto,
};

fn reset(cursor: u64, base: Option<BaseAt>) -> ServerFrame {
    let reason = ResetReason::New;
    ServerFrame::Reset(Reset { log: 5, reason, base, cursor, complete: cursor })
}

fn base(part: u32, last: bool) -> ServerFrame {
    let data = Payload::text("half");
    ServerFrame::Base(Base { log: 5, offset: 3, part, last, data })
}

/// Law 5: the cursor follows, and what the next `hello` says is where it stands.
#[test]
fn records_move_the_cursor_and_hello_states_it() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        met.hear(records(0, 3));
        met.hear(records(3, 1));
        assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(4));
        let told = |event: &&Event| matches!(event, Event::Frame(ServerFrame::Records(_)));
        assert_eq!(met.events.iter().filter(told).count(), 2);
        met.closed();
        assert!(met.connect.is_some());
        let hello = met.open();
        assert_eq!(hello.open[0].have, Some(Cursor { log: 5, next: 4 }));
        assert_eq!(hello.positions, vec![at(13)], "the records' places were seen");
    });
}

/// Promise 15: what it holds of a log's state has places too, and a server that lost them must find
/// out.
#[test]
fn records_of_a_base_raise_the_position_that_hello_states() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        let told = Subscribed { reset: true, rule: SnapshotRule::Latest, ..subscribed(0, 1) };
        met.hear(ServerFrame::Subscribed(told));
        met.hear(reset(1, Some(BaseAt { rule: SnapshotRule::Latest, offset: 1, version: 0 })));
        let ServerFrame::Records(of) = records(0, 1) else { unreachable!() };
        let keyed = Record { key: Some("k".to_owned()), ..text("x") };
        let kept =
            |record| Kept { offset: 0, record: Delivered { record: keyed.clone(), ..record } };
        let kept = of.records.into_iter().map(kept).collect();
        let (offset, complete, origins) = (1, 1, of.origins);
        let base = BaseRecords { log: 5, offset, last: true, complete, origins, records: kept };
        met.hear(ServerFrame::BaseRecords(base));
        assert_eq!(met.breaches(), []);
        met.closed();
        assert_eq!(met.open().positions, vec![at(10)]);
    });
}

/// Promise 15: so has the log id itself, of a log that is empty yet. A server that lost the log may
/// give the id to another name.
#[test]
fn a_log_that_was_made_since_raises_the_position_that_hello_states() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        met.hear(ServerFrame::Subscribed(Subscribed { made: Some(at(9)), ..subscribed(0, 0) }));
        assert_eq!(met.breaches(), []);
        met.closed();
        assert_eq!(met.open().positions, vec![at(9)]);
    });
}

#[test]
fn repeats_are_dropped_and_a_jump_is_asked_for_again() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        met.hear(records(0, 3));
        met.events.clear();
        met.hear(records(1, 3));
        let Event::Frame(ServerFrame::Records(told)) = &met.events[1] else {
            panic!("{:?}", met.events)
        };
        assert_eq!(met.events[0], Event::Repeat { log: 5, from: 1, to: 3 });
        assert_eq!((told.base, told.records.len()), (3, 1), "only the new one is told");
        met.hear(records(0, 2));
        assert_eq!(met.events[2..], [Event::Repeat { log: 5, from: 0, to: 2 }]);
        met.hear(records(7, 1));
        assert_eq!(met.events.last(), Some(&Event::Jump { log: 5, cursor: 4, came: 7 }));
        assert_eq!(met.closes, 1);
        met.hear(records(8, 1));
        assert_eq!(met.closes, 1, "nothing is looked at any more");
        met.closed();
        let hello = met.open();
        assert_eq!(hello.open[0].have, Some(Cursor { log: 5, next: 4 }));
    });
}

#[test]
fn a_gap_moves_the_cursor_and_one_from_beyond_is_a_breach() {
    let mut met = Played::reading(config(Encoding::Bincode));
    let gap = |from, to| ServerFrame::Gap(Gap { log: 5, from, to, reason: GapReason::Trimmed });
    met.hear(gap(0, 4));
    met.hear(records(4, 1));
    assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(5));
    met.hear(gap(6, 9));
    assert_eq!(met.breaches(), [Breach::Gap { log: 5, from: 6, to: 9, cursor: 5 }]);
    assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(5));
}

#[test]
fn a_base_that_was_cut_is_stated_and_goes_on() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        let told = Subscribed { reset: true, rule: SnapshotRule::Client, ..subscribed(0, 3) };
        met.hear(ServerFrame::Subscribed(told.clone()));
        met.hear(records(3, 1));
        assert_eq!(met.breaches(), [Breach::BeforeReset { log: 5, frame: "records" }]);
        let at_base = BaseAt { rule: SnapshotRule::Client, offset: 3, version: 1 };
        met.hear(reset(3, Some(at_base)));
        met.hear(base(0, false));
        met.hear(base(0, false));
        assert_eq!(met.breaches(), [Breach::BaseOrder { log: 5 }], "parts come in order");
        met.hear(records(3, 1));
        assert_eq!(met.breaches(), [Breach::BeforeBase { log: 5, frame: "records" }]);
        met.client.ack();
        met.poll();
        let Some(ClientFrame::Ack(ack)) = met.sent.last() else { panic!("{:?}", met.sent) };
        assert!(ack.cursors.is_empty(), "behind half a base there is no cursor");
        met.closed();
        let hello = met.open();
        let held = BaseHeld { log: 5, offset: 3, upto: Upto::Parts(1) };
        assert_eq!((hello.open[0].have, &hello.bases), (None, &vec![held.clone()]));
        met.hear(ServerFrame::Welcome(welcome()));
        met.hear(ServerFrame::Subscribed(Subscribed { reset: false, base: Some(held), ..told }));
        met.hear(base(1, true));
        met.hear(records(3, 1));
        assert_eq!(met.breaches(), []);
        let log = met.client.log("docs/1").unwrap();
        assert!(log.shown() && log.cursor == 4);
    });
}

/// Protocol §8.4: what it stated counts until that is answered, also where the log ends meanwhile.
#[test]
fn what_was_stated_is_kept_past_an_end_that_crosses_it() {
    in_both(|encoding| {
        // Half a base, stated by another `subscribe`; and by `activate`.
        for activates in [false, true] {
            let mut met = Played::reading(config(encoding));
            let told = Subscribed { reset: true, rule: SnapshotRule::Client, ..subscribed(0, 3) };
            met.hear(ServerFrame::Subscribed(told.clone()));
            met.hear(reset(3, Some(BaseAt { rule: SnapshotRule::Client, offset: 3, version: 1 })));
            met.hear(base(0, false));
            let request = if activates { met.activating() } else { met.asking() };
            let held = BaseHeld { log: 5, offset: 3, upto: Upto::Parts(1) };
            let (have, bases) = stated(met.sent.last());
            assert_eq!((have, bases), (None, vec![held.clone()]));
            if !activates {
                // What comes before the end is more than was stated.
                met.hear(base(1, true));
                met.hear(records(3, 1));
            }
            met.ended();
            met.activated(activates);
            let goes_on = Subscribed { request, reset: false, base: Some(held), ..told };
            met.hear(ServerFrame::Subscribed(goes_on));
            met.hear(base(1, true));
            met.hear(records(3, 2));
            assert_eq!(met.breaches(), []);
            let log = met.client.log("docs/1").unwrap();
            assert!(log.shown() && log.cursor == 5);
        }
        // A cursor.
        let mut met = Played::reading(config(encoding));
        met.hear(records(0, 2));
        let request = met.asking();
        assert_eq!(stated(met.sent.last()), (Some(Cursor { log: 5, next: 2 }), vec![]));
        met.ended();
        let goes_on = Subscribed { request, start: 4, head: 4, complete: 4, ..subscribed(0, 4) };
        met.hear(ServerFrame::Subscribed(goes_on));
        met.hear(records(4, 1));
        let jump = |event: &Event| matches!(event, Event::Jump { cursor: 2, came: 4, .. });
        assert!(met.events.iter().any(jump), "a gap was to be told: {:?}", met.events);
    });
}

/// What is not held cannot be gone on with.
#[test]
fn a_base_that_was_not_stated_does_not_go_on() {
    let mut met = Played::new(config(Encoding::Bincode));
    let held = BaseHeld { log: 5, offset: 3, upto: Upto::Parts(1) };
    let told = Subscribed { rule: SnapshotRule::Client, base: Some(held), ..subscribed(0, 3) };
    met.hear(ServerFrame::Subscribed(told));
    assert_eq!(met.breaches(), [Breach::OtherBase { log: 5 }]);
}

/// What was stated of `docs/1`.
fn stated(sent: Option<&ClientFrame>) -> (Option<Cursor>, Vec<BaseHeld>) {
    match sent {
        Some(ClientFrame::Subscribe(told)) => (told.open[0].have, told.bases.clone()),
        Some(ClientFrame::Activate(told)) => (told.open[0].have, told.bases.clone()),
        other => panic!("nothing is asked: {other:?}"),
    }
}

impl Played {
    /// It asks for `docs/1` again.
    fn asking(&mut self) -> u32 {
        let request = self.client.open("docs/1", Start::State, 0).expect("it asks at once");
        self.poll();
        request
    }

    /// It is inactive, and asks to be active again; what is opened by that has no number.
    fn activating(&mut self) -> u32 {
        self.hear(state(false, 0));
        self.client.activate();
        self.poll();
        0
    }

    /// The back end ends the subscription.
    fn ended(&mut self) {
        let reason = Ended::BackEnd;
        self.hear(ServerFrame::Unsubscribed(Unsubscribed { request: 0, log: 5, reason }));
    }

    fn activated(&mut self, activates: bool) {
        if activates {
            self.hear(state(true, 1));
        }
    }
}

fn state(active: bool, request: u32) -> ServerFrame {
    ServerFrame::State(State {
        active,
        met: active.then_some(Met::Restored),
        reason: (!active).then_some(Reason::Lag),
        activate_after: 900,
        generation: 2,
        source: None,
        request,
    })
}

/// Flow control: at a quarter of the window at once, else when its time has come.
#[test]
fn what_was_worked_off_is_acknowledged_in_time() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        met.hear(records(0, 1));
        assert_eq!(met.sent, [], "a little waits for more");
        assert_eq!(met.client.deadline(), Some(met.now + 250));
        met.wait(249);
        assert_eq!(met.sent, []);
        met.wait(1);
        let size = codec::message(&records(0, 1), encoding).len() as u64;
        let Some(ClientFrame::Ack(ack)) = met.sent.pop() else { panic!("no ack") };
        assert!(ack.received <= size && ack.received + 3 >= size, "{} of {size}", ack.received);
        assert_eq!(ack.cursors, [Cursor { log: 5, next: 1 }]);
        assert_eq!(met.client.deadline(), Some(met.now - 250 + 20_000), "then only its own ping");
        met.hear(records(1, 2_000));
        assert_eq!(names(&met.sent), ["ack"], "a quarter of the window is told at once");
    });
}

#[test]
fn more_than_the_window_is_a_breach_but_for_a_frame_alone() {
    let mut met = Played::reading(Config { ack_after: None, ..config(Encoding::Bincode) });
    met.hear(records(0, 9_000));
    assert_eq!(met.breaches(), [], "alone it may be larger");
    met.hear(records(9_000, 1));
    let breaches = met.breaches();
    assert!(matches!(breaches[..], [Breach::Window { window: 65_536, .. }]), "{breaches:?}");
    assert_eq!(met.sent, [], "it was told to wait until it is asked");
}

#[test]
fn a_seek_goes_back_by_a_reset() {
    let mut met = Played::reading(config(Encoding::Bincode));
    met.hear(records(0, 3));
    let request = met.client.seek("docs/1", Start::Earliest).unwrap();
    met.poll();
    assert_eq!(names(&met.sent), ["seek"]);
    met.hear(ServerFrame::Subscribed(Subscribed { reset: true, ..subscribed(request, 0) }));
    met.hear(records(3, 1));
    met.hear(reset(0, None));
    met.hear(records(0, 1));
    assert_eq!(met.breaches(), [Breach::BeforeReset { log: 5, frame: "records" }]);
    assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(1));
    assert_eq!(met.client.seek("docs/2", Start::End), None, "a log that it does not read");
}

#[test]
fn a_frame_in_parts_is_the_frame() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        let whole = codec::message(&records(0, 3), encoding);
        let last = whole.len().div_ceil(16) - 1;
        for (at, piece) in whole.chunks(16).enumerate() {
            let data = match encoding {
                Encoding::Json => Payload::text(String::from_utf8(piece.to_vec()).unwrap()),
                Encoding::Bincode => Payload::binary(piece.to_vec().into()),
            };
            assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(0));
            met.hear(ServerFrame::Part(Part { last: at == last, data }));
        }
        assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(3));
        // What cannot be read, and a frame that is no delivery.
        let pong = codec::message(&ServerFrame::Pong(Pong { nonce: 1 }), encoding);
        for (closes, piece) in [vec![69, 1, 5], pong].into_iter().enumerate() {
            met.closed();
            met.open();
            met.hear(ServerFrame::Welcome(welcome()));
            let data = Payload::binary(piece.into());
            met.hear(ServerFrame::Part(Part { last: true, data }));
            assert!(matches!(met.breaches()[..], [Breach::Unreadable(_)]));
            assert_eq!(met.closes, closes + 1);
        }
    });
}

/// The end of a base may say that more has to come before the log is shown, never that less has.
#[test]
fn a_base_ends_no_earlier_than_it_was_told() {
    let mut met = Played::reading(config(Encoding::Bincode));
    let rule = SnapshotRule::Latest;
    met.hear(ServerFrame::Subscribed(Subscribed { rule, reset: true, ..subscribed(0, 0) }));
    met.hear(reset(3, Some(BaseAt { rule, offset: 3, version: 0 })));
    let end = |complete| {
        let (log, offset, last, origins, records) = (5, 3, true, vec![], vec![]);
        ServerFrame::BaseRecords(BaseRecords { log, offset, last, complete, origins, records })
    };
    met.hear(end(2));
    assert_eq!(met.breaches(), [Breach::BaseOrder { log: 5 }]);
    met.hear(end(4));
    assert_eq!(met.breaches(), []);
    let log = met.client.log("docs/1").unwrap();
    assert_eq!((log.cursor, log.complete, log.shown()), (3, 4, false));
}

/// What the laws forbid is told, and changes nothing.
#[test]
fn what_the_laws_forbid_is_told() {
    let mut met = Played::reading(config(Encoding::Bincode));
    met.hear(records(0, 2));
    let before = format!("{:?}", met.client.logs);
    let of_other = ServerFrame::Gap(Gap { log: 6, from: 0, to: 1, reason: GapReason::Removed });
    let back = ServerFrame::Subscribed(subscribed(0, 1));
    let other = ServerFrame::Subscribed(Subscribed { log: 6, ..subscribed(0, 0) });
    let held = Subscribed { held: true, reset: true, ..subscribed(0, 2) };
    let empty = records(2, 0);
    for (frame, breach) in [
        (of_other, Breach::Unannounced { log: 6, frame: "gap" }),
        (ServerFrame::Subscribed(held), Breach::OfHeld { log: 5, frame: "reset" }),
        (back, Breach::Cursor { log: 5, told: 1, held: 2 }),
        (base(0, true), Breach::BaseOrder { log: 5 }),
        (empty, Breach::Empty { log: 5 }),
        (ServerFrame::Welcome(welcome()), Breach::Unasked("a second welcome")),
        (other, Breach::Names { log: 6 }),
    ] {
        met.clear();
        met.hear(frame);
        assert_eq!(met.breaches(), [breach]);
        assert_eq!(format!("{:?}", met.client.logs), before);
    }
}
