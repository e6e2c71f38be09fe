//! Where else a client finds a node of this journal.
//!
//! Promise: who is named runs by this node's own knowledge, a few seconds old; the node itself is
//! not among them. Each connection is told them in an order of its own, so that those who are sent
//! away spread.

use std::sync::{Arc, PoisonError, RwLock};

use super::Closing;
use crate::wire::{Code, Id, MAX_NODES};

/// Addresses of the other nodes that run and say where they are.
#[derive(Debug, Default)]
pub struct Elsewhere(RwLock<Arc<[String]>>);

impl Elsewhere {
    /// They are these from now on.
    pub fn set(&self, nodes: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = nodes.into();
    }

    /// They, as that connection is told them.
    pub fn of(&self, connection: Id) -> Vec<String> {
        let nodes = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let Id([.., first, second]) = connection;
        let turn = usize::from(u16::from_be_bytes([first, second]));
        let begin = turn.checked_rem(nodes.len()).unwrap_or_default();
        nodes.iter().cycle().skip(begin).take(nodes.len().min(MAX_NODES)).cloned().collect()
    }

    /// Names them to a client that this node cannot serve now, and another may.
    pub fn name(&self, connection: Id, closing: Closing) -> Closing {
        match closing.code {
            Code::ShuttingDown | Code::NotReady | Code::Overloaded => {
                Closing { nodes: self.of(connection), ..closing }
            }
            _ => closing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_them_in_its_own_order() {
        let elsewhere = Elsewhere::default();
        assert_eq!(elsewhere.of(Id([7; 16])), Vec::<String>::new());
        let all: Vec<_> = (0..3).map(|node| format!("https://n{node}")).collect();
        elsewhere.set(all.clone());
        let id = |last: u8| Id([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        assert_eq!(elsewhere.of(id(0)), all);
        assert_eq!(elsewhere.of(id(4)), ["https://n1", "https://n2", "https://n0"]);
        elsewhere.set((0..100).map(|node| format!("https://n{node}")).collect());
        assert_eq!(elsewhere.of(id(99)).len(), MAX_NODES);
        assert_eq!(elsewhere.of(id(99)).first().unwrap(), "https://n99");
    }

    #[test]
    fn only_who_may_be_served_elsewhere_is_sent_there() {
        let elsewhere = Elsewhere::default();
        elsewhere.set(vec!["https://n0".to_owned()]);
        for (code, named) in [
            (Code::ShuttingDown, 1),
            (Code::NotReady, 1),
            (Code::Overloaded, 1),
            (Code::Fenced, 0),
            (Code::Revoked, 0),
        ] {
            let closing = elsewhere.name(Id([1; 16]), Closing::new(code));
            assert_eq!(closing.bye().nodes.len(), named, "{code:?}");
        }
    }
}
