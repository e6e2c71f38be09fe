//! The port: connections are accepted, HTTP is served, `/v1/connect` becomes a WebSocket.
//!
//! Admission comes first: a node with as many sockets as it may hold, or that is going away,
//! answers with a status and a time before anything is allocated for the socket.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::stall::StallTimeout;
use super::{Gate, http, socket};
use crate::wire::{Code, Encoding, Refusal};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections besides sockets: requests under way and kept alive.
pub const PLAIN_CONNECTIONS: usize = 2_048;

/// Room for one connection; a socket takes it over from the request that it began as, so all of
/// them together are bounded.
type Room = Arc<OwnedSemaphorePermit>;

/// A bound port.
#[derive(Debug)]
pub struct Accepting {
    listener: TcpListener,
    /// Where it listens; the port is the real one.
    pub address: SocketAddr,
}

impl Accepting {
    /// Binds the address. In a storm the kernel keeps so many connections until they are taken;
    /// what it has no room for it drops in silence, and no refusal says when to come back.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn bind(address: SocketAddr, backlog: u32) -> std::io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A node that is started again finds its port, whatever connections have just ended.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(backlog)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }
}

/// Serves the port until the future is dropped.
pub async fn serve(accepting: Accepting, gate: Arc<Gate>) {
    let router = http::router(Arc::clone(&gate));
    let connections = Arc::new(Semaphore::new(gate.connections.min(Semaphore::MAX_PERMITS)));
    loop {
        // Room is taken before a connection is: what waits, waits in the kernel's bounded list.
        let Ok(room) = Arc::clone(&connections).acquire_owned().await else { return };
        let stream = match accepting.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // An answer goes out in few pieces; none waits until the one before is received.
        stream.set_nodelay(true).ok();
        tokio::spawn(talk(stream, router.clone(), Arc::new(room), gate.admission.shed.end()));
    }
}

/// Serves one connection: requests one after another, until its client goes, or the node drains
/// and the one under way is answered.
async fn talk(stream: TcpStream, router: axum::Router, room: Room, mut draining: Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&room));
        service.call(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(64 << 10);
    let served = http.serve_connection(TokioIo::new(StallTimeout::new(stream)), service);
    let mut served = pin!(served.with_upgrades());
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        Ok(_) = draining.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// `GET /v1/connect`: answers the handshake of RFC 6455 §4.2, or refuses it.
pub(super) async fn connect(
    State(gate): State<Arc<Gate>>,
    mut request: Request<Body>,
) -> Response<Body> {
    let room: Option<Room> = request.extensions_mut().remove();
    let Admitted { key, encoding, foreign } = match admit(&gate, request.headers()) {
        Ok(admitted) => admitted,
        Err(refusal) => return http::refuse(&gate, &refusal),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    gate.sockets.fetch_add(1, Ordering::Relaxed);
    gate.greeting.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        let counted = socket::Counted::new(Arc::clone(&gate), room);
        let upgraded = match upgraded.await {
            Ok(upgraded) => upgraded.downcast::<TokioIo<StallTimeout>>(),
            Err(error) => {
                tracing::debug!(%error, "an upgrade was not carried through");
                return;
            }
        };
        // Taken apart here, so that the buffer that read the handshake goes before the socket does.
        let (tcp, read) = match upgraded {
            Ok(parts) => (parts.io.into_inner().into_inner(), parts.read_buf.to_vec()),
            Err(_) => {
                tracing::error!("an upgraded connection is not the TCP socket it was");
                return;
            }
        };
        if foreign {
            let closing = Refusal::from(Code::Origin).into();
            return socket::send_away(gate, counted, tcp, encoding, closing).await;
        }
        socket::run(gate, counted, tcp, read, encoding).await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let subprotocol = HeaderValue::from_static(encoding.subprotocol());
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(&key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// A handshake that is answered.
struct Admitted {
    key: Vec<u8>,
    encoding: Encoding,
    /// A page of an origin that is not allowed: it is told so, and nothing else. Were the handshake
    /// refused, a browser would keep the reason from its page.
    foreign: bool,
}

/// Decides on a handshake before anything is done for it.
fn admit(gate: &Gate, headers: &HeaderMap) -> Result<Admitted, Refusal> {
    let has = |name, want: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(want)))
    };
    let bad = |message| Refusal::because(Code::BadRequest, message);
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return Err(bad("this address speaks WebSocket: connect with a WebSocket client"));
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
    let key = key.ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    let mut encodings = Encoding::ALL.into_iter();
    let encoding = encodings
        .find(|encoding| has(header::SEC_WEBSOCKET_PROTOCOL, encoding.subprotocol()))
        .ok_or_else(|| bad("offer the subprotocol highwater.v1.bincode or highwater.v1.json"))?;
    if gate.admission.shed.draining() {
        return Err(Refusal::new(Code::ShuttingDown).after(1_000));
    }
    gate.admission.rates.check_handshake()?;
    if gate.sockets.load(Ordering::Relaxed) >= gate.limits.sockets as usize {
        return Err(Refusal::new(Code::Sockets).after(5_000));
    }
    if gate.greeting.load(Ordering::Relaxed) >= gate.limits.handshakes_waiting as usize {
        return Err(Refusal::new(Code::Overloaded).after(1_000));
    }
    Ok(Admitted { key, encoding, foreign: is_foreign(gate, headers) })
}

/// Whether the handshake is one of a page that may not connect.
fn is_foreign(gate: &Gate, headers: &HeaderMap) -> bool {
    let origin = match headers.get(header::ORIGIN).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(origin)) => Some(origin),
        Some(Err(_)) => return true,
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let allowed = gate.authority.origins().allows(origin) || http::same_origin(origin, host);
    !allowed || (gate.dev && !http::is_local(headers))
}
