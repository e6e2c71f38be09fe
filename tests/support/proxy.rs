//! A way to a server that can be led elsewhere, held up and cut, while clients keep one address.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
}

impl Proxy {
    /// One that leads to that server.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server: Mutex::new(server),
            open: Mutex::default(),
            passes: AtomicU64::new(u64::MAX),
            held: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
        });
        let of_listener = Arc::clone(&shared);
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = *of_listener.server.lock().unwrap();
                let Ok(server) = TcpStream::connect(to) else { continue };
                let mut open = of_listener.open.lock().unwrap();
                open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                drop(open);
                let of_answers = Arc::clone(&of_listener);
                let cuts = of_answers.cuts.load(Ordering::SeqCst);
                carry(client.try_clone().unwrap(), server.try_clone().unwrap());
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

fn carry(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    });
}

/// Carries to the client what may pass; what is held when the connection is cut is lost.
fn answer(mut server: TcpStream, mut client: TcpStream, shared: &Shared, cuts: usize) {
    let cut = || shared.cuts.load(Ordering::SeqCst) != cuts;
    let mut bytes = [0; 4 << 10];
    while let Ok(read @ 1..) = server.read(&mut bytes) {
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
