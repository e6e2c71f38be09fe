/**
 * Every frame that crosses the wire: one schema table from which both encodings and all types
 * come. The order of fields and variants is the binary layout; bodies grow at their end only.
 */

import {
  bool, grown, id, list, numbered, option, pair, payload, position, str, struct, u8,
  u16, u32, u64, union, word,
  type FrameOf, type Payload, type Type, type Value,
} from './codec.js';
import { codeName, codeNumber, type Code } from './errors.js';

const place = struct({ batch: u64, index: u32 });
/** A position in the journal's order; JSON and text have it as `batch.index`. */
export type Place = Value<typeof place>;

/** Where a server stands, or a client has been, by shard. */
const positions = grown(list(position), []);

/** A code by its name; binary carries the number. */
const code: Type<Code> = (io, name = 'code_0') =>
  codeName(u16(io, Math.max(0, codeNumber(name))));

const Extension = struct({ tag: u32, data: payload });

/** What is appended, and what comes of it. Without a payload it takes its key away. */
export interface Draft<T = Payload> {
  /** For keyed views and `latest` snapshots; 1 to 255 bytes. */
  readonly key?: string | undefined;
  /** As the app names it; 1 to 64 bytes. */
  readonly kind?: string | undefined;
  /** When it happened by the writer's word, in milliseconds since 1970. */
  readonly eventTime?: number | undefined;
  /** Names and values for the app; at most 32 pairs and 4,096 bytes. */
  readonly headers?: readonly (readonly [string, string])[] | undefined;
  readonly extensions?: readonly Value<typeof Extension>[] | undefined;
  readonly payload?: T | undefined;
}

/** Without what is absent, and without empty lists. (An empty payload is a payload.) */
export const sparse = <T extends object>(record: T): T => {
  const made = {} as T;
  for (const name in record) {
    const part: any = record[name];
    if (part !== undefined && !(Array.isArray(part) && !part.length)) made[name] = part;
  }
  return made;
};
/** A list that an app may leave out. */
const absent = <T>(type: Type<T>): Type<T[]> => {
  const items = list(type);
  return (io, value = []) => items(io, value);
};
const fields = struct({
  key: option(str),
  kind: option(str),
  eventTime: option(u64),
  headers: absent(pair(str)),
  extensions: absent(Extension),
  payload: option(payload),
});
export const draft: Type<Draft> = (io, given: any) => sparse(fields(io, given));

/** Of one log id: the next offset wanted, all below it was seen. */
const Cursor = struct({ log: u64, next: u64 });
export const Start = union({
  state: 0, earliest: 0, end: 0, offset: u64, committed: 0, last: u64, time: u64,
});
export const Cloning = word('all own none');
export const Open = struct({ name: str, have: option(Cursor), start: Start, priority: u8 });
/** A base that was begun, and what of it is held. */
const BaseHeld = struct({ log: u64, offset: u64, upto: union({ parts: u32, key: str }) });
const bases = grown(list(BaseHeld), []);
const request = grown(u32, 0);
const nodes = grown(list(str), []);
const credit = grown(option(struct({ appends: u32, bytes: u64, after: u32 })));

const Met = word('fresh resumed cloned restored waiting');
const SnapshotRule = word('none latest client');
const Refusal = struct({ code, message: str, retryAfter: u32 });
const Origin = struct({ user: str, writer: id, connection: id });
const Delivered = struct({ place, time: u64, origin: u32, seq: u64, record: draft });

const heartbeat = { ping: { nonce: u64, positions }, pong: { nonce: u64 } };

/** Frames that a client sends; kinds 32 to 39 are numbered for later. */
export const clientFrames = numbered(1, {
  hello: {
    version: u16,
    capabilities: list(str),
    token: option(str),
    connection: id,
    device: option(id),
    client: str,
    visible: bool,
    cloning: Cloning,
    writers: list(struct({ writer: id, oldest: u64 })),
    open: list(Open),
    window: u32,
    positions,
    bases,
  },
  subscribe: { request: u32, open: list(Open), bases },
  unsubscribe: { request: u32, logs: list(u64) },
  append: {
    writer: id,
    oldest: u64,
    items: list(struct({
      seq: u64,
      prev: u64,
      to: union({ log: u64, name: str }),
      ifHead: option(u64),
      record: draft,
    })),
    positions,
    // Where the log ids that `items` name were made.
    made: grown(list(struct({ log: u64, position })), []),
  },
  ack: { received: u64, cursors: list(Cursor) },
  visible: { visible: bool, request },
  activate: { request: u32, cloning: Cloning, open: list(Open), bases },
  refresh: { token: str, request },
  ...heartbeat,
  seek: { request: u32, log: u64, to: Start },
  putSnapshot: {
    request: u32, log: u64, offset: u64, version: u32, part: u32, last: bool, data: payload,
  },
  retire: { writer: id, request },
  leave: { forget: bool },
  who: { request: u32, log: u64, offset: u64 },
});

/** Frames that a server sends. */
export const serverFrames = {
  ...numbered(9, heartbeat),
  ...numbered(64, {
    welcome: {
      version: u16,
      capabilities: list(str),
      connection: id,
      user: str,
      met: Met,
      source: option(id),
      place,
      generation: u64,
      time: u64,
      expires: u64,
      pingInterval: u32,
      limits: struct({
        frameBytes: u32, recordBytes: u32, window: u32, inFlight: u32, subscriptions: u32,
      }),
      token: option(str),
      writers: list(struct({ writer: id, mark: u64 })),
      positions,
      otherHistory: grown(bool, false),
      credit,
      nodes,
    },
    subscribed: {
      request: u32, name: str, log: u64, priority: u8, rule: SnapshotRule, start: u64, head: u64,
      cursor: u64, complete: u64, reset: bool, made: grown(option(position)),
      held: grown(bool, false), base: grown(option(BaseHeld)),
    },
    refused: { request: u32, name: option(str), refusal: Refusal },
    done: { request: u32 },
    unsubscribed: {
      request: u32,
      log: u64,
      reason: word('asked back_end deleted denied overwritten'),
    },
    records: {
      log: u64, base: u64, origins: list(Origin), records: list(Delivered),
    },
    gap: { log: u64, from: u64, to: u64, reason: word('trimmed removed') },
    reset: {
      log: u64,
      reason: word('new cloned restored past_head other_log trimmed asked other_history'),
      base: option(struct({ rule: SnapshotRule, offset: u64, version: u32 })),
      cursor: u64,
      complete: u64,
    },
    base: { log: u64, offset: u64, part: u32, last: bool, data: payload },
    baseRecords: {
      log: u64, offset: u64, last: bool, complete: u64, origins: list(Origin),
      records: list(struct({ offset: u64, record: Delivered })),
    },
    answers: {
      writer: id,
      mark: u64,
      answers: list(struct({
        seq: u64,
        outcome: union({
          stored: struct({
            log: u64, offset: u64, place, level: word('synced replicated memory'),
          }),
          refused: Refusal,
        }),
      })),
      positions,
      credit,
    },
    state: {
      active: bool,
      met: option(Met),
      reason: option(word(
        'detached lag retention retained_bytes slots node_slots memory asked left no_slot',
      )),
      activateAfter: u32,
      generation: u64,
      source: option(id),
      request,
    },
    snapshotWanted: { log: u64, atLeast: u64 },
    refreshed: { expires: u64, request },
    bye: { code, message: str, reconnect: bool, after: u32, nodes },
    part: { last: bool, data: payload },
    deliveredTo: { request: u32, users: list(str), more: bool },
  }),
};

export type ClientFrame = FrameOf<typeof clientFrames>;
export type ServerFrame = FrameOf<typeof serverFrames>;
/** The body of a server's frame. */
type Server<K extends keyof typeof serverFrames> = Value<(typeof serverFrames)[K][1]>;

export type Cursor = Value<typeof Cursor>;
export type Start = Value<typeof Start>;
export type Cloning = Value<typeof Cloning>;
export type Open = Value<typeof Open>;
export type Append = Value<(typeof clientFrames)['append'][1]>;
export type Item = Append['items'][number];
export type Made = NonNullable<Append['made']>[number];
export type Target = Item['to'];
export type Met = Value<typeof Met>;
export type State = Server<'state'>;
export type Reason = NonNullable<State['reason']>;
export type Welcome = Server<'welcome'>;
export type Limits = Welcome['limits'];
export type SnapshotRule = Value<typeof SnapshotRule>;
export type Subscribed = Server<'subscribed'>;
export type Refusal = Value<typeof Refusal>;
export type Refused = Server<'refused'>;
export type Unsubscribed = Server<'unsubscribed'>;
export type Ended = Unsubscribed['reason'];
export type Origin = Value<typeof Origin>;
export type Delivered = Value<typeof Delivered>;
export type Records = Server<'records'>;
export type Gap = Server<'gap'>;
export type GapReason = Gap['reason'];
export type Reset = Server<'reset'>;
export type ResetReason = Reset['reason'];
export type BaseAt = NonNullable<Reset['base']>;
export type Base = Server<'base'>;
export type BaseRecords = Server<'baseRecords'>;
export type Answers = Server<'answers'>;
export type Outcome = Answers['answers'][number]['outcome'];
export type Level = Extract<Outcome, { stored: unknown }>['stored']['level'];
export type Bye = Server<'bye'>;
export type Refreshed = Server<'refreshed'>;
export type Part = Server<'part'>;
export type Credit = NonNullable<Answers['credit']>;
export type BaseHeld = Value<typeof BaseHeld>;
