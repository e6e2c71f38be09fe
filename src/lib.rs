//! Highwater: a push service for collaborative apps, on durable cursors over append-only logs.
//!
//! Rooms, each using only those before it (a test holds the direction):
//! `wire` · `limit` → `log` · `connection` · `view` → `store` → `journal` → `channel` → `auth` ·
//! `gateway` · `admin` → `node` → `cli`. `docs/architecture.md` follows a record through them.

pub mod auth;
pub mod channel;
pub mod cli;
pub mod connection;
pub mod fold;
pub mod gateway;
pub mod journal;
pub mod limit;
pub mod log;
pub mod node;
pub mod store;
pub mod wire;
