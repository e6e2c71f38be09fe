//! What is owed to a client before any reset or base: kept answers, its state, long lists, and the
//! answers of requests whose subscription goes away before its opening was told.
//!
//! Promise: one answer to each request (promise 20), and no log id before it was announced: what
//! the client has not heard of ends by a refusal of its request, by name. It is told a piece at a
//! time, and until it is, the socket's input is left unread: so what a client asks for is bounded
//! by one frame. What others do to it (a back end, who deletes a log) has a bound of its own:
//! beyond it the client is told to come back, and sees how things are then.

use super::Attachment;
use super::openings::ANNOUNCE_MOST;
use super::subscription::{Phase, Sub};
use crate::connection::Opened;
use crate::wire::{
    Answer, Answers, Ended, Id, Ping, Position, Refusal, Refused, ServerFrame, Unsubscribed,
};

/// Answers in one frame.
const ANSWERS_MOST: usize = 256;

/// Most that others may have done to a socket while something is owed to it.
const UNINVITED: usize = 4_096;

/// Something to tell before any reset or base (law 7), which may be long.
#[derive(Debug)]
pub enum Owed {
    /// Answers of a writer, after which its mark stands there.
    Answers(Id, u64, std::vec::IntoIter<Answer>),
    /// A frame.
    Frame(Box<ServerFrame>),
    /// Logs that were asked for and not opened.
    Refused(u32, std::vec::IntoIter<(String, Refusal)>),
    /// Subscriptions that ended.
    Unsubscribed(u32, Ended, std::vec::IntoIter<u64>),
}

impl Owed {
    /// Where the node stands, for a client that is about to be told of logs in these states without
    /// a welcome. It states the highest place that it has seen, and of a base, or of what lies
    /// before its cursor, it may see none: if the server then lost that, and its logs grew again,
    /// it would be taken for one of this history (promise 15). None where it begins with nothing.
    pub fn position(at: Option<Position>, opened: &[Opened]) -> Option<Self> {
        let tells = |one: &Opened| one.cursor > 0 && !one.again && !one.held;
        let positions = vec![at.filter(|_| opened.iter().any(tells))?];
        Some(Self::Frame(Box::new(ServerFrame::Ping(Ping { nonce: 0, positions }))))
    }
}

impl Sub {
    /// The request whose answer the subscription's opening is, and its log's name; none once that
    /// was told.
    pub(super) fn owed(&self) -> Option<(u32, &str)> {
        match &self.phase {
            Phase::Announce { request, .. } => Some((*request, &self.name)),
            _ => None,
        }
    }

    /// Whether a request waits for its opening.
    pub(super) fn asked(&self) -> bool {
        self.owed().is_some_and(|(request, _)| request != 0)
    }
}

impl Attachment {
    /// Something is owed; to a socket that is being closed nothing is.
    pub fn owe(&mut self, owed: Owed) {
        if !self.closing {
            self.owed.push_back(owed);
        }
    }

    /// Whether anything is owed.
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether anything is owed but gaps, which no request asked for: a client that waits for a
    /// large record on a slow link is heard meanwhile.
    pub fn owes_answers(&self) -> bool {
        let gap = |frame: &ServerFrame| matches!(frame, ServerFrame::Gap(_));
        self.owed.iter().any(|owed| !matches!(owed, Owed::Frame(frame) if gap(frame)))
    }

    /// Others do something to it, of which so much is to be told.
    pub fn uninvited(&mut self, items: usize) {
        if self.owed.is_empty() {
            self.uninvited = 0;
        }
        self.uninvited += items;
        if self.uninvited > UNINVITED {
            self.overflow();
        }
    }

    /// The next piece of what is owed.
    pub fn next_owed(&mut self) -> Option<Vec<ServerFrame>> {
        let mut owed = self.owed.pop_front()?;
        let (frames, rest) = piece(&mut owed);
        if rest {
            self.owed.push_front(owed);
        }
        Some(frames)
    }

    /// Its client leaves: requests that wait for openings are refused by `why`; what was owed to
    /// it goes before the close.
    pub fn refuse_asked(&mut self, why: &Refusal) {
        let subs = std::mem::take(&mut self.subs);
        self.refuse_owed(subs.values().filter(|sub| sub.asked()), why);
        self.subs = subs;
    }

    /// Refuses the requests that wait for openings of these subscriptions; of what came by itself,
    /// only what the client has not heard of. Owed, so that it goes before anything later.
    pub(super) fn refuse_owed<'a>(
        &mut self,
        subs: impl IntoIterator<Item = &'a Box<Sub>>,
        why: &Refusal,
    ) {
        for sub in subs {
            let owed = sub.owed().filter(|(request, _)| *request != 0 || !sub.told);
            if let Some((request, name)) = owed {
                let refused = vec![(name.to_owned(), why.clone())];
                self.owe(Owed::Refused(request, refused.into_iter()));
            }
        }
    }
}

/// The next frames of what is owed, and whether there are more.
fn piece(owed: &mut Owed) -> (Vec<ServerFrame>, bool) {
    match owed {
        Owed::Answers(writer, mark, rest) => {
            let answers = rest.by_ref().take(ANSWERS_MOST).collect();
            let positions = Vec::new();
            let frame = Answers { writer: *writer, mark: *mark, answers, positions, credit: None };
            (vec![ServerFrame::Answers(frame)], rest.len() > 0)
        }
        Owed::Frame(frame) => (vec![(**frame).clone()], false),
        Owed::Refused(request, rest) => {
            let request = *request;
            let frame = |(name, refusal)| {
                ServerFrame::Refused(Refused { request, name: Some(name), refusal })
            };
            (rest.by_ref().take(ANNOUNCE_MOST).map(frame).collect(), rest.len() > 0)
        }
        Owed::Unsubscribed(request, reason, rest) => {
            let (request, reason) = (*request, *reason);
            let frame = |log| ServerFrame::Unsubscribed(Unsubscribed { request, log, reason });
            (rest.by_ref().take(ANNOUNCE_MOST).map(frame).collect(), rest.len() > 0)
        }
    }
}
