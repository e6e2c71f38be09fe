//! Counts of requests, and `/metrics` in the text form of Prometheus.
//!
//! Labels are words of the program's own: templates of addresses, names of methods and codes. So
//! what is kept is bounded whatever is asked, and nothing of users or logs is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::channel::{HubStats, Refusals, panics};
use crate::gateway::Gate;
use crate::store::Pressure;
use crate::wire::Code;

type Requests = BTreeMap<(&'static str, String, u16), u64>;

/// Counts since the node started.
#[derive(Debug, Default)]
pub struct Counters {
    requests: Mutex<Requests>,
}

impl Counters {
    fn answered(&self, method: &Method, route: &str, status: u16) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            _ => "other",
        };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((method, route.to_owned(), status)).or_default() += 1;
    }
}

/// Counts every answer, and says of each that nobody may keep it or take it for something else.
pub(super) async fn count(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    let counters = &gate.http.counters;
    let status = response.status().as_u16();
    counters.answered(&method, route.as_deref().unwrap_or("none"), status);
    if let Some(code) = response.extensions().get::<Code>() {
        gate.hub.refusals().count(*code);
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// `GET /metrics`.
pub(super) async fn show(State(gate): State<Arc<Gate>>) -> Response {
    let store = gate.store.clone();
    let pressure = tokio::task::spawn_blocking(move || store.pressure().ok()).await;
    let text = Sample::read(&gate, pressure.ok().flatten())
        .render(&gate.http.counters, gate.hub.refusals());
    let form = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], text).into_response()
}

/// All that is measured, at one moment.
#[derive(Debug)]
struct Sample {
    sockets: usize,
    greeting: usize,
    requests: usize,
    waiting: usize,
    batch: u64,
    active: u64,
    lag: u64,
    ready: bool,
    rates: usize,
    panics: u64,
    hub: HubStats,
    pressure: Option<Pressure>,
}

impl Sample {
    fn read(gate: &Gate, pressure: Option<Pressure>) -> Self {
        Self {
            sockets: gate.sockets.load(Ordering::Relaxed),
            greeting: gate.greeting.load(Ordering::Relaxed),
            requests: gate.requests.load(Ordering::Relaxed),
            waiting: gate.inbox.waiting(),
            batch: *gate.hub.told().borrow(),
            active: gate.hub.active(),
            lag: gate.fence.lag().unwrap_or_default(),
            ready: super::health::readiness(gate).is_ok(),
            rates: gate.admission.rates.entries(),
            panics: panics::counted(),
            hub: gate.hub.stats(),
            pressure,
        }
    }

    fn render(&self, counters: &Counters, refusals: &Refusals) -> String {
        let mut text = Text::default();
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.family("build_info", "gauge", "The program that runs; always 1.");
        text.sample("build_info", &version, 1);
        text.gauge("ready", "1 while clients may come, 0 otherwise.", u64::from(self.ready));
        text.gauge("sockets", "WebSockets that are open.", self.sockets);
        text.gauge("sockets_greeting", "WebSockets that have not said Hello yet.", self.greeting);
        text.gauge("connections_attached", "Connections with a socket here.", self.hub.sockets);
        let active = "Active connections, attached or not: slots given out.";
        text.gauge("connections_active", active, self.active);
        text.gauge("logs_watched", "Logs that sockets here are subscribed to.", self.hub.watched);
        text.gauge("sockets_behind", "Sockets that wait to be caught up.", self.hub.behind);
        text.gauge("tail_bytes", "Newest records held in memory.", self.hub.tail_bytes);
        let delivery = "Deliveries that sockets have not taken whole.";
        text.gauge("delivery_bytes", delivery, self.hub.encoded_bytes);
        text.counter("deliveries_total", "Frames written to sockets.", self.hub.delivered);
        text.counter("frames_total", "Frames encoded for delivery.", self.hub.frames);
        let lag = "How old what is told here may be, in milliseconds; 0 with the engine local.";
        text.gauge("journal_lag_ms", lag, self.lag);
        text.counter("batches_total", "Number of the last batch told: reads see it.", self.batch);
        text.counter("panics_total", "Faults of the program, each told in its log.", self.panics);
        text.gauge("inbox_bytes", "Commands that wait for the writer.", self.waiting);
        text.gauge("rate_entries", "Users and logs whose rates are being counted.", self.rates);
        text.gauge("http_requests_waiting", "HTTP requests under way.", self.requests);
        if let Some(pressure) = &self.pressure {
            self::pressure(&mut text, pressure);
        }
        text.family("http_requests_total", "counter", "HTTP requests that were answered.");
        let requests = counters.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((method, route, status), count) in requests {
            let labels = [("method", method), ("route", &route), ("status", &status.to_string())];
            text.sample("http_requests_total", &labels, count);
        }
        text.family(
            "refusals_total",
            "counter",
            "Refusals to clients, by code of docs/protocol.md.",
        );
        for (code, count) in refusals.each() {
            text.sample("refusals_total", &[("code", code.name())], count);
        }
        text.0
    }
}

fn pressure(text: &mut Text, pressure: &Pressure) {
    let sealed = "Memtables that wait to be written, of the table that has most.";
    text.gauge("store_sealed_memtables", sealed, pressure.sealed_memtables_max);
    let runs = "Runs of files that wait to be merged, of the table that has most.";
    text.gauge("store_runs", runs, pressure.runs_max);
    let buffer = "Bytes in memory that wait to be written to files.";
    text.gauge("store_write_buffer_bytes", buffer, pressure.write_buffer_bytes);
    text.gauge("store_engine_log_bytes", "Bytes of the engine's log.", pressure.journal_bytes);
    let rows = "Bytes of rows committed in this run, keys included, as they are encoded.";
    text.counter("rows_bytes_total", rows, pressure.rows_bytes);
    text.gauge("disk_free_bytes", "Bytes free on the disk.", pressure.disk_free_bytes);
    let reserve = "Bytes that stay free: below that, commands are refused.";
    text.gauge("disk_reserve_bytes", reserve, pressure.disk_reserve_bytes);
}

/// The text form: families with help and type, then their samples.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP highwater_{name} {help}");
        let _ = writeln!(self.0, "# TYPE highwater_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "highwater_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl TryInto<u64>) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value.try_into().unwrap_or(u64::MAX));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn rendered(counters: &Counters, refusals: &Refusals) -> String {
        let pressure = Pressure {
            sealed_memtables_max: 1,
            runs_max: 2,
            write_buffer_bytes: 3,
            journal_bytes: 4,
            rows_bytes: 12,
            disk_free_bytes: 5,
            disk_reserve_bytes: 6,
        };
        let sample = Sample {
            panics: 0,
            sockets: 7,
            greeting: 1,
            requests: 2,
            waiting: 3,
            batch: 9,
            active: 8,
            lag: 0,
            ready: true,
            rates: 0,
            hub: HubStats { delivered: 11, ..HubStats::default() },
            pressure: Some(pressure),
        };
        sample.render(counters, refusals)
    }

    #[test]
    fn each_family_has_help_and_type_once_and_before_its_samples() {
        let text = rendered(&Counters::default(), &Refusals::default());
        let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            if line.starts_with("# HELP ") {
                assert!(helped.insert(words[2]), "{line}");
            } else if line.starts_with("# TYPE ") {
                assert!(helped.contains(words[2]) && typed.insert(words[2]), "{line}");
                assert_eq!(words[3] == "counter", words[2].ends_with("_total"), "{line}");
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(typed.contains(name), "{line}");
                words.last().unwrap().parse::<u64>().unwrap();
            }
        }
        assert!(text.contains("\nhighwater_sockets 7\n"), "{text}");
        assert!(text.contains("\nhighwater_deliveries_total 11\n"));
    }

    #[test]
    fn requests_and_refusals_are_counted_by_label() {
        let (counters, refusals) = (Counters::default(), Refusals::default());
        for _ in 0..2 {
            counters.answered(&Method::GET, "/v1/logs/{*name}", 404);
            refusals.count(Code::Stale);
        }
        counters.answered(&Method::from_bytes(b"BREW").unwrap(), "none", 405);
        let text = rendered(&counters, &refusals);
        let get = r#"{method="GET",route="/v1/logs/{*name}",status="404"} 2"#;
        assert!(text.contains(&format!("\nhighwater_http_requests_total{get}\n")), "{text}");
        assert!(text.contains(r#"{method="other",route="none",status="405"} 1"#));
        assert!(text.contains("\nhighwater_refusals_total{code=\"stale\"} 2\n"));
        assert!(text.contains("\nhighwater_refusals_total{code=\"rate\"} 0\n"));
    }

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.sample("x", &[("a", "\"\\\n")], 1);
        assert_eq!(text.0, "highwater_x{a=\"\\\"\\\\\\n\"} 1\n");
    }
}
