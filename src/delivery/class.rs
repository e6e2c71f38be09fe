//! Classes of what leaves a socket, and their order.
//!
//! Promise: the order is this table and nothing else: both what comes next and whether anything can
//! come are read from it.

/// What leaves a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Answers, pings and the last words: written at once, behind what is on its way.
    Reply,
    /// Kept answers, changes of state, refusals, ends of subscriptions, gaps: what must be known
    /// before any reset or base (law 7).
    Owed,
    /// Who has a record: takes turns with what is delivered.
    Question,
    /// How logs are opened: `subscribed`, then `reset` and `gap` where they apply.
    Opening,
    /// The state that a reader starts from, in parts.
    Base,
    /// Records, in the order of their offsets.
    Record,
}

/// What a class waits for, besides a free way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: it is no delivery.
    Nothing,
    /// A token in force, and an active connection whose client has not left.
    Token,
    /// That, and room in the window.
    Window,
}

/// The order. A row goes only where the rows above it have nothing, but for questions, which take
/// turns with what is below them. In the last row bases and records take turns: by priority, then
/// round robin over the logs.
pub(super) const ORDER: [(&[Class], Needs); 5] = [
    (&[Class::Reply], Needs::Nothing),
    (&[Class::Owed], Needs::Nothing),
    (&[Class::Question], Needs::Nothing),
    (&[Class::Opening], Needs::Token),
    (&[Class::Base, Class::Record], Needs::Window),
];
