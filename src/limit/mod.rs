//! Limits, rates and rules: how much anyone may ask for, and what the answer is beyond that.
//!
//! Promise: pure. One table ([`Limits::TABLE`]) is the source of the configuration section, of
//! the documentation and of the refusal codes; [`Rates`] decides before any work is done; a
//! [`Rule`] says what is kept of the logs that a pattern means. No IO, and no clock but the one
//! that is handed in.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod cost;
mod level;
mod purse;
mod rate;
mod rule;
mod table;

pub use cost::{Charged, Costs, ROW_BYTES};
pub use purse::{Purse, Taken};
pub use rate::{Rates, SocketRate};
pub use rule::{Kept, Rule, Rules};
pub use table::{BadLimit, Limits, Row, SNAPSHOT_PARTS, Unit};
