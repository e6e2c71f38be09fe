//! `/v1/connections` and `/v1/users`: what clients hold, and operating it from the back end.
//!
//! A user sees and operates its own connections; one with `admin` on `**` those of all. What is not
//! the caller's is answered as if it were not there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Problem, json_answer, refusal_json, with};
use super::caller::{Caller, PathId, PathUser};
use super::query::{self, Parameters};
use super::{guard, logs, reading, sending};
use crate::admission::Making;
use crate::admission::readable;
use crate::auth::{Can, Grants};
use crate::connection::{Attachment, ConnectionRow, NodeRow, Opened, Subscribe, attached_since};
use crate::fold::{Command, Reply};
use crate::gateway::Gate;
use crate::rows::{Rows as _, RowsError, Table, read_row};
use crate::store::Store;
use crate::wire::{Code, Id, MAX_OFFSET, Open, Pattern, Reason, Refusal, Start, name};

/// Connections in a page where it is not said, and at most.
const PAGE: usize = 100;
const MOST: usize = 1_000;
/// Subscriptions shown at once.
const SUBSCRIPTIONS: usize = 1_000;
/// Logs in one request.
const MOST_LOGS: usize = 1_000;

/// Nodes as the store knows them, looked up once per answer.
#[derive(Default)]
pub(super) struct Nodes(HashMap<Id, Option<NodeRow>>);

impl Nodes {
    /// Whether a row's socket can still be there, and since when it is so.
    pub(super) fn attached(
        &mut self,
        store: &Store,
        row: &ConnectionRow,
    ) -> Result<(bool, u64), RowsError> {
        let Some(Attachment { node, .. }) = row.attached else {
            return Ok(attached_since(None, row.since, None));
        };
        let known = match self.0.entry(node) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let bytes = store.get(Table::Nodes, &node.0)?;
                new.insert(bytes.map(|bytes| read_row(Table::Nodes, &bytes)).transpose()?)
            }
        };
        Ok(attached_since(row.attached, row.since, known.as_ref()))
    }
}

fn summary(
    store: &Store,
    nodes: &mut Nodes,
    id: Id,
    row: &ConnectionRow,
) -> Result<Value, RowsError> {
    let (attached, since) = nodes.attached(store, row)?;
    Ok(json!({
        "id": id,
        "user": row.user,
        "device": row.device,
        "client": row.client,
        "active": row.active(),
        "reason": row.inactive,
        "attached": attached,
        "visible": row.visible,
        "generation": row.generation,
        "since": since,
        "created": row.created,
        "subscriptions": row.subs.len(),
    }))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    user: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/connections`: by id; of a user, or of all for one who may operate all.
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    Caller(grants): Caller,
    Parameters(asked): Parameters<ListQuery>,
) -> Answer {
    let limit = query::page(asked.limit.as_deref(), PAGE, MOST)?;
    let user = match asked.user {
        Some(user) => Some(user),
        None if grants.administers_all() => None,
        None => Some(grants.user.clone()),
    };
    if user.as_ref().is_some_and(|user| *user != grants.user) && !grants.administers_all() {
        let message = "connections of others take a grant of admin on **";
        return Err(Refusal::because(Code::Denied, message).into());
    }
    // All of them, or those of a user; no user is without a name.
    let of = user.clone().unwrap_or_default();
    let marks = gate.http.marks.of("connections", &grants.user, &of);
    let after = marks.open(asked.after.as_deref())?;
    let after = after.and_then(|after| after.try_into().ok()).map(Id);
    let listed = reading::look(&gate, move |store| page(store, user.as_deref(), after, limit));
    let (connections, next) = listed.await?;
    let next = next.and_then(|next| marks.seal(&next.0));
    Ok(json_answer(StatusCode::OK, json!({ "connections": connections, "next": next })))
}

/// A page of connections, and the id to go on after.
fn page(
    store: &Store,
    user: Option<&str>,
    after: Option<Id>,
    limit: usize,
) -> Result<(Vec<Value>, Option<Id>), RowsError> {
    let mut rows = Vec::new();
    match user {
        Some(user) => {
            for id in store.connections_of(user, after, limit + 1)? {
                rows.extend(store.connection(id)?.map(|row| (id, row)));
            }
        }
        None => rows = store.connections(after, limit + 1)?,
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().map(|(id, _)| *id).filter(|_| more);
    let mut nodes = Nodes::default();
    let shown = rows.iter().map(|(id, row)| summary(store, &mut nodes, *id, row));
    Ok((shown.collect::<Result<_, _>>()?, next))
}

/// The row of a connection that the caller may see.
async fn mine(gate: &Gate, grants: &Grants, id: Id) -> Result<ConnectionRow, Problem> {
    let row = reading::look(gate, move |store| store.connection(id)).await?;
    let own = |row: &ConnectionRow| row.user == grants.user || grants.administers_all();
    row.filter(own).ok_or_else(|| {
        Refusal::because(Code::UnknownConnection, format!("there is no connection {id}")).into()
    })
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowQuery {
    after: Option<String>,
}

/// `GET /v1/connections/{id}`: with subscriptions by log id, and its socket where it is here.
pub(super) async fn show(
    State(gate): State<Arc<Gate>>,
    PathId(id): PathId,
    Caller(grants): Caller,
    Parameters(asked): Parameters<ShowQuery>,
) -> Answer {
    let row = mine(&gate, &grants, id).await?;
    let marks = gate.http.marks.of("subscriptions", &grants.user, &id.to_string());
    let after = marks.open(asked.after.as_deref())?;
    let after = after.and_then(|after| after.try_into().ok()).map_or(0, u64::from_le_bytes);
    let shown = reading::look(&gate, move |store| {
        let shown = summary(store, &mut Nodes::default(), id, &row)?;
        let (subscriptions, next, lag) = subscriptions(store, &row, after, &grants)?;
        let next = next.and_then(|next| marks.seal(&next.to_le_bytes()));
        let shown = with(shown, "subscriptions", subscriptions);
        Ok(with(with(shown, "next", next), "lag", lag))
    });
    let socket = gate.hub.socket(id).map(|socket| socket.info());
    Ok(json_answer(StatusCode::OK, with(shown.await?, "socket", socket)))
}

type Subscriptions = (Vec<Value>, Option<u64>, u64);

/// Whether a caller may know of a log what a reader of it knows.
fn may_see(grants: &Grants, name: &str) -> bool {
    grants.administers_all() || grants.allows(name, Can::Read)
}

/// Subscriptions after a log id, the id to go on after, and the lag over those shown. Of a log
/// that the caller may not read it learns that there is a subscription, and no more.
fn subscriptions(
    store: &Store,
    row: &ConnectionRow,
    after: u64,
    grants: &Grants,
) -> Result<Subscriptions, RowsError> {
    let mut shown = Vec::new();
    let mut total = 0;
    let subs = row.subs.iter().filter(|sub| sub.log > after);
    for sub in subs.clone().take(SUBSCRIPTIONS) {
        let log = store.log_row(sub.log)?.filter(|log| !log.deleted);
        if let Some(log) = &log
            && !may_see(grants, &log.name)
        {
            shown.push(json!({ "log": sub.log, "denied": true }));
            continue;
        }
        let lag = log.as_ref().map(|log| log.head.saturating_sub(sub.cursor));
        total += lag.unwrap_or_default();
        shown.push(json!({
            "log": sub.log,
            "name": log.as_ref().map(|log| &log.name),
            "cursor": sub.cursor,
            "priority": sub.priority,
            "held": sub.held(),
            "start": log.as_ref().map(|log| log.start),
            "head": log.as_ref().map(|log| log.head),
            "lag": lag,
            "deleted": log.is_none(),
        }));
    }
    let next = subs.clone().nth(SUBSCRIPTIONS - 1).map(|sub| sub.log);
    let next = next.filter(|_| subs.count() > SUBSCRIPTIONS);
    Ok((shown, next, total))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProposalQuery {
    generation: Option<String>,
}

impl ProposalQuery {
    fn generation(self) -> Result<Option<u64>, Problem> {
        let parsed = self.generation.map(|text| query::offset("generation", &text));
        Ok(parsed.transpose()?)
    }
}

/// `POST /v1/connections/{id}/downgrade`: it loses its channel, its socket stays.
pub(super) async fn downgrade(
    State(gate): State<Arc<Gate>>,
    PathId(connection): PathId,
    Caller(grants): Caller,
    Parameters(asked): Parameters<ProposalQuery>,
) -> Answer {
    mine(&gate, &grants, connection).await?;
    let (generation, reason) = (asked.generation()?, Reason::Asked);
    sending::ask(&gate, Command::Downgrade { connection, generation, reason }, 0).await?;
    let body = json!({ "id": connection, "active": false, "reason": reason });
    Ok(json_answer(StatusCode::OK, body))
}

/// `DELETE /v1/connections/{id}`: it is forgotten, which takes that it has no socket.
pub(super) async fn forget(
    State(gate): State<Arc<Gate>>,
    PathId(connection): PathId,
    Caller(grants): Caller,
    Parameters(asked): Parameters<ProposalQuery>,
) -> Answer {
    mine(&gate, &grants, connection).await?;
    let generation = asked.generation()?;
    let forgotten = sending::ask(&gate, Command::Forget { connection, generation }, 0).await;
    if let Err(problem) = forgotten {
        if problem.refusal.code == Code::Stale && generation.is_none() {
            let message = "the connection has a socket: it can be forgotten once that is gone";
            return Err(Refusal::because(Code::Stale, message).into());
        }
        return Err(problem);
    }
    Ok(json_answer(StatusCode::OK, json!({ "id": connection, "forgotten": true })))
}

/// A log to subscribe to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with name, and start and priority as wanted")]
struct Wanted {
    name: String,
    #[serde(default)]
    start: Start,
    #[serde(default)]
    priority: u8,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscribeBody {
    logs: Vec<Wanted>,
}

/// The logs of a body, checked.
fn opens(bytes: &[u8]) -> Result<Vec<Open>, Problem> {
    let body: SubscribeBody = reading::json(bytes)?;
    check_count(body.logs.len())?;
    let open = |Wanted { name, start, priority }| {
        check_name(&name)?;
        check_start(start)?;
        Ok(Open { name, have: None, start, priority })
    };
    body.logs.into_iter().map(open).collect()
}

fn check_count(count: usize) -> Result<(), Problem> {
    if (1..=MOST_LOGS).contains(&count) {
        return Ok(());
    }
    Err(Problem::bad_request(format!("logs: a list of 1 to {MOST_LOGS}")))
}

fn check_name(text: &str) -> Result<(), Problem> {
    name::check(text).map(drop).map_err(|_| {
        let shown: String = text.chars().take(name::MAX_NAME_BYTES).collect();
        Refusal::because(Code::BadName, format!("{shown:?}: {}", name::BadName)).into()
    })
}

fn check_start(start: Start) -> Result<(), Problem> {
    match start {
        Start::Offset(offset) if offset > MAX_OFFSET => Err(Code::BadOffset.into()),
        _ => Ok(()),
    }
}

/// `POST /v1/connections/{id}/subscribe`.
pub(super) async fn subscribe(
    State(gate): State<Arc<Gate>>,
    PathId(connection): PathId,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    mine(&gate, &caller.0, connection).await?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let mut open = opens(&arrived.bytes)?;
    // What the client may read is looked at again with each delivery, by its own token.
    let grants = &caller.0;
    let read = if grants.administers_all() { vec![Pattern::all()] } else { readable(grants) };
    let Making { make, unmade, mut spent } = gate.admission.making(grants, &mut open);
    let ask = Subscribe { connection, generation: None, open, read, make, bases: Vec::new() };
    let weight = arrived.bytes.len();
    spent.hand_in();
    let told = match sending::ask(&gate, Command::Subscribe(ask), weight).await {
        Ok(told) => told,
        Err(problem) => {
            // What is refused as a whole has made nothing.
            if problem.refusal.code != Code::Unknown {
                spent.give_back();
            }
            return Err(problem);
        }
    };
    match told {
        Reply::Subscribed(generation, opened, refused) => {
            spent.settle(&refused);
            let refused: Vec<_> = refused
                .iter()
                .chain(&unmade)
                .map(|(name, refusal)| with(refusal_json(refusal), "name", name))
                .collect();
            let subscribed: Vec<_> = opened.iter().map(opened_json).collect();
            let body = json!({
                "id": connection,
                "generation": generation,
                "subscribed": subscribed,
                "refused": refused,
            });
            Ok(json_answer(StatusCode::OK, body))
        }
        other => Err(logs::unexpected(&other)),
    }
}

fn opened_json(opened: &Opened) -> Value {
    json!({
        "log": opened.log,
        "name": opened.name,
        "start": opened.start,
        "head": opened.head,
        "cursor": opened.cursor,
        "priority": opened.priority,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamesBody {
    logs: Vec<String>,
}

/// The ids of the logs that a body names, with their names; unknown ones apart, and among them
/// those that the caller may not read.
async fn named(
    gate: &Gate,
    caller: &Caller,
    bytes: &[u8],
) -> Result<(HashMap<u64, String>, Vec<String>), Problem> {
    let NamesBody { logs } = reading::json(bytes)?;
    check_count(logs.len())?;
    logs.iter().try_for_each(|name| check_name(name))?;
    let grants = caller.0.clone();
    let found = reading::look(gate, move |store| {
        let (mut known, mut unknown) = (HashMap::new(), Vec::new());
        for name in logs {
            match store.find_log(&name)?.filter(|_| may_see(&grants, &name)) {
                Some(id) => drop(known.insert(id, name)),
                None => unknown.push(name),
            }
        }
        Ok((known, unknown))
    });
    found.await
}

/// `POST /v1/connections/{id}/unsubscribe`.
pub(super) async fn unsubscribe(
    State(gate): State<Arc<Gate>>,
    PathId(connection): PathId,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    mine(&gate, &caller.0, connection).await?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let (known, unknown) = named(&gate, &caller, &arrived.bytes).await?;
    let logs = known.keys().copied().collect();
    let command = Command::Unsubscribe { connection, generation: None, logs };
    match sending::ask(&gate, command, arrived.bytes.len()).await? {
        Reply::Unsubscribed(ended) => {
            let names: Vec<_> = ended.iter().filter_map(|log| known.get(log)).collect();
            let body = json!({ "id": connection, "unsubscribed": names, "unknown": unknown });
            Ok(json_answer(StatusCode::OK, body))
        }
        other => Err(logs::unexpected(&other)),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeekBody {
    log: String,
    to: Start,
}

/// `POST /v1/connections/{id}/seek`.
pub(super) async fn seek(
    State(gate): State<Arc<Gate>>,
    PathId(connection): PathId,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    mine(&gate, &caller.0, connection).await?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let SeekBody { log, to } = reading::json(&arrived.bytes)?;
    check_name(&log)?;
    check_start(to)?;
    if !may_see(&caller.0, &log) {
        caller.must(Can::Read, &log)?;
    }
    let (log, _) = reading::log_named(&gate, &log).await?;
    let command = Command::Seek { connection, generation: None, log, to };
    match sending::ask(&gate, command, 0).await? {
        Reply::Moved(generation, opened) => {
            let body = with(opened_json(&opened), "id", connection);
            let body = with(with(body, "generation", generation), "gap", opened.gap);
            Ok(json_answer(StatusCode::OK, body))
        }
        other => Err(logs::unexpected(&other)),
    }
}

/// `POST /v1/users/{user}/subscribe`: every active connection of the user.
pub(super) async fn subscribe_user(
    State(gate): State<Arc<Gate>>,
    PathUser(user): PathUser,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must_administer()?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let open = opens(&arrived.bytes)?;
    let command = Command::SubscribeUser { user: user.clone(), open };
    match sending::ask(&gate, command, arrived.bytes.len()).await? {
        Reply::Reached(reached) => {
            Ok(json_answer(StatusCode::OK, json!({ "user": user, "reached": reached })))
        }
        other => Err(logs::unexpected(&other)),
    }
}

/// `POST /v1/users/{user}/unsubscribe`: every connection of the user.
pub(super) async fn unsubscribe_user(
    State(gate): State<Arc<Gate>>,
    PathUser(user): PathUser,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must_administer()?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let (known, unknown) = named(&gate, &caller, &arrived.bytes).await?;
    let logs = known.into_keys().collect();
    let command = Command::UnsubscribeUser { user: user.clone(), logs };
    match sending::ask(&gate, command, arrived.bytes.len()).await? {
        Reply::Reached(reached) => {
            let body = json!({ "user": user, "reached": reached, "unknown": unknown });
            Ok(json_answer(StatusCode::OK, body))
        }
        other => Err(logs::unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_a_body_are_checked() {
        let good = br#"{"logs":[{"name":"a"},{"name":"b","start":{"offset":5},"priority":3}]}"#;
        let opens = opens(good).unwrap();
        assert_eq!(opens[0].start, Start::State);
        assert_eq!((opens[1].start, opens[1].priority), (Start::Offset(5), 3));
        for (bad, code) in [
            (&br#"{"logs":[]}"#[..], Code::BadRequest),
            (br#"{"logs":[{"name":"a/../b"}]}"#, Code::BadName),
            (br#"{"logs":[{"name":"a","start":{"offset":9007199254740992}}]}"#, Code::BadOffset),
            (br#"{"logs":[{"name":"a","start":"first"}]}"#, Code::BadRequest),
            (br#"{"logs":[{"name":"a","priority":256}]}"#, Code::BadRequest),
            (br#"{"logs":[{"name":"a","from":1}]}"#, Code::BadRequest),
            (br#"[["a"]]"#, Code::BadRequest),
            (b"", Code::BadRequest),
        ] {
            let problem = super::opens(bad).unwrap_err();
            assert_eq!(problem.refusal.code, code, "{}", String::from_utf8_lossy(bad));
        }
        let many = format!(r#"{{"logs":[{}]}}"#, [r#"{"name":"a"}"#; MOST_LOGS + 1].join(","));
        assert_eq!(super::opens(many.as_bytes()).unwrap_err().refusal.code, Code::BadRequest);
    }
}
