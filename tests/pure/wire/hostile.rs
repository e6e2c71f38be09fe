//! Bytes that mean harm: each gets a typed error or is skipped, at no cost.

use highwater::wire::codec::{decode, message};
use highwater::wire::*;
use proptest::prelude::*;

use crate::wire::samples;
use crate::wire::vectors::{all, read};

fn varint(value: u64) -> Vec<u8> {
    codec::to_bytes(&value)
}

/// A binary frame of any kind around any body.
fn frame(kind: u64, body: &[u8]) -> Vec<u8> {
    [varint(kind), varint(body.len() as u64), body.to_vec()].concat()
}

fn errors<F: Frame + std::fmt::Debug>(bytes: &[u8], encoding: Encoding) -> Vec<FrameError> {
    decode::<F>(bytes, encoding, MAX_FRAME_BYTES).filter_map(Result::err).collect()
}

fn cut_everywhere<F: Frame + std::fmt::Debug>(table: &str) {
    for vector in read(table) {
        let binary = vector.bytes();
        let line = vector.line().trim_end().as_bytes().to_vec();
        for (bytes, encoding) in [(binary, Encoding::Bincode), (line, Encoding::Json)] {
            for end in 1..bytes.len() {
                let frames = all::<F>(&bytes[..end], encoding);
                assert!(frames.is_none(), "{} cut at {end}: {frames:?}", vector.name);
            }
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error() {
    cut_everywhere::<ClientFrame>("client");
    cut_everywhere::<ServerFrame>("server");
}

/// Cuts the body and says so in the length: the frame is whole, its body is not.
#[test]
fn a_body_cut_anywhere_is_an_error_of_its_kind() {
    for (name, sample) in samples::client() {
        let mut body = vec![];
        sample.encode_body(Encoding::Bincode, &mut body);
        for end in 0..body.len() {
            let bytes = frame(u64::from(sample.kind()), &body[..end]);
            match errors::<ClientFrame>(&bytes, Encoding::Bincode).as_slice() {
                [FrameError::Body { kind, .. }] => assert_eq!(*kind, sample.name()),
                [] => assert!(ends_where_it_grew(&bytes, &body[..end]), "{name} cut at {end}"),
                other => panic!("{name} cut at {end}: {other:?}"),
            }
        }
    }
}

/// Whether a body that was read though it is short lacks nothing but fields that bodies have grown
/// by: what is written for it is the same, and their defaults.
fn ends_where_it_grew(frame: &[u8], body: &[u8]) -> bool {
    let read = all::<ClientFrame>(frame, Encoding::Bincode).unwrap();
    let mut whole = vec![];
    read[0].encode_body(Encoding::Bincode, &mut whole);
    let rest = whole.strip_prefix(body).unwrap_or(&[1]);
    !rest.is_empty() && rest.iter().all(|byte| *byte == 0)
}

#[test]
fn frames_before_the_bad_one_are_given() {
    let ping = ClientFrame::Ping(Ping { nonce: 7, positions: vec![] });
    for encoding in Encoding::ALL {
        let mut bytes = message(&ping, encoding);
        bytes.extend_from_slice(&message(&ping, encoding)[..2]);
        let mut frames = decode::<ClientFrame>(&bytes, encoding, 100);
        assert_eq!(frames.next().unwrap().unwrap().0, ping);
        assert!(frames.next().unwrap().is_err());
        assert!(frames.next().is_none(), "nothing follows an error");
    }
}

#[test]
fn each_byte_changed_to_each_value_is_read_or_refused() {
    let sample = samples::server().into_iter().find(|(name, _)| name == "records_full").unwrap().1;
    for encoding in Encoding::ALL {
        let bytes = message(&sample, encoding);
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                for (frame, _) in decode::<ServerFrame>(&bytes, encoding, 4096).flatten() {
                    let again = message(&frame, encoding);
                    assert_eq!(all::<ServerFrame>(&again, encoding).unwrap(), [frame]);
                }
            }
        }
    }
}

/// Each place where a length stands, announcing more than any machine has: allocating it would
/// end the test.
#[test]
fn announced_lengths_are_not_believed() {
    let huge = varint(1 << 60);
    let id = [9; 16];
    let bodies: Vec<(u64, Vec<u8>)> = vec![
        (1, [vec![1], huge.clone()].concat()),
        (1, [vec![1, 1], huge.clone()].concat()),
        (1, [vec![1, 0, 1], huge.clone()].concat()),
        (1, [&[1, 0, 0], &id[..], &[0], &huge].concat()),
        (1, [&[1, 0, 0], &id[..], &[0, 0, 1, 0], &huge].concat()),
        (1, [&[1, 0, 0], &id[..], &[0, 0, 1, 0, 0], &huge].concat()),
        (2, [vec![1], huge.clone()].concat()),
        (2, [vec![1, 1], huge.clone()].concat()),
        (3, [vec![1], huge.clone()].concat()),
        (4, [&id[..], &[1], &huge].concat()),
        (4, [&id[..], &[1, 1, 1, 0, 1], &huge].concat()),
        (4, [&id[..], &[1, 1, 1, 0, 0, 7, 0, 0, 0, 0], &huge].concat()),
        (4, [&id[..], &[1, 1, 1, 0, 0, 7, 0, 0, 0, 0, 0, 0, 1, 0], &huge].concat()),
        (5, [vec![0], huge.clone()].concat()),
        (8, huge.clone()),
        (12, [vec![1, 7, 9, 1, 0, 1, 0], huge.clone()].concat()),
    ];
    for (kind, body) in bodies {
        let errors = errors::<ClientFrame>(&frame(kind, &body), Encoding::Bincode);
        assert!(matches!(errors.as_slice(), [FrameError::Body { .. }]), "{kind}: {errors:?}");
    }
    let huge_frame = [varint(4), huge].concat();
    let errors = errors::<ClientFrame>(&huge_frame, Encoding::Bincode);
    assert!(
        matches!(errors.as_slice(), [FrameError::TooLarge { length, .. }] if *length == 1 << 60)
    );
}

/// A list of four million empty strings in four megabytes is read without a panic.
#[test]
fn the_largest_frame_of_the_smallest_things_is_read() {
    let count = MAX_FRAME_BYTES - 64;
    let tail = [&[0][..], &[9; 16], &[0, 0, 1, 0, 0, 0, 0]].concat();
    let body = [vec![1], varint(count as u64), vec![0; count], tail].concat();
    let bytes = frame(1, &body);
    let mut frames = decode::<ClientFrame>(&bytes, Encoding::Bincode, MAX_FRAME_BYTES);
    let (hello, size) = frames.next().unwrap().unwrap();
    assert_eq!(size, body.len());
    let ClientFrame::Hello(hello) = hello else { panic!("{hello:?}") };
    assert_eq!(hello.capabilities.len(), count);
    let refusal = ClientFrame::Hello(hello).check().unwrap_err();
    assert_eq!(refusal.code, Code::BadFrame);
}

#[test]
fn unknown_kinds_are_skipped_whatever_they_hold() {
    let ping = ClientFrame::Ping(Ping { nonce: 7, positions: vec![] });
    for kind in [0, 16, 40, 64, 250, 251, 65_536, 4_294_967_295, 4_294_967_297, u64::MAX] {
        let bytes = [frame(kind, &[255; 300]), message(&ping, Encoding::Bincode), frame(kind, &[])]
            .concat();
        let frames = all::<ClientFrame>(&bytes, Encoding::Bincode).unwrap();
        assert_eq!(frames, std::slice::from_ref(&ping), "{kind}");
    }
    let line = b"{\"made_up\":{\"a\":[1,{}]}}\n{\"ping\":{\"nonce\":7}}\n{\"welcome\":3}";
    assert_eq!(all::<ClientFrame>(line, Encoding::Json).unwrap(), [ping]);
}

#[test]
fn bodies_grow_at_their_end() {
    for (name, sample) in samples::client() {
        let mut body = vec![];
        sample.encode_body(Encoding::Bincode, &mut body);
        body.extend_from_slice(&[255, 0, 255]);
        let bytes = frame(u64::from(sample.kind()), &body);
        let frames = all::<ClientFrame>(&bytes, Encoding::Bincode);
        assert_eq!(frames.unwrap(), [sample], "{name}");
    }
}

#[test]
fn unknown_members_are_ignored_at_every_level() {
    for table in ["client", "server"] {
        for vector in read(table) {
            let mut body: serde_json::Value = serde_json::from_str(vector.json.get()).unwrap();
            let added = add_members(&mut body, true);
            assert!(added > 0, "{}", vector.name);
            let line = serde_json::json!({ vector.frame.as_str(): body }).to_string();
            let plain = vector.line();
            if table == "client" {
                same::<ClientFrame>(&line, &plain, &vector.name);
            } else {
                same::<ServerFrame>(&line, &plain, &vector.name);
            }
        }
    }
}

fn same<F: Frame + PartialEq + std::fmt::Debug>(line: &str, plain: &str, name: &str) {
    let frames = |text: &str| all::<F>(text.as_bytes(), Encoding::Json);
    assert_eq!(frames(line).unwrap(), frames(plain).unwrap(), "{name}: {line}");
}

/// Puts a member into each object but those that stand for a variant, and counts them.
fn add_members(value: &mut serde_json::Value, is_body: bool) -> usize {
    match value {
        serde_json::Value::Object(members) => {
            let variants =
                ["log", "name", "offset", "last", "time", "stored", "refused", "parts", "key"];
            let is_variant = !is_body
                && members.len() == 1
                && members.keys().all(|name| variants.contains(&name.as_str()));
            let inside: usize = members.values_mut().map(|value| add_members(value, false)).sum();
            if is_variant {
                return inside;
            }
            members.insert("zz_new".into(), serde_json::json!({"deep": [[[null]]]}));
            inside + 1
        }
        serde_json::Value::Array(values) => {
            values.iter_mut().map(|value| add_members(value, false)).sum()
        }
        _ => 0,
    }
}

#[test]
fn deep_nesting_costs_no_stack() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let unknown = format!("{{\"ping\":{{\"nonce\":7,\"new\":{deep}}}}}");
    let frames = all::<ClientFrame>(unknown.as_bytes(), Encoding::Json).unwrap();
    assert_eq!(frames, [ClientFrame::Ping(Ping { nonce: 7, positions: vec![] })]);
    let wrong = format!("{{\"ping\":{{\"nonce\":{deep}}}}}");
    assert_eq!(errors::<ClientFrame>(wrong.as_bytes(), Encoding::Json).len(), 1);
    let payload = format!("{{\"put_snapshot\":{{\"data\":{}}}}}", "{\"b64\":".repeat(1_000_000));
    assert_eq!(errors::<ClientFrame>(payload.as_bytes(), Encoding::Json).len(), 1);
}

#[test]
fn bytes_that_are_not_utf8_are_refused() {
    for (line, at) in [
        (&b"{\"refresh\":{\"token\":\"_\"}}"[..], 21),
        (b"{\"refresh\":{\"token\":\"a\",\"new\":\"_\"}}", 31),
        (b"{\"made_up_\":{}}", 9),
        (b"{\"made_up\":\"_\"}", 12),
    ] {
        assert_eq!(errors::<ClientFrame>(line, Encoding::Json), [], "{at}");
        let mut line = line.to_vec();
        assert_eq!(line[at], b'_');
        line[at] = 0xff;
        assert_eq!(errors::<ClientFrame>(&line, Encoding::Json).len(), 1, "{at}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for encoding in Encoding::ALL {
            let _ = decode::<ClientFrame>(&bytes, encoding, MAX_FRAME_BYTES).count();
            let _ = decode::<ServerFrame>(&bytes, encoding, MAX_FRAME_BYTES).count();
        }
    }

    #[test]
    fn random_bodies_of_known_kinds_never_panic(
        kind in 0..100u64,
        body in proptest::collection::vec(prop_oneof![0..5u8, 248..=255u8, any::<u8>()], 0..300),
    ) {
        let bytes = frame(kind, &body);
        for (frame, _) in decode::<ClientFrame>(&bytes, Encoding::Bincode, 4096).flatten() {
            let _ = frame.check();
        }
        let _ = decode::<ServerFrame>(&bytes, Encoding::Bincode, 4096).count();
    }

    #[test]
    fn random_text_never_panics(text in "[\\[\\]{}:,\" a-z0-9\\\\\n]{0,80}") {
        let line = format!("{{\"hello\":{text}}}\n{text}");
        let _ = decode::<ClientFrame>(line.as_bytes(), Encoding::Json, 4096).count();
    }
}
