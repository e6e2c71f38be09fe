//! What is kept of a request for logs while the fold decides on it.
//!
//! Promise: each name is answered once, with the request and not before it: a request that is
//! refused as a whole has that one answer (promise 20). And what logs cost that were to be made and
//! are not is given back to the rates.

use std::collections::BTreeSet;

use crate::limit::Charged;
use crate::wire::Refusal;

/// Logs that a request opens, of which the fold has those that may be opened.
#[derive(Debug, Default)]
pub struct Opening {
    /// The request; 0: of `hello`.
    pub request: u32,
    /// What was asked for by name beside what comes by itself, which nobody waits for.
    pub names: BTreeSet<String>,
    /// Logs that are not made, and why.
    pub unmade: Vec<(String, Refusal)>,
    /// What those cost that are to be made.
    pub spent: Spent,
}

/// Appends that logs count as which are made because somebody opens them.
#[derive(Debug, Default)]
pub struct Spent {
    /// The logs' names, in the order in which they were charged.
    pub names: Vec<String>,
    /// What each of them cost; given back when this is dropped without having been settled.
    pub charged: Option<Charged>,
}

impl Spent {
    /// They may be made by now, whether somebody waits for the answer or not.
    pub fn hand_in(&mut self) {
        self.charged.iter_mut().for_each(Charged::hand_in);
    }

    /// None of them was made.
    pub fn give_back(self) {
        self.charged.into_iter().for_each(|charged| charged.settle(|_| true));
    }

    /// The fold has decided: those among the refused names have cost nothing.
    pub fn settle(self, refused: &[(String, Refusal)]) {
        let Some(charged) = self.charged else { return };
        let refused = |name: &String| refused.iter().any(|(known, _)| known == name);
        charged.settle(|at| self.names.get(at).is_some_and(refused));
    }
}

impl Opening {
    /// Whether a name was asked for.
    pub(super) fn asked(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// All names that are refused, the fold having refused those.
    pub(super) fn refused(self, mut refused: Vec<(String, Refusal)>) -> Vec<(String, Refusal)> {
        self.spent.settle(&refused);
        refused.extend(self.unmade);
        refused
    }
}
