/**
 * A connection under fake time and fake chance, with the server's side played by the test.
 *
 * Nothing here waits: time moves when the test says so, and every frame the client sends is kept.
 */

import assert from 'node:assert/strict';
import { Connection } from '../src/connection.js';
import type { Entry, LogEvents } from '../src/delivery.js';
import {
  binary, type FrameOf, type Message, type Sized, type Table, type Value,
} from '../src/codec.js';
import {
  clientFrames, serverFrames, type ClientFrame, type Draft, type Origin, type ServerFrame,
} from '../src/frames.js';
import type { Code, HighwaterError } from '../src/errors.js';
import { Handle, type LogOptions } from '../src/handle.js';
import { jsonWire } from '../src/json-wire.js';
import type { Config, Output, Status } from '../src/states.js';

/** Both forms of the wire by their names. */
export const forms = { bincode: binary, json: jsonWire };
export type Form = keyof typeof forms;

export const encode = <T extends Table>(table: T, frame: FrameOf<T>, form: Form) =>
  forms[form].encode(table, frame);
export const decode = <T extends Table>(table: T, message: Message): Sized<FrameOf<T>>[] =>
  forms[typeof message === 'string' ? 'json' : 'bincode'].decode(table, message);

export const hexId = (digit: string): string => digit.repeat(32);
export const ME = hexId('1');
export const WRITER = hexId('2');
/** Under which it goes on in another history, and in one after that. */
export const ANEW = [hexId('3'), hexId('4'), hexId('5')];
export const OTHER: Origin = { user: 'ada', writer: hexId('a'), connection: hexId('b') };
export const MINE: Origin = { user: 'ada', writer: WRITER, connection: ME };

type Client = { [K in keyof typeof clientFrames]: Value<(typeof clientFrames)[K][1]> };
type Server = { [K in keyof typeof serverFrames]: Value<(typeof serverFrames)[K][1]> };

/** With any word for a code: a server may be newer. */
type Loose<T> = T extends Code ? string
  : T extends Uint8Array ? T
  : T extends object ? { [K in keyof T]: Loose<T[K]> }
  : T;

export const text = (payload: string, key?: string): Draft => ({
  payload, ...(key !== undefined && { key }),
});

export const delivered = (seq: number, record: Draft, origin = 0): Server['records']['records'][number] => ({
  place: { batch: 100 + seq, index: 0 }, time: 1, origin, seq, record,
});

/** How a log stands, by its number. */
const STAGES = ['wanted', 'asked', 'reset', 'base', 'live', 'over'];

/** A handle, with what the machine knows of its log, which no app sees. */
export class TestLog extends Handle<any> {
  get phase(): string {
    return STAGES[this.shared.stage]!;
  }

  get complete(): boolean {
    return this.shared.complete;
  }

  get lag(): number {
    return this.shared.lag;
  }

  /** Its own actions on top, as now. */
  get top(): readonly Entry[] {
    return this.pending.value;
  }
}

export class World {
  now = 1000;
  readonly sent: ClientFrame[] = [];
  readonly states: Status[] = [];
  private readonly handles = new Set<TestLog>();
  readonly effects: string[] = [];
  readonly kept: (string | undefined)[] = [];
  readonly core: Connection;
  /** Events of all logs, as `name on`. */
  readonly events: string[] = [];
  /** What the chance gives next; 0.5 after that. */
  chance: number[] = [];

  constructor(config: Partial<Config> = {}) {
    const ids = [WRITER, ...ANEW];
    this.core = new Connection({
      connection: ME, fixed: false, newId: () => ids.shift()!, device: undefined, token: 'token', tokens: false,
      kept: false, visible: true, cloning: 'all', window: 0, activate: true, maxPending: 100,
      chance: () => this.chance.shift() ?? 0.5, encoding: binary, url: 'ws://localhost', flown: () => 0, wake: () => {},
      ...config,
    });
  }

  /** Ends a turn: what came together goes out. */
  settle(): void {
    this.drain();
    this.core.flush(this.now);
    this.drain();
  }

  private drain(): void {
    for (let output; (output = this.core.poll()); ) this.act(output);
  }

  private act(output: Output): void {
    this.effects.push(output[0]);
    switch (output[0]) {
      case 'send': {
        // Through the codec and back, so that whatever is sent can be sent.
        const bytes = binary.encode(clientFrames, output[1]) as Uint8Array;
        this.sent.push(binary.decode(clientFrames, bytes)[0]!.frame);
        return;
      }
      case 'status':
        this.states.push(output[1]);
        for (const handle of this.handles) handle.look();
        return;
      case 'keep':
        return void this.kept.push(output[1]);
      case 'log': {
        const [, log, event] = output;
        this.events.push(`${log.name} ${event[0]}`);
        return log.emit(event);
      }
    }
  }

  /** As loose as tests want it: what it has follows from its phase. */
  get status(): Status & { readonly retryAfter: number; readonly error: HighwaterError } {
    return this.core.status as any;
  }

  /** In what phase it is, and why. */
  get is(): string {
    return `${this.status.phase} ${this.status.reason}`;
  }

  /** Lets time pass, timer by timer. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (let rounds = 0; this.core.deadline() <= end; rounds++) {
      assert.ok(rounds < 10_000, 'timers ring for ever');
      this.now = Math.max(this.now, this.core.deadline());
      this.core.tick(this.now);
      this.settle();
    }
    this.now = end;
  }

  /** The client is told something by the server; its size is that of its body unless given. */
  tell<K extends keyof Server>(name: K, body: Loose<Server[K]>, size?: number): void {
    const frame = { name, body } as never;
    const known = binary.decode(serverFrames, binary.encode(serverFrames, frame));
    const frames = known.map((one): Sized<ServerFrame> => ({ ...one, size: size ?? one.size }));
    this.core.frames(this.now, frames);
    this.settle();
  }

  /** The frames of one kind that were sent since the last call of `clear`. */
  got<K extends keyof Client>(name: K): Client[K][] {
    return this.sent.filter((frame) => frame.name === name).map((frame) => frame.body as Client[K]);
  }

  /** The last frame of that kind. */
  last<K extends keyof Client>(name: K): Client[K] {
    const found = this.got(name).at(-1);
    assert.ok(found, `no ${name} was sent, but ${this.sent.map((frame) => frame.name)}`);
    return found;
  }

  /** As the app without a handle: what came along is let go. */
  drop(name: string): void {
    this.core.followed.drop(this.core.followed.named.get(name)!);
    this.settle();
  }

  clear(): void {
    this.sent.length = this.events.length = this.states.length = this.effects.length = 0;
  }

  /** Opens a log; let go, it goes at once. */
  open(name: string, options: LogOptions<any> = {}): TestLog {
    const log = new TestLog(this.core, name, { grace: 0, ...options }, () => this.handles.delete(log));
    this.handles.add(log);
    return log;
  }

  /** The same, and what is due goes out. */
  subscribe(name: string, options: LogOptions<any> = {}): TestLog {
    const log = this.open(name, options);
    this.settle();
    return log;
  }

  /** Opens a socket up to `Hello`. */
  hello(): Client['hello'] {
    if (this.effects.at(-1) !== 'connect') {
      this.core.start(this.now);
      this.settle();
    }
    assert.equal(this.effects.at(-1), 'connect');
    this.core.opened(this.now);
    this.settle();
    return this.last('hello');
  }

  welcome(body: Partial<Server['welcome']> = {}): void {
    this.tell('welcome', {
      version: 1, capabilities: [], connection: ME, user: 'ada', met: 'fresh', source: undefined,
      place: { batch: 1, index: 0 }, generation: 1, time: 5_000_000, expires: 0,
      pingInterval: 25_000, token: undefined, writers: [{ writer: WRITER, mark: 0 }],
      limits: {
        frameBytes: 65_536, recordBytes: 16_384, window: 4_000, inFlight: 1024,
        subscriptions: 1000,
      },
      ...body,
    });
  }

  /** Attached and active. */
  attach(body: Partial<Server['welcome']> = {}): this {
    this.hello();
    this.welcome(body);
    return this;
  }

  /** Waits out the backoff and attaches again; gives the `Hello`. */
  again(body: Partial<Server['welcome']> = {}): Client['hello'] {
    this.clear();
    this.pass(Math.max(0, this.core.deadline() - this.now));
    const hello = this.hello();
    this.welcome({ met: 'resumed', generation: 2, ...body });
    return hello;
  }

  /** The newest `subscribe` that asked for that log; 0: it was asked by `hello` or `activate`. */
  private request(name: string): number {
    const attached = this.sent.findLastIndex((frame) => frame.name === 'hello' || frame.name === 'activate');
    const since = this.sent.slice(Math.max(0, attached));
    const [asked] = since.reverse().filter(
      (frame) => frame.name === 'subscribe' && frame.body.open.some((open) => open.name === name),
    );
    return asked?.name === 'subscribe' ? asked.body.request : 0;
  }

  /** The server announces a log; without `reset` it goes on at `cursor`. */
  announce(name: string, log: number, body: Partial<Server['subscribed']> = {}): void {
    const { cursor = 0, head = cursor, complete = head } = body;
    this.tell('subscribed', {
      request: this.request(name), name, log, priority: 0, rule: 'none', start: 0, reset: false,
      ...body, head, cursor, complete,
    });
  }

  /** The server announces a log of which nothing is held: a reset, no base. */
  begin(name: string, log: number, cursor = 0, head = cursor): void {
    this.announce(name, log, { cursor, head, reset: true });
    this.tell('reset', { log, reason: 'new', base: undefined, cursor, complete: head });
  }

  /** Records of somebody else, or of this client, from offset `base` on. */
  records(log: number, base: number, records: Draft[], origin = OTHER, seq = 1, size?: number): void {
    const list = records.map((record, index) => delivered(seq + index, record));
    this.tell('records', { log, base, origins: [origin], records: list }, size);
  }

  stored(seq: number, log: number, offset: number, mark = seq, writer = WRITER): void {
    const outcome = {
      stored: { log, offset, place: { batch: 9, index: seq }, level: 'synced' as const },
    };
    this.tell('answers', { writer, mark, answers: [{ seq, outcome }] });
  }

  refuse(seqs: number[], code: string, mark: number, retryAfter = 0): void {
    const answers = seqs.map((seq) => ({
      seq, outcome: { refused: { code: code as Code, message: `${code} it is`, retryAfter } },
    }));
    this.tell('answers', { writer: WRITER, mark, answers });
  }

  append(name: string, record: Draft, ifHead?: number): ReturnType<Connection['append']> {
    const result = this.core.append(name, record, { ifHead });
    result.catch(() => {}); // Looked at by the test, or not at all.
    this.settle();
    return result;
  }
}

/** Collects one kind of event of a log. */
export const collect = <K extends keyof LogEvents>(log: TestLog, on: K): LogEvents[K][] => {
  const events: LogEvents[K][] = [];
  log.on(on, (event) => events.push(event));
  return events;
};

/** How a promise stands once all that is due has run: its value, its error, or `unanswered`. */
export const outcome = async (promise: Promise<unknown>): Promise<any> => {
  let seen: unknown = 'unanswered';
  promise.then((value) => (seen = value), (error: unknown) => (seen = error));
  await new Promise((done) => setImmediate(done));
  return seen;
};
