//! Open files: how many this process may have, and how many connections that leaves room for.
//!
//! Promise: connections never take the descriptors that the store needs; a store that cannot open
//! a file stops the node. The soft limit is raised as far as the system lets it; where that is not
//! far enough, the node says so and takes fewer connections.

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::gateway::PLAIN_CONNECTIONS;
use crate::limit::Limits;

/// Descriptors kept for all but connections: the store's files, those that it merges, the runtime.
const RESERVED: u64 = 512;

/// Most connections of the port: what the limits allow, as far as open files go.
pub(super) fn connections(limits: &Limits) -> usize {
    let wanted = u64::from(limits.sockets) + PLAIN_CONNECTIONS as u64;
    let files = raise(wanted + RESERVED);
    let most = fitting(wanted, files);
    if most < wanted {
        tracing::warn!(
            files,
            connections = most,
            "this process may open too few files for limits.sockets = {}: raise its limit \
             (ulimit -n, LimitNOFILE) to {}, or lower limits.sockets",
            limits.sockets,
            wanted + RESERVED
        );
    }
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Connections for which so many files leave room; at least a few, so that somebody can be told.
fn fitting(wanted: u64, files: u64) -> u64 {
    // Half of a limit that is very low: the store needs some, whatever happens.
    wanted.min(files.saturating_sub(RESERVED.min(files / 2))).max(1)
}

/// Raises the soft limit of open files to `wanted` where it is lower: the limit then in force.
fn raise(wanted: u64) -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    if soft >= wanted {
        return soft;
    }
    let raised = limit.maximum.map_or(wanted, |hard| hard.min(wanted)).max(soft);
    limit.current = Some(raised);
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => raised,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files could not be raised");
            soft
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_share() {
        let wanted = 16_000 + 2_048;
        assert_eq!(fitting(wanted, u64::MAX), wanted);
        assert_eq!(fitting(wanted, wanted + RESERVED), wanted);
        assert_eq!(fitting(wanted, 1_024), 512);
        assert_eq!(fitting(wanted, 256), 128);
        assert_eq!(fitting(wanted, 0), 1);
    }
}
