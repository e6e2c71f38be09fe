//! Slots: who holds one, who gives way to whom, and that it all comes to rest.

use super::*;

/// What it had and the source has not is gone after a clone, and told where it was announced.
#[test]
fn a_clone_on_activation_overwrites() {
    let server = Server::start(quick().limit("active_per_user", 1).limit("active_per_device", 1));
    let mut first = Client::new("ann").wanting("docs/mine").join(&server);
    first.store("docs/mine", "0");
    first.reach("docs/mine", 1);
    first.send(&ClientFrame::Visible(Visible { visible: false, request: 0 }));
    first.sync();
    // A visible newcomer takes the slot of a hidden one, and is cloned from it.
    let mut second = Client::new("ann").wanting("docs/theirs").join(&server);
    assert_eq!(second.met(), Met::Cloned);
    second.reach("docs/mine", 1);
    inactive(&mut first, Reason::Slots);
    second.store("docs/mine", "1");
    first.sync();
    assert_eq!(first.log("docs/mine").cursor, 1, "an inactive one gets nothing");
    // It may append, and gets its answers; other requests are refused.
    first.store("docs/mine", "2");
    let subscribe =
        Subscribe { request: 5, open: vec![first.hello().open.remove(0)], bases: vec![] };
    first.send(&ClientFrame::Subscribe(subscribe));
    assert_eq!(first.refusal(5).code, Code::Inactive);
    // No slot: the one that holds it is attached and visible.
    // It did not come too early: it is told the whole time again, not what is left of one.
    let refusal = refused_in_time(&mut first);
    assert_eq!((refusal.code, refusal.retry_after), (Code::Slots, 100));
    assert!(!first.active);
    second.sync();
    assert!(second.active && second.states.is_empty());
    // The other goes to sleep without that log: its slot is free, it is the one to be cloned.
    let mine = second.log("docs/mine").log;
    let ask = highwater::wire::Unsubscribe { request: 6, logs: vec![mine] };
    second.send(&ClientFrame::Unsubscribe(ask));
    second.wait("unsubscribed", |second| second.ended.len() == 1);
    assert_eq!(second.ended[0].reason, Ended::Asked);
    second.store("docs/theirs", "0");
    second.reach("docs/theirs", 1);
    second.close();
    first.unwant(&["docs/mine"]);
    activated(&mut first, Met::Cloned);
    first.wait("overwritten", |first| !first.ended.is_empty());
    assert_eq!((first.ended[0].log, first.ended[0].reason), (mine, Ended::Overwritten));
    first.reach("docs/theirs", 1);
    // It is active: asked again, it says so and changes nothing.
    let states = first.states.len();
    first.activate();
    first.wait("state", |first| first.states.len() > states);
    let state = first.states.last().unwrap();
    assert!(state.active && state.met.is_none() && state.reason.is_none());
}

#[test]
fn six_visible_tabs_on_five_slots_come_to_rest() {
    let server = Server::start(quick().limit("active_per_user", 5).limit("active_per_device", 5));
    let mut tabs: Vec<Client> =
        (0..6).map(|_| Client::new("ann").wanting("docs/a").join(&server)).collect();
    let waiting: Vec<usize> = (0..6).filter(|at| tabs[*at].met() == Met::Waiting).collect();
    assert_eq!(waiting, [5], "the newcomer waits; nobody visible gives way to it");
    inactive(&mut tabs[5], Reason::NoSlot);
    // It keeps asking; each time it is told when to come back, and nothing changes for the others.
    for _ in 0..8 {
        let refusal = refused_in_time(&mut tabs[5]);
        assert_eq!(refusal.code, Code::Slots);
        assert!(refusal.retry_after > 0);
    }
    for tab in &mut tabs {
        tab.sync();
    }
    let changes: usize = tabs.iter().map(|tab| tab.states.len()).sum();
    assert_eq!(changes, 1, "one state in all: that of the one that waits");
    // A tab goes: the one that waits gets its slot, and then all is quiet again.
    tabs[2].leave(false);
    let mut waiter = tabs.remove(5);
    activated(&mut waiter, Met::Cloned);
    waiter.reach("docs/a", 0);
    tabs.remove(2);
    for tab in &mut tabs {
        tab.sync();
        assert!(tab.active && tab.states.is_empty());
    }
    // A hidden newcomer takes nobody's slot either; a hidden one that holds a slot gives way.
    let mut hidden = Client::new("ann");
    hidden.visible = false;
    assert_eq!(hidden.connect(&server), Met::Waiting);
    tabs[0].send(&ClientFrame::Visible(Visible { visible: false, request: 0 }));
    tabs[0].sync();
    inactive(&mut hidden, Reason::NoSlot);
    let refusal = refused_in_time(&mut hidden);
    assert_eq!(refusal.code, Code::Slots, "two hidden tabs never chase each other");
    let mut visible = Client::new("ann");
    assert_eq!(visible.connect(&server), Met::Cloned);
    inactive(&mut tabs[0], Reason::Slots);
}

#[test]
fn slots_are_counted_per_device_too() {
    let server = Server::start(quick().limit("active_per_user", 4).limit("active_per_device", 2));
    let (phone, laptop) = (Some(crate::support::id()), Some(crate::support::id()));
    let on = |device, n: usize| -> Vec<Client> {
        (0..n)
            .map(|_| {
                let mut client = Client::new("ann");
                client.device = device;
                client.join(&server)
            })
            .collect()
    };
    let phones = on(phone, 3);
    assert_eq!(phones[2].met(), Met::Waiting, "two on a device");
    let laptops = on(laptop, 2);
    assert!(laptops.iter().all(|client| client.met() == Met::Cloned));
    let more = on(None, 1);
    assert_eq!(more[0].met(), Met::Waiting, "four in all");
}

#[test]
fn leave_frees_the_slot_at_once() {
    let server = Server::start(quick().limit("active_per_user", 1).limit("active_per_device", 1));
    let mut first = Client::new("ann").wanting("docs/a").join(&server);
    first.store("docs/a", "0");
    first.reach("docs/a", 1);
    first.leave(false);
    let mut second = Client::new("ann").join(&server);
    assert_eq!(second.met(), Met::Fresh, "nobody is active to be cloned");
    second.leave(true);
    // It is known, and its row has what it had open.
    assert_eq!(first.connect(&server), Met::Restored);
    first.reach("docs/a", 1);
    first.leave(true);
    assert!(!first.logs().is_empty());
    first.forget();
    first.unwant(&["docs/a"]);
    assert_eq!(first.connect(&server), Met::Fresh, "forgotten altogether");
    first.sync();
    assert!(first.logs().is_empty());
}

/// Two closed tabs whose ids are lost held both slots and both rows: their user was locked out for
/// as long as a detached connection may be active.
#[test]
fn two_lost_tabs_do_not_lock_their_user_out() {
    let options = quick().limit("connections_per_user", 2).limit("active_per_user", 2);
    let server = Server::start(options.limit("active_per_device", 2));
    let mut tabs: Vec<Client> =
        (0..2).map(|_| Client::new("ann").wanting("docs/a").join(&server)).collect();
    tabs[0].store("docs/a", "0");
    for tab in &mut tabs {
        tab.reach("docs/a", 1);
    }
    // Both are in use: there is no room, and nobody loses anything.
    let mut third = Client::new("ann");
    third.say_hello(&server);
    assert_eq!(third.until_closed(), 4106);
    for tab in &mut tabs {
        tab.cut();
        server.until_shows("it is detached", tab.connection, |shown| shown["attached"] == false);
    }
    let mut third = Client::new("ann").join(&server);
    assert_eq!(third.met(), Met::Cloned);
    third.reach("docs/a", 1);
    let fourth = Client::new("ann").join(&server);
    assert_eq!(
        (fourth.met(), fourth.welcome.as_ref().unwrap().source),
        (Met::Cloned, Some(third.connection))
    );
    let status = |id| server.http().get(&format!("/v1/connections/{id}")).status;
    assert_eq!(tabs.iter().map(|tab| status(tab.connection)).collect::<Vec<_>>(), [404, 404]);
    third.sync();
    assert!(third.active && fourth.active);
}
