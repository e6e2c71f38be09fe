//! What stands before every handler: origin, room for one more request, room for its body.
//!
//! Promise: requests under way and the bytes of their bodies are bounded; one too many is refused
//! before anything of it is read. Pages of foreign origins come no further than here.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use tokio::sync::SemaphorePermit;

use super::answer::Problem;
use super::caller::Caller;
use super::coming::Coming;
use super::route::OWN_HEADER;
use crate::admission::cut_off;
use crate::auth::is_of_host;
use crate::gateway::Gate;
use crate::wire::{Code, Refusal};

/// How much of a body that nobody wants is read on, and for how long.
const LINGER_BYTES: usize = 16 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);
/// What whoever finds no room is told to wait, in milliseconds.
const NO_ROOM_AFTER: u32 = 500;
/// What whoever asks a node that is going away is told to wait, in milliseconds.
const AWAY_AFTER: u32 = 1_000;
/// What pages may read of an answer besides its body.
const EXPOSED: &str = "Highwater-Start, Highwater-Head, Highwater-Next, Highwater-Log, \
                       Highwater-Gap, Highwater-Offset, Highwater-Version, Highwater-Rule, \
                       Highwater-Position, Retry-After";
/// What pages may send.
const ALLOWED: &str = "Authorization, Content-Type, Accept, Highwater-If-Head, Highwater-Writer, \
                       Highwater-Seq, Highwater-Oldest, Highwater-Key, Highwater-Kind, \
                       Highwater-Event-Time, Highwater-Log, Highwater-Position";

/// A request under way; it counts until this is dropped, which a streamed answer does at its end.
#[derive(Debug)]
pub(super) struct Slot(Arc<Gate>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

fn reserve_slot(gate: &Arc<Gate>) -> Result<Slot, Refusal> {
    let under_way = gate.requests.fetch_add(1, Ordering::Relaxed);
    let slot = Slot(Arc::clone(gate));
    if under_way >= gate.limits.http_requests_waiting as usize {
        let message = "as many requests are under way as may be: send again after the time told";
        return Err(Refusal::because(Code::Overloaded, message).after(NO_ROOM_AFTER));
    }
    Ok(slot)
}

/// Lets a request in while there is room for it.
pub(super) async fn admit(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response {
    if gate.admission.shed.draining() {
        let message = "this node is going away: another one, or this one when it is back, answers";
        let refusal = Refusal::because(Code::ShuttingDown, message).after(AWAY_AFTER);
        return Problem::from(refusal).into_response();
    }
    if gate.fence.is_shut() {
        return Problem::from(cut_off()).into_response();
    }
    match reserve_slot(&gate) {
        Ok(slot) => {
            let slot = Arc::new(slot);
            request.extensions_mut().insert(Arc::clone(&slot));
            next.run(request).await
        }
        Err(refusal) => Problem::from(refusal).into_response(),
    }
}

/// Reads on what a handler left of the body, within bounds, before the answer goes out. Most
/// clients listen only when they have sent all; one whose connection is closed before that would
/// never see why it was refused.
pub(super) async fn linger(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::EXPECT) {
        // It asked before it sends; to read would be to say yes.
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let shared = Arc::new(Mutex::new(body.into_data_stream()));
    let pieces = |shared: Arc<Mutex<BodyDataStream>>| {
        // Held while the body is polled, never while it is waited for.
        poll_fn(move |context| {
            shared.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
        })
    };
    let body = Body::from_stream(pieces(Arc::clone(&shared)));
    let response = next.run(Request::from_parts(parts, body)).await;
    let rest = async {
        let mut rest = pieces(shared);
        let mut read = 0;
        while let Some(Ok(piece)) = rest.next().await {
            read += piece.len();
            if read > LINGER_BYTES {
                break;
            }
        }
    };
    tokio::time::timeout(LINGER_TIME, rest).await.ok();
    response
}

/// Lets pages of allowed origins in, and no others; answers their preflights.
pub(super) async fn check_origin(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN).cloned();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let allowed = match origin.as_ref().map(HeaderValue::to_str) {
        None => true,
        Some(Ok(origin)) => {
            gate.authority.origins().allows(Some(origin)) || same_origin(Some(origin), host)
        }
        Some(Err(_)) => false,
    };
    if !allowed || (gate.dev && !is_local(headers)) {
        return Problem::from(Code::Origin).into_response();
    }
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let preflight = request.method() == Method::OPTIONS
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    if let Some(origin) = origin {
        let out = response.headers_mut();
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        out.insert(header::VARY, HeaderValue::from_static("Origin"));
        let exposed = HeaderValue::from_static(EXPOSED);
        out.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        if preflight {
            let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
            out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(&asked));
        }
    }
    response
}

/// What a page may send: what there is, and of what it asks for the records' own headers.
fn allowed_headers(asked: &Option<HeaderValue>) -> HeaderValue {
    let asked = asked.as_ref().and_then(|asked| asked.to_str().ok()).unwrap_or_default();
    let own = asked.split(',').map(str::trim);
    let own = own.filter(|name| name.to_ascii_lowercase().starts_with(OWN_HEADER));
    let all: Vec<_> = [ALLOWED].into_iter().chain(own).collect();
    HeaderValue::from_str(&all.join(", ")).unwrap_or(HeaderValue::from_static(ALLOWED))
}

/// A page that this very node served may come back to it.
pub(in crate::gateway) fn same_origin(origin: Option<&str>, host: Option<&str>) -> bool {
    matches!((origin, host), (Some(origin), Some(host)) if is_of_host(origin, host))
}

/// Whether a request was meant for this machine. In development anyone may do everything, and a
/// page whose host's name was made to lead here would otherwise count as being of our own origin.
pub(in crate::gateway) fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    let host = host.map(|host| host.host().to_ascii_lowercase());
    host.is_some_and(|host| matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]"))
}

/// A body that has arrived, and the room that it takes until it is dropped.
#[derive(Debug)]
pub(super) struct Arrived<'a> {
    pub bytes: Bytes,
    _room: SemaphorePermit<'a>,
}

/// Reads a body, as far as limits, room and time allow; then looks at the token again, for it may
/// have ended while the body came. Room is taken as the bytes come: one that announces much and
/// sends little keeps nobody else out.
///
/// # Errors
/// `too_large`, `overloaded` when too much is being read already, `silent` when it comes more
/// slowly than any link that is in use, `token_expired`, `revoked`.
pub(super) async fn arrive<'a>(
    gate: &'a Gate,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
) -> Result<Arrived<'a>, Problem> {
    let most = gate.limits.http_body_bytes as usize;
    let length = announced(headers).unwrap_or(0);
    // What cannot come in is refused before anything of it is sent; this room is not kept.
    drop(gate.http.room_for(length.min(most)).ok_or_else(no_room)?);
    let mut room = gate.http.room_for(0).ok_or_else(no_room)?;
    let too_large = || {
        let message = format!("a body has at most {most} bytes: send less at once");
        Problem::from(Refusal::because(Code::TooLarge, message))
    };
    if length > most {
        return Err(too_large());
    }
    let read = async {
        let mut body = Coming::new(body);
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.next().await? {
            if bytes.len() + piece.len() > most {
                return Err(too_large());
            }
            gate.http.grow(&mut room, bytes.len() + piece.len()).ok_or_else(no_room)?;
            bytes.extend_from_slice(&piece);
        }
        Ok(Arrived { bytes: bytes.freeze(), _room: room })
    };
    let arrived = read.await?;
    caller.recheck(gate)?;
    Ok(arrived)
}

/// Too many bytes of bodies are on their way in.
pub(super) fn no_room() -> Refusal {
    let message = "too many bytes are on their way in: send again after the time told";
    Refusal::because(Code::Overloaded, message).after(NO_ROOM_AFTER)
}

/// How long a body is by its headers; none where that is not known before its end.
fn announced(headers: &HeaderMap) -> Option<usize> {
    match headers.get(header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None if headers.contains_key(header::TRANSFER_ENCODING) => None,
        None => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_a_length_may_be_as_long_as_any() {
        let length = |name: header::HeaderName, value: &str| {
            announced(&HeaderMap::from_iter([(name, value.parse().unwrap())]))
        };
        assert_eq!(length(header::CONTENT_LENGTH, "17"), Some(17));
        assert_eq!(length(header::TRANSFER_ENCODING, "chunked"), None);
        assert_eq!(length(header::ACCEPT, "*/*"), Some(0));
    }

    #[test]
    fn a_page_may_send_what_the_documents_name() {
        let asked = |asked: &str| {
            let allowed = allowed_headers(&Some(HeaderValue::from_str(asked).unwrap()));
            allowed.to_str().unwrap().to_owned()
        };
        assert_eq!(asked("x-other"), ALLOWED);
        assert!(asked("Highwater-Header-Trace, x-other").ends_with(", Highwater-Header-Trace"));
        let documents = include_str!("../../../docs/http.md");
        let taken = crate::gateway::http::addresses(true);
        for name in taken.iter().flat_map(|takes| takes.headers) {
            let known = ALLOWED.to_ascii_lowercase().contains(name) || *name == OWN_HEADER;
            assert!(known, "{name} is taken, and no page may send it");
        }
        for word in documents.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
            let named = word.starts_with("Highwater-") && !EXPOSED.contains(word);
            let known = ALLOWED.contains(word) || word.starts_with("Highwater-Header-");
            assert!(!named || known, "{word} is in docs/http.md, and no page may send it");
        }
    }

    #[test]
    fn only_this_machine_counts_as_local() {
        let cases = [
            (None, true),
            (Some("localhost:8080"), true),
            (Some("LocalHost:8080"), true),
            (Some("127.0.0.1"), true),
            (Some("[::1]:80"), true),
            (Some("localhost.evil.example"), false),
            (Some("evil.example:8080"), false),
            (Some("127.0.0.1@evil.example"), false),
            (Some(""), false),
        ];
        for (host, want) in cases {
            let mut headers = HeaderMap::new();
            headers.extend(host.map(|host| (header::HOST, host.parse().unwrap())));
            assert_eq!(is_local(&headers), want, "{host:?}");
        }
    }
}
