/**
 * Every frame that crosses the wire: one schema table from which both encodings and all types
 * come. The order of fields and variants is the binary layout; bodies grow at their end only.
 */

import {
  bool, id, list, option, pair, payload, str, struct, u8, u16, u32, u64, union, via,
  type FrameOf, type Payload, type Value,
} from './codec.js';
import { codeName, codeNumber } from './errors.js';

const place = struct({ batch: u64, index: u32 });
/** A position in the journal's order; JSON and text have it as `batch.index`. */
export type Place = Value<typeof place>;

/** A code by its name; binary carries the number. */
const code = via(u16, (name: string) => Math.max(0, codeNumber(name)), codeName);

export const Extension = struct({ tag: u32, data: payload });

/** What a writer appends; no payload: a tombstone for the key. */
export interface LogRecord {
  /** For keyed views and `latest` snapshots; at most 255 bytes. */
  key?: string;
  /** As the app names it; at most 64 bytes. */
  kind?: string;
  /** When it happened by the writer's word, in milliseconds since 1970. */
  event_time?: number;
  /** Names and values for the app; at most 32 pairs and 4,096 bytes. */
  headers?: [string, string][];
  extensions?: Value<typeof Extension>[];
  payload?: Payload;
}

/** Without what is absent, and without empty lists. (An empty payload is a payload.) */
const sparse = (record: object): LogRecord =>
  Object.fromEntries(
    Object.entries(record).filter(
      ([, part]) => part !== undefined && !(Array.isArray(part) && !part.length),
    ),
  );
export const Record = via(
  struct({
    key: option(str),
    kind: option(str),
    event_time: option(u64),
    headers: list(pair(str)),
    extensions: list(Extension),
    payload: option(payload),
  }),
  (record: LogRecord) => ({ headers: [], extensions: [], ...record }),
  sparse,
);

export const Cursor = struct({ log: u64, next: u64 });
export const Start = union({ state: 0, earliest: 0, end: 0, offset: u64, committed: 0 });
export const Cloning = union({ all: 0, own: 0, none: 0 });
export const Open = struct({ name: str, have: option(Cursor), start: Start, priority: u8 });
export const WriterAt = struct({ writer: id, oldest: u64 });
export const Hello = struct({
  version: u16,
  capabilities: list(str),
  token: option(str),
  connection: id,
  device: option(id),
  client: str,
  visible: bool,
  cloning: Cloning,
  writers: list(WriterAt),
  open: list(Open),
  window: u32,
});
export const Subscribe = struct({ request: u32, open: list(Open) });
export const Unsubscribe = struct({ request: u32, logs: list(u64) });
export const Target = union({ log: u64, name: str });
export const Item = struct({
  seq: u64, prev: u64, to: Target, if_head: option(u64), record: Record,
});
export const Append = struct({ writer: id, oldest: u64, items: list(Item) });
export const Ack = struct({ received: u64, cursors: list(Cursor) });
export const Visible = struct({ visible: bool });
export const Activate = struct({ request: u32, cloning: Cloning, open: list(Open) });
export const Refresh = struct({ token: str });
export const Ping = struct({ nonce: u64 });
export const Seek = struct({ request: u32, log: u64, to: Start });
export const Leave = struct({ forget: bool });

export const Met = union({ fresh: 0, resumed: 0, cloned: 0, restored: 0, waiting: 0 });
export const Reason = union({
  detached: 0, lag: 0, retention: 0, retained_bytes: 0, slots: 0, node_slots: 0, memory: 0,
  asked: 0, left: 0, no_slot: 0,
});
export const Limits = struct({
  frame_bytes: u32, record_bytes: u32, window: u32, in_flight: u32, subscriptions: u32,
});
export const WriterMark = struct({ writer: id, mark: u64 });
export const Welcome = struct({
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
  ping_interval: u32,
  limits: Limits,
  token: option(str),
  writers: list(WriterMark),
});
export const State = struct({
  active: bool,
  met: option(Met),
  reason: option(Reason),
  activate_after: u32,
  generation: u64,
  source: option(id),
});
export const SnapshotRule = union({ none: 0, latest: 0, client: 0 });
export const Subscribed = struct({
  request: u32, name: str, log: u64, priority: u8, rule: SnapshotRule, start: u64, head: u64,
  cursor: u64, complete: u64, reset: bool,
});
export const Refusal = struct({ code, message: str, retry_after: u32 });
export const Refused = struct({ request: u32, name: option(str), refusal: Refusal });
export const Done = struct({ request: u32 });
export const Ended = union({ asked: 0, back_end: 0, deleted: 0, denied: 0, overwritten: 0 });
export const Unsubscribed = struct({ request: u32, log: u64, reason: Ended });
export const Origin = struct({ user: str, writer: id, connection: id });
export const Delivered = struct({ place, time: u64, origin: u32, seq: u64, record: Record });
export const Records = struct({
  log: u64, base: u64, origins: list(Origin), records: list(Delivered),
});
export const GapReason = union({ trimmed: 0, removed: 0 });
export const Gap = struct({ log: u64, from: u64, to: u64, reason: GapReason });
export const ResetReason = union({
  new: 0, cloned: 0, restored: 0, past_head: 0, other_log: 0, trimmed: 0, asked: 0,
});
export const BaseAt = struct({ rule: SnapshotRule, offset: u64, version: u32 });
export const Reset = struct({
  log: u64, reason: ResetReason, base: option(BaseAt), cursor: u64, complete: u64,
});
export const Base = struct({ log: u64, offset: u64, part: u32, last: bool, data: payload });
export const Kept = struct({ offset: u64, record: Delivered });
export const BaseRecords = struct({
  log: u64, offset: u64, last: bool, complete: u64, origins: list(Origin), records: list(Kept),
});
export const Level = union({ synced: 0, replicated: 0, memory: 0 });
export const Outcome = union({
  stored: struct({ log: u64, offset: u64, place, level: Level }),
  refused: Refusal,
});
export const Answer = struct({ seq: u64, outcome: Outcome });
export const Answers = struct({ writer: id, mark: u64, answers: list(Answer) });
export const SnapshotWanted = struct({ log: u64, at_least: u64 });
export const Refreshed = struct({ expires: u64 });
export const Bye = struct({ code, message: str, reconnect: bool, after: u32 });

/**
 * Frames that this client sends. `frames-more.ts` has those that it does not; kinds 32 to 39 are
 * numbered for later.
 */
export const clientFrames = {
  hello: [1, Hello],
  subscribe: [2, Subscribe],
  unsubscribe: [3, Unsubscribe],
  append: [4, Append],
  ack: [5, Ack],
  visible: [6, Visible],
  activate: [7, Activate],
  refresh: [8, Refresh],
  ping: [9, Ping],
  pong: [10, Ping],
  seek: [11, Seek],
  leave: [14, Leave],
} as const;

/** Frames that a server sends. */
export const serverFrames = {
  ping: [9, Ping],
  pong: [10, Ping],
  welcome: [64, Welcome],
  subscribed: [65, Subscribed],
  refused: [66, Refused],
  done: [67, Done],
  unsubscribed: [68, Unsubscribed],
  records: [69, Records],
  gap: [70, Gap],
  reset: [71, Reset],
  base: [72, Base],
  base_records: [73, BaseRecords],
  answers: [74, Answers],
  state: [75, State],
  snapshot_wanted: [76, SnapshotWanted],
  refreshed: [77, Refreshed],
  bye: [78, Bye],
} as const;

export type ClientFrame = FrameOf<typeof clientFrames>;
export type ServerFrame = FrameOf<typeof serverFrames>;

export type Cursor = Value<typeof Cursor>;
export type Start = Value<typeof Start>;
export type Cloning = Value<typeof Cloning>;
export type Open = Value<typeof Open>;
export type Item = Value<typeof Item>;
export type Target = Value<typeof Target>;
export type Met = Value<typeof Met>;
export type Reason = Value<typeof Reason>;
export type Limits = Value<typeof Limits>;
export type Welcome = Value<typeof Welcome>;
export type State = Value<typeof State>;
export type SnapshotRule = Value<typeof SnapshotRule>;
export type Subscribed = Value<typeof Subscribed>;
export type Refusal = Value<typeof Refusal>;
export type Refused = Value<typeof Refused>;
export type Ended = Value<typeof Ended>;
export type Unsubscribed = Value<typeof Unsubscribed>;
export type Origin = Value<typeof Origin>;
export type Delivered = Value<typeof Delivered>;
export type Records = Value<typeof Records>;
export type GapReason = Value<typeof GapReason>;
export type Gap = Value<typeof Gap>;
export type ResetReason = Value<typeof ResetReason>;
export type BaseAt = Value<typeof BaseAt>;
export type Reset = Value<typeof Reset>;
export type Base = Value<typeof Base>;
export type BaseRecords = Value<typeof BaseRecords>;
export type Level = Value<typeof Level>;
export type Outcome = Value<typeof Outcome>;
export type Answers = Value<typeof Answers>;
export type Bye = Value<typeof Bye>;
