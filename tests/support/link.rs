//! One WebSocket, and the frames that come over it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use highwater::wire::{ClientFrame, Encoding, Frame, MAX_FRAME_BYTES, Part, ServerFrame, codec};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::HandshakeError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

/// A socket to the server.
pub struct Link {
    ws: WebSocket<TcpStream>,
    encoding: Encoding,
    frames: VecDeque<(ServerFrame, usize)>,
    closed: Option<(u16, String)>,
    /// Whether a frame comes in parts, and its last one has not.
    parting: bool,
    /// Parts that have come.
    pub parted: usize,
    /// Messages that have come.
    pub messages: usize,
    /// Frames that came between the parts of another.
    pub between: usize,
}

/// What a read came to.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Next {
    /// A frame and its size as flow control counts it.
    Frame(ServerFrame, usize),
    /// The socket ended: the close code and reason, 0 where there was none.
    Closed(u16, String),
    /// Nothing came in time.
    Nothing,
}

impl Link {
    /// Opens a WebSocket.
    pub fn open(address: SocketAddr, encoding: Encoding) -> Self {
        Self::try_open(address, encoding).unwrap_or_else(|error| panic!("no WebSocket: {error}"))
    }

    /// Opens a WebSocket, or tells what was answered instead.
    pub fn try_open(address: SocketAddr, encoding: Encoding) -> Result<Self, tungstenite::Error> {
        Self::try_open_from(None, address, encoding)
    }

    /// The same, as a page of that origin would.
    pub fn try_open_from(
        origin: Option<&str>,
        address: SocketAddr,
        encoding: Encoding,
    ) -> Result<Self, tungstenite::Error> {
        Self::try_open_within(None, origin, address, encoding)
    }

    /// The same; a server that takes longer to answer is given up. None: it may take for ever.
    pub fn try_open_within(
        patience: Option<Duration>,
        origin: Option<&str>,
        address: SocketAddr,
        encoding: Encoding,
    ) -> Result<Self, tungstenite::Error> {
        let url = format!("ws://{address}/v1/connect");
        let mut request = url.into_client_request()?;
        if let Some(origin) = origin {
            request.headers_mut().insert("Origin", origin.parse().unwrap());
        }
        let subprotocol = encoding.subprotocol().parse().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
        let tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        // A server that does not read must not hold a test up for ever.
        tcp.set_write_timeout(Some(Duration::from_secs(10)))?;
        tcp.set_read_timeout(patience)?;
        let config = WebSocketConfig::default();
        let config = config.max_message_size(None).max_frame_size(None);
        match tungstenite::client::client_with_config(request, tcp, Some(config)) {
            Ok((ws, _)) => Ok(Self {
                ws,
                encoding,
                frames: VecDeque::new(),
                closed: None,
                parting: false,
                parted: 0,
                messages: 0,
                between: 0,
            }),
            Err(HandshakeError::Failure(error)) => Err(error),
            Err(HandshakeError::Interrupted(_)) => Err(io::Error::from(ErrorKind::TimedOut).into()),
        }
    }

    /// Sends one frame.
    pub fn send(&mut self, frame: &ClientFrame) {
        self.send_all(std::slice::from_ref(frame));
    }

    /// Sends frames in one message.
    pub fn send_all(&mut self, frames: &[ClientFrame]) -> bool {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| codec::encode(frame, self.encoding, &mut bytes));
        self.send_bytes(bytes)
    }

    /// Sends bytes as a message of the encoding's kind.
    pub fn send_bytes(&mut self, bytes: Vec<u8>) -> bool {
        self.send_message(match self.encoding {
            Encoding::Bincode => Message::binary(bytes),
            Encoding::Json => Message::text(String::from_utf8(bytes).unwrap()),
        })
    }

    /// Sends any message; false when it could not be written. A socket that is gone is noticed by
    /// the next read.
    pub fn send_message(&mut self, message: Message) -> bool {
        self.ws.send(message).is_ok()
    }

    /// The TCP socket below.
    pub fn tcp(&self) -> &TcpStream {
        self.ws.get_ref()
    }

    /// Ends the TCP connection without a word.
    pub fn cut(&self) {
        self.tcp().shutdown(Shutdown::Both).ok();
    }

    /// Closes the WebSocket in the regular way.
    pub fn close(&mut self) {
        self.ws.close(None).ok();
        self.ws.flush().ok();
    }

    /// The next frame, waiting until `end` for it.
    pub fn next(&mut self, end: Instant) -> Next {
        loop {
            if let Some((frame, size)) = self.frames.pop_front() {
                return Next::Frame(frame, size);
            }
            if let Some((code, reason)) = &self.closed {
                return Next::Closed(*code, reason.clone());
            }
            let left = end.saturating_duration_since(Instant::now());
            // Zero would mean: for ever.
            let left = left.max(Duration::from_millis(1));
            self.tcp().set_read_timeout(Some(left)).unwrap();
            match self.ws.read() {
                Ok(Message::Binary(bytes)) => self.take(&bytes, Encoding::Bincode),
                Ok(Message::Text(text)) => self.take(text.as_bytes(), Encoding::Json),
                Ok(Message::Close(close)) => {
                    let told = close.map(|close| (close.code.into(), close.reason.to_string()));
                    self.closed = Some(told.unwrap_or_default());
                    self.ws.flush().ok();
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= end {
                        return Next::Nothing;
                    }
                }
                Err(_) => self.closed = Some((0, String::new())),
            }
        }
    }

    fn take(&mut self, message: &[u8], encoding: Encoding) {
        self.messages += 1;
        assert_eq!(encoding, self.encoding, "the server answers in the encoding agreed on");
        // What the server sends may be longer in JSON than in binary; the decoder's own bound is
        // that of frames to a server.
        for frame in codec::decode::<ServerFrame>(message, encoding, MAX_FRAME_BYTES) {
            let (frame, size) = frame.expect("the server's frames can be read");
            match &frame {
                ServerFrame::Part(part) => self.part(part),
                frame if self.parting => {
                    self.between += 1;
                    assert!(goes_between(frame), "between the parts of a frame: {frame:?}");
                }
                _ => {}
            }
            self.frames.push_back((frame, size));
        }
    }

    /// Parts are small, and of the encoding's kind; what they are parts of is the client's affair.
    fn part(&mut self, part: &Part) {
        self.parted += 1;
        assert_eq!(part.data.is_text(), self.encoding == Encoding::Json);
        assert!(part.data.bytes().len() <= 32 << 10, "a part is small");
        self.parting = !part.last;
    }
}

/// What may come between the parts of a frame.
fn goes_between(frame: &ServerFrame) -> bool {
    // After the last word no part comes any more.
    matches!(
        frame,
        ServerFrame::Ping(_) | ServerFrame::Pong(_) | ServerFrame::Answers(_) | ServerFrame::Bye(_)
    )
}
