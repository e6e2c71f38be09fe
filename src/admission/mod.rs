//! Admission: whether what a client asks for may go to the fold, whatever face it came by.
//!
//! Promise: an append is judged in one place; refusals come before storage is touched, and rows
//! are read ahead only for what may be done; a token's grants are looked at in one place. It holds
//! what that takes, and no socket, request or token of its own.

mod hand;
mod judge;
mod making;
mod prefetch;
mod reading;
mod shed;

pub use hand::{Clock, hand};
pub use judge::{Judged, Named, fits, may_append};
pub use making::{Making, asked_for};
use prefetch::Prefetch;
pub use reading::{Enforcer, TokenGrants, close_revoked, readable};
pub use shed::{Shed, cut_off};

use std::sync::Arc;

use crate::limit::{Limits, Rates};
use crate::store::Store;

/// What admission looks at.
#[derive(Debug)]
pub struct Admission {
    /// Rows that are there.
    pub store: Store,
    /// How much each user and each log may take in a time.
    pub rates: Arc<Rates>,
    /// Limits in force.
    pub limits: Limits,
    /// Whether opening a log may make it.
    pub auto_create: bool,
    /// What keeps commands out at the moment.
    pub shed: Arc<Shed>,
    /// What need not be read ahead.
    prefetch: Prefetch,
}

impl Admission {
    /// Over that store, with nothing that keeps commands out; `follows`: but records, for the node
    /// takes none.
    pub fn new(store: Store, limits: Limits, auto_create: bool, follows: bool) -> Self {
        let (rates, shed) = (Rates::new(&limits), Arc::new(Shed::following(follows)));
        let prefetch = Prefetch::default();
        Self { store, rates, limits, auto_create, shed, prefetch }
    }
}
