//! A record as the store keeps it, for the tests that need no more of it than its payload.

use std::sync::Arc;

use highwater::log::Stored;
use highwater::wire::{Id, Origin, Payload, Place, Record};

/// The record at that offset, by one writer, in a batch of its own.
pub fn stored(offset: u64, key: Option<&str>, payload: Vec<u8>) -> Stored {
    Stored {
        place: Place { batch: offset + 1, index: 0 },
        time: offset,
        origin: Arc::new(Origin {
            user: "ann".to_owned(),
            writer: Id([1; 16]),
            connection: Id([2; 16]),
        }),
        seq: offset + 1,
        before: 0,
        derived: None,
        record: Record {
            key: key.map(str::to_owned),
            payload: Some(Payload::binary(payload.into())),
            ..Record::default()
        },
    }
}
