/**
 * A server of one shard in memory: what the real one promises of logs, writers and its history, and
 * nothing else. It keeps the books of the tests: what a client may not do throws.
 */

import assert from 'node:assert/strict';
import { decode } from '../world.js';
import { binary } from '../../src/codec.js';
import {
  clientFrames, serverFrames, type Append, type Draft, type Item, type Open, type Origin,
  type Outcome, type ServerFrame,
} from '../../src/frames.js';
import type { Stored } from '../../src/writer.js';

export interface Kept {
  readonly record: Draft;
  readonly origin: Origin;
  readonly seq: number;
  readonly batch: number;
}

export interface ServerLog {
  readonly name: string;
  readonly id: number;
  readonly made: string;
  readonly rule: 'none' | 'latest';
  /** All there ever were; the first `start` are kept no more. */
  readonly records: Kept[];
  start: number;
}

interface Author {
  mark: number;
  oldest: number;
  readonly outcomes: Map<number, { readonly item: string; readonly outcome: Outcome }>;
}

/** What a backup has. */
interface State {
  logs: Map<string, ServerLog>;
  authors: Map<string, Author>;
  eras: { readonly name: string; readonly from: number }[];
  batch: number;
  ids: number;
}

/** A client's socket, as the server sees it. */
export interface Peer {
  /** Bytes for the client. */
  take(message: Uint8Array): void;
  /** It ends. */
  cut(): void;
}

export interface ServerEvents {
  /** A writer says that it needs no outcome below. */
  oldest(writer: string, oldest: number): void;
  /** It is over, it says. */
  retired(writer: string): void;
  /** Before anything is made of an item. */
  sent(writer: string, item: Item): void;
}

const hex = (number: number): string => number.toString(16).padStart(32, '0');
const refusal = (code: string, retryAfter = 0) => ({ code, message: code, retryAfter });

class Session {
  connection = '';
  readonly subs = new Map<number, { log: ServerLog; cursor: number }>();
  greeted = false;

  constructor(readonly server: FakeServer, readonly peer: Peer) {}

  say(name: ServerFrame['name'], body: object): void {
    this.peer.take(binary.encode(serverFrames, { name, body } as never) as Uint8Array);
  }
}

export class FakeServer {
  state: State = {
    logs: new Map(), authors: new Map(), eras: [{ name: hex(1), from: 0 }], batch: 1, ids: 0,
  };
  readonly sessions = new Map<Peer, Session>();
  /** So many items are refused for a reason that passes. */
  busy = 0;
  /** So often a client came. */
  hellos = 0;
  /** Records in a frame. */
  slice = 3;
  private backup: State | undefined;
  private eras = 1;

  constructor(private readonly events: ServerEvents) {}

  get position(): string {
    return `${this.state.eras.at(-1)!.name}.${this.state.batch}.${'0'.repeat(16)}`;
  }

  private known(position: string): boolean {
    const [name, batch] = position.split('.') as [string, string];
    const { eras } = this.state;
    const at = eras.findIndex((era) => era.name === name);
    const next = eras[at + 1];
    return at >= 0 && +batch <= (next ? next.from - 1 : this.state.batch);
  }

  log(name: string): ServerLog {
    const { logs } = this.state;
    let log = logs.get(name);
    if (!log) {
      this.state.batch++;
      const rule = name.startsWith('boards/') ? 'latest' : 'none';
      log = { name, id: ++this.state.ids, made: this.position, rule, records: [], start: 0 };
      logs.set(name, log);
    }
    return log;
  }

  private author(id: string): Author {
    const { authors } = this.state;
    const known = authors.get(id) ?? { mark: 0, oldest: 1, outcomes: new Map() };
    authors.set(id, known);
    return known;
  }

  // What the test does to it.

  save(): void {
    this.backup = structuredClone(this.state);
  }

  /** As after a crash, from the backup; all after that is lost. */
  restore(): boolean {
    if (!this.backup) return false;
    this.end();
    this.state = structuredClone(this.backup);
    this.state.eras.push({ name: hex(++this.eras), from: ++this.state.batch });
    return true;
  }

  /** All sockets end. */
  end(): void {
    for (const peer of [...this.sessions.keys()]) peer.cut();
  }

  remove(name: string): ServerLog | undefined {
    const log = this.state.logs.get(name);
    if (!log) return undefined;
    this.state.logs.delete(name);
    this.state.batch++;
    for (const session of this.sessions.values()) {
      if (!session.subs.delete(log.id)) continue;
      session.say('unsubscribed', { request: 0, log: log.id, reason: 'deleted' });
    }
    return log;
  }

  /** Somebody else appends. */
  append(name: string, record: Draft): void {
    const log = this.log(name);
    const origin = { user: 'bob', writer: hex(0xb0b), connection: hex(0xb0c) };
    log.records.push({ record, origin, seq: ++this.author(origin.writer).mark, batch: ++this.state.batch });
    this.pump();
  }

  trim(name: string, count: number): void {
    const log = this.state.logs.get(name);
    if (log) log.start = Math.min(log.records.length, log.start + count);
  }

  // Its side of a socket.

  closed(peer: Peer): void {
    this.sessions.delete(peer);
  }

  read(peer: Peer, message: Uint8Array): void {
    let session = this.sessions.get(peer);
    if (!session) this.sessions.set(peer, (session = new Session(this, peer)));
    for (const { frame } of decode(clientFrames, message)) this.frame(session, frame);
    this.pump();
  }

  private frame(session: Session, { name, body }: any): void {
    if (name === 'hello') return this.hello(session, body);
    if (name === 'append') return this.appended(session, body);
    if (name === 'subscribe') for (const open of body.open) this.subscribe(session, open, body.request);
    if (name === 'ping') session.say('pong', body);
    if (name === 'visible' && body.request) session.say('done', { request: body.request });
    if (name === 'retire') {
      this.events.retired(body.writer);
      this.author(body.writer).outcomes.clear();
    }
    if (name !== 'unsubscribe') return;
    for (const log of body.logs) {
      session.subs.delete(log);
      session.say('unsubscribed', { request: body.request, log, reason: 'asked' });
    }
  }

  private hello(session: Session, body: any): void {
    const otherHistory = !body.positions.every((position: string) => this.known(position));
    assert.ok(body.writers.length <= 16, `a hello of ${body.writers.length} writers`);
    session.connection = body.connection;
    session.greeted = true;
    this.hellos++;
    session.say('welcome', {
      version: 1, capabilities: [], connection: body.connection, user: 'ada', met: 'fresh',
      place: { batch: this.state.batch, index: 0 }, generation: 1, time: 5_000_000, expires: 0,
      pingInterval: 25_000,
      limits: {
        frameBytes: 65_536, recordBytes: 16_384, window: 1 << 20, inFlight: 4, subscriptions: 1000,
      },
      writers: body.writers.map(({ writer }: { writer: string }) => (
        { writer, mark: this.state.authors.get(writer)?.mark ?? 0 })),
      positions: [this.position], otherHistory,
    });
    for (const { writer, oldest } of body.writers) {
      if (!this.state.authors.has(writer)) continue;
      const author = this.author(writer);
      const answers = [...author.outcomes].filter(([seq]) => seq >= oldest)
        .map(([seq, { outcome }]) => ({ seq, outcome }));
      this.forget(writer, oldest);
      if (answers.length) this.answers(session, writer, answers);
    }
    for (const open of body.open) this.subscribe(session, open, 0, otherHistory);
  }

  private answers(session: Session, writer: string, answers: object[]): void {
    const { mark } = this.author(writer);
    session.say('answers', { writer, mark, answers, positions: [this.position] });
  }

  private forget(writer: string, oldest: number): void {
    const author = this.author(writer);
    if (oldest <= author.oldest) return;
    this.events.oldest(writer, oldest);
    author.oldest = oldest;
    for (const seq of author.outcomes.keys()) if (seq < oldest) author.outcomes.delete(seq);
  }

  private subscribe(session: Session, { name, have }: Open, request: number, other = false): void {
    const log = this.log(name);
    const head = log.records.length;
    const goes = !other && have?.log === log.id && have.next <= head;
    const base = log.rule === 'latest';
    const cursor = goes ? have!.next : base ? head : log.start;
    session.say('subscribed', {
      request, name, log: log.id, priority: 0, rule: log.rule, start: log.start, head, cursor,
      complete: head, reset: !goes, made: log.made,
    });
    session.subs.set(log.id, { log, cursor });
    if (goes) return;
    const reason = other ? 'other_history' : have && have.log !== log.id ? 'other_log' : 'new';
    const at = base ? { rule: 'latest', offset: head, version: 0 } : undefined;
    session.say('reset', { log: log.id, reason, base: at, cursor: base ? head : log.start, complete: head });
    if (base) this.base(session, log);
    else if (log.start) session.say('gap', { log: log.id, from: 0, to: log.start, reason: 'trimmed' });
  }

  private base(session: Session, log: ServerLog): void {
    const newest = new Map<string, number>();
    log.records.forEach(({ record }, at) => newest.set(record.key!, at));
    const kept = [...newest].sort(([one], [two]) => (one < two ? -1 : 1))
      .filter(([, at]) => log.records[at]!.record.payload !== undefined);
    const parts = [kept.slice(0, 2), kept.slice(2)];
    parts.forEach((part, index) => {
      const { origins, records } = this.delivered(part.map(([, at]) => log.records[at]!));
      session.say('baseRecords', {
        log: log.id, offset: log.records.length, last: index === 1, complete: log.records.length,
        origins, records: records.map((record, at) => ({ offset: part[at]![1], record })),
      });
    });
  }

  private delivered(kept: readonly Kept[]) {
    const origins: Origin[] = [];
    const records = kept.map(({ record, origin, seq, batch }) => {
      let at = origins.findIndex(({ writer }) => writer === origin.writer);
      if (at < 0) at = origins.push(origin) - 1;
      return { place: { batch, index: 0 }, time: 1, origin: at, seq, record };
    });
    return { origins, records };
  }

  /** What is new goes to all that follow. */
  pump(): void {
    for (const session of this.sessions.values()) {
      for (const sub of session.subs.values()) this.push(session, sub);
    }
  }

  private push(session: Session, sub: { log: ServerLog; cursor: number }): void {
    const { log } = sub;
    if (sub.cursor < log.start) {
      session.say('gap', { log: log.id, from: sub.cursor, to: log.start, reason: 'trimmed' });
      sub.cursor = log.start;
    }
    while (sub.cursor < log.records.length) {
      const part = log.records.slice(sub.cursor, sub.cursor + this.slice);
      session.say('records', { log: log.id, base: sub.cursor, ...this.delivered(part) });
      sub.cursor += part.length;
    }
  }

  private appended(session: Session, { writer, oldest, items, positions, made = [] }: Append): void {
    const wrong = !positions!.every((position) => this.known(position));
    const author = this.author(writer);
    if (!wrong) this.forget(writer, oldest);
    const answers = items.map((item) => {
      this.events.sent(writer, item);
      const known = made.find((one) => 'log' in item.to && one.log === item.to.log)?.position;
      const outcome = wrong ? { refused: refusal('other_history') }
        : this.decide(session, writer, author, item, known);
      return { seq: item.seq, outcome };
    });
    this.answers(session, writer, answers);
  }

  private decide(session: Session, writer: string, author: Author, item: Item, made?: string) {
    const { seq, prev } = item;
    const text = JSON.stringify([item.to, item.ifHead ?? null, item.record]);
    if (seq <= author.mark) {
      const kept = author.outcomes.get(seq);
      assert.ok(kept, `${writer} sends ${seq}, whose outcome it let go (mark ${author.mark})`);
      assert.equal(kept.item, text, `${writer} sends another ${seq}`);
      return kept.outcome;
    }
    if (prev !== author.mark) return { refused: refusal('sequence_gap') };
    if (this.busy > 0) {
      this.busy--;
      return { refused: refusal('rate', 50) };
    }
    const outcome = this.fold(session, writer, item, made);
    author.mark = seq;
    author.outcomes.set(seq, { item: text, outcome: outcome as Outcome });
    return outcome;
  }

  private fold(session: Session, writer: string, { seq, to, record, ifHead }: Item, made?: string) {
    const log = 'name' in to ? this.log(to.name as string)
      : [...this.state.logs.values()].find(({ id }) => id === to.log);
    if (!log || (made && made !== log.made)) return { refused: refusal('epoch') };
    if (ifHead !== undefined && ifHead !== log.records.length) return { refused: refusal('conflict') };
    if (`${record.payload}`.includes('"no"')) return { refused: refusal('denied') };
    const batch = ++this.state.batch;
    const origin = { user: 'ada', writer, connection: session.connection };
    const offset = log.records.push({ record, origin, seq, batch }) - 1;
    return { stored: { log: log.id, offset, place: { batch, index: 0 }, level: 'synced' } as Stored };
  }
}

