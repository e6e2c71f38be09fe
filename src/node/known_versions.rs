//! The versions of the fold that this program knows.
//!
//! Promise: a program that is shipped knows those that it was written for, whatever it is told. One
//! that is built with debug assertions, as tests are, knows the next one besides where
//! `FOLD_KNOWS_NEXT` is set: so it stands for two programs, and all nodes of a journal can be
//! brought to another version under load before there is one. What commands mean is the same in
//! both.

use crate::fold::Versions;

/// The range of versions by which this program can fold a journal.
pub(super) fn known_versions() -> Versions {
    let Versions { oldest, newest } = Versions::KNOWN;
    let next = cfg!(debug_assertions) && std::env::var_os("FOLD_KNOWS_NEXT").is_some();
    Versions { oldest, newest: newest + u16::from(next) }
}
