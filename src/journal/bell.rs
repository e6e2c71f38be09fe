//! A bell that wakes the committing thread: a command was submitted, or an engine has something to
//! tell.
//!
//! Promise: a ring is never missed. One that came before anybody waited ends the next wait at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The bell. Whoever rings does not wait for whoever is woken.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    woken: Condvar,
}

impl Bell {
    /// Ends the wait that goes on, or the next one.
    pub fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *rung, true) {
            self.woken.notify_one();
        }
    }

    /// Waits for a ring, for so long at most.
    pub fn wait(&self, most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.woken.wait_timeout_while(rung, most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_ring_before_the_wait_ends_it_and_counts_once() {
        let (bell, begun) = (Bell::default(), Instant::now());
        bell.ring();
        bell.ring();
        bell.wait(LONG);
        assert!(begun.elapsed() < LONG);
        let (again, short) = (Instant::now(), Duration::from_millis(20));
        bell.wait(short);
        assert!(again.elapsed() >= short, "two rings are one");
    }

    #[test]
    fn a_ring_wakes_who_waits() {
        let bell = Arc::<Bell>::default();
        let waiting = {
            let bell = Arc::clone(&bell);
            std::thread::spawn(move || {
                let begun = Instant::now();
                bell.wait(LONG);
                begun.elapsed()
            })
        };
        bell.ring();
        assert!(waiting.join().unwrap() < LONG);
    }
}
