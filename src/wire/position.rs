//! A position: a point of one history, by which two sides find out whether they speak of the same.
//!
//! A *place* names a batch of whatever history a reader asks; a *position* also says which. An era
//! is named by random bits, so an era that a server does not know is not its history; a batch past
//! an era's end never was in it; and the 8 bytes of the chain tell two batches of one number apart.
//! Binary and JSON forms are those of `docs/protocol.md` §4.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::{Id, MAX_OFFSET};

/// Most positions in one frame: one for each shard that there may be.
pub const MAX_POSITIONS: usize = 256;

/// Numbers of batches and log ids keep their upper bits, of 53, for the shard that gave them.
pub const SHARD_SHIFT: u32 = 45;

/// The largest number of a batch, and the largest log id, that one shard gives: 2^45-1.
pub const MAX_IN_SHARD: u64 = (1 << SHARD_SHIFT) - 1;

/// First bytes of the chain after a batch.
pub type ChainTag = [u8; 8];

/// A point of one history.
///
/// Binary: era (16 bytes), batch (varint), option of 8 bytes. JSON and text: `era.batch`, or
/// `era.batch.chain`, era and chain in lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The era.
    pub era: Id,
    /// Number of the batch.
    pub batch: u64,
    /// The chain after it, where it was told.
    pub chain: Option<ChainTag>,
}

impl Position {
    /// The shard whose history it is.
    pub const fn shard(&self) -> u64 {
        self.batch >> SHARD_SHIFT
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.era, self.batch)?;
        match self.chain {
            Some(chain) => write!(f, ".{:016x}", u64::from_be_bytes(chain)),
            None => Ok(()),
        }
    }
}

/// Text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a position is written era.batch or era.batch.chain: 32 hexadecimal digits, a number up to \
     2^53-1, 16 hexadecimal digits"
)]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let mut parts = text.split('.');
        let era = parts.next().ok_or(BadPosition)?.parse().map_err(|_| BadPosition)?;
        let batch = parts.next().ok_or(BadPosition)?;
        if !batch.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadPosition);
        }
        let batch = batch.parse().map_err(|_| BadPosition)?;
        let chain = parts.next().map(chain).transpose()?;
        if parts.next().is_some() || batch > MAX_OFFSET {
            return Err(BadPosition);
        }
        Ok(Self { era, batch, chain })
    }
}

fn chain(text: &str) -> Result<ChainTag, BadPosition> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 16 || !text.bytes().all(digit) {
        return Err(BadPosition);
    }
    u64::from_str_radix(text, 16).map(u64::to_be_bytes).map_err(|_| BadPosition)
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.era, self.batch, self.chain).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            let (era, batch, chain) = <(Id, u64, Option<ChainTag>)>::deserialize(deserializer)?;
            Ok(Self { era, batch, chain })
        }
    }
}

/// Where a log id was made: what tells two logs of one number in two histories apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The log id.
    pub log: u64,
    /// The position at which it was made; its chain is not looked at.
    pub position: Position,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec;

    #[test]
    fn both_forms_bring_a_position_back() {
        for chain in [None, Some([0, 1, 2, 3, 4, 5, 6, 255])] {
            let position = Position { era: Id([7; 16]), batch: MAX_OFFSET, chain };
            assert_eq!(position.to_string().parse(), Ok(position));
            let bytes = codec::to_bytes(&position);
            assert_eq!(codec::from_bytes::<Position>("position", &bytes).unwrap(), position);
        }
        let text = "07070707070707070707070707070707.12.00010203040506ff";
        assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
    }

    #[test]
    fn what_is_no_position_is_refused() {
        let era = "07070707070707070707070707070707";
        for bad in [
            "".to_owned(),
            era.to_owned(),
            format!("{era}."),
            format!("{era}.x"),
            format!("{era}.+1"),
            format!("{era}.9007199254740992"),
            format!("{era}.1."),
            format!("{era}.1.00"),
            format!("{era}.1.000102030405060G"),
            format!("{era}.1.0001020304050607.2"),
            format!("{}.1", era.to_uppercase().replace('0', "A")),
        ] {
            assert_eq!(bad.parse::<Position>(), Err(BadPosition), "{bad}");
        }
    }
}
