//! Writing: numbers, answers, refusals for now, credit, another history.

use super::*;
use crate::wire::{Credit, Refreshed};

fn with_credit(appends: u32, bytes: u64, after: u32) -> Option<Credit> {
    Some(Credit { appends, bytes, after })
}

#[test]
fn appends_are_pipelined_up_to_the_limit() {
    in_both(|encoding| {
        let mut met = Played::new(config(encoding));
        met.append(10);
        assert_eq!(met.appended().concat(), [1, 2, 3, 4, 5, 6, 7, 8], "in_flight is 8");
        met.hear(answers(3, vec![stored(1), stored(2), stored(3)]));
        assert_eq!(met.settled(), [1, 2, 3]);
        assert_eq!(met.appended(), [[9, 10]]);
        assert_eq!(met.client.writer().oldest(), 4);
    });
}

#[test]
fn a_frame_holds_no_more_than_it_may() {
    in_both(|encoding| {
        let mut met = Played::new(config(encoding));
        // Each character takes six bytes in JSON.
        let record = || text(&"\u{1}".repeat(4_000));
        let items = (0..8).map(|_| (Target::Name("docs/1".to_owned()), record()));
        met.client.append_all(items);
        met.poll();
        for frame in &met.sent {
            let size = codec::message(frame, encoding).len();
            assert!(size <= limits().frame_bytes as usize, "{size}");
        }
        assert!(met.appended().len() > if encoding == Encoding::Json { 3 } else { 0 });
    });
}

/// Promise 4, the client's half: what has no answer is sent again, under the same numbers.
#[test]
fn a_cut_sends_again_what_lies_above_the_mark() {
    in_both(|encoding| {
        let mut met = Played::new(config(encoding));
        met.append(4);
        met.hear(answers(1, vec![stored(1)]));
        met.closed();
        met.clear();
        let hello = met.open();
        assert_eq!((hello.writers[0].writer, hello.writers[0].oldest), (Id([2; 16]), 2));
        met.append(1);
        assert_eq!(met.appended(), [[0; 0]; 0], "nothing goes before welcome");
        met.hear(ServerFrame::Welcome(Welcome { writers: mark(3), ..welcome() }));
        assert_eq!(met.appended(), [[4, 5]]);
        met.hear(answers(3, vec![stored(2), stored(3)]));
        met.hear(answers(5, vec![stored(4), stored(5)]));
        assert_eq!(met.settled(), [2, 3, 4, 5]);
        met.hear(answers(5, vec![stored(5)]));
        assert!(matches!(met.events[..], [Event::Repeated { seq: 5, .. }]), "{:?}", met.events);
    });
}

#[test]
fn a_refusal_for_now_is_waited_for_and_those_behind_it_add_nothing() {
    in_both(|encoding| {
        let mut met = Played::new(config(encoding));
        met.append(4);
        assert_eq!(met.appended(), [[1], [2], [3], [4]]);
        met.hear(answers(0, vec![stored(1)]));
        assert_eq!(met.breaches(), [Breach::Mark { writer: Id([2; 16]), seq: 1, mark: 0 }]);
        met.hear(answers(1, vec![stored(1)]));
        met.hear(answers(1, vec![refused(2, Code::Rate, 300)]));
        met.wait(100);
        met.hear(answers(1, vec![refused(3, Code::SequenceGap, 900)]));
        met.append(1);
        assert_eq!(met.appended(), [[0; 0]; 0]);
        assert_eq!(met.client.deadline(), Some(met.now + 200));
        met.wait(200);
        assert_eq!(met.appended(), [[2, 3, 4, 5]]);
        // The refusal of the copy of 4 that was sent first: the second one is on its way.
        met.hear(answers(1, vec![refused(4, Code::SequenceGap, 0)]));
        assert_eq!(met.appended(), [[0; 0]; 0]);
        met.hear(answers(5, vec![stored(2), stored(3), stored(4), stored(5)]));
        assert_eq!(met.settled(), [1, 2, 3, 4, 5]);
    });
}

#[test]
fn a_final_refusal_is_an_outcome() {
    let mut met = Played::new(config(Encoding::Bincode));
    met.append(2);
    met.hear(answers(2, vec![refused(1, Code::Conflict, 0), stored(2)]));
    assert_eq!(met.settled(), [1, 2]);
    met.hear(answers(9, vec![stored(9)]));
    assert_eq!(met.breaches(), [Breach::AnswerOrder { writer: Id([2; 16]), seq: 9 }]);
}

#[test]
fn an_ended_token_holds_appends_until_a_new_one_is_in_force() {
    let mut met = Played::new(config(Encoding::Bincode));
    met.append(1);
    met.hear(answers(0, vec![refused(1, Code::TokenExpired, 0)]));
    met.sent.clear();
    met.wait(60);
    assert_eq!(met.sent, []);
    let request = met.client.refresh("new".to_owned());
    met.poll();
    assert_eq!(names(&met.sent), ["refresh"]);
    met.hear(ServerFrame::Refreshed(Refreshed { expires: 0, request }));
    assert_eq!(met.appended(), [[1]]);
    met.closed();
    assert_eq!(met.open().token.as_deref(), Some("new"));
}

#[test]
fn credit_is_kept_to() {
    in_both(|encoding| {
        let mut met = Played::away(config(encoding));
        met.open();
        met.hear(ServerFrame::Welcome(Welcome { credit: with_credit(2, 100, 0), ..welcome() }));
        met.clear();
        met.append(4);
        assert_eq!(met.appended(), [[1], [2]]);
        // Counts from behind the frame that is answered: sequence 2 is to be taken off.
        let ServerFrame::Answers(mut told) = answers(1, vec![stored(1)]) else { unreachable!() };
        told.credit = with_credit(2, 100, 0);
        met.hear(ServerFrame::Answers(told.clone()));
        assert_eq!(met.appended(), [[3]]);
        (told.mark, told.answers) = (2, vec![stored(2)]);
        told.credit = None;
        met.hear(ServerFrame::Answers(told.clone()));
        assert_eq!(met.appended(), [[0; 0]; 0], "nothing was given back");
        // Nothing is in flight: what does not fit is sent all the same, and alone.
        (told.mark, told.answers, told.credit) = (3, vec![stored(3)], with_credit(0, 0, 0));
        met.append(1);
        met.hear(ServerFrame::Answers(told));
        assert_eq!(met.appended(), [[4]]);
    });
}

#[test]
fn credit_for_later_is_waited_for() {
    let mut met = Played::away(config(Encoding::Bincode));
    met.open();
    met.hear(ServerFrame::Welcome(Welcome { credit: with_credit(9, 900, 70), ..welcome() }));
    met.clear();
    met.append(2);
    assert_eq!(met.appended(), [[0; 0]; 0]);
    assert_eq!(met.client.deadline(), Some(met.now + 70));
    met.wait(70);
    assert_eq!(met.appended(), [[1, 2]]);
}

/// Promise 15, the client's half.
#[test]
fn another_history_numbers_anew_what_it_lacks() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        met.hear(records(0, 2));
        met.append(2);
        met.client.append(Target::Log(5), text("x"), Some(7));
        met.closed();
        let hello = met.open();
        assert_eq!(hello.positions, vec![at(11)]);
        met.clear();
        let told = Welcome { writers: mark(1), other_history: true, ..welcome() };
        met.hear(ServerFrame::Welcome(told));
        let conflict = |event: &Event| match event {
            Event::Settled { seq, outcome: Outcome::Refused(refusal), .. } => {
                *seq == 3 && refusal.code == Code::Conflict
            }
            _ => false,
        };
        assert!(met.events.iter().any(conflict), "its condition is of the other history");
        let (from, to) = (Id([2; 16]), Id([3; 16]));
        let renumbered = Event::Renumbered { from, to, sequences: vec![(2, 1)] };
        assert!(met.events.contains(&renumbered), "{:?}", met.events);
        let ClientFrame::Append(append) = &met.sent[0] else { panic!("{:?}", met.sent) };
        assert_eq!((append.writer, append.items.len(), append.items[0].seq), (to, 1, 1));
        met.clear();
        met.hear(answers(1, vec![stored(1)]));
        assert_eq!(met.settled(), [1], "the old one's action that both histories have");
        met.hear(ServerFrame::Subscribed(subscribed(0, 2)));
        assert_eq!(met.breaches(), [Breach::Stale { log: 5 }], "a reset is due");
    });
}

/// What is numbered anew still says where its log id was made: else it is stored in whatever log
/// has that number in the other history. Once the id is told anew, the two go in different frames.
#[test]
fn what_is_numbered_anew_keeps_the_log_that_it_was_made_for() {
    in_both(|encoding| {
        let mut met = Played::reading(config(encoding));
        met.client.append(Target::Log(5), text("x"), None);
        met.closed();
        met.open();
        met.clear();
        met.hear(ServerFrame::Welcome(Welcome { other_history: true, ..welcome() }));
        let made = |frames: &[ClientFrame]| -> Vec<Vec<Made>> {
            let made = |frame: &ClientFrame| match frame {
                ClientFrame::Append(append) => Some(append.made.clone()),
                _ => None,
            };
            frames.iter().filter_map(made).collect()
        };
        let in_era = |position| vec![Made { log: 5, position }];
        assert_eq!(made(&met.sent), [in_era(at(1))]);
        met.closed();
        met.open();
        met.clear();
        met.hear(ServerFrame::Welcome(welcome()));
        let elsewhere = Position { era: Id([8; 16]), ..at(1) };
        let told = Subscribed { reset: true, made: Some(elsewhere), ..subscribed(0, 0) };
        met.hear(ServerFrame::Subscribed(told));
        met.clear();
        met.client.append(Target::Log(5), text("x"), None);
        met.client.resend();
        met.poll();
        assert_eq!(made(&met.sent), [in_era(elsewhere), in_era(at(1)), in_era(elsewhere)]);
    });
}

/// A run that ended left its writer with an append that has no answer: the next one goes on.
#[test]
fn a_writer_goes_on_where_a_run_before_left_it() {
    let mut met = Played::new(config(Encoding::Bincode));
    let to = || Target::Name("docs/1".to_owned());
    let item = Item { seq: 7, prev: 6, to: to(), if_head: None, record: text("x") };
    met.client.go_on_as(Writer::kept(Id([5; 16]), 7, [item]));
    assert_eq!(met.client.append(to(), text("y"), None), 8);
    met.poll();
    assert_eq!(met.appended(), [[7], [8]]);
    assert_eq!((met.client.writer().oldest(), met.client.unanswered()), (7, 2));
}

/// Law 7: answers that were due when they met come before any state.
#[test]
fn a_state_before_the_answers_is_a_breach() {
    let mut met = Played::reading(config(Encoding::Bincode));
    met.append(1);
    met.closed();
    met.open();
    met.hear(ServerFrame::Welcome(Welcome { writers: mark(1), ..welcome() }));
    met.hear(ServerFrame::Subscribed(Subscribed { reset: true, ..subscribed(0, 0) }));
    let reset = crate::wire::Reset {
        log: 5,
        reason: crate::wire::ResetReason::Trimmed,
        base: None,
        cursor: 0,
        complete: 0,
    };
    met.hear(ServerFrame::Reset(reset));
    assert_eq!(met.breaches(), [Breach::AnswersFirst { log: 5, seq: 1 }]);
}

#[test]
fn a_writer_that_was_taken_over_comes_first_and_is_dropped_when_it_is_done() {
    in_both(|encoding| {
        let mut left = Writer::new(Id([8; 16]));
        left.number(Target::Log(5), None, text("left"));
        let mut met = Played::away(config(encoding));
        met.append(1);
        met.client.adopt(left);
        met.client.hold("docs/1", 5, 7);
        met.client.want("docs/1", Start::State, 0);
        met.client.saw(at(3));
        let hello = met.open();
        let oldest: Vec<_> = hello.writers.iter().map(|at| (at.writer, at.oldest)).collect();
        assert_eq!(oldest, [(Id([2; 16]), 1), (Id([8; 16]), 1)]);
        let have = Some(crate::wire::Cursor { log: 5, next: 7 });
        assert_eq!((hello.open[0].have, hello.positions), (have, vec![at(3)]));
        met.hear(ServerFrame::Welcome(welcome()));
        let writer = |frame: &ClientFrame| match frame {
            ClientFrame::Append(append) => Some(append.writer),
            _ => None,
        };
        let writers: Vec<_> = met.sent.iter().filter_map(writer).collect();
        assert_eq!(writers, [Id([8; 16]), Id([2; 16])]);
        let ServerFrame::Answers(told) = answers(1, vec![stored(1)]) else { unreachable!() };
        met.hear(ServerFrame::Answers(Answers { writer: Id([8; 16]), ..told }));
        met.closed();
        assert_eq!(met.open().writers.len(), 1);
    });
}
