//! Panics: faults of the program. Where one ends a socket, and where it has to end the node.
//!
//! Promise: each is counted. One in a pump's turn or in a socket's task ends that socket with a
//! code, and no other. One that may have left something half done that others go on with (a batch,
//! a log's readers) ends the node, as a loss of power would: what is durable is durable.

use std::sync::atomic::{AtomicU64, Ordering};

static COUNTED: AtomicU64 = AtomicU64::new(0);

/// How many there were since the process began.
pub fn counted() -> u64 {
    COUNTED.load(Ordering::Relaxed)
}

/// Whether a thread goes on after a panic: whoever it works for is seen off, and nothing is shared
/// half done.
fn goes_on(thread: Option<&str>) -> bool {
    thread.is_some_and(|name| name == "pump" || name.starts_with("tokio-"))
}

/// Counts panics from now on, and ends the process with one of a thread that others rest on.
pub fn watch() {
    let tells = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tells(panic);
        COUNTED.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        if !goes_on(thread.name()) {
            end_the_node(thread.name().unwrap_or("a thread without a name"));
        }
    }));
}

/// Something that others rest on has panicked.
pub(super) fn end_the_node(whence: &str) -> ! {
    tracing::error!("the node ends after a panic: {whence}");
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};
    use std::sync::Arc;

    use crate::channel::fixture::{House, LOG};

    /// In the process that is to end: what panics there.
    const WHAT: &str = "HIGHWATER_TEST_PANIC";

    /// How a process ends in which that panics.
    fn ends(what: &str) -> ExitStatus {
        let name = "channel::panics::tests::a_panic_ends_what_it_has_to";
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", name, "--nocapture"]).env(WHAT, what);
        process.output().unwrap().status
    }

    fn panic_in(thread: &str) {
        let builder = std::thread::Builder::new().name(thread.to_owned());
        let panics = builder.spawn(|| panic!("a fault that a test planted")).unwrap();
        assert!(panics.join().is_err());
    }

    #[tokio::main(flavor = "current_thread")]
    async fn under_a_lock() {
        let house = House::new(1 << 20);
        let (socket, _peer) = house.socket(1);
        house.subscribe(&socket, 0, 0);
        let watch = house.hub.watch(LOG).unwrap();
        let same = Arc::clone(&watch);
        let builder = std::thread::Builder::new().name("pump".to_owned());
        let under = move || {
            let _held = same.lock();
            panic!("a fault that a test planted");
        };
        assert!(builder.spawn(under).unwrap().join().is_err());
        drop(watch.lock());
    }

    #[test]
    fn a_panic_ends_what_it_has_to() {
        if let Ok(what) = std::env::var(WHAT) {
            super::watch();
            match what.as_str() {
                "lock" => under_a_lock(),
                thread => panic_in(thread),
            }
            assert_eq!(super::counted(), 1);
            return;
        }
        const ABORTED: i32 = 6;
        for thread in ["commit", "dispatch", "fan-out", "lock"] {
            assert_eq!(ends(thread).signal(), Some(ABORTED), "{thread}");
        }
        for thread in ["pump", "tokio-rt-worker"] {
            assert!(ends(thread).success(), "{thread}");
        }
    }
}
