//! The real server, as a process of its own, and what talks to it: clients, the command line, HTTP.
//!
//! One program for all of it, so that it is built and linked once:
//! `cargo test --test process delivery` runs what is in `delivery.rs`.

mod answers;
mod backup;
mod bad_input;
mod check;
mod cli;
mod cli_history;
mod cli_mistakes;
mod clocks;
mod cluster;
mod crash;
mod cut_bases;
mod delivered_to;
mod delivery;
mod drain;
mod http;
mod lifecycle;
mod limits;
mod logged;
mod memory;
mod networks;
mod old_rows;
mod old_store;
mod prefetch;
mod promises;
mod python;
mod rates;
mod restarts;
mod retention;
mod revocations;
mod rules;
mod slow_links;
#[path = "../support/mod.rs"]
mod support;
mod words;
