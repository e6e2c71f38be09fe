//! Highwater: a push service for collaborative apps, on durable cursors over append-only logs.
//!
//! Rooms, each using only those before it (`tests/house/rooms.rs` holds the direction): `wire` ·
//! `limit` · `rows` → `log` · `connection` · `fold` · `delivery` · `client` → `store` → `journal`
//! → `channel` → `auth` · `admission` → `gateway` → `node` → `cli`. `docs/architecture.md` follows
//! a record through them.

// Here and not in Cargo.toml: tests and benchmarks export nothing.
#![warn(missing_debug_implementations, unreachable_pub)]

pub mod admission;
pub mod auth;
pub mod channel;
pub mod cli;
pub mod client;
pub mod connection;
pub mod delivery;
pub mod fold;
pub mod gateway;
pub mod journal;
pub mod limit;
pub mod log;
pub mod node;
pub mod rows;
pub mod store;
pub mod wire;
