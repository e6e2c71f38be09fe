//! Whatever a frame holds, both encodings give it back; and bincode reads what we read.
//!
//! A failure prints the smallest frame found and its seed; `cargo test --test pure wire::round`
//! replays it from the file of seeds that proptest names.

use bytes::Bytes;
use highwater::wire::codec::{decode, from_bytes, message, to_bytes};
use highwater::wire::*;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use crate::wire::samples::STEPS;

fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![proptest::sample::select(STEPS), 0..=MAX_OFFSET]
}

fn small() -> impl Strategy<Value = u32> + Clone {
    prop_oneof![0..=251u32, any::<u32>()]
}

fn id() -> impl Strategy<Value = Id> + Clone {
    any::<[u8; 16]>().prop_map(Id)
}

fn place() -> impl Strategy<Value = Place> + Clone {
    (number(), small()).prop_map(|(batch, index)| Place { batch, index })
}

fn text() -> impl Strategy<Value = String> + Clone {
    prop_oneof!["\\PC{0,12}", any::<String>()]
}

fn payload() -> impl Strategy<Value = Payload> + Clone {
    prop_oneof![
        text().prop_map(Payload::text),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Payload::binary(Bytes::from(bytes))),
    ]
}

fn code() -> impl Strategy<Value = Code> + Clone {
    proptest::sample::select(Code::ALL)
}

/// A strategy for a structure from one for each of its fields.
macro_rules! shape {
    ($($function:ident -> $shape:ident { $($field:ident: $strategy:expr),* $(,)? })*) => {
        $(fn $function() -> impl Strategy<Value = $shape> + Clone {
            ($($strategy,)*).prop_map(|($($field,)*)| $shape { $($field,)* })
        })*
    };
}

/// A strategy for an enum without fields.
macro_rules! one_of {
    ($($function:ident -> $shape:ident { $($variant:ident)* })*) => {
        $(fn $function() -> impl Strategy<Value = $shape> + Clone {
            proptest::sample::select(&[$($shape::$variant),*][..])
        })*
    };
}

one_of! {
    cloning -> Cloning { All Own None }
    met -> Met { Fresh Resumed Cloned Restored Waiting }
    reason -> Reason {
        Detached Lag Retention RetainedBytes Slots NodeSlots Memory Asked Left NoSlot
    }
    rule -> SnapshotRule { None Latest Client }
    ended -> Ended { Asked BackEnd Deleted Denied Overwritten }
    gap_reason -> GapReason { Trimmed Removed }
    reset_reason -> ResetReason { New Cloned Restored PastHead OtherLog Trimmed Asked }
    level -> Level { Synced Replicated Memory }
}

fn start() -> impl Strategy<Value = Start> + Clone {
    prop_oneof![
        Just(Start::State),
        Just(Start::Earliest),
        Just(Start::End),
        number().prop_map(Start::Offset),
        Just(Start::Committed),
    ]
}

fn target() -> impl Strategy<Value = Target> + Clone {
    prop_oneof![number().prop_map(Target::Log), text().prop_map(Target::Name)]
}

fn outcome() -> impl Strategy<Value = Outcome> + Clone {
    prop_oneof![
        (number(), number(), place(), level()).prop_map(|(log, offset, place, level)| {
            Outcome::Stored { log, offset, place, level }
        }),
        refusal().prop_map(Outcome::Refused),
    ]
}

shape! {
    cursor -> Cursor { log: number(), next: number() }
    open -> Open { name: text(), have: of(cursor()), start: start(), priority: any::<u8>() }
    writer_at -> WriterAt { writer: id(), oldest: number() }
    writer_mark -> WriterMark { writer: id(), mark: number() }
    extension -> Extension { tag: small(), data: payload() }
    record -> Record {
        key: of(text()),
        kind: of(text()),
        event_time: of(number()),
        headers: vec((text(), text()), 0..3),
        extensions: vec(extension(), 0..2),
        payload: of(payload()),
    }
    item -> Item {
        seq: number(), prev: number(), to: target(), if_head: of(number()), record: record(),
    }
    origin -> Origin { user: text(), writer: id(), connection: id() }
    delivered -> Delivered {
        place: place(), time: number(), origin: small(), seq: number(), record: record(),
    }
    kept -> Kept { offset: number(), record: delivered() }
    base_at -> BaseAt { rule: rule(), offset: number(), version: small() }
    refusal -> Refusal { code: code(), message: text(), retry_after: small() }
    answer -> Answer { seq: number(), outcome: outcome() }
    limits -> Limits {
        frame_bytes: small(), record_bytes: small(), window: small(), in_flight: small(),
        subscriptions: small(),
    }
    base_held -> BaseHeld { log: number(), offset: number(), upto: upto() }
    credit -> Credit { appends: small(), bytes: number(), after: small() }
    visible -> Visible { visible: any::<bool>(), request: small() }
    refresh -> Refresh { token: text(), request: small() }
    retire -> Retire { writer: id(), request: small() }
    position -> Position { era: id(), batch: number(), chain: of(any::<[u8; 8]>()) }
    made -> Made { log: number(), position: position() }
    subscribe -> Subscribe { request: small(), open: vec(open(), 0..4), bases: bases() }
    unsubscribe -> Unsubscribe { request: small(), logs: vec(number(), 0..300) }
    append -> Append {
        writer: id(), oldest: number(), items: vec(item(), 0..4), positions: positions(),
        made: vec(made(), 0..3),
    }
    ack -> Ack { received: number(), cursors: vec(cursor(), 0..100) }
    activate -> Activate {
        request: small(), cloning: cloning(), open: vec(open(), 0..3), bases: bases(),
    }
    seek -> Seek { request: small(), log: number(), to: start() }
    put_snapshot -> PutSnapshot {
        request: small(), log: number(), offset: number(), version: small(), part: small(),
        last: any::<bool>(), data: payload(),
    }
    state -> State {
        active: any::<bool>(), met: of(met()), reason: of(reason()), activate_after: small(),
        generation: number(), source: of(id()), request: small(),
    }
    refused -> Refused { request: small(), name: of(text()), refusal: refusal() }
    unsubscribed -> Unsubscribed { request: small(), log: number(), reason: ended() }
    records -> Records {
        log: number(), base: number(), origins: vec(origin(), 0..3),
        records: vec(delivered(), 0..4),
    }
    gap -> Gap { log: number(), from: number(), to: number(), reason: gap_reason() }
    reset -> Reset {
        log: number(), reason: reset_reason(), base: of(base_at()), cursor: number(),
        complete: number(),
    }
    base -> Base {
        log: number(), offset: number(), part: small(), last: any::<bool>(), data: payload(),
    }
    base_records -> BaseRecords {
        log: number(), offset: number(), last: any::<bool>(), complete: number(),
        origins: vec(origin(), 0..3), records: vec(kept(), 0..4),
    }
    answers -> Answers {
        writer: id(), mark: number(), answers: vec(answer(), 0..5), positions: positions(),
        credit: of(credit()),
    }
    snapshot_wanted -> SnapshotWanted { log: number(), at_least: number() }
    who -> Who { request: small(), log: number(), offset: number() }
    delivered_to -> DeliveredTo { request: small(), users: vec(text(), 0..4), more: any::<bool>() }
    refreshed -> Refreshed { expires: number(), request: small() }
    part -> Part { last: any::<bool>(), data: payload() }
    bye -> Bye {
        code: code(), message: text(), reconnect: any::<bool>(), after: small(),
        nodes: vec(text(), 0..3),
    }
}

fn bases() -> impl Strategy<Value = Vec<BaseHeld>> + Clone {
    vec(base_held(), 0..3)
}

fn upto() -> impl Strategy<Value = Upto> + Clone {
    prop_oneof![small().prop_map(Upto::Parts), text().prop_map(Upto::Key)]
}

fn positions() -> impl Strategy<Value = Vec<Position>> + Clone {
    vec(position(), 0..3)
}

prop_compose! {
    fn welcome()(
        (version, ping_interval, limits) in (any::<u16>(), small(), limits()),
        capabilities in vec(text(), 0..3),
        (connection, source) in (id(), of(id())),
        (user, token) in (text(), of(text())),
        (met, place) in (met(), place()),
        (generation, time, expires) in (number(), number(), number()),
        writers in vec(writer_mark(), 0..3),
        (positions, other_history, credit) in (positions(), any::<bool>(), of(credit())),
        nodes in vec(text(), 0..3),
    ) -> Welcome {
        Welcome {
            version, capabilities, connection, user, met, source, place, generation, time,
            expires, ping_interval, limits, token, writers, positions, other_history, credit,
            nodes,
        }
    }
}

prop_compose! {
    fn hello()(
        (version, capabilities, token) in (any::<u16>(), vec(text(), 0..3), of(text())),
        (connection, device, client) in (id(), of(id()), text()),
        (visible, cloning, window) in (any::<bool>(), cloning(), small()),
        (writers, open) in (vec(writer_at(), 0..3), vec(open(), 0..4)),
        (positions, bases) in (positions(), bases()),
    ) -> Hello {
        Hello {
            version, capabilities, token, connection, device, client, visible, cloning, writers,
            open, window, positions, bases,
        }
    }
}

prop_compose! {
    fn subscribed()(
        (request, name, log, priority) in (small(), text(), number(), any::<u8>()),
        (rule, start, head) in (rule(), number(), number()),
        (cursor, complete, reset) in (number(), number(), any::<bool>()),
        (made, held, base) in (of(position()), any::<bool>(), of(base_held())),
    ) -> Subscribed {
        Subscribed {
            request, name, log, priority, rule, start, head, cursor, complete, reset, made, held,
            base,
        }
    }
}

fn later() -> impl Strategy<Value = ClientFrame> {
    (small(), 0..8usize).prop_map(|(request, which)| {
        let body = Later { request };
        [
            ClientFrame::Signal,
            ClientFrame::Broadcast,
            ClientFrame::Call,
            ClientFrame::Reply,
            ClientFrame::SubscribePattern,
            ClientFrame::Fetch,
            ClientFrame::Transact,
            ClientFrame::Lag,
        ][which](body)
    })
}

fn client() -> impl Strategy<Value = ClientFrame> {
    use ClientFrame as F;
    prop_oneof![
        hello().prop_map(F::Hello),
        subscribe().prop_map(F::Subscribe),
        unsubscribe().prop_map(F::Unsubscribe),
        append().prop_map(F::Append),
        ack().prop_map(F::Ack),
        visible().prop_map(F::Visible),
        activate().prop_map(F::Activate),
        refresh().prop_map(F::Refresh),
        any::<u64>().prop_map(|nonce| F::Ping(Ping { nonce, positions: vec![] })),
        any::<u64>().prop_map(|nonce| F::Pong(Pong { nonce })),
        seek().prop_map(F::Seek),
        put_snapshot().prop_map(F::PutSnapshot),
        retire().prop_map(F::Retire),
        any::<bool>().prop_map(|forget| F::Leave(Leave { forget })),
        who().prop_map(F::Who),
        later(),
    ]
}

fn server() -> impl Strategy<Value = ServerFrame> {
    use ServerFrame as F;
    prop_oneof![
        welcome().prop_map(F::Welcome),
        subscribed().prop_map(F::Subscribed),
        refused().prop_map(F::Refused),
        small().prop_map(|request| F::Done(Done { request })),
        unsubscribed().prop_map(F::Unsubscribed),
        records().prop_map(F::Records),
        gap().prop_map(F::Gap),
        reset().prop_map(F::Reset),
        base().prop_map(F::Base),
        base_records().prop_map(F::BaseRecords),
        answers().prop_map(F::Answers),
        state().prop_map(F::State),
        snapshot_wanted().prop_map(F::SnapshotWanted),
        refreshed().prop_map(F::Refreshed),
        part().prop_map(F::Part),
        delivered_to().prop_map(F::DeliveredTo),
        bye().prop_map(F::Bye),
    ]
}

/// Writes, reads, and looks at the size told beside the frame (§4.3).
fn round<F: Frame + PartialEq + std::fmt::Debug>(frame: &F) {
    for encoding in Encoding::ALL {
        let bytes = message(frame, encoding);
        let mut frames = decode::<F>(&bytes, encoding, MAX_FRAME_BYTES);
        let (back, size) = frames.next().unwrap().unwrap();
        assert_eq!(&back, frame);
        assert!(frames.next().is_none());
        let told = match encoding {
            Encoding::Json => bytes.len() - 1,
            Encoding::Bincode => {
                let mut body = vec![];
                frame.encode_body(encoding, &mut body);
                body.len()
            }
        };
        assert_eq!(size, told);
        assert!(decode::<F>(&bytes, encoding, size).all(|frame| frame.is_ok()));
        let refused = decode::<F>(&bytes, encoding, size - 1).next().unwrap();
        assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
    }
}

/// Reads arbitrary bytes with our reader and with bincode's own: they agree, value for value.
fn agree<T>(bytes: &[u8])
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let settings = bincode::config::standard().with_limit::<{ 64 << 20 }>();
    let theirs = bincode::serde::decode_from_slice::<T, _>(bytes, settings);
    match (from_bytes::<T>("it", bytes), theirs) {
        (Ok(ours), Ok((theirs, _))) => {
            assert_eq!(ours, theirs);
            assert_eq!(from_bytes::<T>("it", &to_bytes(&ours)).unwrap(), ours);
        }
        (Err(_), Err(_)) => {}
        // A body that ends where one has grown: bincode wants the empty fields written out.
        (Ok(ours), Err(_)) => {
            let whole = [bytes, &[0; 3]].concat();
            let (theirs, _) = bincode::serde::decode_from_slice::<T, _>(&whole, settings).unwrap();
            assert_eq!(ours, theirs);
        }
        (ours, theirs) => panic!("ours: {ours:?}, bincode's: {theirs:?}"),
    }
}

fn agree_on_all(bytes: &[u8]) {
    agree::<Hello>(bytes);
    agree::<Append>(bytes);
    agree::<Ack>(bytes);
    agree::<Records>(bytes);
    agree::<BaseRecords>(bytes);
    agree::<Answers>(bytes);
    agree::<Reset>(bytes);
    agree::<State>(bytes);
    agree::<Welcome>(bytes);
    agree::<std::collections::BTreeMap<u64, (u16, Option<String>)>>(bytes);
}

proptest! {
    #[test]
    fn client_frames_come_back(frame in client()) {
        round(&frame);
    }

    #[test]
    fn server_frames_come_back(frame in server()) {
        round(&frame);
    }

    #[test]
    fn several_frames_share_a_message(frames in vec(server(), 0..6)) {
        for encoding in Encoding::ALL {
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| message(frame, encoding)).collect();
            let back = crate::wire::vectors::all::<ServerFrame>(&bytes, encoding).unwrap();
            prop_assert_eq!(&back, &frames);
        }
    }

    #[test]
    fn bincode_reads_random_bytes_alike(bytes in vec(prop_oneof![0..4u8, any::<u8>()], 0..200)) {
        agree_on_all(&bytes);
    }

    #[test]
    fn bincode_reads_broken_frames_alike(
        frame in prop_oneof![
            client().prop_map(|frame| body(&frame)),
            server().prop_map(|frame| body(&frame)),
        ],
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = frame;
        agree_on_all(&bytes);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            agree_on_all(&bytes);
        }
    }
}

fn body<F: Frame>(frame: &F) -> Vec<u8> {
    let mut body = vec![];
    frame.encode_body(Encoding::Bincode, &mut body);
    body
}
