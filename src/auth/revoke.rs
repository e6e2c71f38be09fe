//! Revocations: users and tokens that no longer count, though their signature is right.
//!
//! Kept in memory and looked up at each authentication; a counter tells sockets, at the price of
//! one atomic read, that they should look again. What is durable is the fold's: a node reads it at
//! start, and learns of each change with the batch that made it. At most [`MAX_REVOCATIONS`] are
//! held.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use super::{AuthError, Grants};
use crate::wire::{MAX_REVOCATIONS, Whom};

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Revocation {
    /// Who or what.
    pub whom: Whom,
    /// Of a user: tokens issued before this moment no longer count. Of a token: when it was
    /// revoked, so that it can be forgotten once the token has expired anyway. In milliseconds
    /// since 1970. (`iat` has whole seconds, so a token made later in the same second is revoked
    /// with the others.)
    pub before_ms: u64,
}

/// As many are held as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_REVOCATIONS} revocations are held: take back those whose tokens have expired")]
pub struct Full;

/// The revocations in force.
#[derive(Debug, Default)]
pub struct Revocations {
    before: RwLock<HashMap<Whom, u64>>,
    generation: AtomicU64,
}

impl Revocations {
    /// Rises with each change. Read it before [`Self::check`], keep what was read with the grants,
    /// and check again when it differs: so no change is missed.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether grants still count.
    ///
    /// # Errors
    /// [`AuthError::Revoked`].
    pub fn check(&self, grants: &Grants) -> Result<(), AuthError> {
        let before = self.read();
        if before.is_empty() {
            return Ok(());
        }
        let of_user = before.get(&Whom::User(grants.user.clone()));
        let user = of_user.is_some_and(|before| grants.issued_ms.is_none_or(|at| at < *before));
        if user || before.contains_key(&Whom::Token(grants.token_id.clone())) {
            return Err(AuthError::Revoked);
        }
        Ok(())
    }

    /// Adds one; of two for the same user the later time counts. Says whether anything changed.
    ///
    /// # Errors
    /// [`Full`].
    pub fn add(&self, revocation: Revocation) -> Result<bool, Full> {
        let mut before = self.write();
        let held = before.len();
        let changed = match before.get_mut(&revocation.whom) {
            Some(at) if *at >= revocation.before_ms => false,
            Some(at) => {
                *at = revocation.before_ms;
                true
            }
            None if held >= MAX_REVOCATIONS => return Err(Full),
            None => before.insert(revocation.whom, revocation.before_ms).is_none(),
        };
        self.moved(changed);
        Ok(changed)
    }

    /// Learns what was decided for all nodes: from when on, or that it is taken back. It is not
    /// refused: how many there may be was decided there.
    pub fn learn(&self, whom: Whom, before_ms: Option<u64>) {
        let mut before = self.write();
        let changed = match before_ms {
            Some(at) => {
                let known = before.entry(whom).or_default();
                std::mem::replace(known, at.max(*known)) < at
            }
            None => before.remove(&whom).is_some(),
        };
        self.moved(changed);
    }

    /// Takes one back. Says whether there was one.
    pub fn remove(&self, whom: &Whom) -> bool {
        let mut before = self.write();
        let changed = before.remove(whom).is_some();
        self.moved(changed);
        changed
    }

    /// Drops those from before that moment, in milliseconds since 1970, and says how many: those
    /// made longer ago than any token lives.
    pub fn forget_before(&self, ms: u64) -> usize {
        let mut before = self.write();
        let held = before.len();
        before.retain(|_, at| *at >= ms);
        let dropped = held - before.len();
        self.moved(dropped > 0);
        dropped
    }

    /// All of them, in a fixed order.
    pub fn list(&self) -> Vec<Revocation> {
        let mut all: Vec<_> = self
            .read()
            .iter()
            .map(|(whom, before_ms)| Revocation { whom: whom.clone(), before_ms: *before_ms })
            .collect();
        all.sort_unstable();
        all
    }

    /// Called with the lock still held, so that whoever sees the new number sees the change.
    fn moved(&self, changed: bool) {
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    // No code can panic between two steps of a change, so what a poisoned lock guards is whole.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<Whom, u64>> {
        self.before.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Whom, u64>> {
        self.before.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec;

    fn grants(user: &str, token: &str, issued_ms: Option<u64>) -> Grants {
        let (user, token_id) = (user.to_owned(), token.to_owned());
        Grants { user, expires_ms: u64::MAX, issued_ms, token_id, grants: vec![] }
    }

    fn user(name: &str, before_ms: u64) -> Revocation {
        Revocation { whom: Whom::User(name.to_owned()), before_ms }
    }

    fn token(id: &str, before_ms: u64) -> Revocation {
        Revocation { whom: Whom::Token(id.to_owned()), before_ms }
    }

    #[test]
    fn who_is_revoked_and_who_is_not() {
        let revocations = Revocations::default();
        revocations.add(user("ana", 5_000)).unwrap();
        revocations.add(token("t1", 5_000)).unwrap();
        let cases = [
            (grants("ana", "t", Some(4_999)), false),
            (grants("ana", "t", Some(5_000)), true),
            (grants("ana", "t", None), false),
            (grants("ana", "t1", Some(9_000)), false),
            (grants("ben", "t", None), true),
            (grants("ben", "t1", Some(9_000)), false),
            (grants("t1", "ana", Some(1)), true),
        ];
        for (grants, good) in cases {
            assert_eq!(revocations.check(&grants).is_ok(), good, "{grants:?}");
        }
    }

    #[test]
    fn the_generation_moves_with_each_change_and_only_then() {
        let revocations = Revocations::default();
        let mut seen = revocations.generation();
        let mut moved = |revocations: &Revocations| {
            let now = revocations.generation();
            std::mem::replace(&mut seen, now) != now
        };
        assert!(revocations.add(user("ana", 5)).unwrap() && moved(&revocations));
        assert!(!revocations.add(user("ana", 5)).unwrap() && !moved(&revocations));
        assert!(!revocations.add(user("ana", 4)).unwrap() && !moved(&revocations));
        assert!(revocations.add(user("ana", 6)).unwrap() && moved(&revocations));
        assert_eq!(revocations.list(), [user("ana", 6)]);
        assert_eq!(revocations.forget_before(6), 0);
        assert!(!moved(&revocations));
        assert_eq!(revocations.forget_before(7), 1);
        assert!(moved(&revocations));
        assert!(!revocations.remove(&Whom::User("ana".to_owned())) && !moved(&revocations));
    }

    #[test]
    fn what_was_decided_is_learnt_whatever_is_held() {
        let revocations = Revocations::default();
        let (ana, before) = (Whom::User("ana".to_owned()), revocations.generation());
        revocations.learn(ana.clone(), Some(5));
        revocations.learn(ana.clone(), Some(4));
        assert_eq!(revocations.list(), [user("ana", 5)]);
        assert_eq!(revocations.generation(), before + 1, "the second changed nothing");
        revocations.learn(ana.clone(), None);
        revocations.learn(ana, None);
        assert!(revocations.list().is_empty() && revocations.generation() == before + 2);
    }

    #[test]
    fn no_more_are_held_than_may_be() {
        let revocations = Revocations::default();
        for id in 0..MAX_REVOCATIONS {
            revocations.add(token(&id.to_string(), id as u64)).unwrap();
        }
        assert_eq!(revocations.add(token("one more", 1)), Err(Full));
        assert!(revocations.add(token("7", u64::MAX)).unwrap(), "known ones may still change");
        assert!(revocations.remove(&Whom::Token("8".to_owned())));
        assert!(revocations.add(token("one more", 1)).unwrap());
    }

    #[test]
    fn the_list_survives_both_forms() {
        let list = vec![user("ana", 1), token("t", 2)];
        let bytes = codec::to_bytes(&list);
        assert_eq!(codec::from_bytes::<Vec<Revocation>>("revocations", &bytes).unwrap(), list);
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(
            text,
            r#"[{"whom":{"user":"ana"},"before_ms":1},{"whom":{"token":"t"},"before_ms":2}]"#
        );
        assert_eq!(serde_json::from_str::<Vec<Revocation>>(&text).unwrap(), list);
    }
}
