//! How a socket is closed: its last words, and what goes before them.
//!
//! Promise: a client that takes what it is sent hears why it was closed, and a socket that is cut
//! gives back at once what waited for it.

use super::socket::{Inner, Socket};
use super::write_out::WriteOut as _;
use crate::delivery::{Class, Closing, Outbox};

impl Socket {
    /// Tells the client why, and closes; later frames are dropped.
    pub fn close(&self, closing: &Closing) {
        let mut inner = self.lock();
        if inner.at.leaving() {
            drop(inner);
            return self.close_quietly();
        }
        inner.at.close(closing.clone());
        self.say_last(&mut inner);
    }

    /// Tells the client why it is closed, if that is still to be told.
    pub(super) fn say_last(&self, inner: &mut Inner) {
        if let Some(closing) = inner.at.last_words() {
            self.say(inner, &closing);
        }
    }

    /// Says the last words.
    pub(super) fn say(&self, inner: &mut Inner, closing: &Closing) {
        self.counts.refusals.count(closing.code);
        inner.at.outbox.last(self.form.last_words(closing.bye()), &*self.sink);
        self.wake();
    }

    /// More waits for the client than may: it takes too little of it.
    pub(super) fn overflow(&self, inner: &mut Inner) {
        inner.at.overflow();
        self.say_last(inner);
    }

    /// Closes without waiting for what is on its way out, which is given back: it never goes.
    pub fn cut(&self, closing: &Closing) {
        self.close(closing);
        let mut inner = self.lock();
        inner.at.outbox = Outbox::default();
        self.sink.cut();
    }

    /// The client said it leaves: nothing more is delivered. What it asked before is answered.
    pub fn set_leaving(&self) {
        self.lock().at.leave();
    }

    /// Closes without a word of its own, behind all that is owed: the client said it leaves.
    pub fn close_quietly(&self) {
        let mut inner = self.lock();
        if !inner.at.closing() {
            while let Some(frames) = inner.at.next_owed() {
                self.tell(&mut inner, Class::Owed, &frames);
            }
            let given_up = inner.at.give_questions_up();
            if !given_up.is_empty() {
                self.send_now(&mut inner, &given_up);
            }
        }
        if inner.at.gone() {
            inner.at.outbox.drop_pieces();
            inner.at.outbox.reply(self.form.quiet_end(), &*self.sink);
        }
        drop(inner);
        self.wake();
    }
}
