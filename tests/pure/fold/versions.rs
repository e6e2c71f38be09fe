//! Versions of the fold: a journal moves on when every node that runs knows the next one.

use highwater::fold::{Batch, Command, FOLD_VERSION, Fold, FoldError, Header, Reply, Versions};
use highwater::rows::MemoryRows;
use highwater::wire::{Code, Level, codec};

use crate::fold::world::*;

const NOW: u16 = FOLD_VERSION;
const NEXT: u16 = FOLD_VERSION + 1;
const BOTH: Versions = Versions { oldest: NOW, newest: NEXT };

/// A world whose program knows the next version too.
fn newer() -> World {
    let mut world = World::new();
    world.fold = Fold::open(&world.rows, JOURNAL, Level::Memory, settings(), Default::default())
        .unwrap()
        .knowing(BOTH);
    world
}

/// A node that runs says which versions it knows.
fn up(world: &mut World, number: u8, newest: u16) {
    world.node = (node(number), 1);
    world.serial = 0;
    world.done(Command::NodeUp { oldest: NOW, newest });
}

fn in_version(batch: &Batch, version: u16) -> Batch {
    let header = Header { fold: version, ..batch.header };
    Batch { header, commands: batch.commands.clone() }
}

#[test]
fn a_journal_moves_on_when_all_nodes_that_run_know_the_next_version() {
    let mut world = newer();
    up(&mut world, 1, NOW);
    up(&mut world, 2, NEXT);
    assert_eq!(world.refused(Command::Upgrade { to: NEXT }), Code::Stale, "the first does not");
    // It is replaced by a program that does: by its next run, or by its going for good.
    world.done(Command::NodeDown { node: node(1), incarnation: 1 });
    for not_next in [0, NOW, NEXT + 1] {
        assert_eq!(world.refused(Command::Upgrade { to: not_next }), Code::Stale);
    }
    world.done(Command::Upgrade { to: NEXT });
    assert_eq!((world.fold.version(), world.fold.head().version), (NEXT, NEXT));
    assert_eq!(world.refused(Command::Upgrade { to: NEXT }), Code::Stale, "it is there already");
}

/// A node that has never said what it knows is an old one.
#[test]
fn a_node_that_says_nothing_of_versions_holds_the_journal_back() {
    let mut world = newer();
    world.create("a");
    assert_eq!(world.refused(Command::Upgrade { to: NEXT }), Code::Stale);
    world.done(Command::NodeUp { oldest: NOW, newest: NEXT });
    world.done(Command::Upgrade { to: NEXT });
}

/// Of a version that the journal is not in yet nothing is taken.
#[test]
fn batches_of_the_next_version_are_refused_before_the_word() {
    let mut world = newer();
    up(&mut world, 1, NEXT);
    let batch = world.next_batch(vec![Command::Upgrade { to: NEXT }]);
    let early = world.try_apply(&in_version(&batch, NEXT)).unwrap_err();
    let batch_number = world.batch + 1;
    let wanted = FoldError::Version { batch: batch_number, version: NEXT, due: NOW, known: BOTH };
    assert_eq!(early, wanted);
    // In the present one it is; the next one goes on behind it, also after a restart.
    assert_eq!(world.try_apply(&batch).unwrap().batch, batch_number);
    let behind = world.next_batch(vec![Command::Look]);
    world.try_apply(&in_version(&behind, NEXT)).unwrap();
    world.reopen();
    assert_eq!(world.fold.version(), NEXT, "the journal's version is in its rows");
    assert_eq!(world.fold.versions(), Versions::KNOWN);
}

/// The older program folds the word itself, and stops at the first batch that speaks the new
/// version; so does one that is started on what it left behind.
#[test]
fn a_program_that_does_not_know_the_version_stops() {
    let mut world = newer();
    let mut rows = MemoryRows::default();
    let open = |rows: &MemoryRows| {
        Fold::open(rows, JOURNAL, Level::Memory, settings(), Default::default()).unwrap()
    };
    let mut old = open(&rows);
    let commands = [Command::NodeUp { oldest: NOW, newest: NEXT }, Command::Upgrade { to: NEXT }];
    for (number, command) in (1..).zip(commands) {
        let batch = world.next_batch(vec![command]);
        let done = world.try_apply(&batch).unwrap();
        assert!(
            done.effects
                .iter()
                .all(|effect| { matches!(effect, highwater::fold::Effect::Reply(_, Reply::Done)) })
        );
        let bytes = codec::to_bytes(&batch);
        let folded = old.apply(number, &bytes, batch, &rows).unwrap();
        assert_eq!(folded.writes, done.writes);
        rows.commit(&folded.writes);
    }
    let batch = world.next_batch(vec![Command::Look]);
    let batch = in_version(&batch, NEXT);
    let bytes = codec::to_bytes(&batch);
    let wanted = FoldError::Version { batch: 3, version: NEXT, due: NEXT, known: Versions::KNOWN };
    assert_eq!(old.apply(3, &bytes, batch.clone(), &rows).unwrap_err(), wanted);
    assert_eq!(open(&rows).apply(3, &bytes, batch.clone(), &rows).unwrap_err(), wanted);
    assert!(wanted.to_string().contains("run a program that knows it"));
    world.try_apply(&batch).unwrap();
}

/// Two nodes propose at the same time: the one's proposal, made before it could see the other's
/// `Upgrade`, comes right behind it in the journal's order. Nobody can take it out of there, so it
/// is folded by the rules of its own version.
#[test]
fn a_batch_that_crossed_the_word_to_move_on_is_folded() {
    let mut world = newer();
    up(&mut world, 1, NEXT);
    up(&mut world, 2, NEXT);
    // Node 2 proposes in the version that it is in,
    let command = Command::CreateLog { name: "crossed".to_owned(), page_records: 0 };
    let crossing = world.next_batch(vec![command]);
    // node 1's upgrade comes first.
    world.node = (node(1), 1);
    world.serial = 1;
    world.done(Command::Upgrade { to: NEXT });
    let done = world.try_apply(&crossing).unwrap();
    let reply = done.effects.iter().find_map(|effect| match effect {
        highwater::fold::Effect::Reply(_, reply) => Some(reply.clone()),
        _ => None,
    });
    assert!(matches!(reply, Some(Reply::Created(_, true))), "{reply:?}");
    assert_eq!(world.fold.version(), NEXT);
}
