//! How a client goes: cut off, closed, or for good.

use std::time::{Duration, Instant};

use highwater::wire::{ClientFrame, Leave};

use super::client::{Client, WAIT};

impl Client {
    /// The TCP connection breaks.
    pub fn cut(&mut self) {
        if let Some(link) = &self.link {
            link.cut();
        }
        self.gone();
    }

    /// Goes in the regular way, and waits until the server has closed too.
    pub fn close(&mut self) {
        if let Some(link) = &mut self.link {
            link.close();
        }
        self.until_closed();
        self.cut();
    }

    /// Leaves, and waits until the server has closed.
    pub fn leave(&mut self, forget: bool) {
        self.send(&ClientFrame::Leave(Leave { forget }));
        self.until_closed();
        assert_eq!(self.closed, Some((1000, String::new())), "after leave");
        assert_eq!(self.bye, None);
        self.cut();
    }

    /// Takes frames until the socket is closed: the close code.
    pub fn until_closed(&mut self) -> u16 {
        let end = Instant::now() + WAIT;
        while self.closed.is_none() {
            self.step(Instant::now() + Duration::from_millis(50));
            assert!(Instant::now() < end, "not closed; {}", self.describe());
        }
        self.closed.as_ref().map_or(0, |(code, _)| *code)
    }
}
