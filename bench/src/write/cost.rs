//! What a server has spent: CPU, bytes handed to the system, bytes written to the disk, and the
//! bytes of rows that were the reason.
//!
//! Promise: counted by the kernel and by the server itself, never by the load; what is estimated
//! for a server that does not count is said to be.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::server::Server;

/// A server is at rest when for so long it has written no more
const REST: Duration = Duration::from_millis(1_500);
/// than its looks at the disk, which it takes all the time,
const LOOKS: u64 = 64 << 10;
/// and is taken to be after so long in any case.
const MOST: Duration = Duration::from_secs(60);
/// The server's own count of bytes of keys and values that its fold has written.
const ROWS: &str = "highwater_rows_bytes_total ";

/// What a server had spent at a moment.
#[derive(Debug)]
pub struct Cost {
    cpu: f64,
    handed: u64,
    written: u64,
    rows: Option<f64>,
}

/// What it spent between two moments.
#[derive(Debug)]
pub struct Spent {
    /// CPU seconds, user and system.
    pub cpu: f64,
    /// Bytes handed to the system by calls that write.
    pub handed: f64,
    /// Bytes of pages written to the disk.
    pub written: f64,
    /// Bytes of keys and values, if the server tells.
    pub rows: Option<f64>,
}

impl Cost {
    /// As of now.
    pub fn of(server: &Server) -> Outcome<Self> {
        let metrics = server.get("/metrics")?;
        let rows = metrics.lines().find_map(|line| line.strip_prefix(ROWS)?.parse().ok());
        let (handed, written) = server.written()?;
        Ok(Self { cpu: server.cpu()?, handed, written, rows })
    }

    /// Once nothing more is written: what was left to be flushed and merged belongs to the load.
    pub fn at_rest(server: &Server) -> Outcome<Self> {
        let end = Instant::now() + MOST;
        let (mut last, mut since) = (server.written()?.1, Instant::now());
        while since.elapsed() < REST && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
            let now = server.written()?.1;
            if now - last > LOOKS {
                (last, since) = (now, Instant::now());
            }
        }
        Self::of(server)
    }

    /// What was spent since an earlier moment.
    pub fn since(&self, before: &Self) -> Spent {
        Spent {
            cpu: self.cpu - before.cpu,
            handed: self.handed.saturating_sub(before.handed) as f64,
            written: self.written.saturating_sub(before.written) as f64,
            rows: self.rows.zip(before.rows).map(|(now, before)| now - before),
        }
    }
}

/// Bytes of keys and values that appends came to under "highwater store 2", whose servers do not
/// count them: by the layout of its rows, with numbers of the size that a run of some seconds has.
pub fn rows_of_appends(appends: u64, frames: u64, payload: usize) -> f64 {
    const USER: usize = 1 + 20;
    // Key; place; time; origin; sequence; bytes before; then the record with its empty parts.
    let record = 16 + (3 + 3) + 9 + (USER + 16 + 16) + 3 + 5 + (5 + 1 + 1 + 1 + payload);
    // Sequence, hash, then stored: index, log, offset, place, level.
    let outcome = 3 + 16 + (1 + 1 + 3 + (3 + 3) + 1);
    // A frame's records come with a row of outcomes, the writer's and the log's.
    let outcomes = 24 + 1;
    let writer = 16 + USER + 3 + 3 + 9 + 1;
    let log = 8 + 9 + (3 + 1 + 5 + 1) + 1 + 2 + 9 + 9 + 1;
    (record + outcome) as f64 * appends as f64 + (outcomes + writer + log) as f64 * frames as f64
}
