//! One attachment, told by the test what happens: no disk, no socket.

use std::sync::Arc;

use super::*;
use crate::connection::{Opened, Reached, Wanted, open};
use crate::log::LogRow;
use crate::wire::{
    Answer, Code, Cursor, Ended, Id, Outcome, Refusal, ResetReason, ServerFrame, SnapshotRule,
    Start, Who,
};

mod outcomes;
mod walk;

const LOG: u64 = 7;

/// A token that covers logs of one name, or all.
#[derive(Debug, Default)]
struct Grants {
    only: Option<&'static str>,
    expires: u64,
}

impl Readable for Grants {
    fn may_read(&self, name: &str) -> bool {
        self.only.is_none_or(|only| only == name)
    }

    fn expires(&self) -> u64 {
        self.expires
    }

    fn may_snapshot(&self, _: &str) -> bool {
        true
    }

    fn may_ask_who(&self, _: &str) -> bool {
        true
    }
}

fn attachment() -> Attachment {
    with(Grants::default())
}

fn with(grants: Grants) -> Attachment {
    let mut one = Attachment::new(Arc::new(grants), 1_000);
    one.attached(1, true);
    one
}

/// How a log is opened that ends at `head`, to a newcomer who begins there.
fn opened(log: u64, from: u64, head: u64) -> Opened {
    let row = LogRow { head, ..LogRow::new(&format!("docs/{log}"), SnapshotRule::None, 1, 0) };
    let start = Start::Offset(from);
    let wanted = Wanted {
        history: Default::default(),
        have: None,
        begun: None,
        start,
        committed: None,
        priority: 0,
        because: ResetReason::New,
    };
    Opened { opening: from + 1, ..open(log, &row, &wanted) }
}

fn follow(one: &mut Attachment, opened: Opened, request: u32) -> bool {
    let name = opened.name.as_str().into();
    let log = Followed { name, place: 3, offered: opened.head };
    one.subscribe(opened, request, log, false)
}

/// The frames that come next.
fn frames(one: &mut Attachment) -> (Class, Vec<ServerFrame>) {
    match one.poll(0) {
        Some(Output::Frames(class, frames)) => (class, frames),
        other => panic!("frames were to come, not {other:?}"),
    }
}

fn read(one: &mut Attachment) -> Read {
    match one.poll(0) {
        Some(Output::Read(read)) => read,
        other => panic!("a read was to come, not {other:?}"),
    }
}

/// A read found records up to there, and the kernel took them.
fn reads_on(one: &mut Attachment, read: &Read, upto: u64) {
    assert_eq!(one.offer_read(0, read, 10), Offer::Write);
    one.wrote_read(read, 10, (upto, Slice::Records), Wrote::All);
}

/// Law 7: answers due to a client reach it before any reset or snapshot.
#[test]
fn what_is_owed_goes_before_openings_and_openings_before_records() {
    let mut one = attachment();
    assert!(follow(&mut one, opened(LOG, 0, 5), 1));
    one.owe(Owed::Answers(Id([1; 16]), 4, Vec::new().into_iter()));
    one.owe(Owed::Unsubscribed(2, Ended::Asked, vec![9].into_iter()));
    assert!(matches!(frames(&mut one).1[..], [ServerFrame::Answers(_)]));
    assert!(matches!(frames(&mut one).1[..], [ServerFrame::Unsubscribed(_)]));
    let (class, openings) = frames(&mut one);
    assert_eq!(class, Class::Opening);
    assert!(matches!(openings[..], [ServerFrame::Subscribed(_), ..]));
    let first = read(&mut one);
    assert_eq!((first.log, first.cursor, &first.slice), (LOG, 0, &Slice::Records));
    // What comes meanwhile goes before the next slice.
    one.owe(Owed::Unsubscribed(3, Ended::Asked, vec![9].into_iter()));
    reads_on(&mut one, &first, 2);
    assert!(matches!(frames(&mut one).1[..], [ServerFrame::Unsubscribed(_)]));
    assert_eq!(read(&mut one).cursor, 2);
}

/// A cursor that a client named before it could know of a move is no word on the log as it is now.
#[test]
fn an_old_acknowledgement_does_not_undo_a_seek() {
    let mut one = attachment();
    follow(&mut one, opened(LOG, 0, 5), 1);
    frames(&mut one);
    let first = read(&mut one);
    reads_on(&mut one, &first, 5);
    assert!(one.live(LOG));
    // It is moved back to 2, and has not heard of that when it says what it has.
    one.end(&[LOG], &Code::Superseded.into());
    let mut moved = opened(LOG, 2, 5);
    moved.opening = 9;
    follow(&mut one, moved, 2);
    frames(&mut one);
    let second = read(&mut one);
    reads_on(&mut one, &second, 5);
    let cursor = |next| Cursor { log: LOG, next };
    assert_eq!(one.acknowledge(10, &[cursor(5)]), Ok((false, vec![])));
    assert!(one.take_acked().is_empty());
    // What it says having worked off more it has said of the log as it is.
    assert_eq!(one.acknowledge(20, &[cursor(4)]), Ok((true, vec![])));
    let reached = one.take_acked();
    assert_eq!(reached.iter().map(|one| (one.next, one.opening)).collect::<Vec<_>>(), [(4, 9)]);
}

#[test]
fn more_than_was_sent_is_no_acknowledgement() {
    let mut one = attachment();
    assert!(one.acknowledge(1, &[]).is_err());
    follow(&mut one, opened(LOG, 5, 5), 1);
    frames(&mut one);
    let far = Cursor { log: LOG, next: 6 };
    assert_eq!(one.acknowledge(0, &[far]), Ok((false, vec![far])), "left to who knows the head");
}

/// The keeper may look at the very moment at which a client with a long way before it comes.
#[test]
fn one_that_has_just_come_counts_as_moving() {
    let mut one = attachment();
    assert!(one.progressed(1_000, 500));
    assert!(one.progressed(1_499, 500), "it is too early to tell, whoever asks");
    assert!(!one.progressed(1_500, 500), "it has stood still since");
    one.sent = 10;
    one.acknowledge(4, &[]).unwrap();
    assert!(one.progressed(2_000, 500));
    assert!(!one.progressed(2_500, 500));
}

/// Whoever stands where records begin to be offered has caught up, and costs no read.
#[test]
fn one_that_opens_a_log_at_its_head_is_written_to() {
    let mut one = attachment();
    follow(&mut one, opened(LOG, 5, 5), 1);
    assert_eq!(one.offer(0, LOG, (5, 6), || unreachable!()), Offer::Skip, "it is not opened yet");
    assert!(!one.live(LOG));
    frames(&mut one);
    // It was offered a record meanwhile, which it has to read for itself.
    let missed = read(&mut one);
    assert_eq!(missed.cursor, 5);
    reads_on(&mut one, &missed, 6);
    assert!(one.live(LOG) && !one.wants_turn());
    assert_eq!(one.offer(0, LOG, (6, 8), || 10), Offer::Write);
    one.wrote(LOG, 8, 10, Wrote::All);
    assert_eq!(one.offer(0, LOG, (6, 8), || unreachable!()), Offer::Skip, "it has them");
    assert_eq!(one.flow(), (20, 0));
}

/// A record that came between a read and its end is offered, or read: never neither.
#[test]
fn promise_01_no_record_slips_between_reading_and_being_offered() {
    let mut one = attachment();
    follow(&mut one, opened(LOG, 0, 5), 1);
    frames(&mut one);
    let first = read(&mut one);
    assert_eq!(one.offer(0, LOG, (5, 6), || unreachable!()), Offer::Skip, "it is behind");
    reads_on(&mut one, &first, 5);
    assert!(!one.live(LOG), "a record was offered that it does not have");
    let second = read(&mut one);
    reads_on(&mut one, &second, 7);
    assert!(one.live(LOG), "the read found more than was offered");
    assert_eq!(one.offer(0, LOG, (6, 7), || unreachable!()), Offer::Skip);
    assert_eq!(one.offer(0, LOG, (7, 8), || 10), Offer::Write);
    // Where it stands inside what is offered, it reads.
    one.wrote(LOG, 8, 10, Wrote::All);
    let end = (9, 10);
    assert_eq!(one.offer(0, LOG, end, || unreachable!()), Offer::Behind);
    assert_eq!(read(&mut one).cursor, 8);
}

#[test]
fn a_full_window_or_a_blocked_way_is_behind_and_not_asked_again_in_vain() {
    let mut one = attachment();
    follow(&mut one, opened(LOG, 5, 5), 1);
    frames(&mut one);
    assert_eq!(one.offer(0, LOG, (5, 6), || 5_000), Offer::Write, "an empty one takes any size");
    one.wrote(LOG, 6, 5_000, Wrote::All);
    assert_eq!(one.offer(0, LOG, (6, 7), || 10), Offer::Behind);
    assert!(!one.wants_turn() && one.poll(0).is_none(), "the window is full");
    one.acknowledge(4_100, &[]).unwrap();
    let slice = read(&mut one);
    assert_eq!(one.offer_read(0, &slice, 500), Offer::Behind, "there is not that much room");
    assert!(!one.wants_turn(), "another try would find none either");
    one.acknowledge(5_000, &[]).unwrap();
    let slice = read(&mut one);
    assert_eq!(one.offer_read(0, &slice, 500), Offer::Write);
    one.wrote_read(&slice, 500, (7, Slice::Records), Wrote::Nothing);
    assert!(one.waits() && one.poll(0).is_none());
    one.writable();
    assert_eq!(read(&mut one), slice, "it has kept its turn");
}

/// A read for a subscription that is over, or begun anew, is of no use.
#[test]
fn what_was_read_counts_only_where_it_was_read_for() {
    let mut one = attachment();
    follow(&mut one, opened(LOG, 0, 5), 1);
    frames(&mut one);
    let old = read(&mut one);
    assert_eq!(
        one.end(&[LOG], &Code::Superseded.into()),
        [Over { log: LOG, place: 3, told: true }]
    );
    assert_eq!(one.offer_read(0, &old, 10), Offer::Skip);
    follow(&mut one, opened(LOG, 2, 5), 2);
    one.found(&old, Found::Over);
    assert_eq!(one.offer_read(0, &old, 10), Offer::Skip);
    frames(&mut one);
    assert_eq!(read(&mut one).cursor, 2);
}

/// Promise 7: a gap is told before anything later of its log.
#[test]
fn promise_07_a_gap_goes_before_what_lies_behind_it() {
    let mut one = attachment();
    follow(&mut one, opened(LOG, 0, 5), 1);
    frames(&mut one);
    let slice = read(&mut one);
    one.found(&slice, Found::Gap(3));
    let (class, gap) = frames(&mut one);
    assert_eq!(class, Class::Owed);
    assert!(matches!(&gap[..], [ServerFrame::Gap(gap)] if (gap.from, gap.to) == (0, 3)));
    assert_eq!(read(&mut one).cursor, 3);
}

/// Promise 11: grants that do not cover a log take no subscription in, and end one at once.
#[test]
fn promise_11_new_grants_end_what_they_do_not_cover() {
    let mut one = with(Grants { only: Some("docs/8"), expires: 0 });
    assert!(!follow(&mut one, opened(LOG, 5, 5), 1));
    assert!(one.name_of(LOG).is_none() && one.poll(0).is_none());
    one.regrant(Arc::new(Grants::default()));
    follow(&mut one, opened(LOG, 5, 5), 1);
    follow(&mut one, opened(8, 0, 5), 1);
    frames(&mut one);
    let covered = read(&mut one);
    assert_eq!(one.regrant(Arc::new(Grants { only: Some("docs/8"), expires: 9 })), [LOG]);
    assert_eq!(one.offer(0, LOG, (5, 6), || unreachable!()), Offer::Skip);
    assert_eq!(one.acknowledge(0, &[Cursor { log: LOG, next: 5 }]), Ok((false, vec![])));
    reads_on(&mut one, &covered, 2);
    // And a token that ends holds all delivery.
    assert!(one.poll(9).is_none() && !one.wants_turn());
    one.regrant(Arc::new(Grants::default()));
    assert_eq!(read(&mut one).log, 8);
}

/// Nothing goes out behind the last words, and the first reason is what is told.
#[test]
fn a_socket_is_closed_once() {
    let mut one = attachment();
    one.owe(Owed::Unsubscribed(2, Ended::Asked, vec![9].into_iter()));
    one.close(Closing::new(Code::Fenced));
    one.close(Closing::new(Code::Failed));
    match one.poll(0) {
        Some(Output::Close(closing)) => assert_eq!(closing.code, Code::Fenced),
        other => panic!("{other:?}"),
    }
    one.owe(Owed::Unsubscribed(2, Ended::Asked, vec![9].into_iter()));
    assert!(one.poll(0).is_none() && !one.wants_turn());
}

/// Who leaves, or is inactive, is delivered nothing; what it asked for is answered.
#[test]
fn requests_are_answered_whatever_ends_their_subscription() {
    let mut one = attachment();
    follow(&mut one, opened(LOG, 0, 5), 4);
    assert!(one.downgraded(2) && !one.downgraded(2));
    let over = one.end_all(&Code::Inactive.into());
    assert_eq!(over, [Over { log: LOG, place: 3, told: false }]);
    match &frames(&mut one).1[..] {
        [ServerFrame::Refused(refused)] => {
            assert_eq!((refused.request, refused.refusal.code), (4, Code::Inactive));
        }
        other => panic!("{other:?}"),
    }
    assert!(one.poll(0).is_none());
}

#[test]
fn questions_are_bounded_and_each_is_answered_once() {
    let mut one = attachment();
    let who = |request| Who { request, log: LOG, offset: 0 };
    for request in 1..=64 {
        one.ask_who(who(request), 16).unwrap();
    }
    assert_eq!(one.ask_who(who(65), 16).unwrap_err().code, Code::Overloaded);
    assert!(matches!(one.poll(0), Some(Output::Look(look)) if look.who.request == 1));
    assert!(one.answered());
    assert_eq!(one.give_questions_up().len(), 63);
    assert!(!one.answered() && !one.wants_turn());
}

/// What could not be committed is taken again, unless its log was opened anew meanwhile.
#[test]
fn what_was_not_committed_is_taken_again() {
    let mut one = attachment();
    follow(&mut one, opened(LOG, 0, 5), 1);
    frames(&mut one);
    let first = read(&mut one);
    reads_on(&mut one, &first, 5);
    let cursor = |next| Cursor { log: LOG, next };
    one.acknowledge(10, &[cursor(3)]).unwrap();
    let reached = one.take_acked();
    assert_eq!(reached, [Reached { log: LOG, next: 3, opening: 1 }]);
    one.put_back(&reached);
    assert_eq!(one.take_acked(), reached);
    // It has come further meanwhile.
    one.acknowledge(10, &[cursor(4)]).unwrap();
    one.put_back(&reached);
    assert_eq!(one.take_acked(), [Reached { log: LOG, next: 4, opening: 1 }]);
    one.end(&[LOG], &Code::Superseded.into());
    follow(&mut one, Opened { opening: 9, ..opened(LOG, 2, 5) }, 2);
    one.put_back(&reached);
    assert!(one.take_acked().is_empty());
}

/// Long lists go a piece at a time, and all of them go.
#[test]
fn promise_20_all_that_is_owed_is_told_however_long() {
    let mut one = attachment();
    let answer = |seq| {
        let outcome = Outcome::Refused(Code::Conflict.into());
        Answer { seq, outcome }
    };
    let answers: Vec<Answer> = (1..=600).map(answer).collect();
    one.owe(Owed::Answers(Id([1; 16]), 600, answers.clone().into_iter()));
    let names: Vec<_> =
        (0..150).map(|log| (format!("docs/{log}"), Refusal::new(Code::Denied))).collect();
    one.owe(Owed::Refused(2, names.clone().into_iter()));
    one.owe(Owed::Unsubscribed(3, Ended::Asked, (0..150).collect::<Vec<_>>().into_iter()));
    let (mut told, mut refused, mut ended, mut sizes) = (vec![], vec![], vec![], vec![]);
    while one.owes() {
        let (class, frames) = frames(&mut one);
        assert_eq!(class, Class::Owed);
        let mut size = frames.len();
        for frame in frames {
            match frame {
                ServerFrame::Answers(frame) => {
                    size = frame.answers.len();
                    told.extend(frame.answers);
                }
                ServerFrame::Refused(frame) => refused.push((frame.name.unwrap(), frame.refusal)),
                ServerFrame::Unsubscribed(frame) => ended.push(frame.log),
                other => panic!("{other:?}"),
            }
        }
        sizes.push(size);
    }
    assert_eq!((told, refused), (answers, names));
    assert_eq!(ended, (0..150).collect::<Vec<u64>>());
    assert_eq!(sizes, [256, 256, 88, 64, 64, 22, 64, 64, 22]);
}

/// A log that is open and asked for once more is answered at once, its cursor where it was.
#[test]
fn promise_20_what_is_open_is_answered_again() {
    let mut one = with(Grants { only: None, expires: 77 });
    assert_eq!(one.expires(), 77);
    follow(&mut one, opened(LOG, 0, 5), 1);
    frames(&mut one);
    let first = read(&mut one);
    reads_on(&mut one, &first, 2);
    match one.opened_again(&opened(LOG, 0, 5), 3).as_deref() {
        Some([ServerFrame::Subscribed(told), ..]) => {
            assert_eq!((told.request, told.log, told.cursor), (3, LOG, 2));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&mut one).cursor, 2, "its turn is kept");
    assert!(one.opened_again(&opened(8, 0, 5), 4).is_none(), "it is not open");
}
