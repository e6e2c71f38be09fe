//! The `highwater` command.

use std::process::ExitCode;

use clap::Parser;
use highwater::node::config::{Loaded, ServeFlags, environment};

/// A push service for collaborative apps: a connection is a durable cursor over many logs.
#[derive(Parser)]
#[command(version)]
enum Cli {
    /// Run a node
    Serve(ServeFlags),
}

fn main() -> ExitCode {
    match Cli::parse() {
        Cli::Serve(flags) => match Loaded::load(&flags, &environment()) {
            Ok(loaded) => highwater::node::run(loaded),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
    }
}
