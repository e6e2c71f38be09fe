//! Appends: sequence, repeat, refusal, condition.

use highwater::fold::{Command, Reply};
use highwater::log::{Appends, Entry, MARK_KEPT, MAX_HEAD, MAX_IN_FLIGHT};
use highwater::rows::Table;
use highwater::wire::{Class, Code, MAX_OFFSET, Outcome, Refusal, Target, WriterAt};

use crate::fold::world::*;

#[test]
fn an_append_gets_the_next_offset_and_place_of_its_log() {
    let mut world = World::new();
    let told = world.write(1, vec![item(1, "a", "x"), item(2, "b", "y"), item(3, "a", "z")]);
    assert_eq!(told.iter().map(offset).collect::<Vec<_>>(), [0, 0, 1]);
    let places: Vec<_> = (told.iter())
        .map(|one| match one {
            Outcome::Stored { place, .. } => (place.batch, place.index),
            Outcome::Refused(_) => panic!("refused"),
        })
        .collect();
    assert_eq!(places, [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(world.records(1)[1].origin.writer, id(1));
}

/// Promise 4 as the fold decides it: what is sent again is stored once and answered alike, whoever
/// of the user sends it and whether or not the fold was reopened. That an acknowledged append is on
/// disk is the store's part.
#[test]
fn promise_04_exactly_once_in_a_repeat_gets_the_same_answer() {
    let mut world = World::new();
    let all = || vec![item(1, "a", "x"), item(2, "../bad", "y"), item(3, "a", "z")];
    let first = world.write(1, all());
    world.reopen();
    assert_eq!(world.write(1, all()), first);
    world.time += MARK_KEPT - 1;
    let mut adopted = appends("ann", id(1), all());
    adopted.connection = id(9);
    let again = world.append(adopted);
    assert_eq!(again.mark, 3);
    assert_eq!(again.answers.into_iter().map(|one| one.outcome).collect::<Vec<_>>(), first);
    assert_eq!(world.records(1).len(), 2);
}

#[test]
fn promise_04_exactly_once_in_a_batch_with_the_same_append_twice() {
    let mut world = World::new();
    let told = world.write(1, vec![item(1, "a", "x"), item(1, "a", "x")]);
    assert_eq!(told[0], told[1]);
    assert_eq!(world.records(1).len(), 1);
}

#[test]
fn promise_04_exactly_once_in_no_keeper_forgets_a_mark_within_a_year() {
    let mut world = World::new();
    world.write(1, vec![item(1, "a", "x")]);
    let used = world.time;
    world.time += MARK_KEPT - 1;
    world.stale(Command::ForgetWriter { writer: id(1), used });
    assert_eq!(world.write(1, vec![item(1, "a", "x")]).len(), 1);
    world.time += MARK_KEPT;
    // It was used since, so the keeper's word is an old one.
    world.stale(Command::ForgetWriter { writer: id(1), used });
    let used = world.writer(id(1)).unwrap().used;
    world.done(Command::ForgetWriter { writer: id(1), used });
    assert_eq!((world.writer(id(1)), world.outcomes(id(1)).len()), (None, 0));
    assert_eq!(world.records(1).len(), 1);
}

#[test]
fn another_content_under_a_known_sequence_is_reused() {
    let mut world = World::new();
    world.write(1, vec![item(1, "a", "x")]);
    assert_eq!(refusal(&world.write_one(1, item(1, "a", "other"))), Code::SequenceReused);
    assert_eq!(refusal(&world.write_one(1, item(1, "b", "x"))), Code::SequenceReused);
    // The first answer stands.
    assert_eq!(offset(&world.write_one(1, item(1, "a", "x"))), 0);
}

#[test]
fn a_skipped_sequence_holds_back_what_follows_until_it_arrives() {
    let mut world = World::new();
    let told = world.write(1, vec![item(2, "a", "y"), item(3, "a", "z")]);
    assert_eq!(told.iter().map(refusal).collect::<Vec<_>>(), [Code::SequenceGap; 2]);
    assert_eq!(Code::SequenceGap.class(), Class::Transient);
    assert!(world.writer(id(1)).is_none(), "a writer that has not begun leaves no row");
    let told = world.write(1, vec![item(1, "a", "x"), item(2, "a", "y"), item(3, "a", "z")]);
    assert_eq!(told.iter().map(offset).collect::<Vec<_>>(), [0, 1, 2]);
}

/// It says that something else was sent before it than what was taken last: one of the two was not
/// the writer's word, and neither is guessed.
#[test]
fn an_append_after_another_than_the_mark_is_held_back() {
    let mut world = World::new();
    world.write(1, vec![item(1, "a", "x"), item(2, "a", "y")]);
    for prev in [0, 1, 3] {
        let told = world.write_one(1, entry(4, prev, Target::Name("a".to_owned()), text("z")));
        assert_eq!(refusal(&told), Code::SequenceGap);
    }
    assert_eq!(world.writer(id(1)).unwrap().mark, 2);
}

#[test]
fn sequences_may_leave_holes_where_the_writer_says_so() {
    let mut world = World::new();
    let to = || Target::Name("a".to_owned());
    let told = world.write(1, vec![entry(5, 0, to(), text("x")), entry(9, 5, to(), text("y"))]);
    assert_eq!(told.iter().map(offset).collect::<Vec<_>>(), [0, 1]);
    // What lies between was never sent, and will never be taken.
    assert_eq!(refusal(&world.write_one(1, entry(7, 5, to(), text("z")))), Code::SequenceOld);
}

#[test]
fn a_confirmed_sequence_is_old() {
    let mut world = World::new();
    world.write(1, vec![item(1, "a", "x"), item(2, "a", "y")]);
    let mut all = appends("ann", id(1), vec![item(1, "a", "x"), item(2, "a", "y")]);
    all.oldest = 2;
    let told = world.append(all).answers;
    assert_eq!(refusal(&told[0].outcome), Code::SequenceOld);
    assert_eq!(offset(&told[1].outcome), 1);
    assert_eq!(refusal(&world.write_one(1, item(0, "a", "x"))), Code::SequenceOld);
}

#[test]
fn confirming_more_than_there_is_confirms_up_to_the_mark() {
    let mut world = World::new();
    world.write(1, vec![item(1, "a", "x")]);
    let mut all = appends("ann", id(1), vec![item(2, "a", "y")]);
    all.oldest = u64::MAX;
    assert_eq!(offset(&world.append(all).answers[0].outcome), 1);
    assert_eq!(world.writer(id(1)).unwrap().oldest, 2);
    assert_eq!(offset(&world.write_one(1, item(2, "a", "y"))), 1);
}

#[test]
fn a_permanent_refusal_spends_its_sequence() {
    let mut world = World::new();
    let gone = world.create("gone");
    world.done(Command::DeleteLog { log: gone });
    let denied = Some(Refusal::new(Code::Denied));
    let conflict = Entry { if_head: Some(7), ..item(4, "a", "x") };
    let told = world.write(
        1,
        vec![
            Entry { verdict: denied, ..item(1, "a", "x") },
            item(2, "no//name", "x"),
            entry(3, 2, Target::Log(gone), text("x")),
            conflict,
            item(5, "a", "x"),
        ],
    );
    let codes: Vec<_> = told[..4].iter().map(refusal).collect();
    assert_eq!(codes, [Code::Denied, Code::BadName, Code::Epoch, Code::Conflict]);
    assert!(codes.iter().all(|code| code.class() == Class::Permanent));
    assert_eq!(offset(&told[4]), 0);
    assert_eq!(world.writer(id(1)).unwrap().mark, 5);
    // And the repeat is refused alike, though the verdict is not given again.
    world.reopen();
    assert_eq!(world.write_one(1, item(1, "a", "x")), told[0]);
}

#[test]
fn a_condition_holds_only_where_the_head_stands() {
    let mut world = World::new();
    let at = |seq, head| Entry { if_head: Some(head), ..item(seq, "a", "x") };
    let told = world.write(1, vec![at(1, 0), at(2, 0), at(3, 1)]);
    assert_eq!(offset(&told[0]), 0);
    assert_eq!(refusal(&told[1]), Code::Conflict);
    assert_eq!(offset(&told[2]), 1);
}

#[test]
fn an_append_to_a_log_that_was_made_anew_is_of_another_epoch() {
    let mut world = World::new();
    let old = world.create("a");
    world.write(1, vec![entry(1, 0, Target::Log(old), text("x"))]);
    world.done(Command::DeleteLog { log: old });
    let new = world.create("a");
    assert_ne!(old, new);
    let told = world.write_one(1, entry(2, 1, Target::Log(old), text("y")));
    assert_eq!(refusal(&told), Code::Epoch);
    // By name it goes to the new one; the old one's repeat is still the old answer.
    assert_eq!(offset(&world.write_one(1, item(3, "a", "z"))), 0);
    let again = world.write_one(1, entry(1, 0, Target::Log(old), text("x")));
    assert!(matches!(again, Outcome::Stored { log, .. } if log == old));
}

#[test]
fn a_full_log_takes_no_more_and_others_go_on() {
    let mut world = World::new();
    let log = world.create("a");
    world.set_log(log, |row| row.head = MAX_HEAD - 1);
    let told = {
        // The crafted row has no records below its head, so the rows are not checked here.
        let entries = vec![item(1, "a", "x"), item(2, "a", "y"), item(3, "b", "z")];
        let all = appends("ann", id(1), entries);
        let batch = world.next_batch(vec![Command::Append(all)]);
        let done = world.try_apply(&batch).unwrap();
        done.effects.into_iter().find_map(|effect| match effect {
            highwater::fold::Effect::Reply(_, Reply::Answers(answers)) => Some(answers.answers),
            _ => None,
        })
    }
    .unwrap();
    assert_eq!(offset(&told[0].outcome), MAX_OFFSET - 1);
    assert_eq!(refusal(&told[1].outcome), Code::LogFull);
    assert_eq!(offset(&told[2].outcome), 0);
    assert_eq!(world.log(log).head, MAX_OFFSET);
}

#[test]
fn without_auto_create_a_missing_log_is_refused_for_good() {
    let mut world = World::with(highwater::fold::Settings { auto_create: false, ..settings() });
    assert_eq!(refusal(&world.write_one(1, item(1, "a", "x"))), Code::NoLog);
    world.create("a");
    // Decided: also now that the log is there.
    assert_eq!(refusal(&world.write_one(1, item(1, "a", "x"))), Code::NoLog);
    assert_eq!(offset(&world.write_one(1, item(2, "a", "x"))), 0);
}

#[test]
fn more_than_1024_unanswered_appends_wait() {
    let mut world = World::new();
    let most = MAX_IN_FLIGHT as u64;
    let told = world.write(1, (1..=most + 2).map(|seq| item(seq, "a", "x")).collect());
    assert_eq!(told.iter().filter(|one| matches!(one, Outcome::Stored { .. })).count(), 1024);
    assert_eq!(refusal(&told[1024]), Code::InFlight);
    assert_eq!(refusal(&told[1025]), Code::SequenceGap);
    assert_eq!(Code::InFlight.class(), Class::Transient);
    world.reopen();
    assert_eq!(refusal(&world.write_one(1, item(most + 1, "a", "x"))), Code::InFlight);
    let mut all = appends("ann", id(1), vec![item(most + 1, "a", "x")]);
    all.oldest = 2;
    assert_eq!(offset(&world.append(all).answers[0].outcome), most);
    assert_eq!(world.outcomes(id(1)).iter().filter(|one| one.seq >= 2).count(), 1024);
}

#[test]
fn a_refused_condition_makes_no_log() {
    let mut world = World::new();
    let with = |seq, name: &str, at| Entry { if_head: Some(at), ..item(seq, name, "x") };
    let told = world.write(1, vec![with(1, "a", 1), with(2, "bad//name", 1), with(3, "b", 0)]);
    assert_eq!((refusal(&told[0]), refusal(&told[1])), (Code::Conflict, Code::BadName));
    assert_eq!((offset(&told[2]), world.count(Table::Logs)), (0, 1));
}

#[test]
fn another_users_writer_is_unknown_and_unharmed() {
    let mut world = World::new();
    world.write(1, vec![item(1, "a", "x")]);
    let before = world.state();
    let mut foreign = appends("bob", id(1), vec![item(2, "a", "y")]);
    foreign.oldest = 2;
    assert_eq!(world.refused(Command::Append(foreign)), Code::UnknownWriter);
    let retire = Command::Retire { user: "bob".to_owned(), writer: id(1) };
    assert_eq!(world.refused(retire), Code::UnknownWriter);
    assert_eq!(world.state(), before);
}

#[test]
fn a_retired_writer_has_no_outcomes_and_may_be_forgotten_at_once() {
    let mut world = World::new();
    world.write(1, vec![item(1, "a", "x"), item(2, "a", "y")]);
    world.done(Command::Retire { user: "ann".to_owned(), writer: id(1) });
    assert!(world.writer(id(1)).unwrap().retired);
    assert_eq!(world.outcomes(id(1)).len(), 0);
    assert_eq!(refusal(&world.write_one(1, item(2, "a", "y"))), Code::SequenceOld);
    // That was an append: it is not retired any more.
    let used = world.writer(id(1)).unwrap().used;
    world.stale(Command::ForgetWriter { writer: id(1), used });
    world.done(Command::Retire { user: "ann".to_owned(), writer: id(1) });
    world.done(Command::ForgetWriter { writer: id(1), used });
    assert_eq!(world.count(Table::Writers) + world.count(Table::Outcomes), 0);
    assert_eq!(
        world.refused(Command::Retire { user: "ann".into(), writer: id(1) }),
        Code::UnknownWriter
    );
}

#[test]
fn of_a_writer_that_is_made_for_one_command_nothing_is_kept() {
    let mut world = World::new();
    let once = |entries| Appends { once: true, ..appends("ann", id(1), entries) };
    let told = world.append(once(vec![item(1, "a", "x"), item(2, "no//name", "y")]));
    assert_eq!((told.mark, offset(&told.answers[0].outcome)), (2, 0));
    assert_eq!(refusal(&told.answers[1].outcome), Code::BadName);
    // The next command of the same request begins anew, at its own sequence.
    let mut next = item(3, "a", "z");
    next.prev = 0;
    assert_eq!(offset(&world.append(once(vec![next.clone()])).answers[0].outcome), 1);
    assert_eq!(world.count(Table::Writers) + world.count(Table::Outcomes), 0);
    // Nor does it matter whether somebody else has taken its name meanwhile.
    next.seq = 4;
    world.append(appends("bob", id(1), vec![next.clone()]));
    next.seq = 5;
    assert_eq!(offset(&world.append(once(vec![next])).answers[0].outcome), 3);
    assert_eq!(world.writer(id(1)).unwrap().user, "bob");
}

#[test]
fn a_writer_forgotten_and_back_within_a_batch_begins_anew() {
    let mut world = World::new();
    world.write(1, vec![item(1, "a", "x")]);
    let used = world.writer(id(1)).unwrap().used;
    // Unchecked, since its numbers begin anew: that is what forgetting a mark means.
    let batch = world.next_batch(vec![
        Command::Append(appends("ann", id(1), vec![item(2, "a", "y")])),
        Command::Retire { user: "ann".to_owned(), writer: id(1) },
        Command::ForgetWriter { writer: id(1), used },
        Command::Append(appends("bob", id(1), vec![item(1, "b", "z")])),
    ]);
    world.try_apply(&batch).unwrap();
    let row = world.writer(id(1)).unwrap();
    assert_eq!((row.user.as_str(), row.mark), ("bob", 1));
    assert_eq!(world.outcomes(id(1)).len(), 1);
}

#[test]
fn a_client_that_comes_is_told_the_answers_it_missed() {
    let mut world = World::new();
    let told = world.write(1, vec![item(1, "a", "x"), item(2, "no//name", "y"), item(3, "a", "z")]);
    let mut ask = client("ann", id(7));
    ask.writers =
        vec![WriterAt { writer: id(1), oldest: 2 }, WriterAt { writer: id(2), oldest: 1 }];
    let met = world.attach(ask.clone()).writers;
    assert_eq!((met[0].mark.mark, met[1].mark.mark), (3, 0));
    let answers: Vec<_> = met[0].answers.iter().map(|one| (one.seq, one.outcome.clone())).collect();
    assert_eq!(answers, [(2, told[1].clone()), (3, told[2].clone())]);
    assert_eq!(met[1].answers, []);
    // Asking after a writer makes none; another user's is refused before anything is done.
    assert_eq!(world.writer(id(2)), None);
    let before = world.state();
    let foreign =
        highwater::connection::Attach { user: "bob".to_owned(), connection: id(8), ..ask };
    assert_eq!(world.refused(Command::Attach(foreign)), Code::UnknownWriter);
    assert_eq!(world.state(), before);
}

/// A writer whose client came back by another connection appends as that one from then on.
#[test]
fn records_name_the_connection_that_they_came_by() {
    let mut world = World::new();
    for (seq, by) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 1)] {
        let all = appends("ann", id(9), vec![item(seq, "a", "x")]);
        world.append(Appends { connection: id(by), ..all });
    }
    let records = world.records(1);
    let by: Vec<_> = records.iter().map(|stored| stored.origin.connection).collect();
    assert_eq!(by, [1, 1, 2, 2, 1].map(id));
}
