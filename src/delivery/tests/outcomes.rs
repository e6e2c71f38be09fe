//! The order in which outcomes of appends are told, where some were put off.

use super::*;
use crate::wire::{Answer, Answers, Level, Outcome, Place, Position, Refusal};

const WRITER: Id = Id([2; 16]);

/// Answers of the fold for these sequences, which stand there by now.
fn stored(seqs: std::ops::RangeInclusive<u64>) -> Answers {
    let place = Place { batch: 9, index: 0 };
    let outcome = |seq| Outcome::Stored { log: LOG, offset: seq, place, level: Level::Synced };
    let mark = *seqs.end();
    let answers = seqs.map(|seq| Answer { seq, outcome: outcome(seq) }).collect();
    let positions = vec![Position { era: Id([3; 16]), batch: 9, chain: None }];
    Answers { writer: WRITER, mark, answers, positions, credit: None }
}

/// What keeps appends out before the fold.
fn busy(seqs: std::ops::RangeInclusive<u64>) -> Answers {
    let outcome = || Outcome::Refused(Refusal::new(Code::Overloaded).after(50));
    let answers = seqs.map(|seq| Answer { seq, outcome: outcome() }).collect();
    Answers { writer: WRITER, mark: 0, answers, positions: Vec::new(), credit: None }
}

/// Whether answers behind that sequence are told as they are; else each is to come again, behind
/// that mark.
fn told(one: &mut Attachment, prev: u64, answers: Answers) -> Result<(), u64> {
    let mut now = answers.clone();
    one.in_order(prev, &mut now);
    if now == answers {
        return Ok(());
    }
    for answer in &now.answers {
        let Outcome::Refused(why) = &answer.outcome else { panic!("{answer:?} is told") };
        assert_eq!((why.code, why.retry_after), (Code::SequenceGap, 0));
    }
    assert_eq!(now.positions, []);
    Err(now.mark)
}

/// A copy of what this socket put off comes in by a socket before it; so what this one has sent
/// behind it is taken, too. Its outcome comes behind those, when it is sent again.
#[test]
fn outcomes_come_in_order_whatever_an_earlier_socket_stored() {
    let mut one = attachment();
    assert_eq!(told(&mut one, 0, stored(1..=3)), Ok(()));
    assert_eq!(told(&mut one, 3, busy(4..=5)), Ok(()));
    assert_eq!(told(&mut one, 5, stored(6..=7)), Err(3));
    assert_eq!(told(&mut one, 7, busy(8..=8)), Ok(()), "what is put off says nothing of them");
    // Again, and again in vain.
    assert_eq!(told(&mut one, 3, busy(4..=5)), Ok(()));
    assert_eq!(told(&mut one, 5, stored(6..=8)), Err(3));
    // What is refused for good is an outcome, too.
    let mut denied = stored(4..=5);
    denied.answers[0].outcome = Outcome::Refused(Code::Denied.into());
    assert_eq!(told(&mut one, 3, denied), Ok(()));
    assert_eq!(told(&mut one, 5, stored(6..=8)), Ok(()));
    assert_eq!(told(&mut one, 8, stored(9..=9)), Ok(()));
    assert!(one.put_off.is_empty(), "nothing stays of it");
}

/// What is put off while what lies before it is with the fold still comes before what follows.
#[test]
fn what_is_put_off_in_two_pieces_comes_in_two_pieces() {
    let mut one = attachment();
    assert_eq!(told(&mut one, 0, busy(1..=4)), Ok(()));
    assert_eq!(told(&mut one, 2, busy(3..=4)), Ok(()));
    assert_eq!(told(&mut one, 0, stored(1..=2)), Ok(()));
    assert_eq!(told(&mut one, 4, stored(5..=5)), Err(2));
    assert_eq!(told(&mut one, 2, stored(3..=4)), Ok(()));
    assert_eq!(told(&mut one, 4, stored(5..=5)), Ok(()));
    assert!(one.put_off.is_empty());
}

/// A frame of which the rates take the first items alone.
#[test]
fn the_rest_of_a_frame_comes_before_the_next_frame() {
    let mut one = attachment();
    let mut half = stored(1..=2);
    half.answers.extend(busy(3..=4).answers);
    assert_eq!(told(&mut one, 0, half), Ok(()));
    assert_eq!(told(&mut one, 4, stored(5..=5)), Err(2));
    assert_eq!(told(&mut one, 2, stored(3..=5)), Ok(()));
}

/// A client that knows an outcome from elsewhere, as from another page, never asks for it here.
#[test]
fn who_goes_on_without_what_was_put_off_is_answered() {
    let mut one = attachment();
    let came = |one: &mut Attachment, oldest, seqs| one.appends(WRITER, oldest, seqs);
    assert_eq!(told(&mut one, 0, busy(1..=1)), Ok(()));
    came(&mut one, 1, (2, 3));
    assert_eq!(told(&mut one, 1, stored(2..=3)), Err(0));
    // It begins with the first one, so it lacks that still; then with the second one.
    came(&mut one, 1, (1, 1));
    came(&mut one, 1, (2, 3));
    assert_eq!(told(&mut one, 0, busy(1..=1)), Ok(()));
    assert_eq!(told(&mut one, 1, stored(2..=3)), Err(0));
    came(&mut one, 1, (2, 3));
    came(&mut one, 1, (4, 4));
    assert_eq!(told(&mut one, 3, stored(4..=4)), Err(1));
    assert_eq!(told(&mut one, 1, stored(2..=3)), Ok(()));
    assert_eq!(told(&mut one, 3, stored(4..=4)), Ok(()));
    assert!(one.put_off.is_empty());
    // Or it says what it has.
    assert_eq!(told(&mut one, 4, busy(5..=6)), Ok(()));
    came(&mut one, 6, (7, 7));
    assert_eq!(told(&mut one, 6, stored(7..=7)), Err(5));
    came(&mut one, 7, (8, 8));
    assert_eq!(told(&mut one, 7, stored(8..=8)), Err(6));
    came(&mut one, 9, (9, 9));
    assert_eq!(told(&mut one, 8, stored(9..=9)), Ok(()));
    assert!(one.put_off.is_empty());
}

/// An answer that was told before its append was sent again in vain is not waited for: the client
/// says that it has it.
#[test]
fn a_needless_copy_that_is_put_off_keeps_nothing_back() {
    let mut one = attachment();
    assert_eq!(told(&mut one, 0, busy(1..=2)), Ok(()));
    assert_eq!(told(&mut one, 0, stored(1..=1)), Ok(()));
    assert_eq!(told(&mut one, 0, busy(1..=2)), Ok(()));
    one.appends(WRITER, 2, (2, 3));
    assert_eq!(told(&mut one, 1, stored(2..=3)), Ok(()));
    assert!(one.put_off.is_empty());
}

#[test]
fn writers_do_not_wait_for_each_other_and_few_are_remembered() {
    let mut one = attachment();
    assert_eq!(told(&mut one, 0, busy(1..=1)), Ok(()));
    let other = |answers| Answers { writer: Id([4; 16]), ..answers };
    assert_eq!(told(&mut one, 1, other(stored(2..=2))), Ok(()));
    for number in 0..100 {
        let answers = Answers { writer: Id([number; 16]), ..busy(1..=1) };
        assert_eq!(told(&mut one, 0, answers), Ok(()));
    }
    assert_eq!(one.put_off.len(), 32);
}
