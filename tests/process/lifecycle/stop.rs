//! A node's end, with and without a word before it.

use tokio_tungstenite::tungstenite;

use super::*;

/// A node's end detaches what it held: the slots can be taken, and nobody stays attached for ever.
#[test]
fn a_restart_detaches() {
    let options = quick()
        .limit("active_per_user", 2)
        .limit("active_per_device", 2)
        .limit("detached_limit_seconds", 60);
    for graceful in [false, true] {
        let mut server = Server::start(options.clone());
        let mut tabs: Vec<Client> =
            (0..2).map(|_| Client::new("ann").wanting("docs/a").join(&server)).collect();
        tabs[0].store("docs/a", "0");
        if graceful {
            assert!(server.terminate().success());
            for tab in &mut tabs {
                assert_eq!(tab.until_closed(), 4000 + Code::ShuttingDown.number());
                let bye = tab.bye.clone().unwrap();
                assert!(bye.reconnect && bye.after > 0);
            }
            server.restart();
        } else {
            server.crash();
        }
        tabs.iter_mut().for_each(Client::cut);
        let newcomer = Client::new("ann").join(&server);
        assert_eq!(newcomer.met(), Met::Cloned, "a detached one gives way to it");
        let mets: Vec<Met> = tabs.iter_mut().map(|tab| tab.connect(&server)).collect();
        // Three on two slots: one of the two takes what is left, the other waits.
        assert!(mets.contains(&Met::Waiting), "{mets:?}");
        assert!(mets.contains(&Met::Resumed) || mets.contains(&Met::Cloned), "{mets:?}");
    }
}

/// Clients are sent away at spread times, within the span that is configured and not before half a
/// second; while they go, nobody new comes in.
#[test]
fn a_node_that_stops_spreads_its_clients_and_lets_nobody_in() {
    let mut server = Server::start(quick().limit("drain_ms", 5_000));
    let mut clients: Vec<Client> =
        (0..12).map(|n| Client::new(&format!("user-{n}")).join(&server)).collect();
    // One that does not answer the close keeps the node waiting.
    let still = Client::new("still").join(&server);
    clients[0].store("docs/a", "acknowledged");
    server.ask_to_stop();
    assert_eq!(clients[0].until_closed(), 4000 + Code::ShuttingDown.number());
    let refused = Link::try_open(server.address, Encoding::Json);
    let Err(tungstenite::Error::Http(response)) = refused else {
        panic!("a socket was let in while the node drains")
    };
    assert_eq!(response.status(), 503);
    let told = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    assert!(told.contains("shutting_down"), "{told}");
    let mut spread = std::collections::BTreeSet::new();
    for client in &mut clients {
        client.until_closed();
        let bye = client.bye.as_ref().unwrap();
        assert_eq!((bye.code, bye.reconnect), (Code::ShuttingDown, true));
        assert!((500..=5_500).contains(&bye.after), "{}", bye.after);
        spread.insert(bye.after);
    }
    assert!(spread.len() >= 6, "twelve clients come back at {spread:?}");
    drop(still);
    assert!(server.wait_for_end().success());
    server.restart();
    let mut reader = Client::new("rea").wanting("docs/a").join(&server);
    reader.reach("docs/a", 1);
}
