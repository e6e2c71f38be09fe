//! A way between two programs that can be broken in both directions: by silence, as where a cable
//! is pulled, or by a cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// A forwarding address.
pub struct Wall {
    /// Where who is before it connects.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Nothing goes through.
    up: bool,
    /// Counts cuts: a connection of before is no more.
    cuts: usize,
    open: Vec<TcpStream>,
}

impl Wall {
    /// One before that address, with nothing in the way yet.
    pub fn before(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        // It ends with the process.
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                std::thread::spawn(move || shared.join(near, far));
            }
        });
        Self { address, shared }
    }

    /// From now on not a byte goes through, either way, and nobody is told: what is sent waits.
    pub fn raise(&self) {
        self.shared.state.lock().unwrap().up = true;
    }

    /// It goes through again, with what waited. Connections that were made meanwhile go on, too.
    pub fn lower(&self) {
        self.shared.state.lock().unwrap().up = false;
        self.shared.changed.notify_all();
    }

    /// Cuts all connections; what waited is lost.
    pub fn cut(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.cuts += 1;
        for stream in state.open.drain(..) {
            // One that is closed already is no more, too.
            stream.shutdown(Shutdown::Both).ok();
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn join(self: Arc<Self>, near: TcpStream, far: SocketAddr) {
        let Some(cuts) = self.may_pass(None) else { return };
        let Ok(far) = TcpStream::connect(far) else { return };
        let mut state = self.state.lock().unwrap();
        state.open.extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
        drop(state);
        let (back, to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let other = Arc::clone(&self);
        std::thread::spawn(move || other.carry(far, back, cuts));
        self.carry(near, to, cuts);
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, cuts: usize) {
        let mut bytes = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            if self.may_pass(Some(cuts)).is_none() || to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    }

    /// Waits until nothing is in the way; none where the connection was cut meanwhile.
    fn may_pass(&self, cuts: Option<usize>) -> Option<usize> {
        let state = self.state.lock().unwrap();
        let cuts = cuts.unwrap_or(state.cuts);
        let stays = |state: &mut State| state.up && state.cuts == cuts;
        let state = self.changed.wait_while(state, stays).unwrap();
        (state.cuts == cuts).then_some(cuts)
    }
}
