//! Situations that the fold must meet, and random runs of it against a small model.
//!
//! Promise: every rule of `docs/connections.md`, and each promise of the design as far as the fold
//! decides it (`promise_NN_…`), has a test here that fails without it. Only `world` touches the
//! API, so that the situations outlive its changes. What needs sockets, disks or several processes
//! is not proved here.

mod appends;
mod attach;
mod bases;
mod cache;
mod expire;
mod held;
mod history;
mod hostile;
mod life;
mod logs;
mod model;
mod nodes;
mod open;
mod oracle;
mod pages;
mod policy;
mod random;
mod retention;
mod rules;
mod slots;
mod snapshots;
mod standing;
mod versions;
mod world;
