//! The table of limits: name, default, bounds, unit, refusal and meaning of each, said once.
//!
//! The macro makes the struct that the configuration reads, the rows that documents and
//! `config show` print, and access by name. Relations between limits are checked when a
//! configuration is read, and for the defaults when this file is compiled.

use serde::{Deserialize, Serialize};

use crate::wire::{Code, MAX_FRAME_BYTES};

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things: connections, sockets, records.
    Count,
    /// Things in a second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Bytes in a second.
    BytesPerSecond,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Days.
    Days,
}

impl Unit {
    /// The word for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::PerSecond => "per second",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes per second",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Days => "days",
        }
    }
}

/// One limit, as the documentation and `config show` present it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The group it stands in: what it is counted per.
    pub group: &'static str,
    /// Its key in the section `[limits]`.
    pub name: &'static str,
    /// Its value where nothing else is configured.
    pub default: u64,
    /// The smallest value allowed; where it is 0, 0 means no limit.
    pub min: u64,
    /// The largest value allowed.
    pub max: u64,
    /// What it counts.
    pub unit: Unit,
    /// What whoever exceeds it is told; none where it only shapes the server's own doing.
    pub code: Option<Code>,
    /// Whether the fold decides by it, so that all nodes of a cluster must agree on it.
    pub shared: bool,
    /// Its meaning, in a sentence.
    pub doc: &'static str,
}

/// A limit out of its bounds, or at odds with another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLimit {
    /// There is none of that name.
    #[error("there is no limit {0}")]
    Unknown(String),
    /// The value lies outside the row's bounds.
    #[error("limits.{name} = {value} is out of bounds: {min} to {max}")]
    Bounds {
        /// Which limit.
        name: &'static str,
        /// The value that was given for it.
        value: u64,
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// Two limits contradict each other.
    #[error("limits contradict each other: {0}")]
    Relation(&'static str),
}

macro_rules! code {
    (-) => {
        None
    };
    ($code:ident) => {
        Some(Code::$code)
    };
}

macro_rules! shared {
    (shared) => {
        true
    };
    (own) => {
        false
    };
}

macro_rules! limits {
    ($($group:literal { $(
        $name:ident: $type:ident = $default:expr, $min:expr => $max:expr,
        $unit:ident, $code:tt, $shared:ident, $doc:literal;
    )* })*) => {
        /// The values of all limits in force. The table stands in `docs/configuration.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits { $($(#[doc = $doc] pub $name: $type,)*)* }

        impl Limits {
            /// The defaults.
            pub const DEFAULT: Self = Self { $($($name: $default,)*)* };

            /// Every limit, in the order of the documentation.
            pub const TABLE: &'static [Row] = &[$($(Row {
                group: $group,
                name: stringify!($name),
                default: $default as u64,
                min: $min as u64,
                max: $max as u64,
                unit: Unit::$unit,
                code: code!($code),
                shared: shared!($shared),
                doc: $doc,
            },)*)*];

            /// The value of the limit of that name.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name { $($(stringify!($name) => Some(u64::from(self.$name)),)*)* _ => None }
            }

            /// Sets the limit of that name.
            ///
            /// # Errors
            /// [`BadLimit`] when there is none, or the value lies outside its bounds.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), BadLimit> {
                match name {
                    $($(stringify!($name) => {
                        let bounds = BadLimit::Bounds {
                            name: stringify!($name),
                            value,
                            min: $min as u64,
                            max: $max as u64,
                        };
                        if !($min as u64..=$max as u64).contains(&value) {
                            return Err(bounds);
                        }
                        self.$name = $type::try_from(value).map_err(|_| bounds)?;
                        Ok(())
                    })*)*
                    _ => Err(BadLimit::Unknown(name.to_owned())),
                }
            }
        }
    };
}

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

limits! {
    "per user" {
        connections_per_user: u32 = 100, 1 => 100_000, Count, Connections, shared,
            "connections that a user may have, active or not";
        active_per_user: u32 = 20, 1 => 10_000, Count, Slots, shared,
            "active connections of a user";
        active_per_device: u32 = 8, 1 => 10_000, Count, Slots, shared,
            "active connections of a user on one device";
        appends_per_user_second: u32 = 20_000, 1 => 10_000_000, PerSecond, Rate, own,
            "appends of a user, over all its connections";
        append_bytes_per_user_second: u64 = 8 * MIB as u64, KIB => 64 * GIB,
            BytesPerSecond, Rate, own,
            "bytes of a user's appends, over all its connections";
        writers_per_hello: u32 = 16, 1 => 16, Count, BadFrame, own,
            "writers that one Hello may speak for";
    }
    "per connection" {
        subscriptions: u32 = 1_000, 1 => 50_000, Count, Subscriptions, shared,
            "subscriptions of a connection";
        window_bytes: u32 = MIB, 64 * KIB => 64 * MIB, Bytes, -, own,
            "delivered bytes that may be unacknowledged; a client that asks for more gets this";
        frame_bytes: u32 = MIB, 64 * KIB => MAX_FRAME_BYTES, Bytes, FrameTooLarge, own,
            "largest frame that a client may send";
        frames_per_socket_second: u32 = 5_000, 10 => 1_000_000, PerSecond, Rate, own,
            "requests of a socket other than appends and acknowledgements";
        reply_bytes: u32 = 64 * KIB, 4 * KIB => 4 * MIB, Bytes, -, own,
            "replies that may wait for a socket; beyond that the node stops reading from it";
    }
    "per log" {
        record_bytes: u32 = 512 * KIB, KIB => 640 * KIB, Bytes, TooLarge, own,
            "largest record: key, kind, headers and payload";
        log_bytes: u64 = 0, 0 => 1_024 * TIB, Bytes, -, own,
            "bytes that a log keeps; older records are trimmed";
        log_age_seconds: u64 = 0, 0 => 3_200_000_000u64, Seconds, -, own,
            "time that a log keeps a record; older ones are trimmed";
        appends_per_log_second: u32 = 0, 0 => 10_000_000, PerSecond, Rate, own,
            "appends to one log, by all users";
        snapshot_bytes: u64 = 64 * MIB as u64, KIB => GIB, Bytes, TooLarge, shared,
            "largest snapshot that a client may put, all parts together";
        snapshot_part_bytes: u32 = 256 * KIB, KIB => 640 * KIB, Bytes, TooLarge, own,
            "largest part of a snapshot";
        subscribers_looked_at: u32 = 1_024, 16 => 65_536, Count, -, own,
            "subscribers of a log that one look at who has a record takes in; of more it says so";
    }
    "per node" {
        sockets: u32 = 16_000, 1 => 10_000_000, Count, Sockets, own,
            "sockets open at once";
        active_total: u64 = 1_000_000, 1 => 1_000_000_000, Count, Slots, shared,
            "active connections, attached or not, of all users";
        memory_bytes: u64 = 512 * MIB as u64, 64 * MIB => 4 * TIB, Bytes, -, own,
            "memory for tails and what waits for sockets; beyond it, who holds most is downgraded";
        handshakes_per_second: u32 = 2_000, 1 => 1_000_000, PerSecond, Overloaded, own,
            "sockets that may say Hello";
        handshakes_waiting: u32 = 1_024, 1 => 1_000_000, Count, Overloaded, own,
            "sockets that have not yet said Hello";
        listen_backlog: u32 = 4_096, 16 => 65_535, Count, -, own,
            "connections that the kernel keeps until they are taken; `net.core.somaxconn` bounds it";
        http_requests_waiting: u32 = 1_024, 1 => 1_000_000, Count, Overloaded, own,
            "HTTP requests under way at once";
        http_body_bytes: u32 = 8 * MIB, 64 * KIB => 256 * MIB, Bytes, TooLarge, own,
            "largest body of an HTTP request";
        queue_commands: u32 = 65_536, 1_024 => 16_777_216, Count, Overloaded, own,
            "commands that may wait for the writer";
        queue_bytes: u64 = 64 * MIB as u64, MIB => 64 * GIB, Bytes, Overloaded, own,
            "bytes of commands that may wait for the writer";
        disk_reserve_bytes: u64 = 256 * MIB as u64, 0 => 1_024 * TIB, Bytes, StorageFull, own,
            "disk that is kept free; with less, appends are refused and reads go on";
        catch_up_threads: u32 = 0, 0 => 64, Count, -, own,
            "threads that read for sockets that are behind; none set: one per core, from 2 to 8";
        fan_out_threads: u32 = 1, 1 => 64, Count, -, own,
            "threads that write new records to readers; each log belongs to one of them";
        tail_bytes: u64 = 64 * MIB as u64, MIB => TIB, Bytes, -, own,
            "newest records kept in memory, of all logs; beyond that they are read from the store";
        tail_bytes_per_log: u32 = 256 * KIB, 4 * KIB => 256 * MIB, Bytes, -, own,
            "newest records kept in memory of one log";
    }
    "life of a connection" {
        detached_limit_seconds: u64 = 86_400, 1 => 31_536_000, Seconds, -, own,
            "time that a connection without a socket stays active";
        lag_limit_records: u64 = 100_000, 1_000 => 1_000_000_000_000u64, Count, -, own,
            "records that an active connection may lag behind, over all its logs";
        retained_bytes_limit: u64 = GIB, MIB => 1_024 * TIB, Bytes, -, own,
            "bytes that logs may keep for the sake of one connection";
        forget_after_days: u32 = 90, 1 => 3_650, Days, -, own,
            "time after which an unused inactive connection is deleted";
        writer_keep_days: u32 = 365, 365 => 36_500, Days, -, own,
            "time that the mark of an unused writer is kept";
        activate_after_ms: u32 = 2_000, 100 => 3_600_000, Milliseconds, Slots, shared,
            "time that a downgraded client waits before it asks to be activated";
        hello_timeout_ms: u32 = 10_000, 100 => 60_000, Milliseconds, HelloLate, own,
            "time for a new socket to say Hello";
        ping_interval_ms: u32 = 25_000, 1_000 => 3_600_000, Milliseconds, Silent, own,
            "silence after which a client is pinged; twice that, and its socket is closed";
        refresh_grace_ms: u32 = 60_000, 0 => 3_600_000, Milliseconds, TokenExpired, own,
            "time that a socket stays open for a refresh after its token ended; 0: none";
        commit_interval_ms: u32 = 3_000, 50 => 60_000, Milliseconds, -, own,
            "time between two commits of changed cursors";
        drain_ms: u32 = 10_000, 0 => 600_000, Milliseconds, ShuttingDown, own,
            "time over which a stopping node sends its clients away; 0: at once";
    }
}

/// Most parts of one snapshot that a client puts.
pub const SNAPSHOT_PARTS: u32 = 4_096;

/// Bytes that a frame needs besides the payload it carries: keys, headers and members' names.
const FRAME_OVERHEAD: u64 = 16 << 10;

/// Space that so many bytes take in a JSON frame as base64url.
const fn as_base64(bytes: u32) -> u64 {
    (bytes as u64 * 4).div_ceil(3) + FRAME_OVERHEAD
}

/// Space that so many bytes take in a JSON frame when all are control characters (`\u0000`).
const fn as_escapes(bytes: u32) -> u64 {
    bytes as u64 * 6 + FRAME_OVERHEAD
}

const _: () = assert!(Limits::DEFAULT.broken_relation().is_none(), "the defaults contradict");

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Limits {
    /// The row of that name.
    pub fn row(name: &str) -> Option<&'static Row> {
        Self::TABLE.iter().find(|row| row.name == name)
    }

    /// The first relation between limits that does not hold.
    pub const fn broken_relation(&self) -> Option<&'static str> {
        if as_base64(self.record_bytes) > self.frame_bytes as u64 {
            return Some("record_bytes * 4/3 + 16 KiB must not exceed frame_bytes");
        }
        if as_base64(self.snapshot_part_bytes) > self.frame_bytes as u64 {
            return Some("snapshot_part_bytes * 4/3 + 16 KiB must not exceed frame_bytes");
        }
        if as_base64(self.record_bytes) > self.http_body_bytes as u64 {
            return Some("record_bytes * 4/3 + 16 KiB must not exceed http_body_bytes");
        }
        if as_escapes(self.record_bytes) > MAX_FRAME_BYTES as u64 {
            return Some("record_bytes * 6 + 16 KiB must not exceed 4 MiB");
        }
        if self.snapshot_part_bytes as u64 > self.snapshot_bytes {
            return Some("snapshot_part_bytes must not exceed snapshot_bytes");
        }
        if self.snapshot_bytes > self.snapshot_part_bytes as u64 * SNAPSHOT_PARTS as u64 {
            return Some("snapshot_bytes must not exceed 4096 times snapshot_part_bytes");
        }
        if self.active_per_device > self.active_per_user {
            return Some("active_per_device must not exceed active_per_user");
        }
        if self.active_per_user > self.connections_per_user {
            return Some("active_per_user must not exceed connections_per_user");
        }
        self.broken_budget()
    }

    /// The part of the relations that is about memory and time.
    const fn broken_budget(&self) -> Option<&'static str> {
        if (self.frame_bytes as u64) > self.queue_bytes
            || (self.http_body_bytes as u64) > self.queue_bytes
        {
            return Some("frame_bytes and http_body_bytes must not exceed queue_bytes");
        }
        if self.tail_bytes_per_log as u64 > self.tail_bytes {
            return Some("tail_bytes_per_log must not exceed tail_bytes");
        }
        if self.tail_bytes.saturating_add(self.queue_bytes) > self.memory_bytes {
            return Some("tail_bytes and queue_bytes together must not exceed memory_bytes");
        }
        if self.detached_limit_seconds > self.forget_after_days as u64 * 86_400 {
            return Some("detached_limit_seconds must not exceed forget_after_days");
        }
        None
    }

    /// Checks every bound and relation; a value read by serde has been held to neither.
    ///
    /// # Errors
    /// All that is wrong, bounds first.
    pub fn check(&self) -> Result<(), Vec<BadLimit>> {
        let out_of_bounds = |row: &&Row| {
            self.get(row.name).is_some_and(|value| !(row.min..=row.max).contains(&value))
        };
        let mut problems: Vec<_> = Self::TABLE
            .iter()
            .filter(out_of_bounds)
            .map(|row| BadLimit::Bounds {
                name: row.name,
                value: self.get(row.name).unwrap_or_default(),
                min: row.min,
                max: row.max,
            })
            .collect();
        problems.extend(self.broken_relation().map(BadLimit::Relation));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row as the document must show it.
    fn markdown(row: &Row) -> String {
        let code = row.code.map_or("–".to_owned(), |code| format!("`{code}`"));
        let default = match (row.default, row.min) {
            (0, 0) if row.unit != Unit::Milliseconds => "0 (none)".to_owned(),
            (value, _) => value.to_string(),
        };
        let shared = if row.shared { "yes" } else { "" };
        format!(
            "| `{}` | {} | {} – {} | {} | {} | {} | {} |",
            row.name,
            default,
            row.min,
            row.max,
            row.unit.name(),
            code,
            shared,
            row.doc
        )
    }

    #[test]
    fn the_document_shows_every_limit_with_its_default() {
        let document = include_str!("../../docs/configuration.md");
        let missing: Vec<_> = Limits::TABLE
            .iter()
            .map(markdown)
            .filter(|line| !document.lines().any(|have| have == line))
            .collect();
        assert!(
            missing.is_empty(),
            "docs/configuration.md lacks these rows:\n{}",
            missing.join("\n")
        );
    }

    #[test]
    fn every_default_lies_in_its_bounds() {
        Limits::DEFAULT.check().unwrap();
        assert_eq!(Limits::default(), Limits::DEFAULT);
        for row in Limits::TABLE {
            assert!(row.min <= row.max, "{}", row.name);
            assert_eq!(Limits::DEFAULT.get(row.name), Some(row.default));
        }
    }

    #[test]
    fn every_bound_can_be_set_and_nothing_beyond_it() {
        for row in Limits::TABLE {
            let mut limits = Limits::DEFAULT;
            for value in [row.min, row.max] {
                limits.set(row.name, value).unwrap();
                assert_eq!(limits.get(row.name), Some(value));
            }
            let mut beyond = vec![row.max + 1, u64::MAX];
            beyond.extend(row.min.checked_sub(1));
            for value in beyond {
                let error = limits.set(row.name, value).unwrap_err();
                assert!(matches!(error, BadLimit::Bounds { .. }), "{} = {value}", row.name);
            }
            assert_eq!(limits.get(row.name), Some(row.max), "a refused value changes nothing");
        }
        let error = Limits::default().set("socket", 1).unwrap_err();
        assert_eq!(error.to_string(), "there is no limit socket");
    }

    #[test]
    fn contradictions_are_named() {
        let cases: &[(&str, u64, &str)] = &[
            ("record_bytes", 640 * 1024, ""),
            ("frame_bytes", 512 * 1024, "record_bytes"),
            ("snapshot_part_bytes", 640 * 1024, ""),
            ("snapshot_bytes", 1024, "snapshot_part_bytes"),
            ("active_per_user", 7, "active_per_device"),
            ("connections_per_user", 19, "active_per_user"),
            ("queue_bytes", 1 << 20, "http_body_bytes"),
            ("http_body_bytes", 64 * 1024, "http_body_bytes"),
            ("tail_bytes_per_log", 65 << 20, "tail_bytes_per_log"),
            ("tail_bytes", 500 << 20, "memory_bytes"),
            ("forget_after_days", 1, ""),
            ("detached_limit_seconds", 31_536_000, "forget_after_days"),
        ];
        for (name, value, named) in cases {
            let mut limits = Limits::DEFAULT;
            limits.set(name, *value).unwrap();
            match (limits.check(), *named) {
                (Ok(()), "") => {}
                (Err(problems), named) if !named.is_empty() => {
                    assert!(problems[0].to_string().contains(named), "{name}: {problems:?}");
                }
                (outcome, _) => panic!("{name} = {value}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn serde_knows_the_names_and_refuses_others() {
        let limits: Limits = serde_json::from_str(r#"{"sockets": 5}"#).unwrap();
        assert_eq!(limits, Limits { sockets: 5, ..Limits::DEFAULT });
        assert!(serde_json::from_str::<Limits>(r#"{"socket": 5}"#).is_err());
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), limits);
        let unchecked: Limits = serde_json::from_str(r#"{"sockets": 0}"#).unwrap();
        assert_eq!(unchecked.check().unwrap_err().len(), 1);
    }
}
