//! The watch over the data folder: a node does not outlive it.
//!
//! Promise: within a second of the folder going away, being replaced, turning read-only or failing
//! its disk's writes the node has stopped taking commits, and its end has been asked for with the
//! reason, also where nobody appends. It has a thread of its own, so that neither a busy runtime
//! nor a slow scan delays it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::store::{Lost, Store};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Every so many looks something is written, unless a commit was made meanwhile.
const PROBE_EVERY: u32 = 2;

/// The running watch. It ends with this.
#[derive(Debug)]
pub(super) struct Watch {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts it; the receiver hears of a folder that is lost. A watch that ends for another reason
    /// says nothing.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(store: Store) -> std::io::Result<(Self, oneshot::Receiver<Lost>)> {
        let (tell, lost) = oneshot::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
            if let Err(why) = until_lost(&store, &end) {
                store.lose(&why);
                // Who would hear of it may be gone, the node with it.
                tell.send(why).ok();
            }
        })?;
        Ok((Self { ended, thread: Some(thread) }, lost))
    }

    /// Ends it, and waits for that.
    pub(super) fn stop(mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            // It has said what there was to say.
            thread.join().ok();
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn until_lost(store: &Store, ended: &AtomicBool) -> Result<(), Lost> {
    let mut syncs = store.syncs();
    let mut looks = 0_u32;
    while !ended.load(Ordering::Relaxed) {
        store.look()?;
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(PROBE_EVERY) {
            // A commit that was synced is a better probe than any.
            let before = std::mem::replace(&mut syncs, store.syncs());
            if before == syncs {
                store.probe()?;
            }
        }
        thread::park_timeout(LOOK);
    }
    Ok(())
}
