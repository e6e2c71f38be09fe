//! Sockets that come and go, what is asked for on them, and activity.

use super::*;
use crate::wire::{Bye, Ended, Reason, Refused, State, Unsubscribed};

fn bye(reconnect: bool, after: u32) -> ServerFrame {
    let (code, message) = (Code::ShuttingDown, String::new());
    ServerFrame::Bye(Bye { code, message, reconnect, after, nodes: Vec::new() })
}

fn state(active: bool, request: u32, activate_after: u32) -> ServerFrame {
    ServerFrame::State(State {
        active,
        met: active.then_some(Met::Restored),
        reason: (!active).then_some(Reason::Lag),
        activate_after,
        generation: 2,
        source: None,
        request,
    })
}

fn requests(met: &mut Played) -> Vec<u32> {
    let request = |frame: ClientFrame| match frame {
        ClientFrame::Subscribe(told) => Some(told.request),
        ClientFrame::Unsubscribe(told) => Some(told.request),
        ClientFrame::Activate(told) => Some(told.request),
        _ => None,
    };
    std::mem::take(&mut met.sent).into_iter().filter_map(request).collect()
}

#[test]
fn it_comes_back_as_it_is_told() {
    let mut met = Played::new(config(Encoding::Bincode));
    met.hear(bye(true, 700));
    met.hear(records(0, 1));
    assert_eq!(met.breaches(), [Breach::AfterBye("records")]);
    met.closed();
    assert_eq!(met.connect.take(), Some((met.now + 700, 0)));
    // Without a word its own wait grows, until it is met again.
    for bound in [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000] {
        met.open();
        met.closed();
        assert_eq!(met.connect.take(), Some((met.now, bound)));
    }
    met.open();
    met.hear(ServerFrame::Welcome(welcome()));
    met.closed();
    assert_eq!(met.connect.take(), Some((met.now, 500)));
    met.open();
    met.hear(bye(false, 0));
    met.closed();
    assert_eq!(met.connect, None, "coming back does not help");
}

#[test]
fn nothing_comes_before_welcome() {
    let mut met = Played::away(config(Encoding::Json));
    met.open();
    met.hear(ServerFrame::Subscribed(subscribed(0, 0)));
    assert_eq!(met.breaches(), [Breach::Early("subscribed")]);
    assert_eq!(met.client.deadline(), None);
}

#[test]
fn a_log_is_asked_for_when_it_may_be() {
    in_both(|encoding| {
        let mut met = Played::away(config(encoding));
        met.open();
        met.client.open("docs/1", Start::End, 3);
        met.poll();
        assert_eq!(met.sent, [], "the answer to hello comes first");
        met.hear(ServerFrame::Welcome(welcome()));
        let ClientFrame::Subscribe(told) = &met.sent[0] else { panic!("{:?}", met.sent) };
        assert_eq!((told.open[0].start, told.open[0].priority), (Start::End, 3));
        let request = requests(&mut met)[0];
        // Not there yet: asked for again when its time has come.
        let refusal = Refusal::new(Code::UnknownLog).after(400);
        let name = Some("docs/1".to_owned());
        met.hear(ServerFrame::Refused(Refused { request, name: name.clone(), refusal }));
        assert_eq!(met.client.deadline(), Some(met.now + 400));
        met.wait(400);
        let request = requests(&mut met)[0];
        // For good: it is not wanted any more.
        let refusal = Refusal::new(Code::Denied);
        met.hear(ServerFrame::Refused(Refused { request, name, refusal }));
        met.closed();
        assert_eq!(met.open().open, []);
    });
}

/// Law 14: a log that is closed while it is asked for is let go when its answer comes.
#[test]
fn what_was_closed_meanwhile_is_let_go() {
    let mut met = Played::new(config(Encoding::Bincode));
    met.client.open("docs/1", Start::State, 0);
    met.poll();
    let asked = requests(&mut met)[0];
    met.client.close_log("docs/1");
    met.poll();
    assert_eq!(met.sent, []);
    met.hear(ServerFrame::Subscribed(subscribed(asked, 0)));
    let let_go = requests(&mut met)[0];
    // Opened again before that is answered: the answer ends what was let go, not what is new.
    met.client.open("docs/1", Start::State, 0);
    met.poll();
    let again = requests(&mut met)[0];
    met.hear(ServerFrame::Subscribed(subscribed(again, 0)));
    let reason = Ended::Asked;
    met.hear(ServerFrame::Unsubscribed(Unsubscribed { request: let_go, log: 5, reason }));
    met.hear(records(0, 1));
    assert_eq!(met.breaches(), []);
    assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(1));
    // Ended by the server: it is wanted no more.
    let reason = Ended::Denied;
    met.hear(ServerFrame::Unsubscribed(Unsubscribed { request: 0, log: 5, reason }));
    met.hear(records(1, 1));
    assert_eq!(met.breaches(), [Breach::Unannounced { log: 5, frame: "records" }]);
    met.closed();
    assert_eq!(met.open().open, []);
}

#[test]
fn a_held_log_is_opened() {
    let mut met = Played::new(config(Encoding::Bincode));
    met.hear(ServerFrame::Subscribed(Subscribed { held: true, ..subscribed(0, 2) }));
    met.hear(records(2, 1));
    assert_eq!(met.breaches(), [Breach::OfHeld { log: 5, frame: "records" }]);
    let request = requests(&mut met)[0];
    met.hear(ServerFrame::Subscribed(Subscribed { start: 1, ..subscribed(request, 1) }));
    met.hear(records(1, 1));
    assert_eq!(met.breaches(), []);
    assert_eq!(met.client.log("docs/1").map(|log| log.cursor), Some(2));
}

#[test]
fn it_asks_to_be_active_again_at_the_time_told() {
    let mut met = Played::reading(config(Encoding::Json));
    met.hear(state(false, 0, 900));
    met.hear(records(0, 1));
    assert_eq!(met.breaches(), [Breach::Inactive { log: 5, frame: "records" }]);
    assert_eq!(met.client.deadline(), Some(met.now + 250), "what was sent is acknowledged");
    met.wait(899);
    assert!(requests(&mut met).is_empty());
    met.wait(1);
    let request = requests(&mut met)[0];
    let refusal = Refusal::new(Code::Slots).after(50);
    met.hear(ServerFrame::Refused(Refused { request, name: None, refusal }));
    met.wait(100);
    let request = requests(&mut met)[0];
    met.hear(state(true, request, 0));
    met.hear(ServerFrame::Subscribed(subscribed(0, 0)));
    met.hear(records(0, 1));
    assert!(met.client.is_active());
    assert_eq!(met.breaches(), []);
}

#[test]
fn a_silent_socket_is_given_up() {
    let mut met = Played::new(config(Encoding::Bincode));
    met.wait(19_999);
    assert_eq!(met.sent, []);
    met.wait(1);
    assert_eq!(names(&met.sent), ["ping"]);
    assert_eq!(met.client.deadline(), Some(met.now + 10_000));
    met.wait(9_999);
    assert_eq!(met.closes, 0);
    met.wait(1);
    assert_eq!(met.closes, 1);
    met.closed();
    met.open();
    met.hear(ServerFrame::Welcome(welcome()));
    met.wait(20_000);
    met.hear(records(0, 1));
    met.wait(19_999);
    assert_eq!(met.closes, 1, "whatever comes is a sign of life");
}
