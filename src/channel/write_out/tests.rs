//! The way out over a kernel that takes what it is told to.

use std::cell::{Cell, RefCell};
use std::io;

use super::*;
use crate::delivery::REPLY_MOST;

/// Takes so many bytes more, and keeps them.
#[derive(Debug, Default)]
struct Kernel {
    room: Cell<usize>,
    took: RefCell<Vec<u8>>,
    calls: Cell<usize>,
}

impl Kernel {
    fn with(room: usize) -> Self {
        Self { room: Cell::new(room), ..Self::default() }
    }

    fn took(&self) -> String {
        String::from_utf8(self.took.borrow().clone()).unwrap()
    }
}

impl Sink for Kernel {
    fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.calls.set(self.calls.get() + 1);
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let takes = self.room.get().min(bytes.len());
        if takes == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room.set(self.room.get() - takes);
        self.took.borrow_mut().extend_from_slice(&bytes[..takes]);
        Ok(takes)
    }

    fn keep_little(&self) {}

    fn cut(&self) {}
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn what_may_goes_between_pieces_and_the_rest_behind_them() {
    let (mut outbox, kernel) = (Outbox::default(), Kernel::with(2));
    assert_eq!(outbox.deliver(&bytes("aaabbbccc"), &[3, 6], &kernel), Wrote::Waits);
    assert_eq!((outbox.waiting(), outbox.replies()), (7, 0));
    assert_eq!(outbox.reply(bytes("[state]"), &kernel), Wrote::Waits);
    assert_eq!(outbox.between(bytes("[pong]"), &kernel), Wrote::Waits);
    assert_eq!((outbox.waiting(), outbox.replies()), (20, 13));
    assert_eq!(outbox.deliver(&bytes("next"), &[], &kernel), Wrote::Nothing);
    // One piece is begun, and goes on; then what may come between.
    kernel.room.set(8);
    assert_eq!(outbox.flush(&kernel), Wrote::Waits);
    assert_eq!(kernel.took(), "aaa[pong]b");
    assert_eq!(outbox.between(bytes("[answers]"), &kernel), Wrote::Waits);
    kernel.room.set(100);
    assert_eq!(outbox.flush(&kernel), Wrote::All);
    assert_eq!(kernel.took(), "aaa[pong]bbb[answers]ccc[state]");
    assert_eq!((outbox.waiting(), outbox.replies(), outbox.busy()), (0, 0, false));
    assert_eq!(outbox.deliver(&bytes("next"), &[], &kernel), Wrote::All);
}

#[test]
fn pieces_that_all_fit_go_at_once() {
    let (mut outbox, kernel) = (Outbox::default(), Kernel::with(100));
    assert_eq!(outbox.deliver(&bytes("aabbc"), &[2, 4], &kernel), Wrote::All);
    assert_eq!((kernel.took().as_str(), outbox.busy(), outbox.waiting()), ("aabbc", false, 0));
}

#[test]
fn what_is_not_begun_is_kept_by_the_caller() {
    let (mut outbox, kernel) = (Outbox::default(), Kernel::with(0));
    assert_eq!(outbox.deliver(&bytes("aabbc"), &[2, 4], &kernel), Wrote::Nothing);
    assert_eq!((outbox.busy(), outbox.waiting()), (false, 0));
}

/// A last word stands behind the piece that is begun, and no other.
#[test]
fn no_piece_follows_the_last_word() {
    let (mut outbox, kernel) = (Outbox::default(), Kernel::with(1));
    outbox.deliver(&bytes("aabbcc"), &[2, 4], &kernel);
    outbox.reply(bytes("[refused]"), &kernel);
    outbox.drop_pieces();
    outbox.reply(bytes("[bye]"), &kernel);
    kernel.room.set(100);
    assert_eq!(outbox.flush(&kernel), Wrote::All);
    assert_eq!((kernel.took().as_str(), outbox.waiting()), ("aa[refused][bye]", 0));
}

/// However the kernel takes it: each piece, and each reply, comes out in one run and in order.
#[test]
fn nothing_is_torn_whatever_the_kernel_takes() {
    for step in 1..20 {
        let (mut outbox, kernel) = (Outbox::default(), Kernel::with(step));
        outbox.deliver(&bytes("(1111)(222222)(33)(4444)"), &[6, 14, 18], &kernel);
        let (mut wrote, mut asked) = (Wrote::Waits, 0);
        while wrote != Wrote::All || asked < 6 {
            if asked < 6 {
                let text = if asked % 2 == 0 { "<between>" } else { "<behind>" };
                let reply = bytes(text);
                wrote = match asked % 2 {
                    0 => outbox.between(reply, &kernel),
                    _ => outbox.reply(reply, &kernel),
                };
                asked += 1;
            }
            kernel.room.set(step);
            if outbox.busy() {
                wrote = outbox.flush(&kernel);
            }
        }
        let took = kernel.took();
        let order = ["(1111)", "(222222)", "(33)", "(4444)"].map(|one| took.find(one).unwrap());
        assert!(order.is_sorted(), "{took}");
        let count = |text: &str| took.matches(text).count();
        assert_eq!((count("<between>"), count("<behind>")), (3, 3), "{took}");
        assert_eq!((outbox.waiting(), outbox.replies()), (0, 0));
    }
}

/// Of one that takes nothing the last words wait behind the message that was begun, and behind no
/// other.
#[test]
fn the_last_words_come_next_where_too_much_waits() {
    let (mut outbox, kernel) = (Outbox::default(), Kernel::with(2));
    assert_eq!(outbox.reply(bytes("[begun]"), &kernel), Wrote::Waits);
    let large = Bytes::from(vec![b'x'; REPLY_MOST - 8]);
    assert_eq!(outbox.reply(large, &kernel), Wrote::Waits);
    assert_eq!(outbox.reply(bytes("[one too many]"), &kernel), Wrote::Full);
    assert_eq!(outbox.waiting(), 5 + REPLY_MOST - 8, "nothing of it was kept");
    assert_eq!(outbox.last(bytes("[bye]"), &kernel), Wrote::Waits);
    assert_eq!((outbox.waiting(), outbox.replies()), (10, 10));
    kernel.room.set(100);
    assert_eq!(outbox.flush(&kernel), Wrote::All);
    assert_eq!(kernel.took(), "[begun][bye]");
    // Where there is room for all, nothing is lost.
    kernel.room.set(2);
    assert_eq!(outbox.reply(bytes("[begun]"), &kernel), Wrote::Waits);
    assert_eq!(outbox.reply(bytes("[reply]"), &kernel), Wrote::Waits);
    assert_eq!(outbox.last(bytes("[bye]"), &kernel), Wrote::Waits);
    kernel.room.set(100);
    assert_eq!(outbox.flush(&kernel), Wrote::All);
    assert_eq!(kernel.took(), "[begun][bye][begun][reply][bye]");
}

/// Whatever waits goes with one call, as far as one call takes messages.
#[test]
fn what_waits_goes_together() {
    let (mut outbox, kernel) = (Outbox::default(), Kernel::with(1));
    outbox.deliver(&bytes("aabbcc"), &[2, 4], &kernel);
    for _ in 0..AT_ONCE {
        outbox.reply(bytes("[reply]"), &kernel);
    }
    outbox.between(bytes("[pong]"), &kernel);
    let waits: Vec<u8> = outbox.waits().flatten().copied().collect();
    kernel.room.set(1_000);
    kernel.calls.set(0);
    assert_eq!(outbox.flush(&kernel), Wrote::All);
    assert_eq!(kernel.calls.get(), 2, "of 20 messages 16 at once");
    assert_eq!(kernel.took().as_bytes()[1..], waits);
    assert!(kernel.took().starts_with("aa[pong]bbcc[reply]"), "{}", kernel.took());
}
