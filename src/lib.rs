//! Highwater: a push service for collaborative apps, on durable cursors over append-only logs.
//!
//! Rooms, each using only those before it (a test holds the direction):
//! `wire` · `limit` → `log` · `connection` · `view` → `store` → `journal` → `channel` → `auth` ·
//! `gateway` · `admin` → `node` → `cli`. `docs/architecture.md` follows a record through them.

pub mod auth;
pub mod cli;
pub mod limit;
pub mod node;
pub mod wire;
