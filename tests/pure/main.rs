//! What needs no disk and no process: the frames, their document, and the fold.

mod fold;
mod protocol;
mod wire;
