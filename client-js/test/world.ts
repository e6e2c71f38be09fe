/**
 * A connection under fake time and fake chance, with the server's side played by the test.
 *
 * Nothing here waits: time moves when the test says so, and every frame the client sends is kept.
 */

import assert from 'node:assert/strict';
import { Connection } from '../src/connection.js';
import type { Delivery, LogEvents } from '../src/delivery.js';
import { encode, decode, type Sized, type Value } from '../src/codec.js';
import {
  clientFrames, serverFrames, type ClientFrame, type LogRecord, type Origin, type ServerFrame,
} from '../src/frames.js';
import { allServerFrames } from '../src/frames-more.js';
import type { Config, ConnectionState, Output } from '../src/states.js';

export const hexId = (digit: string): string => digit.repeat(32);
export const ME = hexId('1');
export const WRITER = hexId('2');
/** Under which it goes on in another history, and in one after that. */
export const ANEW = [hexId('3'), hexId('4'), hexId('5')];
export const OTHER: Origin = { user: 'ada', writer: hexId('a'), connection: hexId('b') };
export const MINE: Origin = { user: 'ada', writer: WRITER, connection: ME };

type Client = { [K in keyof typeof clientFrames]: Value<(typeof clientFrames)[K][1]> };
type Server = { [K in keyof typeof allServerFrames]: Value<(typeof allServerFrames)[K][1]> };

export const text = (payload: string, key?: string): LogRecord => ({
  payload, ...(key !== undefined && { key }),
});

export const delivered = (seq: number, record: LogRecord, origin = 0): Server['records']['records'][number] => ({
  place: { batch: 100 + seq, index: 0 }, time: 1, origin, seq, record,
});

export class World {
  now = 1000;
  readonly sent: ClientFrame[] = [];
  readonly states: ConnectionState[] = [];
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
      kept: false, visible: true, cloning: 'all', window: 0, activate: true, most: 100,
      chance: () => this.chance.shift() ?? 0.5, encoding: 'bincode', flown: () => 0, wake: () => {},
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
        const bytes = encode(clientFrames, output[1], 'bincode') as Uint8Array;
        this.sent.push(decode(clientFrames, bytes)[0]!.frame);
        return;
      }
      case 'state':
        return void this.states.push(output[1]);
      case 'keep':
        return void this.kept.push(output[1]);
      case 'log': {
        const [, log, [on, event]] = output;
        this.events.push(`${log.name} ${on}`);
        return log.emit(on, event);
      }
    }
  }

  get state(): ConnectionState {
    return this.core.state;
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
  tell<K extends keyof Server>(name: K, body: Server[K], size?: number): void {
    const frame = { name, body } as never;
    const known = decode(serverFrames, encode(allServerFrames, frame, 'bincode') as Uint8Array);
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

  clear(): void {
    this.sent.length = this.events.length = this.states.length = this.effects.length = 0;
  }

  subscribe(name: string, options: Partial<Delivery['wishes']> = {}): Delivery {
    const log = this.core.followed.subscribe(name, { start: 'state', priority: 0, manual: false, ...options });
    this.settle();
    return log;
  }

  /** Opens a socket up to `Hello`. */
  hello(): Client['hello'] {
    if (this.state.state !== 'connecting' || !this.effects.includes('connect')) {
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
      ping_interval: 25_000, token: undefined, writers: [{ writer: WRITER, mark: 0 }],
      limits: {
        frame_bytes: 65_536, record_bytes: 16_384, window: 4_000, in_flight: 1024,
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
  records(log: number, base: number, records: LogRecord[], origin = OTHER, seq = 1, size?: number): void {
    const list = records.map((record, index) => delivered(seq + index, record));
    this.tell('records', { log, base, origins: [origin], records: list }, size);
  }

  stored(seq: number, log: number, offset: number, mark = seq, writer = WRITER): void {
    const outcome = {
      stored: { log, offset, place: { batch: 9, index: seq }, level: 'synced' as const },
    };
    this.tell('answers', { writer, mark, answers: [{ seq, outcome }] });
  }

  refuse(seqs: number[], code: string, mark: number, retry_after = 0): void {
    const answers = seqs.map((seq) => ({
      seq, outcome: { refused: { code, message: `${code} it is`, retry_after } },
    }));
    this.tell('answers', { writer: WRITER, mark, answers });
  }

  append(name: string, record: LogRecord, if_head?: number): ReturnType<Connection['append']> {
    const result = this.core.append(name, record, { if_head });
    result.catch(() => {}); // Looked at by the test, or not at all.
    this.settle();
    return result;
  }
}

/** Collects one kind of event of a log. */
export const collect = <K extends keyof LogEvents>(log: Delivery, on: K): LogEvents[K][] => {
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
