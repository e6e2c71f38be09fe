//! The command line: each command is a struct of arguments and a function that carries it out.

pub mod config;
pub mod token;
