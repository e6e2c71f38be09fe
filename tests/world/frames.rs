//! Frames of deliveries, made from records as a node makes them.

use highwater::log::Stored;
use highwater::wire::{
    BaseRecords, Code, Delivered, Encoding, Frame as _, Kept, Origin, Records, Refusal, Refused,
    ServerFrame,
};

pub fn refused(request: u32, name: Option<String>, why: Code) -> ServerFrame {
    ServerFrame::Refused(Refused { request, name, refusal: Refusal::new(why) })
}

/// The bytes of a frame as flow control counts them.
pub fn size_of(frame: &ServerFrame) -> u64 {
    let mut body = Vec::new();
    frame.encode_body(Encoding::Bincode, &mut body);
    body.len() as u64
}

fn origins<'a>(records: impl Iterator<Item = &'a Stored>) -> (Vec<Origin>, Vec<Delivered>) {
    let (mut origins, mut delivered) = (Vec::<Origin>::new(), Vec::new());
    for stored in records {
        let at = origins.iter().position(|known| *known == *stored.origin).unwrap_or_else(|| {
            origins.push((*stored.origin).clone());
            origins.len() - 1
        });
        delivered.push(stored.delivered(at as u32));
    }
    (origins, delivered)
}

pub fn records_frame(log: u64, base: u64, records: &[Stored]) -> ServerFrame {
    let (origins, records) = origins(records.iter());
    ServerFrame::Records(Records { log, base, origins, records })
}

pub fn latest_frame(
    log: u64,
    offset: u64,
    records: &[(u64, Stored)],
    last: bool,
    head: u64,
) -> ServerFrame {
    let (origins, delivered) = origins(records.iter().map(|(_, stored)| stored));
    let kept = records.iter().map(|(offset, _)| *offset).zip(delivered);
    let records = kept.map(|(offset, record)| Kept { offset, record }).collect();
    let complete = if last { head } else { 0 };
    ServerFrame::BaseRecords(BaseRecords { log, offset, last, complete, origins, records })
}
