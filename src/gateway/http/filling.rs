//! Lines that fill a length which was told before they were read a second time. Pure.
//!
//! Promise: a reader that counts bytes gets as many as it was told, though some lines that counted
//! then are left out now; each line it gets is one, and one that it does not get is none.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};

/// Most spaces in one piece.
const PIECE: u64 = 16 << 10;

/// What is still to come of that length. The newline of the last line is held back: JSON lets
/// spaces stand before it, while an empty line would be no record to a strict reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling {
    left: u64,
    newline: bool,
}

impl Filling {
    /// Lines of so many bytes are to come.
    pub(super) const fn new(length: u64) -> Self {
        Self { left: length, newline: false }
    }

    /// Lines on their way out.
    pub(super) fn lines(&mut self, lines: &Bytes) -> Bytes {
        let Some(own) = lines.strip_suffix(b"\n") else { return lines.clone() };
        let mut out = BytesMut::with_capacity(lines.len());
        if self.newline {
            out.put_u8(b'\n');
        }
        out.put_slice(own);
        self.newline = true;
        self.left = self.left.saturating_sub(out.len() as u64);
        out.freeze()
    }

    /// What follows the last line, piece by piece, until there is none.
    ///
    /// # Errors
    /// When there was no line, and is to be one: the answer breaks off.
    pub(super) fn rest(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        if !self.newline {
            return Err(io::Error::other("all keys were overwritten during the answer"));
        }
        let spaces = (self.left - 1).min(PIECE);
        self.left -= spaces;
        let mut out = BytesMut::new();
        out.put_bytes(b' ', usize::try_from(spaces).unwrap_or_default());
        if self.left == 1 {
            out.put_u8(b'\n');
            self.left = 0;
        }
        Ok(Some(out.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(length: u64, pages: &[&'static str]) -> io::Result<String> {
        let mut filling = Filling::new(length);
        let mut out = Vec::new();
        for page in pages {
            out.extend_from_slice(&filling.lines(&Bytes::from_static(page.as_bytes())));
        }
        while let Some(piece) = filling.rest()? {
            assert!(!piece.is_empty());
            out.extend_from_slice(&piece);
        }
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_all_there_stays_as_it_is() {
        assert_eq!(filled(0, &[]).unwrap(), "");
        assert_eq!(filled(8, &["{1}\n", "", "{2}\n"]).unwrap(), "{1}\n{2}\n");
    }

    #[test]
    fn what_is_left_out_is_made_up_for_within_the_last_line() {
        assert_eq!(filled(12, &["{1}\n", "{2}\n"]).unwrap(), "{1}\n{2}    \n");
        let long = filled(100_000, &["{1}\n{2}\n"]).unwrap();
        assert_eq!(long.len(), 100_000);
        assert_eq!(long.lines().map(str::trim).collect::<Vec<_>>(), ["{1}", "{2}"]);
        assert!(filled(4, &[]).is_err(), "there is no line to make longer");
    }
}
