//! The life of one WebSocket: Hello, then frames, until one side goes.
//!
//! One task reads the socket; what it reads is checked here, turned into commands and handed to the
//! fold. It never waits for an answer but the first: answers come out of the socket's one way out.
//! While replies fill their share, input is left unread.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use self::io::{Lane, Life};
use super::Gate;
use crate::admission::{Making, TokenGrants, asked_for, readable};
use crate::auth::Grants;
use crate::channel::{Closing, Face, Form, Opening, Request, Socket, Ticket};
use crate::connection::Attach;
use crate::fold::Command;
use crate::limit::{Purse, SocketRate};
use crate::wire::{
    ClientFrame, Code, Encoding, Hello, Id, Limits, Met, Place, Refusal, Welcome, capability,
    codec, version,
};

mod append;
mod frames;
mod io;

/// What the WebSocket layer reads at once; lent to a message only while its bytes come in.
const READ_BUFFER: usize = 1 << 10;
/// How long a closing socket may take to take what was meant for it.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// After so long a word that found no room is said again.
const SAY_AGAIN: Duration = Duration::from_millis(100);
/// Room that a message may take besides its largest frame: kind and length, or a second small
/// frame.
const MESSAGE_SLACK: usize = 64;

/// A socket counts until this is dropped.
pub(super) struct Counted {
    gate: Arc<Gate>,
    greeting: bool,
    /// Among the connections of the port.
    _room: Option<Arc<OwnedSemaphorePermit>>,
}

impl Counted {
    /// For a socket that was counted, as one that has not said Hello.
    pub(super) const fn new(gate: Arc<Gate>, room: Option<Arc<OwnedSemaphorePermit>>) -> Self {
        Self { gate, greeting: true, _room: room }
    }

    fn greeted(&mut self) {
        if std::mem::take(&mut self.greeting) {
            self.gate.greeting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.greeted();
        self.gate.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One WebSocket whose client has been met.
struct Session {
    gate: Arc<Gate>,
    socket: Arc<Socket>,
    grants: Arc<TokenGrants>,
    rate: SocketRate,
    purse: Purse,
    names: append::Names,
    /// The client states positions, and understands that it is of another history.
    history: bool,
    /// It goes on with bases that were cut.
    bases: bool,
    /// The client opens what it wants to have delivered: the rest is held.
    holds: bool,
    /// It leaves, and whether it is to be forgotten, but that found no room yet.
    leaves: Option<bool>,
}

/// A fault in what is done for a client ends its socket, and nobody else's: the task of a session
/// that panics comes by here.
impl Drop for Session {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.socket.close(&Closing::new(Code::Failed));
        self.gate.hub.leave(&self.socket);
        let last = self.socket.take_last();
        let weight = last.weight();
        if last.generation != 0
            && let Err(refusal) = self.gate.inbox.submit(Command::Detach(last), weight, None)
        {
            tracing::warn!(%refusal, "an attachment stays until the keeper finds it");
        }
    }
}

type Ws = WebSocketStream<Lane>;

/// Serves a WebSocket to its end.
pub(super) async fn run(
    gate: Arc<Gate>,
    mut counted: Counted,
    tcp: TcpStream,
    read: Vec<u8>,
    encoding: Encoding,
) {
    // A frame is written whole; waiting for more to come would only delay it.
    tcp.set_nodelay(true).ok();
    let tcp = Arc::new(tcp);
    let cell = Arc::new(OnceLock::new());
    let most = gate.limits.frame_bytes as usize + MESSAGE_SLACK;
    let life = Life::new(Arc::clone(&gate.hub), most);
    let lane = Lane { tcp: Arc::clone(&tcp), socket: Arc::clone(&cell), life };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(most))
        .max_frame_size(Some(most));
    let mut ws = WebSocketStream::from_partially_read(lane, read, Role::Server, Some(config)).await;
    let hello_time = Duration::from_millis(u64::from(gate.limits.hello_timeout_ms));
    let greeting = Box::pin(greet(&gate, &mut ws, &tcp, encoding));
    let greeted = match tokio::time::timeout(hello_time, greeting).await {
        Ok(greeted) => greeted,
        Err(_) => Err(Some(Closing::new(Code::HelloLate))),
    };
    let (session, attach, rest) = match greeted {
        Ok(greeted) => greeted,
        Err(None) => return,
        Err(Some(closing)) => {
            gate.hub.refusals().count(closing.code);
            let closing = gate.hub.elsewhere.name(Id(rand::random()), closing);
            turn_away(&tcp, &closing, encoding).await;
            return;
        }
    };
    if cell.set(Arc::clone(&session.socket)).is_err() {
        return;
    }
    counted.greeted();
    let (attach, welcome, opening) = *attach;
    session.attach(attach, welcome, opening);
    // A task of its own: what greeting took is given back, however long the socket lives.
    tokio::spawn(drive(session, counted, rest, ws, tcp, encoding));
}

/// Says why to a client that is not let in, and closes; nothing that it sends is looked at.
pub(super) async fn send_away(
    gate: Arc<Gate>,
    mut counted: Counted,
    tcp: TcpStream,
    encoding: Encoding,
    closing: Closing,
) {
    // It keeps no place of those that are still to say hello.
    counted.greeted();
    gate.hub.refusals().count(closing.code);
    let closing = gate.hub.elsewhere.name(Id(rand::random()), closing);
    turn_away(&tcp, &closing, encoding).await;
    drop(counted);
}

/// The last words to a client that was not met.
async fn turn_away(tcp: &TcpStream, closing: &Closing, encoding: Encoding) {
    let bytes = Form { face: Face::WebSocket, encoding, parts: false }.last_words(closing.bye());
    let write = async {
        let mut rest = &*bytes;
        while !rest.is_empty() {
            tcp.writable().await?;
            match tcp.try_write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        drain(tcp).await;
        Ok(())
    };
    // A client that does not take its last words is closed without them.
    tokio::time::timeout(LAST_WORDS, write).await.ok();
}

/// Reads until the client closes too, so that the kernel does not cut off what was just written.
async fn drain(tcp: &TcpStream) {
    let socket = socket2::SockRef::from(tcp);
    socket.shutdown(std::net::Shutdown::Write).ok();
    let mut scrap = vec![0; 512];
    while tcp.readable().await.is_ok() {
        match tcp.try_read(&mut scrap) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// A session, what it asks the fold, and the frames that came behind its Hello with their sizes.
type Greeted = (Session, Box<(Attach, Welcome, Opening)>, Vec<(ClientFrame, usize)>);

/// Waits for Hello and checks it: all that can be known without the fold. A client that goes
/// without a word is not told why it is closed.
async fn greet(
    gate: &Arc<Gate>,
    ws: &mut Ws,
    tcp: &Arc<TcpStream>,
    encoding: Encoding,
) -> Result<Greeted, Option<Closing>> {
    let (hello, rest) = first_message(gate, ws, encoding).await?;
    if gate.admission.shed.draining() {
        return Err(Some(Refusal::new(Code::ShuttingDown).after(1_000).into()));
    }
    // A full disk keeps appends out, not readers.
    gate.admission.shed.unless_full().map_err(Closing::from)?;
    if hello.writers.len() > gate.limits.writers_per_hello as usize {
        let most = gate.limits.writers_per_hello;
        let message = format!("a client speaks for at most {most} writers at a time");
        return Err(Some(Closing { message, ..Closing::new(Code::BadFrame) }));
    }
    let knows = |name: &str| hello.capabilities.iter().any(|known| known == name);
    let (history, bases) = (knows(capability::HISTORY), knows(capability::BASES));
    let holds = knows(capability::HELD);
    let numbers = knows(capability::REQUESTS);
    let form = Form { face: Face::WebSocket, encoding, parts: knows(capability::PARTS) };
    let now = gate.now();
    let mut made = None;
    let token = match (&hello.token, gate.dev) {
        (None, true) => {
            let user = gate.authority.dev_user(now).ok().flatten();
            made = user.map(|user| user.token);
            made.as_deref()
        }
        (token, _) => token.as_deref(),
    };
    let grants =
        gate.authority.authenticate(token, now).map_err(|e| Closing::from(Refusal::from(e)))?;
    let (attach, welcome, opening) = prepare(gate, hello, &grants, made, now);
    let grants = Arc::new(TokenGrants(grants));
    let window = u64::from(welcome.limits.window);
    let user = attach.user.clone();
    let socket = Socket::new(
        gate.hub.number(),
        attach.connection,
        user,
        (form, numbers),
        Arc::clone(tcp) as _,
        Arc::clone(&grants) as _,
        window,
        gate.limits.reply_bytes as usize,
        gate.hub.counts().clone(),
    );
    socket.hear(gate.hub.ticks());
    let mut purse = gate.admission.rates.socket_purse(&socket.user);
    let welcome = Welcome { credit: purse.credit(Id::NONE), ..welcome };
    let (gate, rate) = (Arc::clone(gate), gate.admission.rates.socket());
    let names = append::Names::default();
    let leaves = None;
    let session =
        Session { gate, socket, grants, rate, purse, names, history, bases, holds, leaves };
    Ok((session, Box::new((attach, welcome, opening)), rest))
}

/// Hello, and the frames that came behind it in the same message.
async fn first_message(
    gate: &Gate,
    ws: &mut Ws,
    encoding: Encoding,
) -> Result<(Hello, Vec<(ClientFrame, usize)>), Option<Closing>> {
    let message = loop {
        let message = ws.next().await.ok_or_else(|| Closing::new(Code::HelloExpected))?;
        let message = match message {
            Err(error) if is_gone(&error) => return Err(None),
            message => message.map_err(|error| broken(&error))?,
        };
        if let Some(bytes) = payload(message, encoding)? {
            break bytes;
        }
    };
    let most = gate.limits.frame_bytes as usize;
    let mut frames = codec::decode::<ClientFrame>(&message, encoding, most);
    let first = frames.next().ok_or_else(|| Closing::new(Code::HelloExpected))?;
    let (first, _) = first.map_err(|error| unreadable(&error))?;
    first.check().map_err(Closing::from)?;
    let ClientFrame::Hello(hello) = first else {
        return Err(Some(Closing::new(Code::HelloExpected)));
    };
    let rest: Result<Vec<_>, _> = frames.collect();
    Ok((hello, rest.map_err(|error| unreadable(&error))?))
}

/// The command that attaches a client, the welcome as far as the gateway knows it, and the logs
/// that it asks for.
fn prepare(
    gate: &Gate,
    hello: Hello,
    grants: &Grants,
    token: Option<String>,
    now: u64,
) -> (Attach, Welcome, Opening) {
    let Hello { connection, device, client, visible, cloning, writers, window, .. } = hello;
    let (capabilities, mut positions, mut open) = (hello.capabilities, hello.positions, hello.open);
    let mut bases = hello.bases;
    let ours = |name: &String| capability::ALL.contains(&name.as_str());
    let capabilities: Vec<_> = capabilities.into_iter().filter(ours).collect();
    let knows = |name: &str| capabilities.iter().any(|known| known == name);
    let holds = knows(capability::HELD);
    if !knows(capability::HISTORY) {
        positions.clear();
    }
    if !knows(capability::BASES) {
        bases.clear();
    }
    let most = gate.limits.window_bytes;
    let window = if window == 0 { most } else { window.clamp(64 << 10, most) };
    let welcome = Welcome {
        version: version::PROTOCOL,
        capabilities,
        connection,
        user: grants.user.clone(),
        met: Met::Fresh,
        source: None,
        place: Place::default(),
        generation: 0,
        time: now,
        expires: grants.expires_ms,
        ping_interval: gate.limits.ping_interval_ms,
        limits: Limits {
            frame_bytes: gate.limits.frame_bytes,
            record_bytes: gate.limits.record_bytes,
            window,
            in_flight: u32::try_from(crate::log::MAX_IN_FLIGHT).unwrap_or(u32::MAX),
            subscriptions: gate.limits.subscriptions,
        },
        token,
        writers: Vec::new(),
        positions: Vec::new(),
        other_history: false,
        credit: None,
        nodes: gate.hub.elsewhere.of(connection),
    };
    let (user, read) = (grants.user.clone(), readable(grants));
    let names = asked_for(&gate.limits, &open);
    let Making { make, unmade, spent } = gate.admission.making(grants, &mut open);
    let opening = Opening { request: 0, names, unmade, spent };
    let attach = Attach {
        connection,
        user,
        device,
        client,
        visible,
        cloning,
        writers,
        open,
        read,
        make,
        positions,
        bases,
        holds,
    };
    (attach, welcome, opening)
}

/// The bytes of a data message in the encoding's form; none for pings and the like.
fn payload(message: Message, encoding: Encoding) -> Result<Option<bytes::Bytes>, Closing> {
    match (message, encoding) {
        (Message::Binary(bytes), Encoding::Bincode) => Ok(Some(bytes)),
        (Message::Text(text), Encoding::Json) => Ok(Some(text.into())),
        (Message::Binary(_) | Message::Text(_), _) => Err(Closing::new(Code::WrongEncoding)),
        (Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_), _) => {
            Ok(None)
        }
    }
}

fn unreadable(error: &codec::FrameError) -> Closing {
    let code = match error {
        codec::FrameError::TooLarge { .. } => Code::FrameTooLarge,
        _ => Code::BadFrame,
    };
    Closing { message: error.to_string(), ..Closing::new(code) }
}

/// Whether the client has gone, in the regular way or without a word: a network that ends, a tab
/// that is closed. Nobody was refused anything then, and nobody is there to be told.
const fn is_gone(error: &tungstenite::Error) -> bool {
    matches!(
        error,
        tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Io(_)
            | tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
    )
}

fn broken(error: &tungstenite::Error) -> Closing {
    match error {
        tungstenite::Error::Capacity(_) => Closing::new(Code::FrameTooLarge),
        _ => Closing { message: error.to_string(), ..Closing::new(Code::BadFrame) },
    }
}

/// Waits to be attached, then reads and writes until one side goes; then detaches the client.
///
/// A block that captures, not an `async fn`: that would keep each argument twice, for as long as
/// the socket lives.
#[allow(clippy::manual_async_fn, reason = "see above")]
fn drive(
    mut session: Session,
    counted: Counted,
    rest: Vec<(ClientFrame, usize)>,
    mut ws: Ws,
    tcp: Arc<TcpStream>,
    encoding: Encoding,
) -> impl Future<Output = ()> + Send {
    async move {
        attached(&session.socket).await;
        // What was revoked while the fold decided is not among those that were closed then.
        let (authority, now) = (&session.gate.authority, session.gate.now());
        if let Err(error) = authority.recheck(&session.grants.0, now) {
            session.socket.close(&Refusal::from(error).into());
        }
        session.frames(rest);
        talk(&mut session, &mut ws, &tcp, encoding).await;
        let socket = &session.socket;
        session.gate.hub.leave(socket);
        let last_words = async {
            // A broken socket counts as flushed: nothing can follow.
            while !socket.flush() && tcp.writable().await.is_ok() {}
            drain(&tcp).await;
        };
        tokio::time::timeout(LAST_WORDS, last_words).await.ok();
        session.detach().await;
        drop(counted);
    }
}

/// Waits until the fold has decided on the attachment.
async fn attached(socket: &Socket) {
    while socket.generation() == 0 && !socket.closing() {
        socket.woken().await;
    }
}

/// Reads frames, and writes what waits whenever the socket takes more.
async fn talk(session: &mut Session, ws: &mut Ws, tcp: &TcpStream, encoding: Encoding) {
    let socket = Arc::clone(&session.socket);
    let mut waits = socket.waits();
    loop {
        if socket.closing() {
            return;
        }
        // Input is left unread while replies fill their share.
        let reads = !socket.full();
        tokio::select! {
            biased;
            () = socket.woken() => waits = socket.waits(),
            ready = tcp.writable(), if waits => {
                if ready.is_err() {
                    return;
                }
                waits = !socket.flush();
            }
            message = ws.next(), if reads => match message {
                None => return,
                Some(Err(error)) if is_gone(&error) => return,
                Some(Err(error)) => {
                    socket.close(&broken(&error));
                    return;
                }
                // After a close frame the layer answers it and ends by itself.
                Some(Ok(message)) => session.message(message, encoding),
            },
            () = tokio::time::sleep(SAY_AGAIN), if session.has_to_say() => session.say_again(),
        }
        if !waits {
            session.gate.hub.schedule(&socket);
        }
    }
}

impl Session {
    /// Asks the fold to attach the client.
    fn attach(&self, attach: Attach, welcome: Welcome, opening: Opening) {
        let writers: Vec<_> = attach.writers.iter().map(|at| at.writer).collect();
        let (grants, connection) = (&self.grants.0, attach.connection);
        self.gate.admission.read_ahead_attach(grants, connection, &writers, &attach.open);
        let weight = 512 + (attach.open.len() + attach.bases.len()) * 512;
        let asked = Request::Attach(Box::new((welcome, opening)));
        let ticket = Ticket::Socket(Arc::clone(&self.socket), asked);
        let submitted = self.gate.inbox.submit(Command::Attach(attach), weight, Some(ticket));
        if let Err(refusal) = submitted {
            self.socket.close(&refusal.into());
        }
    }

    fn message(&mut self, message: Message, encoding: Encoding) {
        self.socket.hear(self.gate.hub.ticks());
        let bytes = match payload(message, encoding) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return,
            Err(closing) => return self.socket.close(&closing),
        };
        let most = self.gate.limits.frame_bytes as usize;
        for frame in codec::decode::<ClientFrame>(&bytes, encoding, most) {
            match frame {
                Ok(frame) => self.frames([frame]),
                Err(error) => return self.socket.close(&unreadable(&error)),
            }
        }
    }

    /// Takes frames with the sizes of their bodies; of a socket that is being closed, none.
    fn frames(&mut self, frames: impl IntoIterator<Item = (ClientFrame, usize)>) {
        for (frame, size) in frames {
            if self.socket.closing() {
                return;
            }
            self.frame(frame, size);
        }
    }

    /// The socket is gone: its last cursors are committed, its row is detached; or it has left.
    async fn detach(&self) {
        let last = self.socket.take_last();
        if last.generation == 0 {
            return;
        }
        let (connection, generation, weight) = (last.connection, last.generation, last.weight());
        let commands = match self.leaves {
            Some(forget) => {
                let leave = Command::Leave { connection, generation, forget };
                vec![Command::Commit(vec![last]), leave]
            }
            None => vec![Command::Detach(last)],
        };
        for command in commands {
            while let Err(refusal) = self.gate.inbox.submit(command.clone(), weight, None) {
                if refusal.code != Code::Overloaded {
                    return;
                }
                tokio::time::sleep(SAY_AGAIN).await;
            }
        }
    }
}
