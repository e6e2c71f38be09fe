//! A store that was once folded with a clock that was wrong: it is told.

use std::sync::Arc;

use crate::support::{Options, Server, now_ms, until};
use highwater::fold::{CacheSizes, Command, FOLD_VERSION, Fold, Settings, folded_time};
use highwater::journal::{Committer, Engine, Local, QueueLimits};
use highwater::store::{Options as StoreOptions, Store};

/// One batch by a clock that shows that time.
fn fold_at(server: &Server, time: u64) {
    let store = Store::open(&server.data(), StoreOptions::default()).unwrap();
    let journal = Engine::Here(Local::new(store.clone(), 64 << 20));
    let settings = Settings { rules: Vec::new(), budgets: Default::default(), auto_create: true };
    let (id, level) = (journal.identity(), journal.level());
    let fold = Fold::open(&store, id, level, settings, CacheSizes::default()).unwrap();
    let limits = QueueLimits { commands: 1, bytes: 1 << 20, told: 1 };
    let clock = Arc::new(move || time);
    let (committer, inbox, told) =
        Committer::<()>::new(fold, journal, store.clone(), clock, limits);
    inbox.submit(Command::NodeUp { oldest: FOLD_VERSION, newest: FOLD_VERSION }, 0, None).unwrap();
    inbox.close();
    let ended = std::thread::spawn(|| committer.run());
    assert_eq!(told.recv().unwrap().applied.time, time);
    ended.join().unwrap();
    assert_eq!(folded_time(&store).unwrap(), Some(time));
}

#[test]
fn a_store_whose_time_is_ahead_is_told_at_start_and_while_it_stands() {
    let mut server = Server::start(Options::dev());
    server.http().post("/v1/logs/a", "x").ok();
    assert!(server.terminate().success());
    assert!(!server.log().contains("THE CLOCK IS"), "{}", server.log());
    let ahead = now_ms() + 7_200_000;
    fold_at(&server, ahead);
    server.restart();
    assert!(server.log().contains("SECONDS BEFORE THE LAST BATCH"), "{}", server.log());
    until("it is told again", || server.log().contains("ahead of this node's clock"));
    // It works all the same; its records have the time that stands.
    server.http().post("/v1/logs/a", "y").ok();
    let lines = server.http().get("/v1/logs/a").ok().lines();
    assert_eq!(lines[1]["time"], ahead);
}

#[test]
fn a_start_long_after_the_last_batch_is_told() {
    let mut server = Server::start(Options::dev());
    assert!(server.terminate().success());
    std::fs::remove_dir_all(server.data()).unwrap();
    fold_at(&server, now_ms() - 40 * 86_400_000);
    server.restart();
    assert!(server.log().contains("40 DAYS PAST THE LAST BATCH"), "{}", server.log());
}
