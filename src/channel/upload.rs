//! Client-made snapshots on their way up: which part of which upload is next.
//!
//! Promise: a snapshot is made of the parts of one upload, in order, and each upload has one answer
//! (promise 20): `done`, or one refusal, whichever of its parts it hits and however many are on
//! their way behind that one. What follows a refusal is passed over until a part 0 begins anew.
//! Told in between is only a part that is to come again.

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
    /// All parts are here; the answer is the fold's.
    Whole,
    /// It was refused: what still comes of it has had its answer.
    Refused,
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
    /// It has had its answer, or comes again.
    Passed,
}

/// Those of a socket, oldest first.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    known: Vec<Upload>,
    turns: u64,
}

impl Uploads {
    fn take(&mut self, put: &PutSnapshot) -> Result<Taken, Refusal> {
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
                Stage::Whole | Stage::Refused if part > 0 => return Ok(Taken::Passed),
                Stage::Next(_) | Stage::PutOff(_) if part > 0 => {
                    known.stage = Stage::Refused;
                    return Err(Code::SnapshotParts.into());
                }
                _ => {}
            }
        }
        self.known.retain(|one| (one.log, one.request) != (log, request));
        let mut given_way = Vec::new();
        let stage = if part == 0 { stage } else { Stage::Refused };
        if part == 0 {
            for one in self.known.iter_mut().filter(|one| one.log == log && one.goes_on()) {
                one.stage = Stage::Refused;
                given_way.push(one.request);
            }
        }
        if self.known.len() >= MOST {
            let oldest = self.known.remove(0);
            given_way.extend((oldest.stage != Stage::Refused).then_some(oldest.request));
        }
        self.turns += 1;
        let turn = self.turns;
        self.known.push(Upload { log, request, offset, version, stage, turn });
        // A part that goes on with nothing takes no other's place.
        if part == 0 { Ok(Taken::Next(turn, given_way)) } else { Err(Code::SnapshotParts.into()) }
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
    /// Takes a part of a snapshot, if it goes on with its upload or begins one: the upload's turn,
    /// by which it is answered. None where the part has had its answer, or comes again.
    ///
    /// # Errors
    /// `snapshot_parts`.
    pub fn take_part(&self, put: &PutSnapshot) -> Result<Option<u64>, Refusal> {
        let mut inner = self.lock();
        let (turn, given_way) = match inner.uploads.take(put)? {
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
        if let Some(upload) = self.lock().uploads.find(turn) {
            upload.stage = Stage::PutOff(part);
        }
    }

    /// Refuses an upload, which has to begin anew; unless it has had its answer.
    pub fn refuse_upload(&self, turn: u64, refusal: Refusal) {
        let mut inner = self.lock();
        let goes_on = |upload: &&mut Upload| upload.stage != Stage::Refused;
        let Some(upload) = inner.uploads.find(turn).filter(goes_on) else { return };
        upload.stage = Stage::Refused;
        let request = upload.request;
        let refused = Refused { request, name: None, refusal };
        self.send_now(&mut inner, &[ServerFrame::Refused(refused)]);
    }

    /// The upload of that turn is over, its last part being taken: its request, if it has had no
    /// answer.
    pub(super) fn end_upload(&self, turn: u64) -> Option<u32> {
        let known = &mut self.lock().uploads.known;
        let whole = |one: &Upload| one.turn == turn && one.stage == Stage::Whole;
        let at = known.iter().position(whole)?;
        Some(known.remove(at).request)
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
        assert_eq!(uploads.take(&part(1, 0, false)), next(1));
        assert_eq!(uploads.take(&part(1, 1, true)), next(1));
        assert_eq!(uploads.take(&part(1, 2, true)), Ok(Taken::Passed), "its answer is due");
        for bad in [
            part(2, 1, true),
            part(1, 2, true),
            PutSnapshot { version: 2, ..part(1, 1, true) },
            PutSnapshot { offset: 5, ..part(1, 1, true) },
            PutSnapshot { log: 8, ..part(1, 1, true) },
        ] {
            let mut uploads = Uploads::default();
            uploads.take(&part(1, 0, false)).unwrap();
            assert!(uploads.take(&bad).is_err(), "{bad:?}");
            assert_eq!(uploads.take(&bad), Ok(Taken::Passed), "refused once: {bad:?}");
            let others = (bad.log, bad.request) != (7, 1);
            let expected = if others { next(1) } else { Ok(Taken::Passed) };
            assert_eq!(uploads.take(&part(1, 1, true)), expected, "beside {bad:?}");
        }
    }

    #[test]
    fn behind_a_part_that_was_put_off_nothing_is_taken_until_it_comes_again() {
        let mut uploads = Uploads::default();
        uploads.take(&part(1, 0, false)).unwrap();
        uploads.take(&part(1, 1, false)).unwrap();
        uploads.find(1).unwrap().stage = Stage::PutOff(1);
        for behind in [part(1, 0, false), part(1, 2, false), part(1, 3, true)] {
            assert_eq!(uploads.take(&behind), Ok(Taken::Passed));
        }
        for again in [part(1, 1, false), part(1, 2, false), part(1, 3, true)] {
            assert_eq!(uploads.take(&again), next(1));
        }
    }

    #[test]
    fn one_upload_of_a_log_takes_the_place_of_another_and_few_are_held() {
        let mut uploads = Uploads::default();
        assert_eq!(uploads.take(&part(1, 0, false)), next(1));
        assert_eq!(uploads.take(&part(2, 0, false)), Ok(Taken::Next(2, vec![1])));
        assert_eq!(uploads.take(&part(1, 1, true)), Ok(Taken::Passed), "it has had its answer");
        assert_eq!(uploads.take(&part(2, 0, false)), next(3), "begun anew by its own number");
        assert_eq!(uploads.take(&part(2, 1, true)), next(3));
        assert_eq!(uploads.take(&part(4, 0, false)), next(4), "what is whole stays");
        let mut superseded = Vec::new();
        for request in 100..200 {
            let log = u64::from(request);
            let Ok(Taken::Next(_, given_way)) =
                uploads.take(&PutSnapshot { log, ..part(request, 0, false) })
            else {
                panic!("part 0 begins");
            };
            superseded.extend(given_way);
        }
        assert_eq!(uploads.known.len(), MOST);
        let gone: Vec<u32> = [2, 4].into_iter().chain(100..136).collect();
        assert_eq!(superseded, gone, "each that gave way is told, but those that were");
    }
}
