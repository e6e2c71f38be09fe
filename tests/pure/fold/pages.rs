//! Pages: when they open and close, and what a change of their size means.

use highwater::fold::{Command, Reply};
use highwater::log::{PageRow, Paging};
use highwater::wire::Code;

use crate::fold::world::*;

fn paged(world: &mut World, name: &str, page_records: u64) -> u64 {
    let made = world.reply(Command::CreateLog { name: name.to_owned(), page_records });
    let Reply::Created(log, true) = made else { panic!("{made:?}") };
    log
}

fn resize(world: &mut World, log: u64, records: u64) {
    world.done(Command::SetPages { log, records });
}

/// First offset and end of each closed page.
fn bounds(world: &World, log: u64) -> Vec<(u64, u64)> {
    world.pages(log).iter().map(|(first, page)| (*first, page.end)).collect()
}

#[test]
fn a_page_closes_with_the_record_that_fills_it() {
    let mut world = World::new();
    let log = paged(&mut world, "a", 3);
    assert_eq!(world.log(log).paging, Paging { records: 3, ..Paging::default() });
    world.time = 2_000;
    world.grow("a", 1);
    let open = Paging { records: 3, first: 0, takes: 3, opened: 2_000 };
    assert_eq!(world.log(log).paging, open);
    world.time = 3_000;
    world.grow("a", 7);
    assert_eq!(bounds(&world, log), [(0, 3), (3, 6)]);
    let page = |world: &World, at: usize| -> PageRow { world.pages(log)[at].1.clone() };
    assert_eq!((page(&world, 0).opened, page(&world, 0).closed), (2_000, 3_000));
    assert_eq!((page(&world, 1).opened, page(&world, 1).closed), (3_000, 3_000));
    assert_eq!(world.log(log).paging, Paging { records: 3, first: 6, takes: 3, opened: 3_000 });
    world.time = 4_000;
    world.grow("a", 1);
    // Full to the record: none is open until the next one comes.
    assert_eq!(bounds(&world, log), [(0, 3), (3, 6), (6, 9)]);
    assert_eq!(world.log(log).paging, Paging { records: 3, first: 9, takes: 0, opened: 0 });
}

#[test]
fn a_log_that_is_there_keeps_its_pages_when_it_is_made_again() {
    let mut world = World::new();
    let log = paged(&mut world, "a", 3);
    let again = world.reply(Command::CreateLog { name: "a".to_owned(), page_records: 9 });
    assert_eq!(again, Reply::Created(log, false));
    assert_eq!(world.log(log).paging.records, 3);
    // One that an append makes has none.
    let other = world.grow("b", 5);
    assert_eq!((world.log(other).paging, bounds(&world, other)), (Paging::default(), vec![]));
}

#[test]
fn another_size_is_that_of_the_pages_that_follow() {
    let mut world = World::new();
    let log = paged(&mut world, "a", 4);
    world.grow("a", 2);
    resize(&mut world, log, 2);
    world.grow("a", 1);
    assert_eq!(bounds(&world, log), [], "the open page takes what it was opened for");
    world.grow("a", 4);
    assert_eq!(bounds(&world, log), [(0, 4), (4, 6)]);
    resize(&mut world, log, 5);
    world.grow("a", 6);
    assert_eq!(bounds(&world, log), [(0, 4), (4, 6), (6, 8), (8, 13)]);
}

#[test]
fn without_a_size_the_open_page_closes_and_none_opens() {
    let mut world = World::new();
    let log = paged(&mut world, "a", 4);
    world.grow("a", 6);
    resize(&mut world, log, 0);
    assert_eq!(bounds(&world, log), [(0, 4), (4, 6)]);
    world.time += 50;
    let since = world.time;
    world.grow("a", 3);
    resize(&mut world, log, 0);
    assert_eq!(bounds(&world, log), [(0, 4), (4, 6)]);
    // What came meanwhile is a page of its own, from its first record on.
    world.time += 50;
    resize(&mut world, log, 2);
    assert_eq!(bounds(&world, log), [(0, 4), (4, 6), (6, 9)]);
    let (_, page) = world.pages(log).pop().unwrap();
    assert_eq!((page.opened, page.closed), (since, since + 50));
    world.grow("a", 2);
    assert_eq!(bounds(&world, log).last(), Some(&(9, 11)));
}

/// A log of before: what it holds is one page.
#[test]
fn what_a_log_holds_when_it_gets_pages_is_one() {
    let mut world = World::new();
    let log = world.grow("a", 7);
    world.trim(log, 2);
    resize(&mut world, log, 3);
    assert_eq!(bounds(&world, log), [(2, 7)]);
    world.grow("a", 3);
    assert_eq!(bounds(&world, log), [(2, 7), (7, 10)]);
    let (empty, gone) = (world.create("b"), world.grow("c", 2));
    world.trim(gone, 2);
    for log in [empty, gone] {
        resize(&mut world, log, 3);
        assert_eq!(bounds(&world, log), []);
    }
}

#[test]
fn records_of_the_same_batch_are_in_pages_that_a_size_of_that_batch_makes() {
    let mut world = World::new();
    let entries = |range: std::ops::RangeInclusive<u64>| range.map(|seq| item(seq, "a", "x"));
    let append = |range| Command::Append(appends("ann", id(1), entries(range).collect()));
    let size = |records| Command::SetPages { log: 1, records };
    world.batch(vec![append(1..=3), size(2), append(4..=6), size(0), append(7..=8), size(1)]);
    assert_eq!(bounds(&world, 1), [(0, 3), (3, 5), (5, 6), (6, 8)]);
}

/// Trimmed by hand: what is gone is no part of a page any more.
#[test]
fn a_trim_within_the_open_page_leaves_it_open() {
    let mut world = World::new();
    let log = paged(&mut world, "a", 4);
    world.grow("a", 3);
    world.trim(log, 2);
    world.grow("a", 1);
    assert_eq!(bounds(&world, log), [(2, 4)]);
    world.grow("a", 3);
    world.trim(log, 7);
    resize(&mut world, log, 0);
    assert_eq!(bounds(&world, log), [(2, 4)], "nothing is left of the third");
}

#[test]
fn a_log_that_is_gone_gets_no_pages() {
    let mut world = World::new();
    let log = paged(&mut world, "a", 2);
    world.done(Command::DeleteLog { log });
    for log in [log, 99] {
        assert_eq!(world.refused(Command::SetPages { log, records: 1 }), Code::UnknownLog);
    }
    let other = world.grow("a", 3);
    assert_eq!((other == log, bounds(&world, other)), (false, vec![]));
}
