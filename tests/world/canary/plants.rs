//! Faults that the world has to find: each is a line that a promise or a law rests on, broken.
//!
//! Promise: what is shipped has none of this. They are planted in a copy (`make canary`), and a
//! test in `house` holds that each line is still there, once.

/// One fault.
#[derive(Debug)]
pub struct Plant {
    pub name: &'static str,
    /// The promise or law that it breaks.
    pub breaks: &'static str,
    pub file: &'static str,
    /// Text that is in the file once, and what of it (once too) is an expression to be replaced.
    pub at: &'static str,
    pub is: &'static str,
    pub put: &'static str,
    /// A test that finds it without the world: its program, and its name.
    pub test: Option<(&'static str, &'static str)>,
    /// Whether the world can: it has no committing thread.
    pub world: bool,
}

const fn plant(
    name: &'static str,
    breaks: &'static str,
    file: &'static str,
    at: &'static str,
    is: &'static str,
    put: &'static str,
) -> Plant {
    Plant { name, breaks, file, at, is, put, test: None, world: true }
}

impl Plant {
    const fn and(mut self, program: &'static str, test: &'static str) -> Self {
        self.test = Some((program, test));
        self
    }

    const fn out_of_sight(mut self) -> Self {
        self.world = false;
        self
    }
}

const ATTACHMENT: &str = "src/delivery/attachment.rs";
const SUBSCRIPTION: &str = "src/delivery/subscription.rs";
const READS: &str = "src/delivery/reads.rs";
const OPENINGS: &str = "src/delivery/openings.rs";
const ATTACH: &str = "src/connection/attach.rs";
const OPEN: &str = "src/connection/open.rs";
const LIFE: &str = "src/connection/life.rs";
const APPEND: &str = "src/log/append.rs";

/// Of delivery, then of the fold, then of the client.
pub const PLANTS: &[Plant] = &[
    plant(
        "openings go before owed answers",
        "law 7",
        ATTACHMENT,
        "for (classes, needs) in ORDER {",
        "ORDER",
        "{ let mut order = ORDER; order.swap(1, 3); order }",
    )
    .and("process", "delivery::owed_answers_come_before_a_log_is_opened"),
    plant(
        "an acknowledgement from before a seek counts",
        "law 6",
        "src/delivery/acks.rs",
        "if received <= sub.since && cursor.next <= sub.cursor {",
        "received <= sub.since && cursor.next <= sub.cursor",
        "false",
    )
    .and("process", "delivery::an_old_acknowledgement_does_not_undo_a_seek"),
    plant(
        "no second look at grants when a log is opened",
        "promise 11",
        SUBSCRIPTION,
        "if !self.grants.may_read(&log.name) {",
        "!self.grants.may_read(&log.name)",
        "false",
    )
    .and("process", "promise_11_a_grant_that_shrinks_while_logs_are_opened"),
    plant(
        "a batch of unknown fate is proposed again at once",
        "nothing: it floods the journal",
        "src/journal/commit/proposal.rs",
        "let waited = now.saturating_duration_since(since) > PROPOSE_AGAIN;",
        "now.saturating_duration_since(since) > PROPOSE_AGAIN",
        "{ let _ = (since, now); true }",
    )
    .and("nodes", "a_batch_of_unknown_fate_is_proposed_again_after_a_wait")
    .out_of_sight(),
    plant(
        "what is offered overruns the window",
        "law 10",
        ATTACHMENT,
        "if sub.cursor != base || !readable || !self.fits(size()) {",
        "!self.fits(size())",
        "false",
    ),
    plant(
        "what is read overruns the window",
        "law 10",
        READS,
        "if !self.fits(size) {",
        "!self.fits(size)",
        "false",
    ),
    plant(
        "what matters least is read first",
        "law 10",
        READS,
        "self.behind.iter_mut().next()?",
        "self.behind.iter_mut().next()?",
        "self.behind.iter_mut().next_back()?",
    ),
    plant(
        "a log counts as caught up after one read",
        "promise 14",
        READS,
        "if sub.cursor >= sub.offered {",
        "sub.cursor >= sub.offered",
        "true",
    ),
    plant(
        "a base counts as whole after one part",
        "promise 14",
        READS,
        "let may_be_done = next == Slice::Records;",
        "next == Slice::Records",
        "true",
    ),
    plant(
        "what the kernel did not take is not read again",
        "promise 14",
        ATTACHMENT,
        "self.fall_behind(log);\n            }\n            Wrote::Broken",
        "self.fall_behind(log)",
        "()",
    ),
    plant(
        "a log that is held is delivered",
        "law 9",
        OPENINGS,
        "if !opened.held {",
        "!opened.held",
        "true",
    ),
    plant(
        "a base that was begun is sent from its beginning",
        "promise 1",
        OPENINGS,
        "Some(Upto::Key(key)) => Some(key.as_bytes().to_vec()),",
        "Some(key.as_bytes().to_vec())",
        "{ let _ = key; None }",
    ),
    plant(
        "smaller grants end nothing that is open",
        "promise 11",
        SUBSCRIPTION,
        "let lost = |sub: &Sub| !grants.may_read(&sub.name);",
        "!grants.may_read(&sub.name)",
        "{ let _ = sub; false }",
    ),
    plant(
        "the end of a log is told that was never announced",
        "law 9",
        SUBSCRIPTION,
        "Over { log, place: sub.place, told: sub.told }",
        "sub.told",
        "true",
    ),
    plant(
        "a socket's word counts whatever its generation",
        "promise 12",
        "src/connection/mod.rs",
        "(row.joined..=row.generation).contains(&generation)",
        "(row.joined..=row.generation).contains(&generation)",
        "true",
    ),
    plant(
        "a commit for an earlier opening counts",
        "law 6",
        LIFE,
        "sub.opening == opening && !sub.held()",
        "sub.opening == opening",
        "true",
    ),
    plant(
        "an older socket is not fenced",
        "promise 12",
        ATTACH,
        "row.attached.filter(|was| self.may_hold(*was))",
        "row.attached.filter(|was| self.may_hold(*was))",
        "None",
    ),
    plant(
        "what a client holds of another history is not judged",
        "promise 15",
        ATTACH,
        "!cx.logs.judge(&ask.positions, cx.io)?",
        "!cx.logs.judge(&ask.positions, cx.io)?",
        "false",
    ),
    plant(
        "a log is opened past what is no longer kept, in silence",
        "promise 7",
        OPEN,
        "if offset < row.start {",
        "offset < row.start",
        "false",
    ),
    plant(
        "an append is taken whatever was sent before it",
        "promise 4",
        APPEND,
        "if entry.prev != writer.row.mark {",
        "entry.prev != writer.row.mark",
        "false",
    ),
    plant(
        "the answer to a repeat is forgotten",
        "promise 4",
        APPEND,
        "match writer.outcome(entry.seq) {",
        "writer.outcome(entry.seq)",
        "None",
    ),
    plant(
        "a key that was taken away stays in the base",
        "promise 14",
        APPEND,
        "if record.payload.is_none() {",
        "record.payload.is_none()",
        "false",
    ),
    plant(
        "a batch that came twice is folded twice",
        "promise 4",
        "src/fold/apply.rs",
        "if heard == Heard::Next {",
        "heard == Heard::Next",
        "heard != Heard::Early",
    ),
    plant(
        "a trim passes over readers below it",
        "promise 7",
        "src/connection/retention.rs",
        "(row.floor < to).then(|| row.sweep())",
        "(row.floor < to)",
        "false",
    ),
    plant(
        "a slot that was given up stays counted",
        "slots",
        "src/connection/mod.rs",
        "self.active -= (before - holder.active.len()) as u64;",
        "(before - holder.active.len()) as u64",
        "{ let _ = before; 0 }",
    ),
    plant(
        "a revocation is told to nobody",
        "promise 11",
        "src/fold/revoked.rs",
        "events.push(Event::Revoked { whom, before_ms: Some(before_ms) });",
        "events.push(Event::Revoked { whom, before_ms: Some(before_ms) })",
        "drop(whom)",
    ),
    // Of the product's client.
    plant(
        "a client does not raise its position by what it is shown",
        "promise 15",
        "src/client/frames.rs",
        "told.records.iter().map(|record| record.place.batch).max();",
        "told.records.iter().map(|record| record.place.batch).max()",
        "None::<u64>",
    ),
    plant(
        "a client states nothing of what it has",
        "promise 8",
        "src/client/wants.rs",
        "let have = held.map(|log| Cursor { log: log.log, next: log.cursor });",
        "held.map(|log| Cursor { log: log.log, next: log.cursor })",
        "None",
    ),
    plant(
        "a client states what it has let go",
        "promise 8",
        "src/client/wants.rs",
        "self.ending.iter().any(ends)",
        "self.ending.iter().any(ends)",
        "false && self.ending.iter().any(ends)",
    ),
    plant(
        "a client acknowledges a base that is not whole",
        "law 6",
        "src/client/window.rs",
        "logs.get(id).filter(|log| log.open && log.holds())?;",
        "log.open && log.holds()",
        "log.open",
    ),
];
