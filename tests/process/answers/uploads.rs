//! Snapshots that clients make, part by part: which of them are taken, and what each is answered.

use super::*;

/// Sends parts (of the request, which, whether the last, its text) of a snapshot at that offset in
/// one message: what each request is answered, in the order of their numbers, there being so many
/// answers.
fn upload(
    asker: &mut Asker,
    offset: u64,
    parts: &[(u32, u32, bool, &str)],
    answers: usize,
) -> Vec<Vec<String>> {
    let (log, first) = (asker.log(), asker.next);
    let requests = parts.iter().map(|(request, ..)| *request).max().unwrap();
    for _ in 0..requests {
        asker.number();
    }
    let put = |(request, part, last, text): &(u32, u32, bool, &str)| {
        let (request, data) = (first + request, Payload::text(*text));
        let (version, part, last) = (1, *part, *last);
        ClientFrame::PutSnapshot(PutSnapshot { request, log, offset, version, part, last, data })
    };
    asker.link.send_all(&parts.iter().map(put).collect::<Vec<_>>());
    let count = |asker: &Asker| asker.answers.values().map(Vec::len).sum::<usize>();
    asker.until("answers of uploads", |asker| count(asker) >= answers);
    // One more would be of a request that there was not.
    let told = std::mem::take(&mut asker.answers).into_values().collect();
    asker.settle("uploads");
    told
}

/// A snapshot is made of the parts of one upload: each part that is not taken is refused, and the
/// last one that is taken is answered.
#[test]
fn promise_20_parts_of_two_uploads_make_no_snapshot() {
    let server = server();
    for (encoding, base) in [(Encoding::Bincode, 0), (Encoding::Json, 2)] {
        let asker = &mut Asker::join(&server, encoding);
        let snapshot = || server.http().get(&format!("/v1/snapshots/{NAME}")).ok().text();
        let refused = |parts: usize| vec!["snapshot_parts".to_owned(); parts];
        // A part is missing; what follows is refused until part 0 comes again.
        let parts = [(1, 0, false, "1"), (1, 2, false, "x"), (1, 3, false, "x"), (1, 1, true, "x")];
        assert_eq!(upload(asker, base + 1, &parts, 3), [refused(3)]);
        // Parts that go on with nothing take nobody's place.
        let parts = [
            (1, 0, false, "ONE-"),
            (2, 1, false, "x"),
            (2, 2, true, "x"),
            (3, 1, true, "x"),
            (1, 1, true, "one"),
        ];
        let told = upload(asker, base + 1, &parts, 4);
        assert_eq!(told, [vec!["done".to_owned()], refused(2), refused(1)]);
        assert_eq!(snapshot(), "ONE-one");
        // An upload that begins takes the place of one that goes on.
        let parts = [
            (1, 0, false, "x"),
            (2, 0, false, "TWO-"),
            (1, 1, false, "x"),
            (1, 2, true, "x"),
            (2, 1, true, "two"),
        ];
        let told = upload(asker, base + 2, &parts, 4);
        let given_way = [vec!["superseded".to_owned()], refused(2)].concat();
        assert_eq!(told, [given_way, vec!["done".to_owned()]]);
        assert_eq!(snapshot(), "TWO-two");
        // What the fold refuses it refuses part by part.
        let parts = [(1, 0, false, "x"), (1, 1, false, "x"), (1, 2, true, "x"), (2, 0, true, "x")];
        for (offset, code) in [(base + 2, "snapshot_behind"), (9, "snapshot_beyond")] {
            let told = upload(asker, offset, &parts, 4);
            assert_eq!((told[0].len(), told[1].len()), (3, 1), "{told:?}");
            assert_eq!((told[0][0].as_str(), told[1][0].as_str()), (code, code));
        }
    }
}

/// Part by part, each sent when the answer before has come.
#[test]
fn a_refused_upload_begins_with_part_0() {
    let server = server();
    let mut client = Client::new("ann").wanting(NAME).join(&server);
    client.reach(NAME, 5);
    let log = client.log(NAME).log;
    let put = |request, part, last, text: &str| {
        let data = Payload::text(text);
        let (offset, version) = (4, 1);
        ClientFrame::PutSnapshot(PutSnapshot { request, log, offset, version, part, last, data })
    };
    let parts = |client: &mut Client, request| client.refusal(request).code;
    client.send(&put(1, 0, false, "ONE-"));
    client.send(&put(1, 2, true, "x"));
    assert_eq!(parts(&mut client, 1), Code::SnapshotParts);
    client.send(&put(1, 1, true, "one"));
    assert_eq!(parts(&mut client, 1), Code::SnapshotParts, "until part 0 comes again");
    client.send(&put(2, 0, false, "TWO-"));
    client.send(&put(3, 1, true, "three"));
    assert_eq!(parts(&mut client, 3), Code::SnapshotParts, "of another request");
    client.send(&put(4, 0, false, "FOUR-"));
    client.send(&put(5, 0, false, "FIVE-"));
    assert_eq!(parts(&mut client, 4), Code::Superseded);
    client.send(&put(5, 1, true, "five"));
    client.wait("it is done", |client| client.done.contains(&5));
    let snapshot = server.http().get(&format!("/v1/snapshots/{NAME}")).ok();
    assert_eq!(snapshot.text(), "FIVE-five");
}
