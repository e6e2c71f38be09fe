//! The order in which connections lose their slot: a pure function, tested as one.

use std::cmp::Ordering;

use highwater::connection::policy::{Bounds, Candidate, Need, Rounds, choose, outlived, shortlist};
use highwater::wire::Reason;

use crate::fold::world::id;

const ANY: Need = Need::Memory;

/// Attached, visible, one of three of its user.
fn one(number: u8) -> Candidate {
    Candidate {
        connection: id(number),
        generation: 1,
        attached: true,
        visible: true,
        since: 100,
        lag: 0,
        retained: 0,
        device_slots: 1,
        user_slots: 3,
    }
}

fn victim(candidates: &[Candidate], need: Need) -> Option<u8> {
    let mut turned = candidates.to_vec();
    turned.reverse();
    assert_eq!(choose(candidates, need), choose(&turned, need), "order of asking must not matter");
    // What the fold does: lag is looked up for the shortlist only.
    assert_eq!(choose(candidates, need), choose(&shortlist(candidates, need), need));
    choose(candidates, need).map(|one| one.connection.0[0])
}

/// Asserts that the first goes before the second, by this difference alone.
fn before(first: Candidate, second: Candidate) {
    assert_eq!(first.connection.cmp(&second.connection), Ordering::Greater, "ids would decide");
    assert_eq!(victim(&[first, second], ANY), Some(first.connection.0[0]));
}

#[test]
fn the_order_in_full() {
    // Each step beats all steps below it.
    before(
        Candidate { user_slots: 2, ..one(9) },
        Candidate { user_slots: 1, attached: false, ..one(1) },
    );
    before(
        Candidate { attached: false, ..one(9) },
        Candidate { visible: false, device_slots: 9, ..one(1) },
    );
    before(Candidate { visible: false, ..one(9) }, Candidate { device_slots: 9, ..one(1) });
    before(Candidate { device_slots: 2, ..one(9) }, Candidate { retained: 9, ..one(1) });
    before(Candidate { retained: 2, ..one(9) }, Candidate { lag: 9, ..one(1) });
    before(Candidate { lag: 2, ..one(9) }, Candidate { since: 0, ..one(1) });
    before(Candidate { since: 99, ..one(9) }, one(1));
    assert_eq!(victim(&[one(2), one(1)], ANY), Some(1));
    // Hidden or not is of no matter where no socket is.
    before(
        Candidate { attached: false, since: 1, ..one(9) },
        Candidate { attached: false, visible: false, ..one(1) },
    );
}

#[test]
fn who_may_go_depends_on_the_need() {
    let detached = Candidate { attached: false, ..one(3) };
    let hidden = Candidate { visible: false, ..one(2) };
    let all = [one(1), hidden, detached];
    let visible = Need::Newcomer { visible: true };
    let unseen = Need::Newcomer { visible: false };
    for need in [visible, unseen, Need::NodeSlots, Need::Memory] {
        assert_eq!(victim(&all, need), Some(3));
        assert_eq!(victim(&[], need), None);
    }
    assert_eq!(victim(&all[..2], visible), Some(2));
    assert_eq!(victim(&all[..2], unseen), None);
    assert_eq!(victim(&all[..2], Need::NodeSlots), Some(2));
    assert_eq!(victim(&all[..2], Need::Memory), Some(2));
    assert_eq!(victim(&all[..1], visible), None);
    assert_eq!(victim(&all[..1], Need::NodeSlots), None);
    assert_eq!(victim(&all[..1], Need::Memory), Some(1));
}

#[test]
fn bounds_that_are_outlived() {
    let bounds = Bounds { detached: 1_000, lag: 50, retained: 500 };
    let at = |candidate: Candidate, now| outlived(&candidate, &bounds, now);
    let detached = Candidate { attached: false, ..one(1) };
    assert_eq!(at(detached, 1_100), None);
    assert_eq!(at(detached, 1_101), Some(Reason::Detached));
    assert_eq!(at(detached, 0), None);
    assert_eq!(at(one(1), 1_000_000), None);
    assert_eq!(at(Candidate { lag: 50, retained: 500, ..one(1) }, 200), None);
    assert_eq!(at(Candidate { lag: 51, ..one(1) }, 200), Some(Reason::Lag));
    assert_eq!(at(Candidate { retained: 501, ..one(1) }, 200), Some(Reason::RetainedBytes));
    // The first of them that holds is the one that is told.
    let all = Candidate { lag: 51, retained: 501, ..detached };
    assert_eq!(at(all, 5_000), Some(Reason::Detached));
}

/// The order holds over all pages: a page without detached ones gives up nobody while there are
/// detached ones on others, and a user's last connection stays while any other has siblings.
#[test]
fn a_page_gives_up_nobody_who_stands_better_than_one_on_another_page() {
    let hidden = |number| Candidate { visible: false, ..one(number) };
    let gone = |number| Candidate { attached: false, ..one(number) };
    let last = |number| Candidate { user_slots: 1, ..gone(number) };
    let mut rounds = Rounds::default();
    let mut round = |pages: &[&[Candidate]]| {
        rounds.begin();
        let choose = |page: &&[Candidate]| rounds.choose(page, Need::NodeSlots);
        pages.iter().map(choose).map(|one| one.map(|one| one.connection.0[0])).collect::<Vec<_>>()
    };
    let nobody = [one(1)];
    let (few, more) = ([hidden(2), one(1)], [hidden(4), gone(3)]);
    assert_eq!(round(&[&few, &more]), [None, Some(3)], "what lies ahead is not known yet");
    assert_eq!(round(&[&few, &more]), [None, Some(3)]);
    // With none detached any more, a round finds that out, and the next one acts on it.
    let more = [hidden(4), last(3)];
    assert_eq!(round(&[&few, &more]), [None, None]);
    assert_eq!(round(&[&few, &more]), [Some(2), Some(4)]);
    // The last ones of their users, when there is nobody else.
    for expect in [[None, None], [None, Some(3)]] {
        assert_eq!(round(&[&nobody, &[last(3)]]), expect);
    }
    // After a round that saw nobody at all, it begins carefully again.
    assert_eq!(round(&[&nobody, &nobody]), [None, None]);
    assert_eq!(round(&[&few, &[gone(3)]]), [None, Some(3)]);
}
