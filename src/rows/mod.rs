//! Tables of rows, and the one way in which the fold reads and writes them.
//!
//! Promise: deterministic, and below all that has rows: it knows no log and no connection. The fold
//! sees rows through [`Rows`] and its own pending [`Writes`]; it knows no file, no clock and no
//! randomness. A [`Cache`] keeps hot rows within a bound; what it holds is never newer or older
//! than what the fold has decided. Layouts: `docs/storage.md` §3.

mod cache;
mod io;
mod key;
mod table;

pub use cache::{Cache, Hot};
pub use io::{Io, MemoryRows, Pair, Rows, Writes, read_row};
pub use key::Key;
pub use table::{More, RESERVED, RowsError, Table};
