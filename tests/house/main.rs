//! The house: what holds for the project as it lies in its folder, whatever it does.
//!
//! These tests read files and never run the server: the direction between rooms, tidiness,
//! documents that point somewhere, and licences. Each rule has a canary, a made-up offender that
//! must be found, so that a rule which has stopped looking is noticed.

mod document_links;
mod licences;
mod planted;
#[path = "../world/canary/plants.rs"]
#[allow(dead_code, reason = "the canary uses the rest")]
mod plants;
mod rooms;
mod source;
mod tidy;
#[path = "../world/args.rs"]
#[allow(dead_code, reason = "the world uses the rest")]
mod world_args;
