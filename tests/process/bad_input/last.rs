//! A log at its last offset: nobody lives to see one grow there, so its row is moved while the
//! server is stopped.

use highwater::log::{LogRow, MAX_HEAD};
use highwater::rows::{Key, Table};

use super::*;

#[test]
fn a_log_at_its_last_offset_takes_one_more_and_says_that_it_is_full() {
    let mut server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    for name in ["full/socket", "full/http"] {
        server.http().post(&format!("/v1/logs/{name}"), "x").ok();
    }
    bystander.goes_on();
    bystander.client.cut();
    assert!(server.terminate().success());
    server.edit(|store, writes| {
        for name in ["full/socket", "full/http"] {
            let log = store.find_log(name).unwrap().unwrap();
            let row = store.log_row(log).unwrap().unwrap();
            let (bytes, last) = (row.bytes, MAX_HEAD - 1);
            let row = LogRow { head: last, start: last, start_bytes: bytes, floor: last, ..row };
            writes.rows.insert((Table::Logs, Key::of(log).build()), Some(codec::to_bytes(&row)));
        }
    });
    server.restart();
    bystander.client.connect(&server);
    bystander.goes_on();
    let mut writer = Client::new("wim");
    writer.cloning = Cloning::None;
    writer.want("full/socket", Start::End, 0);
    let mut writer = writer.join(&server);
    writer.reach("full/socket", MAX_HEAD - 1);
    assert_eq!(writer.store("full/socket", "the last"), MAX_HEAD - 1);
    for _ in 0..2 {
        let seq = writer.append("full/socket", "one too many");
        writer.settled();
        let outcome = &writer.outcomes()[&seq];
        assert!(
            matches!(outcome, Outcome::Refused(why) if why.code == Code::LogFull),
            "{outcome:?}"
        );
    }
    writer.reach("full/socket", MAX_HEAD);
    assert_eq!(writer.log("full/socket").texts(), ["the last"]);
    // Its socket goes on, and so do its other appends.
    writer.store("other", "0");
    assert!(writer.active && writer.closed.is_none());
    let http = server.http();
    let told = http.post("/v1/logs/full/http", "the last").ok();
    assert_eq!(told.json()["offset"], MAX_HEAD - 1);
    let refused = http.post("/v1/logs/full/http", "one too many");
    assert_eq!(refused.refusal(), (409, "log_full".to_owned()));
    for name in ["full/http", "full/socket"] {
        let read = http.get(&format!("/v1/logs/{name}?from={}", MAX_HEAD - 1)).ok();
        assert_eq!(read.payloads(), ["the last"]);
        assert_eq!(read.number("highwater-head"), MAX_HEAD);
        assert!(http.get(&format!("/v1/logs/{name}?from={MAX_HEAD}")).ok().body.is_empty());
    }
    bystander.goes_on();
    bystander.survives(server);
}
