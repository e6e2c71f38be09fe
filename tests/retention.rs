//! What the keeper trims, and when it finds out: what has grown at once, by age and after a change
//! of the rules by looking at all logs.

mod support;

use support::{Options, Server, until};

fn kept(server: &Server, log: &str) -> (u64, u64) {
    let told = server.http().get(&format!("/v1/logs/{log}?limit=1"));
    (told.number("highwater-start"), told.number("highwater-head"))
}

fn texts(count: u64) -> impl Iterator<Item = String> {
    (0..count).map(|at| at.to_string())
}

/// The first look at all logs is over before these are written, the next one comes in a minute.
#[test]
fn logs_that_have_grown_are_trimmed_without_a_look_at_all_others() {
    let options = Options::dev().rule("short/**", "none", "retain_records = 8");
    let server = Server::start(options.limit("detached_limit_seconds", 1));
    let http = server.http();
    for at in 0..300 {
        http.post_lines(&format!("/v1/logs/short/{at}"), texts(20)).ok();
    }
    http.post_lines("/v1/logs/long", texts(20)).ok();
    for at in [0, 150, 299] {
        until("it is trimmed", || kept(&server, &format!("short/{at}")) == (13, 20));
    }
    assert_eq!(kept(&server, "long"), (0, 20));
}

#[test]
fn what_is_too_old_is_trimmed_though_nothing_is_appended() {
    let options = Options::dev().rule("news/**", "none", "retain_seconds = 1");
    let server = Server::start(options.limit("detached_limit_seconds", 1));
    let http = server.http();
    http.post_lines("/v1/logs/news/a", texts(20)).ok();
    http.post_lines("/v1/logs/kept", texts(20)).ok();
    until("it is trimmed", || kept(&server, "news/a") == (20, 20));
    assert_eq!(kept(&server, "kept"), (0, 20));
}

#[test]
fn a_new_rule_is_found_out_about_at_the_next_start() {
    let mut server = Server::start(Options::dev());
    server.http().post_lines("/v1/logs/short/a", texts(20)).ok();
    assert!(server.terminate().success());
    server.restart_with(Options::dev().rule("short/**", "none", "retain_bytes = 16"));
    until("it is trimmed", || kept(&server, "short/a").0 > 0);
}
