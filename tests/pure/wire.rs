//! The frames from outside: golden vectors, round trips of anything, and input that means harm.

mod bounds;
mod hostile;
mod names;
mod round;
mod samples;
mod vectors;
