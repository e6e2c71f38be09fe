//! One history over two nodes: what one told, the other judges; and a journal that lost its end.

use highwater::journal::{Faults, MemoryCluster};
use highwater::wire::{Id, Position};
use serde_json::{Value, json};

use super::{Client, PATIENCE, ask, client, node, state, stop, unanswered};

/// A node that is behind has to fold on before it judges; what it does not have yet is no other
/// history, while what no node has is one at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_15_a_position_of_one_node_is_known_to_the_other() {
    let faults = Faults { seed: 15, unknown_per_mille: 100, ..Faults::default() };
    let cluster = MemoryCluster::new(Id([12; 16]), faults);
    let nodes = [node(&cluster).await, node(&cluster).await];
    let record = json!("x");
    for round in 0..40 {
        let [from, to] = [round % 2, (round + 1) % 2].map(|at: usize| nodes[at].address);
        let (status, told) = state(from, "ann", ("POST", "/v1/logs/a"), &record, None).await;
        // One whose fate is not known at first is stored all the same.
        assert_eq!(status, 200, "{told}");
        let read = ("GET", "/v1/logs/a");
        let (status, _) = state(to, "ann", read, &Value::Null, Some(&told)).await;
        assert_eq!(status, 200, "{told} is of this history");
        let (position, _) = told.rsplit_once('.').unwrap();
        let other = format!("{position}.0123456789abcdef");
        assert_eq!(state(to, "ann", read, &Value::Null, Some(&other)).await.0, 409, "{other}");
        let past = format!("{}.9007199254", position.split_once('.').unwrap().0);
        assert_eq!(state(to, "ann", read, &Value::Null, Some(&past)).await.0, 409, "{past}");
    }
    for node in nodes {
        stop(node).await;
    }
}

/// The engine loses its tail, and nobody accepts that by a word: the store is made anew from what
/// is left, and the journal grows past what was lost. Who was told the chain of what is gone is
/// told.
#[tokio::test(flavor = "multi_thread")]
async fn promise_15_one_history_a_tail_that_the_engine_lost() {
    let cluster = MemoryCluster::new(Id([8; 16]), Faults::default());
    let first = node(&cluster).await;
    let ana = |position: Option<Position>| {
        let mut ana = client("ana", 1, &["docs/1"]);
        position.into_iter().for_each(|position| ana.saw(position));
        ana.adopt(unanswered(11, "docs/1", 5));
        ana
    };
    let (mut writer, welcome) = Client::hello(first.address, ana(None)).await;
    let kept = welcome.positions[0];
    writer.until_cursor("docs/1", 5).await;
    drop(writer);
    // Comes once more, and is told where the server stands now.
    let (again, welcome) = Client::hello(first.address, ana(Some(kept))).await;
    assert!(!welcome.other_history);
    let seen = welcome.positions[0];
    drop(again);
    first.stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, first.ended).await.unwrap().unwrap();
    let lost = seen.batch - kept.batch;
    cluster.lose(usize::try_from(lost).unwrap() + 5);
    let second = node(&cluster).await;
    let (mut other, _) = Client::hello(second.address, client("ana", 2, &["docs/1"])).await;
    // One by one, so that there are more batches than were lost.
    for n in 0..lost + 20 {
        other.append_all(u8::try_from(20 + n).unwrap(), "docs/1", 1).await;
    }
    let (_, welcome) = Client::hello(second.address, ana(Some(seen))).await;
    assert!(welcome.positions[0].batch > seen.batch);
    assert!(welcome.other_history);
    let mark = welcome.writers.iter().find(|at| at.writer == Id([11; 16])).unwrap().mark;
    assert_eq!(mark, 0, "what it was answered is gone");
    second.stop.send(()).unwrap();
    tokio::time::timeout(PATIENCE, second.ended).await.unwrap().unwrap();
}

/// The engine loses its tail, and the operator says so. A place in a record names no chain, so the
/// bounds of the eras alone can tell a reader that what it saw there is gone.
#[tokio::test(flavor = "multi_thread")]
async fn promise_15_one_history_a_loss_that_the_operator_told() {
    let cluster = MemoryCluster::new(Id([16; 16]), Faults::default());
    let first = node(&cluster).await;
    let (append, read) = (("POST", "/v1/logs/a"), ("GET", "/v1/logs/a"));
    let (record, nothing) = (json!("x"), Value::Null);
    let mut told = Vec::new();
    for _ in 0..12 {
        let (status, position) = state(first.address, "ann", append, &record, None).await;
        assert_eq!(status, 200);
        told.push(position);
    }
    stop(first).await;
    // What a node says when it goes is a batch too.
    cluster.lose(5);
    let nodes = [node(&cluster).await, node(&cluster).await];
    let [kept, lost] = [&told[0], &told[11]].map(|told| told.rsplit_once('.').unwrap().0);
    let era = kept.split_once('.').unwrap().0;
    let begin = format!("/v1/journal/era?after={era}");
    assert_eq!(ask(nodes[0].address, "root", "POST", &begin, &nothing).await, 200);
    let (mut batch, mut now) = (0, String::new());
    while batch <= batch_of(&json!(lost)) {
        let (status, position) = state(nodes[0].address, "ann", append, &record, None).await;
        assert_eq!(status, 200);
        batch = batch_of(&json!(position));
        now = position;
    }
    assert!(!now.starts_with(era), "{now} is of the era that the operator began");
    // Both nodes judge alike, and one that is behind folds on first.
    for node in &nodes {
        let state =
            async |position| state(node.address, "ann", read, &nothing, Some(position)).await.0;
        assert_eq!(state(kept).await, 200, "{kept} was before the loss");
        assert_eq!(state(lost).await, 409, "{lost} is gone, though the journal has such a batch");
        assert_eq!(state(&now).await, 200, "{now} is of this history");
    }
    for node in nodes {
        stop(node).await;
    }
}

fn batch_of(position: &Value) -> u64 {
    position.as_str().unwrap().split('.').nth(1).unwrap().parse().unwrap()
}
