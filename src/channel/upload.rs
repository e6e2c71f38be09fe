//! Client-made snapshots on their way up: which part of which upload is next.
//!
//! Promise: a snapshot is made of the parts of one upload, in order. A part that does not go on
//! with the upload of its log is refused, and so is each that follows until one begins anew.

use super::socket::Socket;
use crate::wire::{Code, PutSnapshot, Refusal, Refused, ServerFrame};

/// Logs with an upload on one socket; one more takes the place of the oldest.
const MOST: usize = 64;

/// An upload, as its parts name it, and the part that is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Upload {
    log: u64,
    request: u32,
    offset: u64,
    version: u32,
    next: u32,
    /// The next part was put off: those behind it come again with it.
    waits: bool,
}

/// What becomes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It is the next one, and supersedes the upload of that request.
    Next(Option<u32>),
    /// Another one was put off: it is here already, or comes again behind that.
    Later,
}

/// Those of a socket, oldest first.
#[derive(Debug, Default)]
pub(super) struct Uploads(Vec<Upload>);

impl Uploads {
    fn take(&mut self, put: &PutSnapshot) -> Result<Taken, Refusal> {
        let PutSnapshot { request, log, offset, version, part, last, .. } = *put;
        let known = self.0.iter().position(|upload| upload.log == log);
        let known = known.map(|at| self.0.remove(at));
        let goes_on = Upload { log, request, offset, version, next: part, waits: false };
        let same = known.filter(|known| Upload { next: part, waits: false, ..*known } == goes_on);
        if let Some(same) = same.filter(|same| same.waits && part != same.next) {
            self.0.push(same);
            return Ok(Taken::Later);
        }
        if part > 0 && same.is_none_or(|same| same.next != part) {
            return Err(Code::SnapshotParts.into());
        }
        let before = known.map(|known| known.request).filter(|before| *before != request);
        if !last {
            self.put(Upload { next: part.saturating_add(1), ..goes_on });
        }
        Ok(Taken::Next(before))
    }

    fn put(&mut self, upload: Upload) {
        self.0.retain(|known| known.log != upload.log);
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(upload);
    }

    fn end(&mut self, log: u64, request: u32) {
        self.0.retain(|upload| (upload.log, upload.request) != (log, request));
    }
}

impl Socket {
    /// Takes a part of a snapshot, if it goes on with its upload or begins one. False where one
    /// before it was put off: it comes again.
    ///
    /// # Errors
    /// `snapshot_parts`.
    pub fn take_part(&self, put: &PutSnapshot) -> Result<bool, Refusal> {
        let mut inner = self.lock();
        match inner.uploads.take(put)? {
            Taken::Later => return Ok(false),
            Taken::Next(None) => {}
            Taken::Next(Some(request)) => {
                let refusal = self.superseded("another upload of the same log took its place");
                let refused = Refused { request, name: None, refusal };
                self.send_now(&mut inner, &[ServerFrame::Refused(refused)]);
            }
        }
        Ok(true)
    }

    /// The part that was just taken is to come again, and those behind it.
    pub fn put_off(&self, put: &PutSnapshot) {
        let PutSnapshot { request, log, offset, version, part, .. } = *put;
        let upload = Upload { log, request, offset, version, next: part, waits: true };
        self.lock().uploads.put(upload);
    }

    /// Refuses a part: its upload has to begin anew.
    pub fn refuse_part(&self, log: u64, request: u32, refusal: Refusal) {
        self.lock().uploads.end(log, request);
        self.refuse(request, refusal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Payload;

    fn part(request: u32, part: u32, last: bool) -> PutSnapshot {
        let data = Payload::default();
        PutSnapshot { request, log: 7, offset: 4, version: 1, part, last, data }
    }

    #[test]
    fn parts_of_two_uploads_make_no_snapshot() {
        let mut uploads = Uploads::default();
        assert_eq!(uploads.take(&part(1, 0, false)), Ok(Taken::Next(None)));
        assert_eq!(uploads.take(&part(1, 1, true)), Ok(Taken::Next(None)));
        assert!(uploads.take(&part(1, 2, true)).is_err(), "the upload is over");
        for bad in [
            part(2, 1, true),
            part(1, 2, true),
            part(1, 0, false),
            PutSnapshot { version: 2, ..part(1, 1, true) },
            PutSnapshot { offset: 5, ..part(1, 1, true) },
            PutSnapshot { log: 8, ..part(1, 1, true) },
        ] {
            let mut uploads = Uploads::default();
            uploads.take(&part(1, 0, false)).unwrap();
            let taken = uploads.take(&bad);
            assert_eq!(taken.is_ok(), bad.part == 0, "{bad:?}");
            if bad.log == 7 && bad.part > 0 {
                assert!(uploads.take(&part(1, 1, true)).is_err(), "after a refusal at part 0 only");
            }
        }
    }

    #[test]
    fn behind_a_part_that_was_put_off_nothing_is_taken_until_it_comes_again() {
        let mut uploads = Uploads::default();
        uploads.take(&part(1, 0, false)).unwrap();
        uploads.take(&part(1, 1, false)).unwrap();
        let waits = Upload { log: 7, request: 1, offset: 4, version: 1, next: 1, waits: true };
        uploads.put(waits);
        for behind in [part(1, 0, false), part(1, 2, false), part(1, 3, true)] {
            assert_eq!(uploads.take(&behind), Ok(Taken::Later));
        }
        for again in [part(1, 1, false), part(1, 2, false), part(1, 3, true)] {
            assert_eq!(uploads.take(&again), Ok(Taken::Next(None)));
        }
    }

    #[test]
    fn one_upload_of_a_log_takes_the_place_of_another_and_few_are_held() {
        let mut uploads = Uploads::default();
        assert_eq!(uploads.take(&part(1, 0, false)), Ok(Taken::Next(None)));
        assert_eq!(uploads.take(&part(2, 0, false)), Ok(Taken::Next(Some(1))));
        let anew = uploads.take(&part(2, 0, false));
        assert_eq!(anew, Ok(Taken::Next(None)), "begun anew by its own number");
        for log in 100..200 {
            uploads.take(&PutSnapshot { log, ..part(3, 0, false) }).unwrap();
        }
        assert_eq!(uploads.0.len(), MOST);
    }
}
