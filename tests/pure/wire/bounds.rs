//! Frames that are well formed and break a bound: which refusal, and of which class.

use highwater::wire::*;

use crate::wire::samples;

const PAST: u64 = MAX_OFFSET + 1;

fn hello() -> Hello {
    let hello = |(_, frame)| if let ClientFrame::Hello(hello) = frame { Some(hello) } else { None };
    samples::client().into_iter().find_map(hello).unwrap()
}

fn open(name: &str, have: Option<Cursor>, start: Start) -> Vec<Open> {
    vec![Open { name: name.into(), have, start, priority: 0 }]
}

fn item(seq: u64, prev: u64) -> Item {
    Item { seq, prev, to: Target::Log(1), if_head: None, record: Record::default() }
}

fn append(items: Vec<Item>) -> ClientFrame {
    ClientFrame::Append(Append {
        writer: samples::id(1),
        oldest: 1,
        items,
        positions: vec![],
        made: vec![],
    })
}

#[track_caller]
fn closes(frame: ClientFrame, code: Code) {
    let refusal = frame.check().unwrap_err();
    assert_eq!((refusal.code, refusal.code.class()), (code, Class::Stop), "{refusal}");
}

#[track_caller]
fn refuses(frame: ClientFrame, code: Code) {
    let refusal = frame.check().unwrap_err();
    assert_eq!(refusal.code, code, "{refusal}");
    assert!(!matches!(refusal.code.class(), Class::Stop | Class::Reconnect));
}

#[test]
fn what_keeps_its_bounds_passes() {
    for (name, frame) in samples::client() {
        let passes = match name.as_str() {
            // Samples of the layout whose content breaks a bound on purpose.
            "hello_service" => Err(Code::Version),
            "append_at_0" => Err(Code::BadFrame),
            _ if (32..=39).contains(&frame.kind()) => Err(Code::Unsupported),
            _ => Ok(()),
        };
        assert_eq!(frame.check().map_err(|refusal| refusal.code), passes, "{name}");
    }
}

#[test]
fn a_hello_out_of_bounds_closes() {
    let hello_with = |change: &dyn Fn(&mut Hello)| {
        let mut hello = hello();
        change(&mut hello);
        ClientFrame::Hello(hello)
    };
    let at = |writer, oldest| WriterAt { writer, oldest };
    closes(hello_with(&|hello| hello.version = 2), Code::Version);
    closes(hello_with(&|hello| hello.connection = Id::NONE), Code::BadFrame);
    closes(hello_with(&|hello| hello.device = Some(Id::NONE)), Code::BadFrame);
    closes(hello_with(&|hello| hello.client = "x".repeat(65)), Code::BadFrame);
    closes(hello_with(&|hello| hello.capabilities = vec![String::new(); 33]), Code::BadFrame);
    closes(hello_with(&|hello| hello.capabilities = vec!["x".repeat(65)]), Code::BadFrame);
    closes(hello_with(&|hello| hello.writers = vec![at(samples::id(1), 1); 17]), Code::BadFrame);
    closes(hello_with(&|hello| hello.writers = vec![at(Id::NONE, 1)]), Code::BadFrame);
    let seen = |batch| Position { era: samples::id(7), batch, chain: None };
    let stating =
        |positions: Vec<Position>| hello_with(&|hello| hello.positions = positions.clone());
    closes(stating(vec![seen(1), seen(2)]), Code::BadFrame);
    closes(stating(vec![seen(1); 257]), Code::BadFrame);
    closes(stating(vec![seen(PAST)]), Code::BadFrame);
    stating(vec![seen(1), seen(1 << 45)]).check().unwrap();
    closes(hello_with(&|hello| hello.writers = vec![at(samples::id(1), PAST)]), Code::BadFrame);
    let long = "x".repeat(256);
    closes(hello_with(&|hello| hello.open = open(&long, None, Start::State)), Code::BadFrame);
    let have = Some(Cursor { log: 1, next: PAST });
    closes(hello_with(&|hello| hello.open = open("a", have, Start::State)), Code::BadFrame);
    closes(hello_with(&|hello| hello.open = open("a", None, Start::Offset(PAST))), Code::BadFrame);
    let edge = hello_with(&|hello| {
        hello.client = "x".repeat(64);
        hello.capabilities = vec!["x".repeat(64); 32];
        hello.writers = vec![at(samples::id(1), MAX_OFFSET); 16];
        let have = Some(Cursor { log: MAX_OFFSET, next: MAX_OFFSET });
        hello.open = open(&"x".repeat(255), have, Start::Offset(MAX_OFFSET));
    });
    assert_eq!(edge.check(), Ok(()));
}

#[test]
fn an_append_out_of_bounds_closes() {
    closes(append(vec![item(0, 0)]), Code::BadFrame);
    closes(append(vec![item(1, 1)]), Code::BadFrame);
    closes(append(vec![item(1, 2)]), Code::BadFrame);
    closes(append(vec![item(PAST, 0)]), Code::BadFrame);
    closes(append(vec![item(2, 1), item(1, 0)]), Code::BadFrame);
    closes(append(vec![item(2, 1), item(2, 1)]), Code::BadFrame);
    closes(append(vec![Item { to: Target::Log(PAST), ..item(1, 0) }]), Code::BadFrame);
    closes(append(vec![Item { if_head: Some(PAST), ..item(1, 0) }]), Code::BadFrame);
    closes(append((1..=1025).map(|seq| item(seq, seq - 1)).collect()), Code::BadFrame);
    let nobody =
        Append { writer: Id::NONE, oldest: 1, items: vec![], positions: vec![], made: vec![] };
    closes(ClientFrame::Append(nobody), Code::BadFrame);
    let oldest = Append {
        writer: samples::id(1),
        oldest: PAST,
        items: vec![],
        positions: vec![],
        made: vec![],
    };
    closes(ClientFrame::Append(oldest), Code::BadFrame);
    closes(ClientFrame::Retire(Retire { writer: Id::NONE, request: 0 }), Code::BadFrame);
    let full = append((1..=1024).map(|seq| item(seq, seq - 1)).collect());
    assert_eq!(full.check(), Ok(()));
}

#[test]
fn requests_out_of_bounds_are_refused() {
    use ClientFrame as F;
    let far = Some(Cursor { log: PAST, next: 0 });
    let long = "x".repeat(256);
    let subscribe = |open| F::Subscribe(Subscribe { request: 9, open, bases: vec![] });
    refuses(subscribe(open(&long, None, Start::State)), Code::BadName);
    refuses(subscribe(open("a", far, Start::State)), Code::BadOffset);
    let open_far = open("a", None, Start::Offset(PAST));
    let activate = Activate { request: 9, cloning: Cloning::All, open: open_far, bases: vec![] };
    refuses(F::Activate(activate), Code::BadOffset);
    let held = |log, upto| {
        let bases = vec![BaseHeld { log, offset: 1, upto }];
        F::Subscribe(Subscribe { request: 9, open: vec![], bases })
    };
    refuses(held(PAST, Upto::Parts(1)), Code::BadOffset);
    refuses(held(1, Upto::Key(String::new())), Code::BadRequest);
    refuses(held(1, Upto::Key(long.clone())), Code::BadRequest);
    let base = BaseHeld { log: 1, offset: 1, upto: Upto::Parts(1) };
    let bases = vec![base; 1025];
    refuses(F::Subscribe(Subscribe { request: 9, open: vec![], bases }), Code::BadRequest);
    refuses(F::Unsubscribe(Unsubscribe { request: 9, logs: vec![1, PAST] }), Code::BadOffset);
    refuses(F::Ack(Ack { received: PAST, cursors: vec![] }), Code::BadOffset);
    let cursors = vec![Cursor { log: 1, next: PAST }];
    refuses(F::Ack(Ack { received: 0, cursors }), Code::BadOffset);
    refuses(F::Seek(Seek { request: 9, log: PAST, to: Start::End }), Code::BadOffset);
    refuses(F::Seek(Seek { request: 9, log: 1, to: Start::Offset(PAST) }), Code::BadOffset);
    let part = |log, offset| PutSnapshot {
        request: 9,
        log,
        offset,
        version: 0,
        part: 0,
        last: true,
        data: Payload::default(),
    };
    refuses(F::PutSnapshot(part(PAST, 0)), Code::BadOffset);
    refuses(F::PutSnapshot(part(0, PAST)), Code::BadOffset);
    refuses(F::Who(Who { request: 9, log: PAST, offset: 0 }), Code::BadOffset);
    refuses(F::Who(Who { request: 9, log: 0, offset: PAST }), Code::BadOffset);
    refuses(F::Fetch(Later { request: 9 }), Code::Unsupported);
}

#[test]
fn a_refusal_can_name_its_request() {
    let later = Later { request: 9 };
    let subscribe = Subscribe { request: 9, open: vec![], bases: vec![] };
    for frame in [
        ClientFrame::Subscribe(subscribe),
        ClientFrame::Unsubscribe(Unsubscribe { request: 9, logs: vec![] }),
        ClientFrame::Seek(Seek { request: 9, log: 1, to: Start::End }),
        ClientFrame::Lag(later),
    ] {
        assert_eq!(frame.request(), 9);
    }
    assert_eq!(append(vec![]).request(), 0);
}
