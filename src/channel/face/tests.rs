//! Large deliveries in pieces: put together they are the frame.

use std::sync::Arc;

use super::delivery::PIECE_BYTES;
use super::*;
use crate::wire::{Base, Delivered, Id, Origin, Part, Payload, Place, Record, Records};

/// The unmasked WebSocket messages that stand back to back: the first byte of each, its payload.
pub(in super::super) fn messages(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (head, length) = match bytes[1] {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()).try_into().unwrap()),
            small => (2, usize::from(small)),
        };
        let (message, rest) = bytes.split_at(head + length);
        all.push((message[0], &message[head..]));
        bytes = rest;
    }
    all
}

fn frame(payload: Payload) -> ServerFrame {
    let record = Record { payload: Some(payload), ..Record::default() };
    let place = Place { batch: 7, index: 0 };
    let records = vec![Delivered { place, time: 5, origin: 0, seq: 1, record }];
    let origin = Origin { user: "ada".to_owned(), writer: Id([1; 16]), connection: Id([2; 16]) };
    ServerFrame::Records(Records { log: 7, base: 300, origins: vec![origin], records })
}

fn made(frame: &ServerFrame, encoding: Encoding, parts: bool) -> Message {
    encode(frame, Form { face: Face::WebSocket, encoding, parts }, &Arc::default())
}

/// The frames of a message in pieces, which are looked at, put together.
fn put_together(message: &Message, encoding: Encoding) -> Vec<u8> {
    let pieces = messages(&message.bytes);
    assert_eq!(pieces.len(), message.ends.len() + 1);
    let mut whole = Vec::new();
    for (at, (_, bytes)) in pieces.iter().enumerate() {
        let frames: Vec<_> = codec::decode::<ServerFrame>(bytes, encoding, 1 << 20)
            .collect::<Result<_, _>>()
            .unwrap();
        let [(ServerFrame::Part(Part { last, data }), _)] = frames.as_slice() else {
            panic!("a piece is a message of its own: {frames:?}");
        };
        assert_eq!(*last, at + 1 == pieces.len());
        assert!((1..=PIECE_BYTES).contains(&data.bytes().len()));
        assert_eq!(data.is_text(), encoding == Encoding::Json);
        whole.extend_from_slice(data.bytes());
    }
    whole
}

fn comes_back(frame: &ServerFrame) {
    for encoding in Encoding::ALL {
        let (whole, parted) = (made(frame, encoding, false), made(frame, encoding, true));
        assert!(whole.ends.is_empty() && whole.large && !parted.ends.is_empty());
        assert_eq!(whole.counted, parted.counted, "it counts as the whole frame");
        let together = put_together(&parted, encoding);
        let read: Vec<_> = codec::decode::<ServerFrame>(&together, encoding, 4 << 20)
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(read, [(frame.clone(), usize::try_from(whole.counted).unwrap())]);
        let [(_, plain)] = messages(&whole.bytes).try_into().unwrap();
        assert_eq!(plain.strip_suffix(b"\n").unwrap_or(plain), together);
    }
}

#[test]
fn pieces_put_together_are_the_frame() {
    comes_back(&frame(Payload::text("x".repeat(200_000))));
    comes_back(&frame(Payload::binary(Bytes::from(vec![0xff; 100_000]))));
    let data = Payload::binary(Bytes::from((0..=255).cycle().take(262_144).collect::<Vec<u8>>()));
    comes_back(&ServerFrame::Base(Base { log: 7, offset: 9, part: 3, last: false, data }));
}

/// A character stands in one piece, wherever the border of the piece falls in it.
#[test]
fn characters_are_not_torn_at_borders() {
    for character in ["é", "€", "😀", "\""] {
        for shift in 0..4 {
            let text = "a".repeat(shift) + &character.repeat(70_000 / character.len());
            comes_back(&frame(Payload::text(text)));
        }
    }
}

/// The form is made when it is first wanted, once; a small frame is the same for all.
#[test]
fn what_is_encoded_is_shared() {
    for (size, wanted) in [(100, 2), (100_000, 4)] {
        let (frame, mut made_so_far) = (frame(Payload::text("x".repeat(size))), 0);
        let mut messages = Messages::default();
        for parts in [true, false, true, false] {
            for encoding in Encoding::ALL {
                let form = Form { face: Face::WebSocket, encoding, parts };
                let message = messages.get(form, || {
                    made_so_far += 1;
                    made(&frame, encoding, parts)
                });
                assert_eq!(message.ends.is_empty(), !parts || size == 100);
            }
        }
        assert_eq!(made_so_far, wanted);
    }
}
