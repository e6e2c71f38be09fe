//! What the keeper trims, and when it finds out: what has grown at once, by age and after a change
//! of the rules by looking at all logs.

use crate::support::{Options, Server, until};

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

/// First offsets of a log's pages, and whether the last one is open.
fn pages(server: &Server, log: &str) -> (Vec<u64>, bool) {
    let told = server.http().get(&format!("/v1/pages/{log}")).ok().json();
    let pages = told["pages"].as_array().unwrap().clone();
    let open = pages.last().is_some_and(|page| page["closed"].is_null());
    (pages.iter().map(|page| page["first"].as_u64().unwrap()).collect(), open)
}

fn make_paged(server: &Server, log: &str, size: u64) {
    let path = format!("/v1/logs/{log}?create&page_size={size}");
    assert_eq!(server.http().ask("POST", &path, &[], None).status, 201);
}

#[test]
fn a_log_with_pages_lets_go_of_whole_pages() {
    let options = Options::dev().rule("records/**", "none", "retain_records = 8").rule(
        "bytes/**",
        "none",
        "retain_bytes = 8",
    );
    let server = Server::start(options.limit("detached_limit_seconds", 1));
    let http = server.http();
    for log in ["records/a", "bytes/a"] {
        make_paged(&server, log, 5);
        http.post_lines(&format!("/v1/logs/{log}"), (0..22).map(|_| "x".to_owned())).ok();
        // Seven records behind the page that ends at 15 are too few.
        until("it is trimmed", || kept(&server, log) == (10, 22));
        assert_eq!(pages(&server, log), (vec![10, 15, 20], true));
        http.post_lines(&format!("/v1/logs/{log}"), (0..1).map(|_| "x".to_owned())).ok();
        until("it is trimmed", || kept(&server, log) == (15, 23));
        assert_eq!(pages(&server, log), (vec![15, 20], true));
    }
}

/// Its time to live counts from its closing, whatever the age of its records.
#[test]
fn a_page_goes_a_while_after_it_was_closed_and_never_while_it_is_open() {
    let options = Options::dev().rule("**", "none", "retain_seconds = 1");
    let server = Server::start(options.limit("detached_limit_seconds", 1));
    let http = server.http();
    make_paged(&server, "paged", 3);
    let post = |log: &str, many| http.post_lines(&format!("/v1/logs/{log}"), texts(many)).ok();
    for open in [0, 3] {
        post("paged", 2);
        // Another log's record comes after these, and goes by its own age.
        let other = format!("other/{open}");
        post(&other, 1);
        until("a later record is too old", || kept(&server, &other) == (1, 1));
        assert_eq!(kept(&server, "paged"), (open, open + 2));
        assert_eq!(pages(&server, "paged"), (vec![open], true));
        post("paged", 1);
        let closed = http.get("/v1/pages/paged").ok().json()["pages"][0].clone();
        if !closed.is_null() {
            let at = |name: &str| closed[name].as_u64().unwrap();
            assert_eq!(at("goes"), at("closed") + 1_000);
            assert!(at("opened") + 1_000 < at("closed"), "{closed}");
        }
        until("the page goes", || kept(&server, "paged") == (open + 3, open + 3));
    }
    assert_eq!(pages(&server, "paged"), (vec![], false));
}
