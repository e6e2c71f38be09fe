//! What a client let go, or was refused, it holds no more: nothing of it may be stated later.

use super::*;
use crate::wire::{
    Base, BaseAt, Cursor, Ended, Reason, Refused, Reset, ResetReason, State, Unsubscribed,
};

/// What is stated of `docs/1` where it is wanted again, on the next socket.
fn stated_next(met: &mut Played) -> Option<Cursor> {
    met.closed();
    met.client.open("docs/1", Start::State, 0);
    met.open().open[0].have
}

fn inactive() -> ServerFrame {
    ServerFrame::State(State {
        active: false,
        met: None,
        reason: Some(Reason::Lag),
        activate_after: 900,
        generation: 2,
        source: None,
        request: 0,
    })
}

/// Protocol §8.2: what is held is stated, else nothing is held. Whoever let a log go has dropped
/// it, also where the server's answer is lost with the socket, or with the channel.
#[test]
fn what_was_let_go_is_not_stated_again() {
    let ends: [fn(&mut Played); 2] = [Played::closed, |met| met.hear(inactive())];
    for end in ends {
        let mut met = Played::reading(config(Encoding::Bincode));
        met.hear(records(0, 2));
        met.client.close_log("docs/1");
        end(&mut met);
        assert_eq!(stated_next(&mut met), None);
        // While it was asked for.
        let mut met = Played::reading(config(Encoding::Bincode));
        met.hear(records(0, 2));
        met.client.open("docs/1", Start::State, 0);
        met.client.close_log("docs/1");
        end(&mut met);
        assert_eq!(stated_next(&mut met), None);
    }
    // What was not let go is.
    let mut met = Played::reading(config(Encoding::Bincode));
    met.hear(records(0, 2));
    assert_eq!(stated_next(&mut met), Some(Cursor { log: 5, next: 2 }));
}

/// What is let go before `hello` is answered is let go when the answer comes: a base that goes on
/// is no breach, and what is opened by it is not wanted again.
#[test]
fn what_is_let_go_while_hello_is_on_its_way_is_let_go_behind_its_answer() {
    for met_first in [false, true] {
        let mut met = Played::reading(config(Encoding::Bincode));
        let told = Subscribed { reset: true, rule: SnapshotRule::Client, ..subscribed(0, 3) };
        met.hear(ServerFrame::Subscribed(told.clone()));
        let at = BaseAt { rule: SnapshotRule::Client, offset: 3, version: 1 };
        let (reason, base) = (ResetReason::New, Some(at));
        let reset = Reset { log: 5, reason, base, cursor: 3, complete: 3 };
        met.hear(ServerFrame::Reset(reset));
        let (data, last) = (Payload::text("x"), false);
        met.hear(ServerFrame::Base(Base { log: 5, offset: 3, part: 0, last, data }));
        met.closed();
        let held = met.open().bases;
        assert_eq!(held.len(), 1);
        if !met_first {
            met.client.close_log("docs/1");
        }
        met.hear(ServerFrame::Welcome(welcome()));
        if met_first {
            met.client.close_log("docs/1");
        }
        met.poll();
        assert_eq!(met.sent, []);
        let base = held.into_iter().next();
        met.hear(ServerFrame::Subscribed(Subscribed { reset: false, base, ..told }));
        assert!(matches!(&met.sent[..], [ClientFrame::Unsubscribe(_)]), "{:?}", met.sent);
        assert_eq!((met.breaches(), met.client.open_list()), (vec![], vec![]));
    }
}

/// Its app has what is of another history until that is reset: it cannot begin behind it.
#[test]
fn who_has_what_is_of_another_history_asks_for_the_state() {
    let mut met = Played::away(config(Encoding::Bincode));
    met.client.open("docs/1", Start::Earliest, 0);
    met.open();
    met.hear(ServerFrame::Welcome(welcome()));
    met.hear(ServerFrame::Subscribed(subscribed(0, 0)));
    met.hear(records(0, 2));
    met.closed();
    assert_eq!(met.open().open[0].start, Start::Earliest, "which counts where it has nothing");
    met.hear(ServerFrame::Welcome(Welcome { other_history: true, ..welcome() }));
    asks_for_the_state(met);
}

#[test]
fn what_was_refused_for_good_is_not_stated_again() {
    let mut met = Played::reading(config(Encoding::Bincode));
    met.hear(records(0, 2));
    met.closed();
    met.open();
    met.hear(ServerFrame::Welcome(welcome()));
    let (name, refusal) = (Some("docs/1".to_owned()), Refusal::new(Code::Denied));
    met.hear(ServerFrame::Refused(Refused { request: 0, name, refusal }));
    let request = met.client.open("docs/1", Start::State, 0);
    met.poll();
    let Some(ClientFrame::Subscribe(told)) = met.sent.last() else { panic!("{:?}", met.sent) };
    assert_eq!((told.request, told.open[0].have), (request.unwrap(), None));
}

/// Of a log that it has forgotten since the server may still tell the end, once it was announced on
/// that socket; else not (law 9).
#[test]
fn the_end_of_what_was_announced_is_no_breach() {
    let mut met = Played::reading(config(Encoding::Bincode));
    met.client.close_log("docs/1");
    met.hear(inactive());
    assert_eq!(met.client.log("docs/1").map(|log| log.log), None);
    let end = |log| {
        let reason = Ended::Overwritten;
        ServerFrame::Unsubscribed(Unsubscribed { request: 0, log, reason })
    };
    met.hear(end(5));
    assert_eq!(met.breaches(), []);
    met.hear(end(6));
    assert_eq!(met.breaches(), [Breach::Unannounced { log: 6, frame: "unsubscribed" }]);
}

/// Its app has dropped what it had for a base: without that it needs the state, also where it began
/// with what was committed, of which another client of its user may have confirmed more.
#[test]
fn who_was_told_of_a_base_asks_for_the_state() {
    let mut met = Played::away(config(Encoding::Bincode));
    met.client.open("docs/1", Start::Committed, 0);
    assert_eq!(met.open().open[0].start, Start::Committed);
    met.hear(ServerFrame::Welcome(welcome()));
    let told = Subscribed { reset: true, rule: SnapshotRule::Client, ..subscribed(0, 3) };
    met.hear(ServerFrame::Subscribed(told));
    let base = Some(BaseAt { rule: SnapshotRule::Client, offset: 3, version: 1 });
    let reset = Reset { log: 5, reason: ResetReason::New, base, cursor: 3, complete: 3 };
    met.hear(ServerFrame::Reset(reset));
    asks_for_the_state(met);
}

/// By `activate`, and by the next `hello`.
fn asks_for_the_state(mut met: Played) {
    met.hear(inactive());
    met.client.activate();
    met.poll();
    let Some(ClientFrame::Activate(told)) = met.sent.last() else { panic!("{:?}", met.sent) };
    assert_eq!((told.open[0].start, told.open[0].have), (Start::State, None));
    met.closed();
    let told = met.open();
    assert_eq!((told.open[0].start, told.open[0].have), (Start::State, None));
}

/// A token that comes while `hello` is on its way is not kept for the next socket.
#[test]
fn a_token_that_comes_before_welcome_is_sent_behind_it() {
    let mut met = Played::away(config(Encoding::Bincode));
    met.open();
    let request = met.client.refresh("new".to_owned());
    met.poll();
    assert_eq!(met.sent, []);
    met.hear(ServerFrame::Welcome(Welcome { token: Some("old".to_owned()), ..welcome() }));
    let token = "new".to_owned();
    assert_eq!(met.sent, [ClientFrame::Refresh(Refresh { token: token.clone(), request })]);
    met.closed();
    assert_eq!(met.open().token, Some(token));
}

fn subscribes(met: &Played) -> Vec<(u32, Option<Cursor>)> {
    let asks = met.sent.iter().filter_map(|frame| match frame {
        ClientFrame::Subscribe(told) => Some((told.request, told.open[0].have)),
        _ => None,
    });
    asks.collect()
}

/// Protocol §8.4: opened again before the end is told, at once or while it was being asked for, it
/// comes from the beginning, for its app has dropped what it had.
#[test]
fn what_is_opened_again_before_its_end_comes_from_the_beginning() {
    let mut met = Played::reading(config(Encoding::Bincode));
    met.hear(records(0, 2));
    met.client.close_log("docs/1");
    met.client.open("docs/1", Start::State, 0);
    met.poll();
    assert_eq!(subscribes(&met), [(2, None)]);
    let mut met = Played::reading(config(Encoding::Bincode));
    met.hear(records(0, 2));
    met.closed();
    assert_eq!(met.open().open[0].have, Some(Cursor { log: 5, next: 2 }));
    met.client.close_log("docs/1");
    assert_eq!(met.client.open("docs/1", Start::State, 0), None);
    met.hear(ServerFrame::Welcome(welcome()));
    met.hear(ServerFrame::Subscribed(subscribed(0, 2)));
    assert_eq!(names(&met.sent), ["unsubscribe", "subscribe"]);
    assert_eq!(subscribes(&met), [(2, None)]);
}

/// `activate` was refused, and what was let go meanwhile is wanted again: somebody asks for it.
#[test]
fn what_is_let_go_while_it_activates_can_be_opened_again() {
    let mut met = Played::reading(config(Encoding::Bincode));
    met.hear(records(0, 2));
    met.hear(inactive());
    let refused = |request| {
        let refusal = Refusal::new(Code::Slots).after(500);
        ServerFrame::Refused(Refused { request, name: None, refusal })
    };
    let request = met.client.activate();
    met.client.close_log("docs/1");
    met.hear(refused(request));
    let request = met.client.activate();
    let active = State { active: true, met: Some(Met::Restored), reason: None, ..state(request) };
    met.hear(ServerFrame::State(active));
    met.clear();
    assert!(met.client.open("docs/1", Start::State, 0).is_some());
    met.poll();
    assert_eq!(subscribes(&met)[0].1, None);
}

fn state(request: u32) -> State {
    let ServerFrame::State(told) = inactive() else { panic!("it is a state") };
    State { request, activate_after: 0, ..told }
}

/// A frame without a number was refused, as `visible` for its rate: that is no word on the logs
/// that `hello` asked for.
#[test]
fn a_refusal_without_number_and_name_is_of_no_log() {
    let mut met = Played::reading(config(Encoding::Bincode));
    met.hear(records(0, 2));
    met.closed();
    met.open();
    met.hear(ServerFrame::Welcome(welcome()));
    let refusal = Refusal::new(Code::BadOffset);
    met.hear(ServerFrame::Refused(Refused { request: 0, name: None, refusal }));
    met.hear(ServerFrame::Subscribed(subscribed(0, 2)));
    met.hear(records(2, 1));
    assert_eq!((met.breaches(), subscribes(&met)), (vec![], vec![]));
    assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(3));
}
