//! The frames from outside: golden vectors, round trips of anything, and input that means harm.

mod bounds;
mod hostile;
mod round;
mod samples;
mod vectors;
