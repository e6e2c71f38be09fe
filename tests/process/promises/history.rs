//! One history: promise 15. A server that goes on in another one says so, and nothing that was
//! meant for the one is shown or stored in the other.

use highwater::wire::Target;

use super::*;

fn texts(from: &str, offsets: std::ops::Range<u64>) -> Vec<String> {
    offsets.map(|offset| format!("{from}-{offset}")).collect()
}

/// A server with a log of five records, and the backup that was made of it then.
fn backed_up() -> (Server, tempfile::TempDir) {
    let mut server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    writer.append_all("notes", texts("both", 0..5));
    writer.settled();
    writer.close();
    assert!(server.terminate().success());
    let backup = server.back_up();
    server.restart();
    (server, backup)
}

/// The backup takes the folder's place.
fn restore(server: &mut Server, backup: &tempfile::TempDir) {
    server.kill9();
    server.put_back(backup);
    server.restart();
}

fn grown(server: &Server, from: &str, offsets: std::ops::Range<u64>) -> Client {
    let mut writer = Client::new("other").join(server);
    writer.append_all("notes", texts(from, offsets));
    writer.settled();
    writer
}

/// What a log holds, read by one who knows nothing.
fn held(server: &Server, log: &str) -> Vec<String> {
    let mut reader = Client::new("probe").wanting(log).join(server);
    reader.reach(log, 0);
    reader.log(log).texts()
}

/// A node is restored from a backup, and grows past where its clients stand before they return.
#[test]
fn promise_15_one_history_a_restored_backup_that_has_grown_past_its_readers() {
    let (mut server, backup) = backed_up();
    let mut reader = Client::new("rea").wanting("notes").join(&server);
    grown(&server, "lost", 5..10);
    reader.reach("notes", 10);
    reader.cut();
    restore(&mut server, &backup);
    grown(&server, "new", 5..12);
    reader.connect(&server);
    assert_eq!(reader.others, 1);
    reader.reach("notes", 12);
    assert_eq!(reader.log("notes").resets.last(), Some(&ResetReason::OtherHistory));
    assert_eq!(reader.log("notes").texts(), held(&server, "notes"));
    assert_eq!(reader.log("notes").texts()[5], "new-5");
    // It is of this history from then on, over any number of restarts.
    for _ in 0..2 {
        reader.cut();
        server.crash();
        reader.connect(&server);
        assert_eq!((reader.others, reader.met()), (1, Met::Resumed));
    }
}

/// An era begins at each start; who was there before is of this history all the same.
#[test]
fn promise_15_one_history_restarts_and_quiet_years_are_no_other_history() {
    let (mut server, _backup) = backed_up();
    let mut reader = Client::new("rea").wanting("notes").join(&server);
    reader.reach("notes", 5);
    for round in 0..5 {
        reader.cut();
        server.crash();
        grown(&server, "more", 5 + round..6 + round);
        server.crash();
        reader.connect(&server);
        reader.reach("notes", 6 + round);
        assert_eq!((reader.others, reader.log("notes").resets.len()), (0, 1));
    }
}

/// Since the backup a log was made; after the restore another one gets its number. What was meant
/// for the one is never stored in the other.
#[test]
fn promise_15_one_history_an_action_is_stored_in_the_log_it_was_made_for_or_in_none() {
    let (mut server, backup) = backed_up();
    let mut client = Client::new("rea").wanting("salaries").wanting("notes").join(&server);
    client.store("salaries", "made after the backup");
    client.reach("salaries", 1);
    client.reach("notes", 5);
    let (salaries, notes) = (client.log("salaries").log, client.log("notes").log);
    client.cut();
    restore(&mut server, &backup);
    let mut other = Client::new("other").join(&server);
    other.store("public", "made after the restore");
    let public = server.http().get("/v1/logs/public").ok().number("highwater-log");
    assert_eq!(public, salaries, "it got the lost one's number");
    // Made offline: one for the lost log, one for a log that both histories have.
    let to = |text: &str| Record { payload: Some(Payload::text(text)), ..Record::default() };
    client.append_to(Target::Log(salaries), None, to("for salaries only"));
    client.append_to(Target::Log(notes), None, to("for notes"));
    client.connect(&server);
    client.settled();
    assert_eq!(client.others, 1);
    let outcomes: Vec<_> = client.outcomes().values().collect();
    assert!(matches!(outcomes[0], Outcome::Refused(why) if why.code == Code::Epoch));
    assert!(matches!(outcomes[1], Outcome::Stored { log, .. } if *log == notes), "it lives on");
    assert_eq!(held(&server, "public"), ["made after the restore"]);
    assert_eq!(held(&server, "notes").last().unwrap(), "for notes");
}

/// A mark that went backwards would answer `sequence_gap` for ever: the writer is over. What this
/// history has of it is answered, the rest is stored once, in order, under a new one.
#[test]
fn promise_15_one_history_writers_are_over_and_nothing_unanswered_is_lost_or_doubled() {
    let mut server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    writer.append_all("notes", texts("known", 0..3));
    writer.settled();
    // Stored before the backup; its answers get lost on their way.
    let unanswered = writer.writer().clone();
    writer.append_all("notes", texts("cut", 3..6));
    writer.settled();
    let cut: Vec<_> = (4..=6).map(|seq| writer.outcomes()[&seq].clone()).collect();
    writer.cut();
    assert!(server.terminate().success());
    let backup = server.back_up();
    server.restart();
    let now = writer.writer().clone();
    writer.go_on_as(unanswered);
    writer.all_outcomes.clear();
    writer.append_all("notes", texts("cut", 3..6));
    // Stored after the backup and answered: lost with it. And what was never sent.
    let mut lost = Client::new("wim").join(&server);
    lost.go_on_as(now);
    lost.append_all("notes", texts("lost", 6..9));
    lost.settled();
    writer.saw(lost.positions());
    lost.cut();
    writer.append_all("notes", texts("lost", 6..9).into_iter().chain(texts("offline", 9..12)));
    let over = writer.writer().id();
    restore(&mut server, &backup);
    writer.connect(&server);
    writer.settled();
    let answered: Vec<_> = (4..=6).map(|seq| writer.all_outcomes[&over][&seq].clone()).collect();
    assert_eq!(answered, cut, "what this history has is answered as it was");
    assert_ne!(over, writer.writer().id());
    let wanted = [texts("known", 0..3), texts("cut", 3..6), texts("lost", 6..9)].concat();
    assert_eq!(held(&server, "notes"), [wanted, texts("offline", 9..12)].concat());
}

/// Two nodes run on copies of one folder: each goes on in its own history.
#[test]
fn promise_15_one_history_a_copied_folder_goes_on_in_its_own() {
    let (server, backup) = backed_up();
    let copy = Server::start_in(backup, Options::default());
    let mut reader = Client::new("rea").wanting("notes").join(&server);
    grown(&server, "here", 5..8);
    reader.reach("notes", 8);
    grown(&copy, "there", 5..9);
    reader.cut();
    reader.connect(&copy);
    reader.reach("notes", 9);
    assert_eq!((reader.others, reader.log("notes").texts()), (1, held(&copy, "notes")));
    // And back again.
    reader.cut();
    reader.connect(&server);
    reader.reach("notes", 8);
    assert_eq!((reader.others, reader.log("notes").texts()), (2, held(&server, "notes")));
}

/// The folder is made anew under open pages: log ids begin at 1 again.
#[test]
fn promise_15_one_history_a_folder_made_anew_under_open_pages() {
    let (mut server, _backup) = backed_up();
    let mut reader = Client::new("rea").wanting("notes").join(&server);
    reader.reach("notes", 5);
    reader.cut();
    server.kill9();
    std::fs::remove_dir_all(server.data()).unwrap();
    server.restart();
    let mut other = Client::new("other").join(&server);
    other.append_all("first", texts("other", 0..9));
    other.settled();
    reader.connect(&server);
    reader.wait("notes, empty", |reader| reader.find("notes").is_some_and(|held| held.shown()));
    assert_eq!((reader.others, reader.log("notes").texts().len()), (1, 0));
    assert_eq!(reader.log("notes").resets, [ResetReason::OtherHistory]);
}

/// Who does not say that it understands is served as before, and is not protected.
#[test]
fn promise_15_one_history_is_told_to_those_alone_who_understand() {
    let (mut server, backup) = backed_up();
    let mut old = Client::new("old").wanting("notes");
    old.capabilities.clear();
    let mut old = old.join(&server);
    old.reach("notes", 5);
    assert!(old.welcome.as_ref().unwrap().capabilities.is_empty());
    old.cut();
    restore(&mut server, &backup);
    old.connect(&server);
    assert!(!old.welcome.as_ref().unwrap().other_history);
    old.reach("notes", 5);
    assert_eq!(old.log("notes").resets.len(), 1);
}
