//! Pieces of a large frame, put together.
//!
//! Promise: a frame comes out when its last piece is there, as if it had come whole; what cannot be
//! one is a breach, and holds no memory beyond what a frame may have.

use super::event::Breach;
use crate::wire::{Encoding, MAX_FRAME_BYTES, Part, ServerFrame, codec};

/// The frame that comes in pieces, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Parts(Option<Vec<u8>>);

impl Parts {
    /// Adds a piece; the whole frame with the last one.
    pub(super) fn add(
        &mut self,
        part: &Part,
        encoding: Encoding,
    ) -> Result<Option<(ServerFrame, usize)>, Breach> {
        let whole = self.0.get_or_insert_default();
        // What no frame can be as large as is not gathered.
        if whole.len() + part.data.bytes().len() > 2 * MAX_FRAME_BYTES {
            self.0 = None;
            return Err(Breach::Unreadable("parts of more than any frame".to_owned()));
        }
        whole.extend_from_slice(part.data.bytes());
        if !part.last {
            return Ok(None);
        }
        let whole = self.0.take().unwrap_or_default();
        let mut frames = codec::decode::<ServerFrame>(&whole, encoding, MAX_FRAME_BYTES);
        match (frames.next(), frames.next()) {
            (None, _) | (_, Some(_)) => {
                Err(Breach::Unreadable("parts that are not one frame".to_owned()))
            }
            (Some(Ok((frame, size))), None) if is_delivery(&frame) => Ok(Some((frame, size))),
            (Some(Ok(_)), None) => {
                Err(Breach::Unreadable("parts of what is no delivery".to_owned()))
            }
            (Some(Err(error)), None) => Err(Breach::Unreadable(error.to_string())),
        }
    }
}

/// Only those come in pieces.
const fn is_delivery(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Base(_) | ServerFrame::BaseRecords(_) | ServerFrame::Records(_))
}
