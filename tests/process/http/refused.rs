//! What is refused: every bad input gets its code, and nobody else is disturbed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::{Http, Options, Server, token, token_until, until};

#[test]
fn names_and_offsets_that_cannot_be() {
    let server = Server::start(Options::dev());
    let http = server.http();
    http.post("/v1/logs/a", "x").ok();
    let long = "x".repeat(256);
    for name in ["a/%2E%2E/b", "a//b", "a/", "a%00b", "a%C3%A4", "a%20b", "%2Fa", &long] {
        for method in ["GET", "HEAD", "DELETE"] {
            let answer = http.ask(method, &format!("/v1/logs/{name}"), &[], None);
            assert_eq!(answer.status, 400, "{method} {name}");
        }
        let answer = http.post(&format!("/v1/logs/{name}"), "x");
        assert_eq!(answer.refusal(), (400, "bad_name".to_owned()), "{name}");
    }
    assert_eq!(http.get("/v1/logs/%FF").refusal(), (400, "bad_request".to_owned()));
    for (query, status, code) in [
        ("from=-1", 400, "bad_offset"),
        ("from=2", 400, "bad_offset"),
        ("from=9007199254740992", 400, "bad_offset"),
        ("from=99999999999999999999999999", 400, "bad_offset"),
        ("limit=-1", 400, "bad_offset"),
        ("wait=60001", 400, "bad_request"),
        ("at=x", 400, "bad_request"),
        ("form=raw", 400, "bad_request"),
        ("from=0&from=1", 400, "bad_request"),
    ] {
        let answer = http.get(&format!("/v1/logs/a?{query}"));
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{query}");
    }
    for query in ["seq=1", "writer=00000000000000000000000000000001", "if_head=-1", "x=1"] {
        assert_eq!(http.post(&format!("/v1/logs/a?{query}"), "x").status, 400, "{query}");
    }
    assert_eq!(http.get("/v1/logs/a").ok().payloads(), ["x"]);
}

#[test]
fn bodies_that_cannot_be() {
    let server = Server::start(Options::dev().limit("http_body_bytes", 1 << 20));
    let http = server.http();
    let send = |form: &str, body: &[u8]| {
        http.ask("POST", "/v1/logs/a", &[("content-type", form)], Some(body)).refusal()
    };
    let bad_request = (400, "bad_request".to_owned());
    assert_eq!(send("application/json", b"{"), bad_request);
    assert_eq!(send("application/json", br#"{"hello":1}"#), bad_request);
    assert_eq!(send("application/json", br#"{"records":[]}"#), bad_request);
    assert_eq!(send("application/x-ndjson", b"{\"payload\":\"x\"}\n{"), bad_request);
    assert_eq!(send("text/plain", b"\xff"), bad_request);
    assert_eq!(send("text/plain", b""), bad_request);
    assert_eq!(send("multipart/form-data; boundary=x", b"x"), bad_request);
    for lone in [
        r#"{"payload":"\ud800"}"#,
        r#"{"payload":"x","key":"\udc00"}"#,
        r#"{"payload":"x","headers":[["\ud83dx","v"]]}"#,
        r#"{"payload":"x","later":"\ud800"}"#,
        r#"{"records":[{"payload":"\ude00\ud83d"}]}"#,
    ] {
        assert_eq!(send("application/json", lone.as_bytes()), bad_request, "{lone}");
        assert_eq!(send("application/x-ndjson", lone.as_bytes()), bad_request, "{lone}");
    }
    let of_user = r#"{"logs":[{"name":"\ud800"}]}"#;
    for (path, body) in [
        ("/v1/users/ana/subscribe", of_user),
        ("/v1/revocations", r#"{"user":"\udfff"}"#),
        ("/v1/notify", r#"{"logs":["a"],"record":{"payload":"\ud800"}}"#),
    ] {
        let json = [("content-type", "application/json")];
        let answer = http.ask("POST", path, &json, Some(body.as_bytes()));
        assert_eq!(answer.refusal(), bad_request, "{path}");
    }
    // Bytes that no text has are refused in a query, not taken for another name.
    assert_eq!(http.delete("/v1/revocations?user=%ED%A0%80").refusal(), bad_request);
    assert_eq!(http.get("/v1/logs?prefix=%ff").refusal(), bad_request);
    let bad_record = (400, "bad_record".to_owned());
    let long_key = format!(r#"{{"key":"{}","payload":""}}"#, "x".repeat(256));
    assert_eq!(send("application/json", long_key.as_bytes()), bad_record);
    let too_large = (413, "too_large".to_owned());
    assert_eq!(send("text/plain", &vec![b'x'; (1 << 20) + 1]), too_large);
    assert_eq!(send("text/plain", &vec![b'x'; (512 << 10) + 1]), too_large);
    assert_eq!(http.get("/v1/logs/a").refusal(), (404, "unknown_log".to_owned()), "none was made");
}

/// Compressed bytes are not what was meant: nothing is stored, and the answer says what to do.
#[test]
fn a_body_that_was_compressed_is_refused() {
    let server = Server::start(Options::dev().rule("kept", "client", ""));
    let http = server.http();
    http.post("/v1/logs/kept", "x").ok();
    let paths = ["/v1/logs/a", "/v1/notify", "/v1/users/ana/subscribe", "/v1/revocations"];
    let all = paths.map(|path| ("POST", path)).into_iter();
    for (method, path) in all.chain([("PUT", "/v1/snapshots/kept?offset=1")]) {
        for coding in ["gzip", "br", "identity, gzip", "x-unheard-of", "DEFLATE"] {
            let answer = http.ask(method, path, &[("content-encoding", coding)], Some(b"\x1f\x8b"));
            assert_eq!(answer.refusal(), (415, "bad_request".to_owned()), "{path} {coding}");
            assert!(answer.text().contains("content-encoding"), "{}", answer.text());
        }
    }
    assert_eq!(http.get("/v1/logs/a").refusal(), (404, "unknown_log".to_owned()));
    for coding in ["identity", "Identity", ""] {
        http.ask("POST", "/v1/logs/a", &[("content-encoding", coding)], Some(b"as it is")).ok();
    }
    let stored = http.get("/v1/logs/a?format=raw").ok().body;
    assert_eq!(stored, b"as it is\nas it is\nas it is\n");
}

/// Sends bytes as they are, and reads what comes until the server closes.
fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_body_of_unknown_length_is_held_to_the_limit_too() {
    let server = Server::start(Options::dev().limit("http_body_bytes", 1 << 20));
    let mut request = b"POST /v1/logs/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for _ in 0..17 {
        request.extend_from_slice(b"10000\r\n");
        request.extend_from_slice(&vec![b'x'; 65_536]);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(&server, &request);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too_large"), "{answer}");
}

#[test]
fn a_body_that_breaks_off_stores_nothing_and_gives_its_room_back() {
    let server = Server::start(Options::dev());
    let http = server.http();
    let refused = r#"http_requests_total{method="POST",route="/v1/logs/{*name}",status="400"}"#;
    // There is room for fewer at once: each finds what the one before has given back.
    for n in 1..=20 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = b"POST /v1/logs/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\
            \r\nhalf";
        stream.write_all(head).unwrap();
        drop(stream);
        until("it is given up", || server.metric(refused) == n);
    }
    assert_eq!(server.metric("http_requests_waiting"), 0);
    http.post("/v1/logs/b", &"x".repeat(500_000)).ok();
    assert_eq!(http.get("/v1/logs/a").status, 404);
}

#[test]
fn nothing_at_that_address() {
    let server = Server::start(Options::dev());
    let http = server.http();
    let not_found = (404, "not_found".to_owned());
    for path in ["/v2", "/v2/logs", "/v1/logs/", "/v1", "/v1/connections/x/y/z"] {
        assert_eq!(http.get(path).refusal(), not_found, "{path}");
    }
    for (method, path) in [("PUT", "/v1/logs/a"), ("POST", "/healthz"), ("DELETE", "/v1/notify")] {
        let answer = http.ask(method, path, &[], method.eq("POST").then_some(b""));
        assert_eq!(answer.refusal(), (405, "bad_request".to_owned()), "{method} {path}");
        let allowed = answer.headers["allow"].to_str().unwrap();
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(&format!("it has {allowed}")), "{message}");
    }
    for (path, allowed) in [
        ("/v1/logs/a", "GET, HEAD, POST, DELETE"),
        ("/v1/connect", "GET, HEAD"),
        ("/v1/notify", "POST"),
    ] {
        let answer = http.ask("PUT", path, &[], Some(b"x"));
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.headers["allow"], allowed, "{path}");
    }
    assert_eq!(http.get("/v1/connections/xyz").refusal().1, "bad_request");
}

#[test]
fn tokens_that_are_not_believed_and_grants_that_do_not_cover() {
    let server = Server::start(Options::default());
    server.http().post("/v1/logs/a", "x").ok();
    let none = server.http_as(None).get("/v1/logs/a");
    assert_eq!(none.refusal(), (401, "unauthorized".to_owned()));
    assert_eq!(none.headers["www-authenticate"], "Bearer");
    let everything = [("**", "read append snapshot signal admin")];
    let expired = server.http_as(Some(token_until("ana", &everything, 1_000)));
    assert_eq!(expired.get("/v1/logs/a").refusal(), (401, "token_expired".to_owned()));
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let grants = json!([{ "logs": "**", "can": ["read"] }]);
    let claims = json!({ "sub": "ana", "exp": 9_999_999_999_u64, "grants": grants });
    let unsigned = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims.to_string()));
    let foreign =
        format!("{}.{}.{}", part(r#"{"alg":"HS256"}"#), part(&claims.to_string()), part("no"));
    for token in [unsigned, foreign, "x".to_owned(), "x".repeat(40_000)] {
        let answer = server.http_as(Some(token)).get("/v1/logs/a");
        assert_eq!(answer.refusal(), (401, "unauthorized".to_owned()));
    }
    let reader = server.http_as(Some(token("ana", &[("a", "read"), ("b", "append")])));
    assert_eq!(reader.get("/v1/logs/a").ok().payloads(), ["x"]);
    let denied = (403, "denied".to_owned());
    assert_eq!(reader.post("/v1/logs/a", "x").refusal(), denied);
    reader.post("/v1/logs/b", "x").ok();
    assert_eq!(reader.get("/v1/logs/b").refusal(), denied);
    assert_eq!(reader.ask("HEAD", "/v1/logs/b", &[], None).status, 403);
    assert_eq!(reader.delete("/v1/logs/a").refusal(), denied);
    assert_eq!(reader.post("/v1/logs/b?create", "").refusal(), denied);
    assert_eq!(reader.post("/v1/logs/a?trim=1", "").refusal(), denied);
    for (method, path) in [
        ("GET", "/v1/connections?user=root"),
        ("GET", "/v1/revocations"),
        ("POST", "/v1/users/root/subscribe"),
        ("DELETE", "/v1/revocations?user=root"),
    ] {
        let answer = reader.ask(method, path, &[], method.eq("POST").then_some(b"{}"));
        assert_eq!(answer.refusal(), denied, "{method} {path}");
    }
    let listed = reader.get("/v1/logs").ok().json();
    assert_eq!(listed["logs"].as_array().unwrap().len(), 1, "only what it may read");
    assert_eq!(listed["logs"][0]["name"], "a");
}

#[test]
fn requests_under_way_are_bounded_and_an_operator_can_still_look() {
    let server = Server::start(Options::dev().limit("http_requests_waiting", 1));
    let http = server.http();
    http.post("/v1/logs/a", "x").ok();
    let waits = {
        let http = http.clone();
        std::thread::spawn(move || http.get("/v1/logs/a?from=end&wait=20000"))
    };
    until("the request is under way", || {
        http.get("/metrics").text().contains("highwater_http_requests_waiting 1\n")
    });
    let refused = http.get("/v1/logs/a");
    assert_eq!(refused.refusal(), (503, "overloaded".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    http.get("/healthz").ok();
    http.get("/readyz").ok();
    // Who waits is woken by another way in.
    crate::support::Client::new("ana");
    let mut client = crate::support::Client::with(None).join(&server);
    client.store("a", "y");
    assert_eq!(waits.join().unwrap().ok().payloads(), ["y"]);
    until("there is room again", || http.get("/v1/logs/a").status == 200);
}

#[test]
fn rates_are_told_with_a_time() {
    let server = Server::start(Options::dev().limit("appends_per_user_second", 10));
    let http = server.http();
    let many = || http.post_lines("/v1/logs/a", (0..1_024).map(|at| at.to_string()));
    // At 10 a second it takes more than a minute and a half until so many may come.
    let refused = many();
    assert_eq!(refused.refusal(), (429, "rate".to_owned()));
    let told = refused.json()["retry_after"].as_u64().unwrap();
    assert!((100_000..=101_400).contains(&told), "{told}");
    assert_eq!(refused.number("retry-after"), told.div_ceil(1_000));
    // They are set aside for who comes again then. Another writer waits its turn.
    let again = many().json()["retry_after"].as_u64().unwrap();
    assert!((90_000..=told).contains(&again), "{again} ms are left of {told}");
    let other = http.post(&format!("/v1/logs/a?writer={}&seq=1", "1".repeat(32)), "x");
    assert_eq!(other.refusal(), (429, "rate".to_owned()));
    assert!(other.json()["retry_after"].as_u64().unwrap() > 90_000, "{:?}", other.json());
    let metrics = http.get("/metrics").text();
    assert!(!metrics.contains("highwater_refusals_total{code=\"rate\"} 0\n"), "{metrics}");
}

#[test]
fn pages_of_other_origins_come_no_further() {
    let origins = "[server]\nallowed_origins = [\"https://app.example\"]\n";
    let server = Server::start(Options { toml: origins.to_owned(), ..Options::default() });
    let http = server.http();
    http.post("/v1/logs/a", "x").ok();
    let from = |origin: &str| http.ask("GET", "/v1/logs/a", &[("origin", origin)], None);
    assert_eq!(from("https://evil.example").refusal(), (403, "origin".to_owned()));
    let allowed = from("https://app.example").ok();
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://app.example");
    from(&server.url()).ok();
    let preflight = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let anonymous = server.http_as(None);
    let answer = anonymous.ask("OPTIONS", "/v1/logs/a", &preflight, None);
    assert_eq!(answer.status, 204);
    assert!(answer.headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    let foreign = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    assert_eq!(anonymous.ask("OPTIONS", "/v1/logs/a", &foreign, None).status, 403);
}

#[test]
fn in_development_only_this_machine_is_meant() {
    let server = Server::start(Options::dev());
    let http: Http = server.http();
    let host = |host: &str| http.ask("GET", "/v1/logs", &[("host", host)], None).status;
    assert_eq!(host("localhost:8080"), 200);
    assert_eq!(host("evil.example:8080"), 403);
    let page = |origin: &str| http.ask("GET", "/v1/logs", &[("origin", origin)], None).status;
    assert_eq!(page("http://localhost:5173"), 200);
    assert_eq!(page("http://evil.example"), 403);
}

#[test]
fn health_readiness_and_metrics_need_no_token() {
    let mut server = Server::start(Options::default());
    let http = server.http_as(None);
    assert_eq!(http.get("/healthz").ok().json(), json!({ "alive": true }));
    assert_eq!(http.get("/readyz").ok().json(), json!({ "ready": true }));
    server.http().post("/v1/logs/a", "x").ok();
    let metrics = http.get("/metrics").ok();
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = metrics.text();
    for line in [
        "highwater_ready 1\n",
        "highwater_sockets 0\n",
        "{method=\"POST\",route=\"/v1/logs/{*name}\",status=\"200\"} 1\n",
        "highwater_store_runs 0\n",
        "highwater_connections_active 0\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("root"), "no names of users or logs");
    assert!(server.terminate().success());
}

/// A variable that is no key may be another program's, or a newer version's: the node says so and
/// runs. A page whose origin is listed with its scheme's own port may come.
#[test]
fn what_is_set_beside_the_point_is_warned_of_and_what_is_meant_is_understood() {
    let mut options = Options::default();
    options.env.push(("HIGHWATER_LIMIT_SOCKETS", "1".into()));
    let listed = r#"server.allowed_origins=["https://App.example:443"]"#;
    options.args.extend(["--set".into(), listed.into()]);
    let server = Server::start(options);
    let log = server.log();
    assert!(log.contains("WARN"), "{log}");
    assert!(log.contains("did you mean HIGHWATER_LIMITS_SOCKETS?"), "{log}");
    let http = server.http();
    for (origin, status) in [("https://app.example", 200), ("https://app.example:444", 403)] {
        let answer = http.ask("GET", "/v1/logs", &[("origin", origin)], None);
        assert_eq!(answer.status, status, "{origin}");
    }
}
