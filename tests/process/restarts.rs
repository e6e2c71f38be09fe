//! What a restart of the server must not do to those who are away.

use crate::support::{Client, Options, Server, until};
use highwater::connection::ConnectionRow;
use highwater::store::{Options as StoreOptions, Store};

fn row(server: &Server, client: &Client) -> ConnectionRow {
    let store = Store::open(&server.data(), StoreOptions::default()).unwrap();
    store.connection(client.connection).unwrap().unwrap()
}

/// A server that is started anew every day must still find out who has been away for a month.
#[test]
fn being_away_is_counted_from_the_first_restart_on() {
    let mut server = Server::start(Options::default());
    let mut client = Client::new("ann").wanting("docs/a").join(&server);
    server.kill9();
    client.cut();
    server.restart();
    let mut since = 0;
    until("its row says that it is detached", || {
        // What this run says, as soon as its keeper has seen the row, is what counts from then on.
        let shown = server.shows(client.connection);
        assert_eq!(shown["attached"], false);
        since = shown["since"].as_u64().unwrap();
        assert!(server.terminate().success());
        let row = row(&server, &client);
        server.restart();
        row.attached.is_none() && row.since == since && row.since > row.created
    });
    assert_eq!(server.shows(client.connection)["since"], since);
    assert_eq!(client.connect(&server), highwater::wire::Met::Resumed);
}
