//! HTTP for back ends, scripts and operators: the addresses of `docs/http.md`.
//!
//! Promise: what holds for sockets holds here. Who asks is known and may, before anything is read;
//! requests, bodies and pages are bounded; refusals have the codes and words of the protocol. An
//! answer that has begun is whole or breaks off; it never leaves something out in silence.

mod answer;
mod append;
mod backup;
mod body;
mod caller;
mod coming;
mod connections;
mod delivered;
mod filling;
mod guard;
mod health;
mod history;
mod journal;
mod line;
mod logs;
mod mark;
mod metrics;
mod notify;
mod pages;
mod query;
mod read;
mod reading;
mod revocations;
mod route;
mod sending;
mod shared;
mod snapshots;
mod spans;

pub use mark::Marks;
pub use metrics::Counters;
pub use route::Takes;
pub use shared::Shared;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::MatchedPath;
use axum::http::{Response, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::{Router, http};

use super::{Gate, accept, demo};
use crate::wire::{Code, Refusal};
use answer::Problem;
use route::{LOG, OWN_HEADER, POSITION, WRITER};

pub(super) use guard::{is_local, same_origin};
pub(super) use route::Route;

/// All addresses, with a word for those that are none.
pub fn router(gate: Arc<Gate>) -> Router {
    let Addresses { sockets, pages, operators, admitted } = Addresses::of(gate.dev);
    let admitted = route::router(admitted)
        .layer(from_fn_with_state(Arc::clone(&gate), history::keep))
        .layer(from_fn_with_state(Arc::clone(&gate), guard::admit));
    let http = route::router(operators)
        .merge(admitted)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&gate), guard::check_origin))
        .layer(from_fn(guard::linger))
        .layer(from_fn_with_state(Arc::clone(&gate), metrics::count));
    let unguarded = route::router(sockets).merge(route::router(pages));
    unguarded.method_not_allowed_fallback(wrong_method).merge(http).with_state(gate)
}

/// What every method of every address takes; the addresses of development among them, or not.
pub fn addresses(dev: bool) -> Vec<Takes> {
    let Addresses { sockets, pages, operators, admitted } = Addresses::of(dev);
    let lists = [sockets, pages, operators, admitted];
    lists.iter().flat_map(|list| route::takes(list)).collect()
}

/// All there is, by who looks after it.
struct Addresses {
    /// Becomes a socket; has an admission of its own.
    sockets: Vec<Route<Arc<Gate>>>,
    /// Files that are the same for everybody.
    pages: Vec<Route<Arc<Gate>>>,
    /// Looked at when all room is taken.
    operators: Vec<Route<Arc<Gate>>>,
    /// Takes room among the requests under way.
    admitted: Vec<Route<Arc<Gate>>>,
}

impl Addresses {
    fn of(dev: bool) -> Self {
        let mut admitted = of_logs();
        admitted.extend(of_connections());
        admitted.extend(of_users());
        admitted.extend(of_operators());
        if dev {
            admitted.extend(demo::deeds());
        }
        let operators = vec![
            Route::plain("GET", "/healthz", &[], health::alive),
            Route::plain("GET", "/readyz", &[], health::ready),
            Route::plain("GET", "/metrics", &[], metrics::show),
        ];
        let sockets = vec![Route::plain("GET", "/v1/connect", &[], accept::connect)];
        // Without --dev nobody gets a user by itself, which is what the demo lives on.
        let pages = if dev { demo::routes() } else { Vec::new() };
        Self { sockets, pages, operators, admitted }
    }
}

/// What all requests about something that is kept may say.
const KEPT: &[&str] = &[POSITION];
/// What readers of a log may say.
const READ: &[&str] = &[POSITION, LOG];
/// What comes with appends of one record to many logs.
const TOLD: &[&str] = &[POSITION, WRITER[0], WRITER[1], WRITER[2]];
/// What comes with appends to one log.
const APPENDED: &[&str] = &[
    POSITION,
    LOG,
    WRITER[0],
    WRITER[1],
    WRITER[2],
    "highwater-if-head",
    "highwater-key",
    "highwater-kind",
    "highwater-event-time",
    OWN_HEADER,
];

fn of_logs() -> Vec<Route<Arc<Gate>>> {
    let (all, log) = ("/v1/logs", "/v1/logs/{*name}");
    let (pages, snapshot) = ("/v1/pages/{*name}", "/v1/snapshots/{*name}");
    let had = "/v1/delivered/{*name}";
    vec![
        Route::asking::<logs::ListQuery, _, _>("GET", all, KEPT, logs::list),
        Route::asking::<read::ReadQuery, _, _>("GET", log, READ, read::get),
        Route::plain("HEAD", log, READ, logs::head),
        Route::asking::<append::AppendQuery, _, _>("POST", log, APPENDED, append::post),
        Route::plain("DELETE", log, KEPT, logs::delete),
        Route::plain("POST", "/v1/writers/{id}/retire", KEPT, logs::retire),
        Route::asking::<pages::PagesQuery, _, _>("GET", pages, READ, pages::list),
        Route::asking::<delivered::DeliveredQuery, _, _>("GET", had, READ, delivered::get),
        Route::plain("GET", snapshot, READ, snapshots::get),
        Route::asking::<snapshots::PutQuery, _, _>("PUT", snapshot, KEPT, snapshots::put),
    ]
}

fn of_connections() -> Vec<Route<Arc<Gate>>> {
    use connections::{ListQuery, ProposalQuery, ShowQuery};
    let (one, downgrade) = ("/v1/connections/{id}", "/v1/connections/{id}/downgrade");
    let unsubscribe = "/v1/connections/{id}/unsubscribe";
    vec![
        Route::asking::<ListQuery, _, _>("GET", "/v1/connections", KEPT, connections::list),
        Route::asking::<ShowQuery, _, _>("GET", one, KEPT, connections::show),
        Route::asking::<ProposalQuery, _, _>("DELETE", one, KEPT, connections::forget),
        Route::asking::<ProposalQuery, _, _>("POST", downgrade, KEPT, connections::downgrade),
        Route::plain("POST", "/v1/connections/{id}/subscribe", KEPT, connections::subscribe),
        Route::plain("POST", unsubscribe, KEPT, connections::unsubscribe),
        Route::plain("POST", "/v1/connections/{id}/seek", KEPT, connections::seek),
    ]
}

fn of_users() -> Vec<Route<Arc<Gate>>> {
    use notify::NotifyQuery;
    use revocations::{ListQuery, RemoveQuery};
    let (notify_user, revocations) = ("/v1/users/{user}/notify", "/v1/revocations");
    let unsubscribe = "/v1/users/{user}/unsubscribe";
    vec![
        Route::plain("POST", "/v1/users/{user}/subscribe", KEPT, connections::subscribe_user),
        Route::plain("POST", unsubscribe, KEPT, connections::unsubscribe_user),
        Route::asking::<NotifyQuery, _, _>("POST", notify_user, TOLD, notify::notify_user),
        Route::asking::<NotifyQuery, _, _>("POST", "/v1/notify", TOLD, notify::notify),
        Route::asking::<ListQuery, _, _>("GET", revocations, KEPT, revocations::list),
        Route::plain("POST", revocations, KEPT, revocations::add),
        Route::asking::<RemoveQuery, _, _>("DELETE", revocations, KEPT, revocations::remove),
    ]
}

fn of_operators() -> Vec<Route<Arc<Gate>>> {
    use journal::{EraQuery, ForgetQuery, UpgradeQuery};
    vec![
        Route::plain("POST", "/v1/backup", KEPT, backup::write),
        Route::plain("GET", "/v1/journal", KEPT, journal::show),
        Route::asking::<UpgradeQuery, _, _>("POST", "/v1/journal/upgrade", KEPT, journal::upgrade),
        Route::asking::<EraQuery, _, _>("POST", "/v1/journal/era", KEPT, journal::era),
        Route::asking::<ForgetQuery, _, _>("POST", "/v1/journal/forget", KEPT, journal::forget),
    ]
}

async fn nothing_here(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(100).collect();
    Refusal::because(Code::NotFound, format!("there is nothing at {path}: see docs/http.md")).into()
}

async fn wrong_method(matched: MatchedPath) -> axum::response::Response {
    // Where development's addresses are not served none of them is matched.
    let all = addresses(true).into_iter().filter(|takes| takes.path == matched.as_str());
    let mut methods: Vec<_> = all.map(|takes| takes.method).collect();
    if methods.contains(&"GET") && !methods.contains(&"HEAD") {
        methods.push("HEAD");
    }
    let methods = methods.join(", ");
    let message = format!("this address has no such method; it has {methods}");
    let problem = Problem::from(Refusal::because(Code::BadRequest, message));
    let problem = problem.status(http::StatusCode::METHOD_NOT_ALLOWED.as_u16());
    ([(header::ALLOW, methods)], problem).into_response()
}

/// A refusal as a response; it is counted.
pub(super) fn refuse(gate: &Gate, refusal: &Refusal) -> Response<Body> {
    gate.hub.refusals().count(refusal.code);
    Problem::from(refusal.clone()).into_response()
}
