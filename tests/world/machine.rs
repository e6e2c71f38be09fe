//! The product's delivery, and the replies that its shell writes at once.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater::connection::{Opened, Reached};
use highwater::delivery::{Attachment, Followed, Owed, Readable};
use highwater::wire::{Code, Ended, Pattern, Refusal, ServerFrame};

/// What a token of the world lets its bearer read.
#[derive(Debug)]
pub struct Grants(pub Vec<Pattern>);

impl Readable for Grants {
    fn may_read(&self, name: &str) -> bool {
        self.0.iter().any(|grant| grant.matches(name))
    }

    fn expires(&self) -> u64 {
        0
    }

    fn may_snapshot(&self, _: &str) -> bool {
        true
    }

    fn may_ask_who(&self, _: &str) -> bool {
        false
    }
}

#[derive(Debug)]
pub struct Machine {
    pub it: Attachment,
    /// Written before anything else of it.
    pub replies: VecDeque<ServerFrame>,
}

impl Machine {
    pub fn new(grants: Vec<Pattern>, window: u64) -> Self {
        let it = Attachment::new(Arc::new(Grants(grants)), window);
        Self { it, replies: VecDeque::new() }
    }

    pub fn reply(&mut self, frame: ServerFrame) {
        self.replies.push_back(frame);
    }

    /// At once, or behind what is owed.
    pub fn in_turn(&mut self, frame: ServerFrame) {
        if self.it.owes() {
            self.it.owe(Owed::Frame(Box::new(frame)));
        } else {
            self.reply(frame);
        }
    }

    pub fn owe(&mut self, frame: ServerFrame) {
        self.it.owe(Owed::Frame(Box::new(frame)));
    }

    /// A log is opened; or why not: the grants in force do not cover it, or did not and what it
    /// goes on with is over.
    pub fn opened(&mut self, opened: Opened, request: u32) -> Result<(), Code> {
        let log = opened.log;
        if opened.again {
            // What would be opened anew is judged by the product, below.
            if !self.it.grants().may_read(&opened.name) {
                return Err(Code::Denied);
            }
            while let Some(frames) = self.it.before_again(log) {
                self.replies.extend(frames);
            }
            let frames = self.it.opened_again(&opened, request).ok_or(Code::Stale)?;
            self.replies.extend(frames);
            return Ok(());
        }
        let over = self.it.end(&[log], &Code::Superseded.into());
        let told = over.first().is_some_and(|over| over.told);
        let followed =
            Followed { name: opened.name.as_str().into(), place: 0, offered: opened.head };
        let taken = self.it.subscribe(opened, request, followed, told);
        if !taken && told {
            let logs = vec![log].into_iter();
            self.it.owe(Owed::Unsubscribed(0, Ended::Denied, logs));
        }
        if taken { Ok(()) } else { Err(Code::Denied) }
    }

    pub fn ended(&mut self, mut logs: Vec<u64>, request: u32, reason: Ended) {
        let why: Refusal = match reason {
            Ended::Asked | Ended::BackEnd | Ended::Overwritten => Code::Superseded,
            Ended::Deleted => Code::UnknownLog,
            Ended::Denied => Code::Denied,
        }
        .into();
        let over = self.it.end(&logs, &why);
        let told = over.iter().filter(|over| over.told).map(|over| over.log);
        let mut told: Vec<u64> = told.collect();
        told.extend(self.it.take_announced(&logs));
        if matches!(reason, Ended::BackEnd | Ended::Deleted | Ended::Denied) {
            logs.retain(|log| told.contains(log));
        }
        if !logs.is_empty() {
            self.it.owe(Owed::Unsubscribed(request, reason, logs.into_iter()));
        }
    }

    pub fn downgraded(&mut self, generation: u64, state: ServerFrame) {
        if self.it.downgraded(generation) {
            self.it.end_all(&Code::Inactive.into());
            self.in_turn(state);
        }
    }

    pub fn activated(&mut self, generation: u64, state: ServerFrame, ended: &[u64]) {
        self.it.activated(generation);
        self.reply(state);
        let ended = self.it.take_announced(ended);
        self.it.forget_announced();
        self.ended(ended, 0, Ended::Overwritten);
    }

    /// Cursors to commit, also of what has ended with the channel.
    pub fn take_acked(&mut self) -> Vec<Reached> {
        let mut reached = self.it.take_acked();
        reached.extend(self.it.take_last());
        reached
    }
}
