//! Who hears of a batch once it is durable, besides those that it answers.
//!
//! Promise: every follower hears of every batch that this node folds, each once, in order, and
//! before anybody is told anything of it: no answer is out, no record is sent. So whoever was
//! answered finds that the followers know.

use crate::fold::Applied;

/// Somebody who follows the journal on this node: it takes a note of what a batch did.
///
/// - **Order**: batches in the order of their numbers; of one batch, the followers in the order of
///   their list. They are called by one thread, one after another.
/// - **A slow one** holds up everybody: the others, answers, records, and, once as many batches as
///   may wait for their turn do, the committing thread too, until clients are told `overloaded`.
///   So it waits neither for a disk nor for a socket, nor for a lock that is held across either. It
///   notes what there is to do, within a bound, and whoever does that has a thread of its own; what
///   found no room among the notes is found by a look at the store, which holds all of it by then.
/// - **A panic** ends the node, as one in the fold would: what the follower knows may be half done,
///   and others rest on it. What is durable stays so.
pub trait Follower: Send {
    /// Hears of a batch. Answers to commands that no batch carries (the journal refused them) come
    /// under the number of the batch before, and have no other effects.
    fn follow(&mut self, batch: &Applied);
}

/// Those who follow, in their order.
pub type Followers = Vec<Box<dyn Follower>>;
