//! Deliveries as frames: what goes into each, whoever it is for.
//!
//! Promise: nothing in them is of one client; an origin is said once.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;

use super::face::{Form, Message, encode};
use crate::log::Stored;
use crate::wire::{Base, BaseRecords, Kept, Origin, Payload, Records, ServerFrame};

/// Most bytes of records in one delivery, unless a single record is larger.
pub(super) const DELIVERY_BYTES: usize = 32 << 10;

/// Origins of a frame, each once, in order of appearance.
#[derive(Default)]
struct Origins(Vec<Origin>);

impl Origins {
    fn index(&mut self, origin: &Origin) -> u32 {
        let known = self.0.iter().rposition(|known| known == origin);
        let at = known.unwrap_or_else(|| {
            self.0.push(origin.clone());
            self.0.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

/// A `records` frame: `stored` are the log's records from offset `base` on.
pub(super) fn records(
    log: u64,
    base: u64,
    stored: &[Arc<Stored>],
    form: Form,
    gauge: &Arc<AtomicUsize>,
) -> Message {
    let mut origins = Origins::default();
    let records = stored.iter().map(|one| one.delivered(origins.index(&one.origin))).collect();
    let frame = ServerFrame::Records(Records { log, base, origins: origins.0, records });
    encode(&frame, form, gauge)
}

/// A part of a `latest` base.
pub(super) fn base_records(
    log: u64,
    offset: u64,
    entries: &[(u64, Stored)],
    last: bool,
    complete: u64,
    (form, gauge): (Form, &Arc<AtomicUsize>),
) -> Message {
    let mut origins = Origins::default();
    let records = (entries.iter())
        .map(|(offset, one)| {
            let record = one.delivered(origins.index(&one.origin));
            Kept { offset: *offset, record }
        })
        .collect();
    let origins = origins.0;
    let frame = BaseRecords { log, offset, last, complete, origins, records };
    encode(&ServerFrame::BaseRecords(frame), form, gauge)
}

/// A part of a client-made base.
pub(super) fn base(
    log: u64,
    offset: u64,
    part: u32,
    last: bool,
    data: Bytes,
    (form, gauge): (Form, &Arc<AtomicUsize>),
) -> Message {
    let data = Payload::binary(data);
    encode(&ServerFrame::Base(Base { log, offset, part, last, data }), form, gauge)
}
