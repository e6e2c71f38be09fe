/**
 * What one log has delivered: the laws of order, bases and completeness, without any IO.
 *
 * Promise: between two resets each record is let through once, in offset order. A repeat is
 * dropped by its offset. A jump that no gap explains is never let through: the method answers
 * false, and the connection closes the socket and resumes with what is held.
 */

import { Most } from './bounds.js';
import {
  Start as Where, type Base, type BaseAt, type BaseHeld, type BaseRecords, type Delivered,
  type Ended, type Gap, type GapReason, type LogRecord, type Made, type Open, type Origin,
  type Place, type Records,
  type Reset, type ResetReason, type SnapshotRule, type Start, type Subscribed,
} from './frames.js';
import { bytesOf, content, Io, toJson, u64 } from './codec.js';
import type { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { HighwaterError } from './errors.js';
import type { Action, Stored } from './writer.js';

/** A record as readers get it; the client's own that the log does not show yet are pending. */
export interface Entry {
  readonly record: LogRecord;
  /** Who appended it. */
  readonly origin: Origin;
  /** The writer's sequence. */
  readonly seq: number;
  readonly pending: boolean;
  /** Offset, place and time of ingest (ms since 1970): absent while pending. */
  readonly offset?: number;
  readonly place?: Place;
  readonly time?: number;
}

/** What happens to a log, in order. */
export interface LogEvents {
  /** Records in offset order, each once. */
  records: { readonly records: readonly Entry[] };
  /** Drop what is held; a base may follow, then records from `cursor`. */
  reset: { readonly reason: ResetReason; readonly base?: BaseAt; readonly cursor: number };
  /**
   * The base that follows a reset: `records` (newest per key, by key, in parts) where the server
   * keeps it, `data` (the whole) where a client made it.
   */
  base: {
    readonly offset: number;
    readonly version: number;
    readonly last: boolean;
    readonly records?: readonly Entry[];
    readonly data?: Uint8Array;
  };
  /** A range that will never come. */
  gap: { readonly from: number; readonly to: number; readonly reason: GapReason };
  /** All that there was when the log was attached is here: it may be shown. */
  complete: { readonly cursor: number };
  /** It was complete, and is catching up after a time away: what is shown is old but whole. */
  behind: { readonly cursor: number };
  /** The client's own actions on top have changed. */
  pending: { readonly pending: readonly Entry[] };
  /**
   * Refused for good: the subscription, which is over (`phase`), or where the app sought to; then
   * all goes on as it was. Also where a base is larger than this client takes.
   */
  refused: HighwaterError;
  /** The server ended the subscription. */
  ended: { readonly reason: Ended };
  /** The server asks for a snapshot at this offset or later. */
  snapshot_wanted: { readonly at_least: number };
}

/** A log's event: its name and itself. */
export type LogEvent = { [K in keyof LogEvents]: readonly [K, LogEvents[K]] }[keyof LogEvents];

export interface AppendOptions {
  /** Store it only if the log's head stands here; else it is refused with `conflict`. */
  if_head?: number | undefined;
}

/** One log as the app sees it: its events, what is known of it, and what can be asked of it. */
export interface Log extends Emitter<LogEvents> {
  readonly name: string;
  /** The log id, once the server has told it. */
  readonly id: number | undefined;
  /** Where the subscription stands, for the curious; `live` when records may come. */
  readonly phase: string;
  /** Next offset wanted; all below was delivered. */
  readonly cursor: number;
  /** Next offset to be written, as far as it is known here. */
  readonly head: number;
  /** Head minus cursor. */
  readonly lag: number;
  /** All that there was when it was attached is here. */
  readonly complete: boolean;
  /** How the server keeps its state. */
  readonly rule: SnapshotRule;
  /** Something of it was delivered already. */
  readonly touched: boolean;
  /** The client's own actions that the log does not show yet, in order. */
  readonly pending: readonly Entry[];
  /** As `Client.append` to this log. */
  append(record: LogRecord, options?: AppendOptions): Promise<Stored>;
  /** Has it delivered anew from there; a `reset` comes first, or `refused`, and all stays. */
  seek(to: Start): void;
  /** With `commit: 'manual'`: all below `next` is worked off, this client could restart there. */
  commit(next: number): void;
  /** Ends the subscription. */
  unsubscribe(): void;
}

/** One of the client's own actions, until the log shows it. */
export interface Own {
  readonly action: Action;
  /** Where it was stored, once answered. */
  stored?: { readonly log: number; readonly offset: number };
  /** It is among what was delivered; it goes when that is shown. */
  landed?: boolean;
}

export interface Options {
  start: Start;
  readonly priority: number;
  /** The app itself says from where it could restart, instead of what was delivered. */
  readonly manual: boolean;
}

/** Of a record whose frame does not name its origin. */
const NOBODY: Origin = { user: '', writer: '', connection: '' };

export class Delivery extends Emitter<LogEvents> implements Log {
  /** The log id, once announced. */
  id: number | undefined;
  /** Where that log id was made. */
  made: Made | undefined;
  /**
   * `wanted`: not subscribed on this socket. `asked`: the request is on its way. `reset`, `base`:
   * the announced reset or base comes next. `live`: records. `over`: refused or ended.
   */
  phase: 'wanted' | 'asked' | 'reset' | 'base' | 'live' | 'over' = 'wanted';
  /** The request that asks for it, until it is answered; -1: none does. */
  asking = -1;
  /** All of this log id below `cursor` is held, folded or stored. */
  holds = false;
  cursor = 0;
  head = 0;
  complete = false;
  rule: SnapshotRule = 'none';
  /** Something of it was handed to the app, so that going back needs a reset. */
  touched = false;
  /**
   * Where the app could restart, where it says so itself: at first where delivery began; -1: it
   * was given a base, and has not said that it worked it off.
   */
  vouched!: number;
  /** Where the app wants it delivered anew from: what is held does not count any more. */
  to: Start | undefined;
  /** The request that seeks there, until it is answered; -1: it is still to be sent. */
  sought = 0;
  /** Missing on the server: not to be asked for before this time. */
  after = 0;
  mine: Own[];

  private _target!: number;
  /** What was delivered is of another history: a reset is due. */
  private _foreign?: boolean;
  /** From here on all below `cursor` was delivered; what lies below is a gap still to be told. */
  private _from!: number;
  private _base: BaseAt | undefined;
  /** What came of it: parts, or all up to a key. */
  private _part!: number;
  private _key: string | undefined;
  private _whole!: Io;

  constructor(
    readonly name: string,
    public wishes: Options,
    readonly core: Connection,
  ) {
    super();
    this.mine = core.author.queue
      .filter(({ log }) => log === name)
      .map((action) => ({ action }));
  }

  get lag(): number {
    return this.head - this.cursor;
  }

  append(record: LogRecord, options?: AppendOptions): Promise<Stored> {
    return this.core.append(this.name, record, options);
  }

  seek(to: Start): void {
    bytesOf(Where, to); // Throws where it cannot be carried.
    this.to = to;
    this.sought = -1;
    this.core.config.wake();
  }

  commit(next: number): void {
    bytesOf(u64, next); // Throws where it cannot be carried.
    this.vouched = Math.min(next, this.cursor);
    this.core.followed.moved.add(this);
    this.core.config.wake();
  }

  unsubscribe(): void {
    this.core.followed.unsubscribe(this);
  }

  private _tell<K extends keyof LogEvents>(on: K, event: LogEvents[K]): void {
    if (on !== 'pending') this.touched = true;
    this.core.out('log', this, [on, event] as LogEvent);
  }

  /** The app could restart from here; -1: from nowhere but its start. */
  get safe(): number {
    return !this.holds ? -1 : this.wishes.manual ? this.vouched : this.cursor;
  }

  /** What came of a base that was cut: it may go on after that. */
  get begun(): BaseHeld | undefined {
    const upto = this._part ? { parts: this._part } : this._key && { key: this._key };
    const { id, to } = this;
    return !to && this._base && upto ? { log: id!, offset: this._base.offset, upto } : undefined;
  }

  /** What the client has and wants of it, for `Hello`, `Subscribe` and `Activate`. */
  ask(request: number): Open {
    const { name, id } = this;
    this.phase = 'asked';
    this.asking = request;
    if (this.to) {
      this.holds = false;
      this._clear();
    }
    this._arrive();
    this.sought = 0;
    const { start, priority } = this.wishes;
    // The server takes this word for what was worked off: what comes twice is dropped by offset.
    const next = this.safe;
    if (next >= 0) return { name, start, priority, have: { log: id!, next } };
    // A base that broke off, or was not worked off, must come again, wherever it once began.
    return { name, start: this.holds || this._base ? 'state' : start, priority };
  }

  /** Where the app sought to is where it begins. */
  private _arrive(): void {
    this.wishes.start = this.to ?? this.wishes.start;
    this.to = undefined;
  }

  /** Whether it is announced on this socket. */
  get announced(): boolean {
    return ['reset', 'base', 'live'].includes(this.phase);
  }

  // Methods by the names of frames; one that answers false was given something out of order.

  subscribed(frame: Subscribed): void {
    const { log: id, request, head, rule, cursor, complete, reset, made, base } = frame;
    const same = this.id === id;
    this.made = made ? { log: id, position: made } : undefined;
    Object.assign(this, { id, head, rule });
    if (request === this.sought) this.sought = 0;
    // Already subscribed: the answer tells nothing new, and an unfinished base goes on.
    if (!reset && this.announced && same) return;
    this.phase = reset ? 'reset' : base ? 'base' : 'live';
    if (reset) return;
    if (base) {
      // What goes on elsewhere than here is no use: its next part will not fit.
      if (toJson(base) !== toJson(this.begun)) this._clear();
      this.cursor = cursor;
      this._target = complete;
      return;
    }
    if (same && this.holds) {
      // What was seen stays seen: a log that was to be complete at 9 is not complete at 7.
      this._target = Math.max(this._target, complete);
    } else {
      this._begin(cursor, complete);
      if (this.touched) this._reset({ reason: 'other_log', cursor });
    }
    this._check();
  }

  reset(frame: Reset): void {
    const { base, cursor, complete } = frame;
    if (!this.sought) this._arrive();
    this._begin(cursor, complete, base);
    this._reset(frame);
    this._check();
  }

  /** All begins anew: with this base, or without one at `cursor`. */
  private _begin(cursor: number, complete: number, base?: BaseAt): void {
    this.phase = base ? 'base' : 'live';
    this.holds = !base;
    this.complete = false;
    this._target = complete;
    this.cursor = cursor;
    this._from = base ? 0 : cursor;
    this.vouched = base ? -1 : cursor;
    this._clear(base);
  }

  private _reset(event: LogEvents['reset']): void {
    this._tell('reset', this._foreign ? { ...event, reason: 'other_history' } : event);
    this._foreign = false;
  }

  /**
   * The server's history is another: what is held counts no more, and goes with the reset that is
   * due. What was stored in the other history then goes too.
   */
  forget(): void {
    this._foreign = this.touched;
    if (this.holds || this._base) this.wishes.start = 'state';
    this.holds = false;
    this._clear();
    for (const own of this.mine) own.landed = !!own.stored;
  }

  /** A part of a client-made base; handed on as a whole. */
  base({ offset, part, last, data }: Base): boolean {
    const base = this._base;
    if (this.phase !== 'base' || base?.offset !== offset || part !== this._part++) return false;
    this._whole.raw(content(data));
    if (this._whole.at > Most.BASE) {
      // Coming back would only bring it once more.
      this._clear();
      this.core.followed.drop(this);
      this.end('refused', new HighwaterError('too_large', 'over the limit'));
    } else if (last) {
      this._tell('base', { offset, version: base.version, last, data: this._whole.done() });
      this._based();
    }
    return true;
  }

  /** A part of a base that the server keeps; handed on part by part. */
  base_records({ offset, last, complete, origins, records }: BaseRecords): boolean {
    if (this.phase !== 'base' || this._base?.offset !== offset) return false;
    const entries = records.map((kept) => this._entry(kept.record, kept.offset, origins));
    this._key = entries.at(-1)?.record.key ?? this._key;
    this._tell('base', { offset, version: this._base.version, last, records: entries });
    if (last) {
      this._target = Math.max(this._target, complete);
      this._based();
    }
    return true;
  }

  private _based(): void {
    this.phase = 'live';
    this.holds = true;
    this._clear();
    this._check();
  }

  /** What has come of a base is of no more use; perhaps another follows. */
  private _clear(base?: BaseAt): void {
    this._base = base;
    this._part = 0;
    this._key = undefined;
    this._whole = new Io();
  }

  records({ base, origins, records }: Records): boolean {
    const repeated = this.cursor - base;
    if (this.phase !== 'live' || repeated < 0) return false;
    if (repeated >= records.length) return true;
    const fresh = records
      .slice(repeated)
      .map((record, index) => this._entry(record, this.cursor + index, origins));
    this.cursor += fresh.length;
    const { id } = this.core.author;
    const seqs = new Set(fresh.map(({ origin, seq }) => origin.writer === id && seq));
    for (const own of this.mine) own.landed ||= !own.stored && seqs.has(own.action.seq);
    this._tell('records', { records: fresh });
    this._check();
    return true;
  }

  gap(frame: Gap): boolean {
    if (this.phase !== 'live' || frame.from > this.cursor) return false;
    // The cursor of an opening or a reset is the end of the gap that follows it.
    if (frame.to <= this.cursor && frame.from >= this._from) return true;
    this.cursor = Math.max(this.cursor, frame.to);
    this._tell('gap', frame);
    this._check();
    return true;
  }

  /** Puts an own action on top. */
  act(action: Action): void {
    this.mine.push({ action });
    this._showOwn();
  }

  /** An own action was stored there, or not at all. */
  answered(action: Action, stored?: { log: number; offset: number }): void {
    const own = this.mine.find((one) => one.action === action);
    if (!own) return;
    own.stored = stored;
    // Answers come in order, so the answered ones stand first; of too many (an inactive client may
    // append for long) the oldest goes, and is seen again when the log is live.
    const many = this.mine[this.core.config.most]?.stored && this.mine[0];
    this._lift(stored ? many : own);
  }

  /** Lets go this one, and all that the log shows or, where it shows no more, that are answered. */
  private _lift(gone?: Own): void {
    const { complete, cursor, id, phase } = this;
    const over = phase === 'over';
    const left = this.mine.filter((own) => {
      const { landed, stored } = own;
      const shown = landed || (stored && (over || stored.log !== id || stored.offset < cursor));
      return own !== gone && !(shown && ((complete && !this._foreign) || over));
    });
    if (left.length === this.mine.length) return;
    this.mine = left;
    this._showOwn();
  }

  /** Own actions in their order, as they lie on top of what is shown. */
  get pending(): Entry[] {
    const { config, greeting: welcome, author: writer } = this.core;
    const origin = { user: welcome?.user ?? '', writer: writer.id, connection: config.connection };
    return this.mine.map(({ action: { record, seq } }) => ({ record, origin, seq, pending: true }));
  }

  private _showOwn(): void {
    this._tell('pending', { pending: this.pending });
  }

  private _entry(record: Delivered, offset: number, origins: Origin[]): Entry {
    this.core.history.saw(record.place.batch);
    return { ...record, origin: origins[record.origin] ?? NOBODY, offset, pending: false };
  }

  /** Tells when the log becomes complete, or stops being so, and lets go what it now shows. */
  private _check(): void {
    this.head = Math.max(this.head, this.cursor);
    const was = this.complete;
    this.complete = this.phase === 'live' && this.cursor >= this._target;
    if (was !== this.complete) this._tell(was ? 'behind' : 'complete', { cursor: this.cursor });
    this._lift();
  }

  /** The server ended it, or would not begin. */
  end<K extends 'ended' | 'refused'>(on: K, event: LogEvents[K]): void {
    this.phase = 'over';
    this._tell(on, event);
    this._lift();
  }

  /** The server will not go where the app sought to. */
  stay(error: HighwaterError): void {
    this.sought = 0;
    this.to = undefined;
    this._tell('refused', error);
  }

  snapshot_wanted(frame: { at_least: number }): void {
    this._tell('snapshot_wanted', frame);
  }
}
