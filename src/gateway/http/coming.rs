//! A body on its way in, and how slowly it may come.
//!
//! Promise: a body that keeps coming, on a link as slow as any in use, is read to its end, however
//! long that takes. One that stops, or trickles so as to hold its request for ever, is given up.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::answer::Problem;
use crate::wire::{Code, Refusal};

/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(30);
/// What has to come in a second, over all the time past the first silence, in bytes.
const SLOWEST: u64 = 1_000;

/// A body, piece by piece.
#[derive(Debug)]
pub(super) struct Coming {
    body: BodyDataStream,
    pace: Pace,
}

/// How far a body has come, and since when.
#[derive(Clone, Copy, Debug)]
struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    /// Until when the next piece has to be there. What came fast is no credit for a long silence.
    fn due(&self, now: Instant) -> Instant {
        let earned = Duration::from_secs(self.bytes / SLOWEST);
        (self.began + SILENCE + earned).min(now + SILENCE)
    }
}

impl Coming {
    /// A body whose first piece is waited for from now on.
    pub(super) fn new(body: Body) -> Self {
        let pace = Pace { began: Instant::now(), bytes: 0 };
        Self { body: body.into_data_stream(), pace }
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// `silent` when it does not come in time, `bad_request` when the body broke off.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let due = self.pace.due(Instant::now());
        let piece = timeout_at(due, self.body.next()).await.map_err(|_| late())?;
        let broken = |_| Problem::bad_request("the body broke off");
        let piece = piece.transpose().map_err(broken)?;
        self.pace.bytes += piece.as_ref().map_or(0, Bytes::len) as u64;
        Ok(piece)
    }

    /// Time that passed while nothing was asked for is not the sender's.
    pub(super) fn paused(&mut self, time: Duration) {
        self.pace.began += time;
    }
}

fn late() -> Refusal {
    let message = format!(
        "nothing came for {} seconds, or less than {SLOWEST} bytes a second in all: send less at \
         once",
        SILENCE.as_secs()
    );
    Refusal::because(Code::Silent, message)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::time::sleep;

    use super::*;

    /// A body of so many bytes, in pieces with a pause before each.
    fn body(bytes: usize, piece: usize, pause: Duration) -> Body {
        Body::from_stream(stream::unfold(bytes, move |left| async move {
            let now = left.min(piece);
            sleep(pause).await;
            (now > 0).then(|| (Ok::<_, std::io::Error>(Bytes::from(vec![0; now])), left - now))
        }))
    }

    async fn read(body: Body) -> Result<usize, Problem> {
        let mut coming = Coming::new(body);
        let mut read = 0;
        while let Some(piece) = coming.next().await? {
            read += piece.len();
        }
        Ok(read)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_keeps_coming_is_read_to_its_end() {
        let begun = Instant::now();
        let slow = body(1 << 20, 15_000, Duration::from_secs(1));
        assert_eq!(read(slow).await.unwrap(), 1 << 20);
        assert!(begun.elapsed() > Duration::from_secs(60), "{:?}", begun.elapsed());
        let slower = body(1 << 20, 20_000, Duration::from_secs(19));
        assert_eq!(read(slower).await.unwrap(), 1 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_or_trickles_is_given_up() {
        for (piece, pause, most) in [(1 << 19, 31, 62), (1, 1, 31), (500, 1, 62)] {
            let begun = Instant::now();
            let problem = read(body(1 << 20, piece, Duration::from_secs(pause))).await.unwrap_err();
            assert_eq!(problem.refusal.code, Code::Silent);
            let lasted = begun.elapsed();
            assert!(lasted <= Duration::from_secs(most), "{piece} {pause}: {lasted:?}");
        }
    }
}
