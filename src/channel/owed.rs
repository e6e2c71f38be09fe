//! Answers that are owed: of requests whose subscription goes away before its opening was told.
//!
//! Promise: one answer to each request (promise 20), and no log id before it was announced: what
//! the client has not heard of ends by a refusal of its request, by name.

use super::due::Due;
use super::socket::{Inner, Phase, Socket, Sub};
use crate::wire::{Code, Refusal, Refused, ServerFrame};

impl Sub {
    /// The request whose answer the subscription's opening is, and its log's name; none once that
    /// was told.
    pub(super) fn owed(&self) -> Option<(u32, &str)> {
        match &self.phase {
            Phase::Announce { request, .. } => Some((*request, &self.watch.name)),
            _ => None,
        }
    }

    /// Whether a request waits for its opening.
    pub(super) fn asked(&self) -> bool {
        self.owed().is_some_and(|(request, _)| request != 0)
    }
}

impl Socket {
    /// Refuses a request.
    pub(super) fn refuse(&self, request: u32, refusal: Refusal) {
        self.send(&[ServerFrame::Refused(Refused { request, name: None, refusal })]);
    }

    /// What is said of a request whose place another took.
    pub(super) fn superseded(&self, message: &str) -> Refusal {
        // Who does not know that code is told the nearest one there was.
        let code = if self.abilities.numbers { Code::Superseded } else { Code::Stale };
        Refusal::because(code, message)
    }
}

impl Inner {
    /// Refuses the requests that wait for openings of these subscriptions; of what came by itself,
    /// only what the client has not heard of. Due, so that it goes before anything later.
    pub(super) fn refuse_owed<'a>(
        &mut self,
        subs: impl IntoIterator<Item = &'a Box<Sub>>,
        why: &Refusal,
    ) {
        for sub in subs {
            let owed = sub.owed().filter(|(request, _)| *request != 0 || !sub.told);
            if let Some((request, name)) = owed {
                let refused = vec![(name.to_owned(), why.clone())];
                self.owe(Due::Refused(request, refused.into_iter()));
            }
        }
    }
}
