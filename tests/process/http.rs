//! HTTP against the real server: every address of `docs/http.md`, and what it refuses.

mod connections;
mod journal;
mod logs;
mod marks;
mod pages;
mod refused;
mod slow;
mod snapshots;
mod unknown;
