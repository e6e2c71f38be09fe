//! Client-made snapshots on their way up: which part of which upload is next.
//!
//! Promise: a snapshot is made of the parts of one upload, in order. Each part that is not taken is
//! refused, and the last one that is taken is answered `done`; an upload that gives way to another
//! has one answer for the parts that it has here (promise 20). A part that is put off is to come
//! again, and those behind it with it: these are passed over.

use super::socket::Socket;
use crate::wire::{Code, PutSnapshot, Refusal, Refused, ServerFrame};

/// Uploads of one socket that are known; one more takes the place of the oldest.
const MOST: usize = 64;

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// That part is next.
    Next(u32),
    /// That part was put off: those behind it come again with it.
    PutOff(u32),
    /// All parts are here.
    Whole,
    /// One was refused: no part is next.
    Over,
    /// Another took its place, and that was its answer.
    GaveWay,
}

/// An upload, as its parts name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Upload {
    log: u64,
    request: u32,
    offset: u64,
    version: u32,
    stage: Stage,
    /// Which beginning it is of all on this socket: a request's number may begin more than once.
    turn: u64,
}

/// What becomes of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Taken {
    /// It is the next one of that turn; uploads of these requests gave way.
    Next(u64, Vec<u32>),
    /// It comes again.
    Passed,
}

/// Those of a socket, oldest first.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    known: Vec<Upload>,
    turns: u64,
}

impl Uploads {
    fn admit(&mut self, put: &PutSnapshot) -> Result<Taken, Refusal> {
        let PutSnapshot { request, log, offset, version, part, last, .. } = *put;
        let stage = if last { Stage::Whole } else { Stage::Next(part.saturating_add(1)) };
        let same = |one: &&mut Upload| (one.log, one.request) == (log, request);
        if let Some(known) = self.known.iter_mut().find(same) {
            let of_it = (known.offset, known.version) == (offset, version);
            match known.stage {
                Stage::Next(next) | Stage::PutOff(next) if of_it && part == next => {
                    known.stage = stage;
                    return Ok(Taken::Next(known.turn, Vec::new()));
                }
                Stage::PutOff(_) if of_it => return Ok(Taken::Passed),
                Stage::Next(_) | Stage::PutOff(_) if part > 0 => known.stage = Stage::Over,
                _ => {}
            }
        }
        if part > 0 {
            return Err(Code::SnapshotParts.into());
        }
        self.turns += 1;
        let upload = Upload { log, request, offset, version, stage, turn: self.turns };
        Ok(Taken::Next(upload.turn, self.begin(upload)))
    }

    /// An upload begins, also anew: the requests of those that give way to it.
    fn begin(&mut self, upload: Upload) -> Vec<u32> {
        self.known.retain(|one| (one.log, one.request) != (upload.log, upload.request));
        let mut given_way = Vec::new();
        for one in self.known.iter_mut().filter(|one| one.log == upload.log && one.goes_on()) {
            one.stage = Stage::GaveWay;
            given_way.push(one.request);
        }
        if self.known.len() >= MOST {
            let oldest = self.known.remove(0);
            given_way.extend(oldest.goes_on().then_some(oldest.request));
        }
        self.known.push(upload);
        given_way
    }

    fn find(&mut self, turn: u64) -> Option<&mut Upload> {
        self.known.iter_mut().find(|one| one.turn == turn)
    }
}

impl Upload {
    const fn goes_on(&self) -> bool {
        matches!(self.stage, Stage::Next(_) | Stage::PutOff(_))
    }
}

impl Socket {
    /// Admits a part of a snapshot, if it goes on with its upload or begins one: the upload's turn.
    /// None where it comes again.
    ///
    /// # Errors
    /// `snapshot_parts`.
    pub fn admit_part(&self, put: &PutSnapshot) -> Result<Option<u64>, Refusal> {
        let mut inner = self.lock();
        let (turn, given_way) = match inner.uploads.admit(put)? {
            Taken::Passed => return Ok(None),
            Taken::Next(turn, given_way) => (turn, given_way),
        };
        for request in given_way {
            let refusal = self.superseded("another upload took its place");
            let refused = Refused { request, name: None, refusal };
            self.send_now(&mut inner, &[ServerFrame::Refused(refused)]);
        }
        Ok(Some(turn))
    }

    /// The part of that turn that was just taken is to come again, and those behind it.
    pub fn put_off(&self, turn: u64, part: u32) {
        let mut inner = self.lock();
        // One that was refused meanwhile stays so.
        let taken = |one: &&mut Upload| matches!(one.stage, Stage::Next(_) | Stage::Whole);
        if let Some(upload) = inner.uploads.find(turn).filter(taken) {
            upload.stage = Stage::PutOff(part);
        }
    }

    /// Refuses a part that was taken, by its upload's turn and number. That has to begin anew; of
    /// one that gave way nothing more is said, for `superseded` was its answer.
    pub fn refuse_part(&self, turn: u64, request: u32, refusal: Refusal) {
        let mut inner = self.lock();
        if let Some(upload) = inner.uploads.find(turn) {
            if upload.stage == Stage::GaveWay {
                return;
            }
            upload.stage = Stage::Over;
        }
        let refused = Refused { request, name: None, refusal };
        self.send_now(&mut inner, &[ServerFrame::Refused(refused)]);
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

    fn next(turn: u64) -> Result<Taken, Refusal> {
        Ok(Taken::Next(turn, vec![]))
    }

    #[test]
    fn parts_of_two_uploads_make_no_snapshot() {
        let mut uploads = Uploads::default();
        assert_eq!(uploads.admit(&part(1, 0, false)), next(1));
        assert_eq!(uploads.admit(&part(1, 1, true)), next(1));
        assert!(uploads.admit(&part(1, 2, true)).is_err(), "the upload is over");
        for bad in [
            part(2, 1, true),
            part(1, 2, true),
            PutSnapshot { version: 2, ..part(1, 1, true) },
            PutSnapshot { offset: 5, ..part(1, 1, true) },
            PutSnapshot { log: 8, ..part(1, 1, true) },
        ] {
            let mut uploads = Uploads::default();
            uploads.admit(&part(1, 0, false)).unwrap();
            assert!(uploads.admit(&bad).is_err(), "{bad:?}");
            let others = (bad.log, bad.request) != (7, 1);
            let goes_on = uploads.admit(&part(1, 1, true));
            assert_eq!(goes_on.is_ok(), others, "beside {bad:?}");
        }
    }

    #[test]
    fn behind_a_part_that_was_put_off_nothing_is_taken_until_it_comes_again() {
        let mut uploads = Uploads::default();
        uploads.admit(&part(1, 0, false)).unwrap();
        uploads.admit(&part(1, 1, false)).unwrap();
        uploads.find(1).unwrap().stage = Stage::PutOff(1);
        for behind in [part(1, 0, false), part(1, 2, false), part(1, 3, true)] {
            assert_eq!(uploads.admit(&behind), Ok(Taken::Passed));
        }
        for again in [part(1, 1, false), part(1, 2, false), part(1, 3, true)] {
            assert_eq!(uploads.admit(&again), next(1));
        }
    }

    #[test]
    fn one_upload_of_a_log_takes_the_place_of_another_and_few_are_held() {
        let mut uploads = Uploads::default();
        assert_eq!(uploads.admit(&part(1, 0, false)), next(1));
        assert_eq!(uploads.admit(&part(2, 0, false)), Ok(Taken::Next(2, vec![1])));
        assert!(uploads.admit(&part(1, 1, true)).is_err(), "it gave way");
        assert_eq!(uploads.find(1).unwrap().stage, Stage::GaveWay);
        assert_eq!(uploads.admit(&part(2, 0, false)), next(3), "begun anew by its own number");
        assert_eq!(uploads.admit(&part(2, 1, true)), next(3));
        assert_eq!(uploads.admit(&part(4, 0, false)), next(4), "what is whole stays");
        let mut superseded = Vec::new();
        for request in 100..200 {
            let log = u64::from(request);
            let Ok(Taken::Next(_, given_way)) =
                uploads.admit(&PutSnapshot { log, ..part(request, 0, false) })
            else {
                panic!("part 0 begins");
            };
            superseded.extend(given_way);
        }
        assert_eq!(uploads.known.len(), MOST);
        let gone: Vec<u32> = [4].into_iter().chain(100..136).collect();
        assert_eq!(superseded, gone, "each that goes on and gives way is told");
    }
}
