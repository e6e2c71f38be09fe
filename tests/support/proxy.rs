//! A way to a server that can be led elsewhere, held up and cut, while clients keep one address.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

/// A forwarding address.
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: Mutex<SocketAddr>,
    open: Mutex<Vec<TcpStream>>,
    /// Bytes that may still go to clients.
    passes: AtomicU64,
    /// Connections whose next bytes to the client may not.
    held: AtomicUsize,
    /// How often all was cut.
    cuts: AtomicUsize,
    /// Bytes a second, each way; 0: as many as come.
    rate: u64,
}

/// What a slow link holds at each end: the kernel may give twice as much.
const SLOW_BUFFER: usize = 4 << 10;

impl Proxy {
    /// One that leads to that server.
    pub fn to(server: SocketAddr) -> Self {
        Self::slow(server, 0)
    }

    /// One that carries so many bytes a second each way, and holds few on their way; 0: any.
    pub fn slow(server: SocketAddr, rate: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server: Mutex::new(server),
            open: Mutex::default(),
            passes: AtomicU64::new(u64::MAX),
            held: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
            rate,
        });
        let of_listener = Arc::clone(&shared);
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = *of_listener.server.lock().unwrap();
                if rate > 0 {
                    SockRef::from(&client).set_recv_buffer_size(SLOW_BUFFER).unwrap();
                }
                let Ok(server) = connect(to, rate) else { continue };
                // A small piece is not to wait until the one before it is confirmed.
                client.set_nodelay(true).ok();
                server.set_nodelay(true).ok();
                let mut open = of_listener.open.lock().unwrap();
                open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                drop(open);
                let of_answers = Arc::clone(&of_listener);
                let cuts = of_answers.cuts.load(Ordering::SeqCst);
                carry(client.try_clone().unwrap(), server.try_clone().unwrap(), rate);
                std::thread::spawn(move || answer(server, client, &of_answers, cuts));
            }
        });
        Self { address, shared }
    }

    /// Leads to another server from now on.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.shared.server.lock().unwrap() = server;
    }

    /// Lets so many bytes more go to clients, of all connections together; what comes after them is
    /// held, and lost with a cut.
    pub fn pass(&self, bytes: u64) {
        self.shared.passes.store(bytes, Ordering::SeqCst);
    }

    /// Whether something that the server said is held.
    pub fn holds(&self) -> bool {
        self.shared.held.load(Ordering::SeqCst) > 0
    }

    /// Cuts all that is open.
    pub fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// Opens the way to the server; what a slow one holds is bounded before the first byte.
fn connect(to: SocketAddr, rate: u64) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if rate > 0 {
        socket.set_recv_buffer_size(SLOW_BUFFER)?;
        socket.set_send_buffer_size(SLOW_BUFFER)?;
    }
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Waits as long as a slow link takes for so many bytes.
fn take_time(bytes: usize, rate: u64) {
    if let Some(micros) = (bytes as u64 * 1_000_000).checked_div(rate) {
        std::thread::sleep(Duration::from_micros(micros));
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, rate: u64) {
    std::thread::spawn(move || {
        let mut bytes = [0; 2 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            take_time(read, rate);
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    });
}

/// Carries to the client what may pass; what is held when the connection is cut is lost.
fn answer(mut server: TcpStream, mut client: TcpStream, shared: &Shared, cuts: usize) {
    let cut = || shared.cuts.load(Ordering::SeqCst) != cuts;
    let mut bytes = [0; 4 << 10];
    while let Ok(read @ 1..) = server.read(&mut bytes) {
        take_time(read, shared.rate);
        let (mut rest, mut holds) = (&bytes[..read], false);
        while !rest.is_empty() && !cut() {
            let most = rest.len() as u64;
            let less = |passes: u64| Some(passes - passes.min(most));
            let passes = shared.passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
            let may = passes.unwrap_or_default().min(most) as usize;
            if may == 0 {
                if !std::mem::replace(&mut holds, true) {
                    shared.held.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(1));
            } else if client.write_all(&rest[..may]).is_err() {
                break;
            }
            rest = &rest[may..];
        }
        if holds {
            shared.held.fetch_sub(1, Ordering::SeqCst);
        }
        if !rest.is_empty() {
            break;
        }
    }
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Both).ok();
}
