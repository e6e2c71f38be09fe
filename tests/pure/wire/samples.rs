//! One named frame for each form that a frame can take: the source of `tests/vectors`.

use bytes::Bytes;
use highwater::wire::*;

/// Values at both sides of each step of the varint, and the last offset.
pub const STEPS: &[u64] =
    &[0, 1, 250, 251, 65_535, 65_536, 4_294_967_295, 4_294_967_296, MAX_OFFSET];

pub fn id(first: u8) -> Id {
    let mut bytes = [0; 16];
    for (byte, add) in bytes.iter_mut().zip(0u8..) {
        *byte = first.wrapping_add(add.wrapping_mul(17));
    }
    Id(bytes)
}

fn place(batch: u64, index: u32) -> Place {
    Place { batch, index }
}

fn bytes(content: &[u8]) -> Payload {
    Payload::binary(Bytes::copy_from_slice(content))
}

fn text(content: &str) -> Payload {
    Payload::text(content)
}

/// Records of every shape.
pub fn records() -> Vec<(&'static str, Record)> {
    let plain = Record { payload: Some(text("hi")), ..Record::default() };
    vec![
        ("text", plain.clone()),
        ("binary", Record { payload: Some(bytes(&[0xff, 0x00, 0x7f])), ..Record::default() }),
        ("empty_text", Record { payload: Some(text("")), ..Record::default() }),
        ("empty_binary", Record { payload: Some(bytes(&[])), ..Record::default() }),
        (
            "unicode",
            Record {
                key: Some("ключ/🗝".into()),
                payload: Some(text("line\nquote\" back\\ \u{1} é 🌊")),
                ..Record::default()
            },
        ),
        ("tombstone", Record { key: Some("gone".into()), ..Record::default() }),
        (
            "full",
            Record {
                key: Some("k".repeat(MAX_KEY_BYTES)),
                kind: Some("todo.added".into()),
                event_time: Some(MAX_OFFSET),
                headers: vec![("a".into(), "1".into()), ("a".into(), String::new())],
                extensions: vec![
                    Extension { tag: 63, data: bytes(&[1]) },
                    Extension { tag: 4_294_967_295, data: text("t") },
                ],
                payload: Some(text("{\"title\":\"milk\"}")),
            },
        ),
        ("payload_251", Record { payload: Some(bytes(&[7; 251])), ..plain }),
    ]
}

fn item(seq: u64, to: Target, record: Record) -> Item {
    Item { seq, prev: seq.saturating_sub(1), to, if_head: None, record }
}

fn open(name: &str, have: Option<Cursor>, start: Start, priority: u8) -> Open {
    Open { name: name.into(), have, start, priority }
}

fn opens() -> Vec<Open> {
    let mut list = vec![
        open("docs/42", Some(Cursor { log: 7, next: 300 }), Start::State, 0),
        open("a", None, Start::Earliest, 1),
        open("a/b.c~d_e-f", None, Start::End, 250),
        open("here", None, Start::Committed, 251),
    ];
    list.extend(STEPS.iter().map(|step| open("at", None, Start::Offset(*step), 255)));
    list
}

fn hello() -> Hello {
    Hello {
        version: 1,
        capabilities: vec![],
        token: None,
        connection: id(1),
        device: None,
        client: String::new(),
        visible: false,
        cloning: Cloning::All,
        writers: vec![],
        open: vec![],
        window: 0,
        positions: vec![],
        bases: vec![],
    }
}

/// Positions of two shards, with and without the chain.
fn positions() -> Vec<Position> {
    vec![
        Position { era: id(5), batch: 1042, chain: Some([0, 1, 2, 3, 4, 5, 254, 255]) },
        Position { era: id(6), batch: (1 << SHARD_SHIFT) + 251, chain: None },
    ]
}

fn bases() -> Vec<BaseHeld> {
    vec![
        BaseHeld { log: 7, offset: 300, upto: Upto::Key("ключ/🗝".into()) },
        BaseHeld { log: 251, offset: MAX_OFFSET, upto: Upto::Parts(65_536) },
    ]
}

fn hellos(out: &mut Vec<(String, ClientFrame)>) {
    let mut add = |name: &str, body: Hello| out.push((name.to_owned(), ClientFrame::Hello(body)));
    add("hello_bare", hello());
    add(
        "hello_full",
        Hello {
            version: 1,
            capabilities: vec!["fetch".into(), "patterns".into()],
            token: Some("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2ln".into()),
            connection: id(1),
            device: Some(id(2)),
            client: "highwater-js/0.1.0".into(),
            visible: true,
            cloning: Cloning::All,
            writers: vec![
                WriterAt { writer: id(3), oldest: 1 },
                WriterAt { writer: id(4), oldest: MAX_OFFSET },
            ],
            open: opens(),
            window: 1 << 20,
            positions: vec![],
            bases: vec![],
        },
    );
    let capabilities = vec!["history".to_owned(), "starts".to_owned()];
    add("hello_history", Hello { capabilities, positions: positions(), ..hello() });
    let capabilities = ["requests", "parts", "held", "bases"].map(str::to_owned).to_vec();
    add("hello_bases", Hello { capabilities, bases: bases(), open: opens(), ..hello() });
    add("hello_own", Hello { cloning: Cloning::Own, window: u32::MAX, ..hello() });
    add("hello_service", Hello { cloning: Cloning::None, version: 65_535, ..hello() });
}

fn appends(out: &mut Vec<(String, ClientFrame)>) {
    let mut add = |name: String, oldest, items| {
        let (positions, made) = (vec![], vec![]);
        let body = Append { writer: id(3), oldest, items, positions, made };
        out.push((name, ClientFrame::Append(body)));
    };
    add("append_nothing".into(), 1, vec![]);
    for (name, record) in records() {
        add(format!("append_{name}"), 1, vec![item(1, Target::Log(7), record)]);
    }
    let record = || Record { payload: Some(text("x")), ..Record::default() };
    for step in STEPS {
        let item = Item { if_head: Some(*step), ..item(*step, Target::Log(*step), record()) };
        add(format!("append_at_{step}"), *step, vec![item]);
    }
    let name = Target::Name("todo/inbox".into());
    let items = vec![item(2, name, record()), item(3, Target::Log(8), record())];
    add("append_many".into(), 2, items.clone());
    let made = (8..).zip(positions()).map(|(log, position)| Made { log, position }).collect();
    let body = Append { writer: id(3), oldest: 2, items, positions: positions(), made };
    out.push(("append_history".into(), ClientFrame::Append(body)));
}

/// Every form of every frame of a client, under a name of its own.
pub fn client() -> Vec<(String, ClientFrame)> {
    use ClientFrame as F;
    let mut out = vec![];
    hellos(&mut out);
    appends(&mut out);
    let mut add = |name: &str, frame| out.push((name.to_owned(), frame));
    add("subscribe", F::Subscribe(Subscribe { request: 1, open: opens(), bases: vec![] }));
    add(
        "subscribe_nothing",
        F::Subscribe(Subscribe { request: u32::MAX, open: vec![], bases: vec![] }),
    );
    add("unsubscribe", F::Unsubscribe(Unsubscribe { request: 2, logs: STEPS.to_vec() }));
    add("unsubscribe_nothing", F::Unsubscribe(Unsubscribe { request: 251, logs: vec![] }));
    let cursors = STEPS.iter().map(|step| Cursor { log: *step, next: *step }).collect();
    add("ack", F::Ack(Ack { received: MAX_OFFSET, cursors }));
    add("ack_window_only", F::Ack(Ack { received: 65_536, cursors: vec![] }));
    add("visible", F::Visible(Visible { visible: true, request: 0 }));
    add("hidden", F::Visible(Visible { visible: false, request: 0 }));
    for (name, cloning) in [("all", Cloning::All), ("own", Cloning::Own), ("none", Cloning::None)] {
        let open = opens().into_iter().take(1).collect();
        let body = Activate { request: 3, cloning, open, bases: vec![] };
        add(&format!("activate_{name}"), F::Activate(body));
    }
    let body = Subscribe { request: 7, open: opens(), bases: bases() };
    add("subscribe_bases", F::Subscribe(body));
    let body = Activate { request: 8, cloning: Cloning::All, open: opens(), bases: bases() };
    add("activate_bases", F::Activate(body));
    add("refresh", F::Refresh(Refresh { token: "a.b.c".into(), request: 0 }));
    add("refresh_request", F::Refresh(Refresh { token: "a.b.c".into(), request: 251 }));
    add("visible_request", F::Visible(Visible { visible: true, request: u32::MAX }));
    add("retire_request", F::Retire(Retire { writer: id(3), request: 9 }));
    add("ping", F::Ping(Ping { nonce: MAX_OFFSET, positions: vec![] }));
    add("pong", F::Pong(Pong { nonce: 0 }));
    for (name, to) in [
        ("state", Start::State),
        ("earliest", Start::Earliest),
        ("end", Start::End),
        ("offset", Start::Offset(65_536)),
        ("last", Start::Last(50)),
        ("time", Start::Time(1_767_225_600_000)),
        ("committed", Start::Committed),
    ] {
        add(&format!("seek_{name}"), F::Seek(Seek { request: 4, log: 7, to }));
    }
    let part = PutSnapshot {
        request: 5,
        log: 7,
        offset: 300,
        version: 2,
        part: 0,
        last: false,
        data: text("{\"a\":"),
    };
    add("put_snapshot_first", F::PutSnapshot(part.clone()));
    let data = bytes(&[0, 1, 254, 255]);
    add("put_snapshot_last", F::PutSnapshot(PutSnapshot { part: 251, last: true, data, ..part }));
    add("retire", F::Retire(Retire { writer: id(3), request: 0 }));
    add("leave", F::Leave(Leave { forget: false }));
    add("leave_forget", F::Leave(Leave { forget: true }));
    add("who", F::Who(Who { request: 7, log: 7, offset: 300 }));
    let most = Who { request: u32::MAX, log: MAX_OFFSET, offset: MAX_OFFSET };
    add("who_most", F::Who(most));
    reserved(&mut out);
    out
}

fn reserved(out: &mut Vec<(String, ClientFrame)>) {
    use ClientFrame as F;
    let mut add = |name: &str, frame| out.push((name.to_owned(), frame));
    let later = Later { request: 6 };
    add("signal", F::Signal(later.clone()));
    add("broadcast", F::Broadcast(later.clone()));
    add("call", F::Call(later.clone()));
    add("reply", F::Reply(later.clone()));
    add("subscribe_pattern", F::SubscribePattern(later.clone()));
    add("fetch", F::Fetch(later.clone()));
    add("transact", F::Transact(later.clone()));
    add("lag", F::Lag(later));
}

fn welcome() -> Welcome {
    Welcome {
        version: 1,
        capabilities: vec![],
        connection: id(1),
        user: "ada".into(),
        met: Met::Fresh,
        source: None,
        place: place(1, 0),
        generation: 1,
        time: 1_767_225_600_000,
        expires: 0,
        ping_interval: 25_000,
        limits: Limits {
            frame_bytes: 1 << 20,
            record_bytes: 1 << 19,
            window: 1 << 20,
            in_flight: 1024,
            subscriptions: 1000,
        },
        token: None,
        writers: vec![],
        positions: vec![],
        other_history: false,
        credit: None,
        nodes: Vec::new(),
    }
}

fn greetings(out: &mut Vec<(String, ServerFrame)>) {
    use ServerFrame as F;
    for (name, met) in [
        ("fresh", Met::Fresh),
        ("resumed", Met::Resumed),
        ("restored", Met::Restored),
        ("waiting", Met::Waiting),
    ] {
        out.push((format!("welcome_{name}"), F::Welcome(Welcome { met, ..welcome() })));
    }
    let cloned = Welcome {
        capabilities: vec!["fetch".into()],
        met: Met::Cloned,
        source: Some(id(9)),
        place: place(MAX_OFFSET, u32::MAX),
        generation: 251,
        expires: 1_767_229_200_000,
        token: Some("a.b.c".into()),
        writers: vec![
            WriterMark { writer: id(3), mark: 0 },
            WriterMark { writer: id(4), mark: MAX_OFFSET },
        ],
        ..welcome()
    };
    out.push(("welcome_cloned".into(), F::Welcome(cloned)));
    let other = Welcome { positions: positions(), other_history: true, ..welcome() };
    out.push(("welcome_other_history".into(), F::Welcome(other)));
    let credit = Some(Credit { appends: 1_024, bytes: 1 << 20, after: 0 });
    out.push(("welcome_credit".into(), F::Welcome(Welcome { credit, ..welcome() })));
    let nodes = vec!["https://n2.example".to_owned()];
    out.push(("welcome_nodes".into(), F::Welcome(Welcome { nodes, ..welcome() })));
    for (name, reason) in [
        ("detached", Reason::Detached),
        ("lag", Reason::Lag),
        ("retention", Reason::Retention),
        ("retained_bytes", Reason::RetainedBytes),
        ("slots", Reason::Slots),
        ("node_slots", Reason::NodeSlots),
        ("memory", Reason::Memory),
        ("asked", Reason::Asked),
        ("left", Reason::Left),
        ("no_slot", Reason::NoSlot),
    ] {
        let state = State {
            active: false,
            met: None,
            reason: Some(reason),
            activate_after: 30_000,
            generation: 2,
            source: None,
            request: 0,
        };
        out.push((format!("state_{name}"), F::State(state)));
    }
    let active = State {
        active: true,
        met: Some(Met::Cloned),
        reason: None,
        activate_after: 0,
        generation: 3,
        source: Some(id(9)),
        request: 0,
    };
    out.push(("state_active".into(), F::State(active.clone())));
    let answer = State { request: 251, ..active };
    out.push(("state_request".into(), F::State(answer)));
}

fn subscriptions(out: &mut Vec<(String, ServerFrame)>) {
    use ServerFrame as F;
    for (name, rule) in [
        ("none", SnapshotRule::None),
        ("latest", SnapshotRule::Latest),
        ("client", SnapshotRule::Client),
    ] {
        let body = Subscribed {
            request: 1,
            name: "docs/42".into(),
            log: 7,
            priority: 255,
            rule,
            start: 250,
            head: 4_294_967_296,
            cursor: 65_536,
            complete: 4_294_967_296,
            reset: name != "none",
            made: None,
            held: false,
            base: None,
        };
        for (base, held) in bases().into_iter().zip([false, true]) {
            let which = if held { "held" } else { "base" };
            let body = Subscribed { held, base: Some(base), ..body.clone() };
            out.push((format!("subscribed_{which}_{name}"), F::Subscribed(body)));
        }
        if name == "none" {
            let made = positions().pop();
            let body = Subscribed { made, ..body.clone() };
            out.push(("subscribed_made".into(), F::Subscribed(body)));
        }
        out.push((format!("subscribed_{name}"), F::Subscribed(body)));
    }
    for (name, reason) in [
        ("asked", Ended::Asked),
        ("back_end", Ended::BackEnd),
        ("deleted", Ended::Deleted),
        ("denied", Ended::Denied),
        ("overwritten", Ended::Overwritten),
    ] {
        let body = Unsubscribed { request: 0, log: 7, reason };
        out.push((format!("unsubscribed_{name}"), F::Unsubscribed(body)));
    }
    for code in Code::ALL {
        let refused = Refused {
            request: 4,
            name: (code.number() % 2 == 0).then(|| "docs/42".into()),
            refusal: Refusal::because(*code, "why").after(u32::from(code.number()) * 1000),
        };
        out.push((format!("refused_{code}"), F::Refused(refused)));
    }
    out.push(("done".into(), F::Done(Done { request: 5 })));
}

fn origins() -> Vec<Origin> {
    vec![
        Origin { user: "ada".into(), writer: id(3), connection: id(1) },
        Origin { user: "back end".into(), writer: id(4), connection: Id::NONE },
    ]
}

fn delivered(step: u64, record: Record) -> Delivered {
    let index = u32::try_from(step).unwrap_or(u32::MAX);
    Delivered { place: place(step, index), time: step, origin: 1, seq: step, record }
}

fn deliveries(out: &mut Vec<(String, ServerFrame)>) {
    use ServerFrame as F;
    for (name, record) in records() {
        let record = Delivered { origin: 0, ..delivered(1042, record) };
        let body = Records { log: 7, base: 300, origins: origins(), records: vec![record] };
        out.push((format!("records_{name}"), F::Records(body)));
    }
    let record = || Record { payload: Some(text("x")), ..Record::default() };
    let many = STEPS.iter().map(|step| delivered(*step, record())).collect();
    let body = Records { log: MAX_OFFSET, base: 65_535, origins: origins(), records: many };
    out.push(("records_steps".into(), F::Records(body)));
    let body = Records { log: 7, base: 0, origins: vec![], records: vec![] };
    out.push(("records_nothing".into(), F::Records(body)));
    for (name, reason) in [("trimmed", GapReason::Trimmed), ("removed", GapReason::Removed)] {
        let body = Gap { log: 7, from: 250, to: MAX_OFFSET, reason };
        out.push((format!("gap_{name}"), F::Gap(body)));
    }
    let part = Base { log: 7, offset: 300, part: 0, last: false, data: text("{\"a\":") };
    out.push(("base_first".into(), F::Base(part.clone())));
    let data = bytes(&[0, 255]);
    out.push(("base_last".into(), F::Base(Base { part: 65_536, last: true, data, ..part })));
    let kept = |(step, (_, record)): (&u64, (_, Record))| Kept {
        offset: *step,
        record: delivered(*step, record),
    };
    let page = BaseRecords {
        log: 7,
        offset: MAX_OFFSET,
        last: false,
        complete: 0,
        origins: origins(),
        records: STEPS.iter().zip(records()).map(kept).collect(),
    };
    out.push(("base_records_first".into(), F::BaseRecords(page)));
    let page = BaseRecords {
        log: 7,
        offset: 300,
        last: true,
        complete: 302,
        origins: vec![],
        records: vec![],
    };
    out.push(("base_records_last".into(), F::BaseRecords(page)));
}

fn resets(out: &mut Vec<(String, ServerFrame)>) {
    let base = |rule, version| Some(BaseAt { rule, offset: 300, version });
    for (name, reason, base) in [
        ("new", ResetReason::New, None),
        ("cloned", ResetReason::Cloned, base(SnapshotRule::Latest, 0)),
        ("restored", ResetReason::Restored, base(SnapshotRule::Client, 251)),
        ("past_head", ResetReason::PastHead, None),
        ("other_log", ResetReason::OtherLog, base(SnapshotRule::None, 0)),
        ("trimmed", ResetReason::Trimmed, base(SnapshotRule::Latest, 0)),
        ("asked", ResetReason::Asked, None),
        ("other_history", ResetReason::OtherHistory, base(SnapshotRule::Latest, 0)),
    ] {
        let body = Reset { log: 7, reason, base, cursor: 300, complete: 4_294_967_295 };
        out.push((format!("reset_{name}"), ServerFrame::Reset(body)));
    }
}

fn outcomes(out: &mut Vec<(String, ServerFrame)>) {
    let stored = |seq, level| Answer {
        seq,
        outcome: Outcome::Stored { log: 7, offset: seq, place: place(seq, 3), level },
    };
    let answers = vec![
        stored(1, Level::Synced),
        stored(250, Level::Replicated),
        stored(MAX_OFFSET, Level::Memory),
        Answer { seq: 252, outcome: Outcome::Refused(Refusal::because(Code::Conflict, "no")) },
        Answer {
            seq: 253,
            outcome: Outcome::Refused(Refusal::because(Code::Rate, "wait").after(1000)),
        },
    ];
    let mut add = |name: &str, mark, answers, positions| {
        let body = Answers { writer: id(3), mark, answers, positions, credit: None };
        out.push((name.to_owned(), ServerFrame::Answers(body)));
    };
    add("answers", 252, answers.clone(), vec![]);
    add("answers_history", 252, answers.clone(), positions());
    add("answers_nothing", 0, vec![], vec![]);
    let credit = Some(Credit { appends: 50, bytes: MAX_OFFSET, after: 251 });
    let body = Answers { writer: id(3), mark: 252, answers, positions: positions(), credit };
    out.push(("answers_credit".into(), ServerFrame::Answers(body)));
}

/// Every form of every frame of a server, under a name of its own.
pub fn server() -> Vec<(String, ServerFrame)> {
    use ServerFrame as F;
    let mut out = vec![];
    greetings(&mut out);
    subscriptions(&mut out);
    deliveries(&mut out);
    resets(&mut out);
    outcomes(&mut out);
    let mut add = |name: &str, frame| out.push((name.to_owned(), frame));
    add("ping", F::Ping(Ping { nonce: 251, positions: vec![] }));
    add("ping_history", F::Ping(Ping { nonce: 1, positions: positions() }));
    add("pong", F::Pong(Pong { nonce: MAX_OFFSET }));
    add("snapshot_wanted", F::SnapshotWanted(SnapshotWanted { log: 7, at_least: 1300 }));
    add("refreshed", F::Refreshed(Refreshed { expires: 1_767_229_200_000, request: 0 }));
    add("refreshed_request", F::Refreshed(Refreshed { expires: 0, request: 251 }));
    add("part", F::Part(Part { last: false, data: bytes(&[69, 102, 7, 251]) }));
    add("part_last", F::Part(Part { last: true, data: text("{\"records\":{\"log\":7") }));
    let users = vec!["ada".to_owned(), "back end".to_owned(), "é".to_owned()];
    add("delivered_to", F::DeliveredTo(DeliveredTo { request: 7, users, more: true }));
    let nobody = DeliveredTo { request: 251, users: vec![], more: false };
    add("delivered_to_nobody", F::DeliveredTo(nobody));
    let (code, message, nodes) = (Code::ShuttingDown, "going".to_owned(), Vec::new());
    let bye = Bye { code, message, reconnect: true, after: 1, nodes };
    add("bye", F::Bye(bye.clone()));
    let nodes = vec!["https://n2.example".to_owned(), "http://[::1]:8082".to_owned()];
    add("bye_nodes", F::Bye(Bye { nodes, ..bye }));
    let (code, message, nodes) = (Code::Fenced, "you: \u{feff}é".to_owned(), Vec::new());
    add("bye_fenced", F::Bye(Bye { code, message, reconnect: false, after: 0, nodes }));
    out
}
