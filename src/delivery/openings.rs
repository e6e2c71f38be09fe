//! How logs are opened to a client: `subscribed`, then `reset` and `gap` where they apply.
//!
//! Promise: an opening goes before anything of its log, and behind all that is owed (law 7). A
//! reader that stands where records begin to be offered has caught up at once: nothing is read for
//! it.

use super::Attachment;
use super::reads::Slice;
use super::subscription::{Phase, Sub};
use crate::connection::{BaseFrom, Opened};
use crate::wire::{BaseAt, BaseHeld, Reset, ServerFrame, SnapshotRule, Subscribed, Upto};

/// Openings told in one message.
pub(super) const ANNOUNCE_MOST: usize = 64;

impl Attachment {
    /// The next openings to tell, many to a message.
    pub(super) fn next_openings(&mut self) -> Option<Vec<ServerFrame>> {
        let mut frames = Vec::new();
        let sent = self.sent;
        for _ in 0..ANNOUNCE_MOST {
            let Some(log) = self.announce.pop_front() else { break };
            let Some(sub) = self.subs.get_mut(&log) else { continue };
            if !matches!(sub.phase, Phase::Announce { .. }) {
                continue;
            }
            let announced = std::mem::replace(&mut sub.phase, Phase::Held);
            let Phase::Announce { opened, request } = announced else { continue };
            (sub.since, sub.told) = (sent, true);
            if !opened.held {
                sub.phase = match first_slice(&opened) {
                    // It has all there is, and is offered what comes next.
                    Slice::Records if sub.cursor >= sub.offered => Phase::Live,
                    slice => {
                        self.behind.entry(sub.priority).or_default().push_back(log);
                        Phase::Behind(slice)
                    }
                };
            }
            tell_opened(&opened, request, &mut frames);
        }
        Some(frames).filter(|frames| !frames.is_empty())
    }

    /// A log is asked for that is subscribed to already: what is told before that can be answered,
    /// a message at a time, for it stands before it in the socket's order.
    pub fn before_again(&mut self, log: u64) -> Option<Vec<ServerFrame>> {
        let announces = |sub: &Sub| matches!(sub.phase, Phase::Announce { .. });
        let waits = self.subs.get(&log).is_some_and(|sub| announces(sub));
        self.next_owed().or_else(|| waits.then(|| self.next_openings()).flatten())
    }

    /// It is answered: the cursor stays, the priority is the new one. None where there is no such
    /// subscription, its client has not opened it, or nothing more comes of it.
    pub fn opened_again(&mut self, opened: &Opened, request: u32) -> Option<Vec<ServerFrame>> {
        let (log, priority) = (opened.log, opened.priority);
        let queued = self.behind.values().any(|logs| logs.contains(&log));
        let open = |sub: &&mut Box<Sub>| !matches!(sub.phase, Phase::Held | Phase::Ended);
        let sub = self.subs.get_mut(&log).filter(open)?;
        sub.priority = priority;
        let told = Opened { cursor: sub.cursor, ..opened.clone() };
        if queued {
            self.forget_turns(|known| known == log);
            self.behind.entry(priority).or_default().push_back(log);
        }
        let mut frames = Vec::new();
        tell_opened(&told, request, &mut frames);
        Some(frames)
    }
}

/// What is sent first: the base, from where the reader has come in it.
fn first_slice(opened: &Opened) -> Slice {
    match (&opened.base, &opened.upto) {
        (Some(BaseFrom::Latest(offset)), upto) => {
            let after = match upto {
                Some(Upto::Key(key)) => Some(key.as_bytes().to_vec()),
                Some(Upto::Parts(_)) | None => None,
            };
            Slice::Latest { offset: *offset, after }
        }
        (Some(BaseFrom::Client(snapshot)), upto) => {
            let part = match upto {
                Some(Upto::Parts(parts)) => *parts,
                Some(Upto::Key(_)) | None => 0,
            };
            Slice::Base { snapshot: Box::new(snapshot.clone()), part }
        }
        (None, _) => Slice::Records,
    }
}

/// The frames that open a log.
fn tell_opened(opened: &Opened, request: u32, frames: &mut Vec<ServerFrame>) {
    let Opened { log, rule, priority, start, head, cursor, complete, .. } = *opened;
    let reset = opened.reset.is_some();
    let name = opened.name.clone();
    let goes_on = opened.base.as_ref().zip(opened.upto.clone());
    let begun = goes_on.map(|(base, upto)| BaseHeld { log, offset: base.offset(), upto });
    frames.push(ServerFrame::Subscribed(Subscribed {
        request,
        name,
        log,
        priority,
        rule,
        start,
        head,
        cursor,
        complete,
        reset,
        made: opened.made,
        held: opened.held,
        base: begun,
    }));
    if let Some(reason) = opened.reset {
        let base = opened.base.as_ref().map(|base| match base {
            BaseFrom::Latest(offset) => {
                BaseAt { rule: SnapshotRule::Latest, offset: *offset, version: 0 }
            }
            BaseFrom::Client(snapshot) => BaseAt {
                rule: SnapshotRule::Client,
                offset: snapshot.offset,
                version: snapshot.version,
            },
        });
        frames.push(ServerFrame::Reset(Reset { log, reason, base, cursor, complete }));
    }
    frames.extend(opened.gap.clone().map(ServerFrame::Gap));
}
