//! What is long unused goes, and what is not stays: rows are aged while the server is stopped, and
//! found by its own scans after the next start.

use highwater::log::WriterRow;
use highwater::rows::{Table, Writes};
use highwater::wire::{Id, codec};

use super::*;

const DAY: u64 = 86_400_000;

fn age_connection(server: &Server, id: Id, days: u64) {
    server.edit(|store, writes: &mut Writes| {
        let row = store.connection(id).unwrap().unwrap();
        assert!(!row.active() && row.attached.is_none());
        let mut row = row;
        row.since = crate::support::now_ms() - days * DAY;
        writes.rows.insert((Table::Connections, id.0.to_vec()), Some(row.row()));
    });
}

fn age_writer(server: &Server, id: Id, days: u64) {
    server.edit(|store, writes: &mut Writes| {
        let row = store.writer(id).unwrap().unwrap();
        let row = WriterRow { used: crate::support::now_ms() - days * DAY, ..row };
        writes.rows.insert((Table::Writers, id.0.to_vec()), Some(codec::to_bytes(&row)));
    });
}

#[test]
fn an_unused_connection_is_forgotten_after_its_days() {
    let options = quick().limit("forget_after_days", 30);
    let mut server = Server::start(options);
    let mut clients: Vec<Client> =
        (0..3).map(|n| Client::new(&format!("u{n}")).wanting("docs/a").join(&server)).collect();
    for client in &mut clients[..2] {
        client.reach("docs/a", 0);
        client.leave(false);
    }
    let [old, young, active] = [0, 1, 2].map(|n: usize| clients[n].connection);
    assert!(server.terminate().success());
    clients[2].cut();
    age_connection(&server, old, 31);
    age_connection(&server, young, 29);
    server.restart();
    let http = server.http();
    let status = |id: Id| http.get(&format!("/v1/connections/{id}")).status;
    until("the old one to be forgotten", || status(old) == 404);
    assert_eq!((status(young), status(active)), (200, 200));
    // It is a stranger now; the other is who it was.
    clients.iter_mut().for_each(|client| client.forget());
    assert_eq!(clients[0].connect(&server), Met::Fresh);
    assert_eq!(clients[1].connect(&server), Met::Restored);
    assert_eq!(clients[2].connect(&server), Met::Resumed);
}

/// With the mark goes the knowledge of what was stored; so it is kept at least a year, and a week
/// where its client has said that it sends no more.
#[test]
fn an_unused_writer_is_forgotten_after_its_days() {
    let mut server = Server::start(quick().limit("writer_keep_days", 400));
    let mut clients: Vec<Client> =
        (0..4).map(|n| Client::new(&format!("u{n}")).join(&server)).collect();
    for client in &mut clients {
        client.store("docs/a", "x");
    }
    for client in &mut clients[2..] {
        let writer = client.writer().id();
        client.send(&ClientFrame::Retire(highwater::wire::Retire { writer, request: 0 }));
        client.sync();
    }
    let ids = [0, 1, 2, 3].map(|n: usize| clients[n].writer().id());
    assert!(server.terminate().success());
    clients.iter_mut().for_each(Client::cut);
    for (id, days) in ids.into_iter().zip([401, 399, 8, 6]) {
        age_writer(&server, id, days);
    }
    server.restart();
    // What it knows of a writer, it says to whoever speaks for it.
    let mark = |client: &mut Client| {
        client.cut();
        client.connect(&server);
        client.welcome.as_ref().unwrap().writers[0].mark
    };
    for at in [0, 2] {
        until("an old one to be forgotten", || mark(&mut clients[at]) == 0);
    }
    for at in [1, 3] {
        assert_eq!(mark(&mut clients[at]), 1, "the others stay");
    }
}
