//! Two whole nodes on a real engine: three nats-servers that hold a copy each.

use highwater::journal::Engine;

use super::*;
use crate::nats::Nats;

/// What is appended on one node is seen on the other, each record once and in order, though the
/// server that leads the stream goes by SIGKILL again and again while appends are on their way; and
/// both stores end alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_1_and_13_hold_while_the_leader_of_the_engine_is_killed() {
    let Some(mut nats) = Nats::start(3) else { return };
    let start = async |nats: &Nats| {
        let data = tempfile::tempdir().unwrap();
        let loaded = loaded(&data, "");
        started_on(Engine::elsewhere(nats.journal()), loaded, data).await.unwrap()
    };
    let (one, two) = (start(&nats).await, start(&nats).await);
    let (mut writer, _) = Client::hello(one.address, by_itself(1)).await;
    let (mut reader, _) = Client::hello(two.address, by_itself(2)).await;
    let rounds = std::env::var("HIGHWATER_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        writer.machine.adopt(unanswered(20 + round, "docs/1", 200));
        writer.hand_in(Input::Time).await;
        let leader = tokio::task::block_in_place(|| {
            let leader = nats.leader();
            nats.kill(leader);
            leader
        });
        let all = u64::from(round + 1) * 200;
        writer.until("all answers", |client| client.machine.unanswered() == 0).await;
        writer.until_cursor("docs/1", all).await;
        reader.until_cursor("docs/1", all).await;
        tokio::task::block_in_place(|| nats.again(leader));
    }
    let log = reader.machine.log("docs/1").unwrap().log;
    let every: Vec<_> = (0..u64::from(rounds) * 200).collect();
    assert_eq!((&writer.seen[&log], &reader.seen[&log]), (&every, &every));
    drop((writer, reader));
    until_detached([one.address, two.address], 1).await;
    until_detached([one.address, two.address], 2).await;
    let (one, two) = (stop(one).await, stop(two).await);
    let [one, two] = [all_rows(one.path()), all_rows(two.path())];
    let [one, two] = in_both(&one, &two);
    let other = one.iter().find(|row| !two.contains(row));
    assert!(one == two, "the same rows: {:?}", other.map(|(table, key, _)| (table, key)));
}

/// Waits until both nodes have folded that a connection has no socket any more: the one that is
/// stopped first would not come to that.
async fn until_detached(nodes: [SocketAddr; 2], connection: u8) {
    for address in nodes {
        let url = format!("http://{address}/v1/connections/{}", Id([connection; 16]));
        let bearer = format!("Bearer {}", token("ana"));
        let asked = tokio::task::spawn_blocking(move || {
            let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
            loop {
                let mut told = agent.get(&url).header("authorization", &bearer).call().unwrap();
                let told = told.body_mut().read_to_string().unwrap();
                let told: Value = serde_json::from_str(&told).unwrap();
                if told["attached"] == false {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
    }
}
