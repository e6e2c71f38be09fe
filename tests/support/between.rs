//! An HTTP proxy of our own, that does what proxies do where nobody told them otherwise: asks by
//! HTTP/1.0, takes whole bodies before it hands them on, has limits, loses patience, answers for a
//! server that is away, and takes an answer that broke off for one that ended.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a proxy is like.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// It asks by HTTP/1.0, so that an answer without a length ends with its connection.
    pub http10: bool,
    /// It passes answers on without their length, as one that compresses them does; whatever it got
    /// until the connection ended is the whole.
    pub drops_length: bool,
    /// Longest body of a request, in bytes; 413 beyond.
    pub most_body: usize,
    /// How long it waits for the server; 504 beyond.
    pub patience: Duration,
    /// The server breaks off each answer's body after so many bytes.
    pub cut_answers: Option<usize>,
    /// The client's connection is cut after so many bytes of a request's body.
    pub cut_bodies: Option<usize>,
}

impl Default for Manner {
    /// As nginx is with nothing but `proxy_pass`.
    fn default() -> Self {
        Self {
            http10: true,
            drops_length: false,
            most_body: 1 << 20,
            patience: Duration::from_secs(60),
            cut_answers: None,
            cut_bodies: None,
        }
    }
}

/// A proxy; each connection carries one request.
pub struct Between {
    /// Where clients connect.
    pub address: SocketAddr,
    shared: Arc<Mutex<(SocketAddr, Manner, u64)>>,
}

impl Between {
    /// One that leads to that server.
    pub fn to(server: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new((server, manner, 0)));
        let own = Arc::clone(&shared);
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                std::thread::spawn(move || {
                    let (server, manner, _) = *shared.lock().unwrap();
                    let said = serve(&client, server, manner);
                    if let Ok(Some(status)) = said {
                        shared.lock().unwrap().2 += 1;
                        page(&client, status);
                    }
                    client.shutdown(Shutdown::Both).ok();
                });
            }
        });
        Self { address, shared }
    }

    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads to another server from now on.
    pub fn lead_to(&self, server: SocketAddr) {
        self.shared.lock().unwrap().0 = server;
    }

    /// Is like that from now on.
    pub fn be(&self, manner: Manner) {
        self.shared.lock().unwrap().1 = manner;
    }

    /// How often it answered in the server's place.
    pub fn answered(&self) -> u64 {
        self.shared.lock().unwrap().2
    }
}

/// A page of its own.
fn page(mut client: &TcpStream, status: &str) {
    let html = format!("<html><head><title>{status}</title></head></html>");
    let length = html.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {length}");
    client.write_all(format!("{head}\r\nConnection: close\r\n\r\n{html}").as_bytes()).ok();
}

/// The head of a message: its first line, its other lines, and the length they tell.
struct Head {
    first: String,
    lines: Vec<String>,
    length: Option<usize>,
}

fn head(from: &mut impl io::BufRead) -> io::Result<Head> {
    let mut next = || {
        let mut line = String::new();
        match from.read_line(&mut line)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(line.trim_end().to_owned()),
        }
    };
    let first = next()?;
    let (mut lines, mut length) = (Vec::new(), None);
    loop {
        let line = next()?;
        if line.is_empty() {
            return Ok(Head { first, lines, length });
        }
        let lower = line.to_ascii_lowercase();
        if let Some(told) = lower.strip_prefix("content-length:") {
            length = told.trim().parse().ok();
        }
        if !lower.starts_with("content-length:") && !lower.starts_with("connection:") {
            lines.push(line);
        }
    }
}

/// Serves one request; the status of a page of its own where the server does not answer.
fn serve(
    client: &TcpStream,
    server: SocketAddr,
    manner: Manner,
) -> io::Result<Option<&'static str>> {
    client.set_nodelay(true)?;
    let mut input = BufReader::new(client);
    let asked = head(&mut input)?;
    let length = asked.length.unwrap_or_default();
    if let Some(most) = manner.cut_bodies.filter(|most| *most < length) {
        io::copy(&mut input.take(most as u64), &mut io::sink())?;
        return Ok(None);
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    if length > manner.most_body {
        return Ok(Some("413 Request Entity Too Large"));
    }
    let Ok(mut far) = TcpStream::connect(server) else { return Ok(Some("502 Bad Gateway")) };
    far.set_nodelay(true)?;
    far.set_read_timeout(Some(manner.patience))?;
    let first = match manner.http10 {
        true => asked.first.replace(" HTTP/1.1", " HTTP/1.0"),
        false => asked.first,
    };
    let lines: String = asked.lines.iter().map(|line| format!("{line}\r\n")).collect();
    let own = format!("{first}\r\n{lines}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    if far.write_all(own.as_bytes()).and_then(|()| far.write_all(&body)).is_err() {
        return Ok(Some("502 Bad Gateway"));
    }
    let mut far = BufReader::new(far);
    match head(&mut far) {
        Ok(answer) => hand_back(client, &mut far, &answer, manner).map(|()| None),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {
            Ok(Some("504 Gateway Time-out"))
        }
        Err(_) => Ok(Some("502 Bad Gateway")),
    }
}

fn hand_back(
    mut client: &TcpStream,
    far: &mut BufReader<TcpStream>,
    answer: &Head,
    manner: Manner,
) -> io::Result<()> {
    let lines: String = answer.lines.iter().map(|line| format!("{line}\r\n")).collect();
    let chunked = lines.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let mut own = format!("{}\r\n{lines}", answer.first.replace("HTTP/1.0", "HTTP/1.1"));
    let told = answer.length.filter(|_| !manner.drops_length);
    let recoded = told.is_none() && !chunked;
    match told {
        Some(length) => own.push_str(&format!("Content-Length: {length}\r\n")),
        None if recoded => own.push_str("Transfer-Encoding: chunked\r\n"),
        None => {}
    }
    client.write_all(format!("{own}Connection: close\r\n\r\n").as_bytes())?;
    let most = answer.length.unwrap_or(usize::MAX).min(manner.cut_answers.unwrap_or(usize::MAX));
    let (mut left, mut piece) = (most, vec![0; 16 << 10]);
    while left > 0 {
        let wanted = piece.len().min(left);
        let Ok(read @ 1..) = far.read(&mut piece[..wanted]) else { break };
        left -= read;
        match recoded {
            true => {
                client.write_all(format!("{read:x}\r\n").as_bytes())?;
                client.write_all(&piece[..read])?;
                client.write_all(b"\r\n")?;
            }
            false => client.write_all(&piece[..read])?,
        }
    }
    // It has seen an end, and takes it for the end.
    if recoded { client.write_all(b"0\r\n\r\n") } else { Ok(()) }
}
