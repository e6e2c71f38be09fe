//! The rooms that decide, and a journal in memory: the files of `src`, built by themselves.
//!
//! Promise: what is tried here is what is shipped. Nothing is copied; and that these files are
//! built without the rest shows that they need none of it.

#[path = "../../../src/client/mod.rs"]
pub mod client;
#[path = "../../../src/connection/mod.rs"]
pub mod connection;
#[path = "../../../src/delivery/mod.rs"]
pub mod delivery;
#[path = "../../../src/fold/mod.rs"]
pub mod fold;
pub mod journal;
#[path = "../../../src/limit/mod.rs"]
pub mod limit;
#[path = "../../../src/log/mod.rs"]
pub mod log;
#[path = "../../../src/rows/mod.rs"]
pub mod rows;
#[path = "../../../src/wire/mod.rs"]
pub mod wire;
