/**
 * What one log has delivered: the laws of order, bases and completeness, without any IO.
 *
 * Promise: between two resets each record is let through once, in offset order. A repeat is
 * dropped by its offset. A jump that no gap explains is never let through: the method answers
 * false, and the connection closes the socket and resumes with what is held. All handles of a log
 * share one of these.
 */

import { Most } from './bounds.js';
import { content, Io, type Payload } from './codec.js';
import { HighwaterError } from './errors.js';
import {
  type Base, type BaseAt, type BaseHeld, type BaseRecords, type Delivered,
  type Draft, type Ended, type Gap, type GapReason, type Made, type Open, type Origin,
  type Place, type Records, type Reset, type ResetReason, type SnapshotRule, type Start,
  type Subscribed,
} from './frames.js';
import type { Core } from './states.js';
import type { Action, Stored, Writer } from './writer.js';

/** A record as readers get it; the client's own that the log does not show yet are pending. */
export interface Entry<T = Payload> extends Draft<T> {
  /** It has no payload: it takes its key away. */
  readonly tombstone: boolean;
  /** The codec could not read the payload, which is undefined then. */
  readonly fault?: HighwaterError;
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
export interface LogEvents<T = Payload> {
  /** Records in offset order, each once. */
  records: { readonly records: readonly Entry<T>[] };
  /**
   * Drop what is held; a base may follow, then records from `cursor`. `sought`: because a handle of
   * this log asked to be elsewhere.
   */
  reset: {
    readonly reason: ResetReason;
    readonly base?: BaseAt | undefined;
    readonly cursor: number;
    readonly sought: boolean;
  };
  /**
   * The base that follows a reset: `records` (newest per key, by key, in parts) where the server
   * keeps it, `data` (the whole) where a client made it.
   */
  base: {
    readonly offset: number;
    readonly version: number;
    readonly last: boolean;
    readonly records?: readonly Entry<T>[];
    readonly data?: Uint8Array;
  };
  /** A range that will never come. */
  gap: { readonly from: number; readonly to: number; readonly reason: GapReason };
  /** All that there was when the log was attached is here: it may be shown. */
  complete: { readonly cursor: number };
  /** It was complete, and is catching up after a time away: what is shown is old but whole. */
  behind: { readonly cursor: number };
  /**
   * Refused for good: the subscription, which is over, or where the app sought to; then all goes on
   * as it was. Also where a base is larger than this client takes.
   */
  refused: HighwaterError;
  /** The server ended the subscription. */
  ended: { readonly reason: Ended };
  /** The server asks for a snapshot at this offset or later. */
  snapshotWanted: { readonly atLeast: number };
}

/** What a log tells its handles besides. */
export interface Told extends LogEvents {
  /** The client's own actions that came to lie on top, or went. */
  pending: { readonly actions: readonly Action[] };
  /** It is announced on another socket. */
  announced: undefined;
}

/** A log's event: its name and itself. */
export type LogEvent = { [K in keyof Told]: readonly [K, Told[K]] }[keyof Told];

/** What a handle has of a log from another time, kept with the position that it was true at. */
export interface Held {
  /** The log id, and where that was made. */
  readonly log: number;
  readonly made?: string | undefined;
  /** All below is held. */
  readonly next: number;
}

/** Who shares a log: what one handle wants of it. */
export interface Holder {
  readonly start: Start;
  readonly have?: Held | undefined;
  readonly priority: number;
  /** It says itself from where it could restart, instead of what was delivered. */
  readonly manual: boolean;
  /** Where that is; undefined: it was given a base, and has not said that it worked it off. */
  vouched: number | undefined;
  /** It asked to be elsewhere, and its reset is still due. */
  readonly sought: boolean;
  /** Is told what happens. */
  take<K extends keyof Told>(name: K, event: Told[K]): void;
}

/** Of a record whose frame does not name its origin. */
const NOBODY: Origin = { user: '', writer: '', connection: '' };

/** From the least that is delivered to the most. */
const RANKS = 'end committed last time offset earliest state';
const rank = (start: Start): [number, number] => {
  if (typeof start === 'string') return [RANKS.indexOf(start), 0];
  const [[name, at]] = Object.entries(start) as [[string, number]];
  return [RANKS.indexOf(name), name === 'last' ? at : -at];
};

/** Of two places to begin at that from which more comes; the first where they are alike. */
export const wider = (one: Start, two: Start): Start => {
  const [[a, from], [b, upto]] = [rank(one), rank(two)];
  return a > b || (a === b && from >= upto) ? one : two;
};

/** How a log stands on the socket, in the order in which it goes on. */
export const enum Stage {
  /** Not subscribed on this socket. */
  WANTED,
  /** The request is on its way. */
  ASKED,
  /** The announced reset or base comes next. */
  RESET,
  BASE,
  /** Records. */
  LIVE,
  /** Refused or ended. */
  OVER,
}

export class Delivery {
  /** The log id, once announced. */
  id: number | undefined;
  /** Where that log id was made. */
  made: Made | undefined;
  stage: Stage = Stage.WANTED;
  /** The request that asks for it, until it is answered. */
  asking: number | undefined;
  /** That which seeks in it, or lets it go, until it is answered; or it is still to be sent. */
  saying: 'due' | number | undefined;
  /** All of this log id below `cursor` is held, folded or stored. */
  holds = false;
  cursor = 0;
  head = 0;
  complete = false;
  /** It was complete once. */
  whole = false;
  rule: SnapshotRule = 'none';
  /** Something of it was handed to the app, so that going back needs a reset. */
  touched = false;
  /** Where the app wants it delivered anew from: what is held does not count any more. */
  to: Start | undefined;
  /** Missing on the server: not to be asked for before this time. */
  after = 0;
  /** How long it is kept without a handle, ms. */
  grace = 0;
  /** Its handles. */
  readonly holders = new Set<Holder>();
  /** Own actions on top, in their order. */
  readonly mine = new Set<Action>();
  /** Why it is over. */
  over: LogEvents['ended'] | HighwaterError | undefined;

  /** Where to begin when nothing is held: at first the widest that a handle wants. */
  private _start: Start;
  private _target!: number;
  /** What was delivered is of another history: a reset is due. */
  private _foreign?: boolean;
  /** A reset that is due was sought by a handle. */
  private _sought = false;
  /** From here on all below `cursor` was delivered; what lies below is a gap still to be told. */
  private _from!: number;
  private _base: BaseAt | undefined;
  /** What came of it: parts, or all up to a key. */
  private _part!: number;
  private _key: string | undefined;
  private _whole!: Io;
  /** Own actions that go as soon as the log is complete, and those that wait for their record. */
  private readonly _shown = new Set<Action>();
  private readonly _due = new Map<number, Action>();
  /** How many of `mine` are answered. */
  private _answered = 0;

  constructor(
    readonly name: string,
    start: Start,
    readonly core: Core,
    readonly author: Writer,
  ) {
    this._start = start;
    // Own actions lie on top from the beginning, also those made before.
    for (const action of author.queue.values()) {
      if (action.log !== name) continue;
      action.landed = false;
      this.mine.add(action);
    }
  }

  get lag(): number {
    return this.head - this.cursor;
  }

  /** Its state below `next` is held already, by a handle that kept it. */
  resume({ log, made, next }: Held): void {
    Object.assign(this, { id: log, made: made && { log, position: made }, head: next });
    this.cursor = this._from = this._target = next;
    this.holds = this.touched = this.whole = true;
  }

  get priority(): number {
    return Math.min(255, ...[...this.holders].map(({ priority }) => priority));
  }

  /** Where to begin when nothing is held. */
  get start(): Start {
    return this.to ?? this._start;
  }

  /** A handle comes before anything was asked for. */
  widen(start: Start): void {
    this._start = this.holders.size ? wider(this._start, start) : start;
  }

  seek(to: Start): void {
    this.to = to;
    this._sought = true;
    if (this.stage !== Stage.OVER) this.saying = 'due';
    this.core.wake();
  }

  private _tell<K extends keyof Told>(on: K, event: Told[K]): void {
    this.touched ||= on !== 'pending' && on !== 'announced';
    this.core.out('log', this, [on, event] as LogEvent);
  }

  /** Tells all that hold it now, also of what happened before. */
  emit([on, event]: LogEvent): void {
    for (const holder of [...this.holders]) holder.take(on, event);
  }

  /** From here the app could restart; undefined: from nowhere but its start. */
  get safe(): number | undefined {
    if (!this.holds || !this.holders.size) return undefined;
    let safe: number | undefined = this.cursor;
    for (const { manual, vouched } of this.holders) {
      if (manual) safe = vouched === undefined ? vouched : safe && Math.min(safe, vouched);
      if (safe === undefined) break;
    }
    return safe;
  }

  /** What came of a base that was cut: it may go on after that. */
  get begun(): BaseHeld | undefined {
    const upto = this._part ? { parts: this._part } : this._key && { key: this._key };
    const { id, to } = this;
    return !to && this._base && upto ? { log: id!, offset: this._base.offset, upto } : undefined;
  }

  /** What the client has and wants of it, for `Hello`, `Subscribe` and `Activate`. */
  ask(request: number): Open {
    const { name, id, priority } = this;
    this.stage = Stage.ASKED;
    this.asking = request;
    if (this.to) {
      this.holds = false;
      this._clear();
    }
    this._arrive();
    this.saying = undefined;
    const { _start: start } = this;
    // The server takes this word for what was worked off: what comes twice is dropped by offset.
    const next = this.safe;
    const have = next === undefined ? next : { log: id!, next };
    // A base that broke off, or was not worked off, must come again, wherever it once began.
    return { name, start: !have && (this.holds || this._base) ? 'state' : start, priority, have };
  }

  /** Where the app sought to is where it begins. */
  private _arrive(): void {
    this._start = this.to ?? this._start;
    this.to = undefined;
  }

  /** Whether it is announced on this socket. */
  get announced(): boolean {
    return this.stage > Stage.ASKED && this.stage < Stage.OVER;
  }

  // Methods by the names of frames; one that answers false was given something out of order.

  subscribed(frame: Subscribed): void {
    const { log: id, request, head, rule, cursor, complete, reset, made, base } = frame;
    const same = this.id === id;
    // What handles have of another log is nothing of this one, whoever sought.
    if (!same && this.touched) this._sought = false;
    this.made = made ? { log: id, position: made } : undefined;
    Object.assign(this, { id, head, rule });
    if (request && request === this.saying) this.saying = undefined;
    this._tell('announced', undefined);
    // Already subscribed: the answer tells nothing new, and an unfinished base goes on.
    if (!reset && this.announced && same) return;
    this.stage = reset ? Stage.RESET : base ? Stage.BASE : Stage.LIVE;
    if (reset) return;
    if (base) {
      // What goes on elsewhere than here is no use: its next part will not fit.
      if (JSON.stringify(base) !== JSON.stringify(this.begun)) this._clear();
      this.cursor = cursor;
      this._target = complete;
      return;
    }
    if (same && this.holds) {
      // What was seen stays seen: a log that was to be complete at 9 is not complete at 7.
      this._target = Math.max(this._target, complete);
    } else {
      this._begin(cursor, complete);
      // Where it was sought to before there was a socket, this is the answer.
      if (this.touched) this._reset({ reason: this._sought ? 'asked' : 'other_log', cursor });
    }
    this._check();
  }

  reset(frame: Reset): void {
    const { base, cursor, complete } = frame;
    if (this.saying === undefined) this._arrive();
    this._begin(cursor, complete, base);
    this._reset(frame);
    this._check();
  }

  /** All begins anew: with this base, or without one at `cursor`. */
  private _begin(cursor: number, complete: number, base?: BaseAt): void {
    this.stage = base ? Stage.BASE : Stage.LIVE;
    this.holds = !base;
    this.complete = false;
    this._target = complete;
    this.cursor = cursor;
    this._from = base ? 0 : cursor;
    for (const holder of this.holders) {
      // Who was further, and only shares what another handle sought, has worked that off.
      const shares = this._sought && !holder.sought;
      const stays = shares && !base && holder.vouched! >= cursor;
      if (!stays) holder.vouched = base ? undefined : cursor;
    }
    this._clear(base);
  }

  private _reset({ reason, base, cursor }: Omit<LogEvents['reset'], 'sought'>): void {
    const foreign = this._foreign;
    const sought = this._sought && !foreign && this.saying === undefined;
    if (sought) this._sought = false;
    this._foreign = false;
    this._tell('reset', { reason: foreign ? 'other_history' : reason, base, cursor, sought });
  }

  /**
   * The server's history is another: what is held counts no more, and goes with the reset that is
   * due. What was stored in the other history then goes too.
   */
  forget(): void {
    this._foreign = this.touched;
    if (this.holds || this._base) this._start = 'state';
    this.holds = false;
    this._clear();
    this._shown.clear();
    this._due.clear();
    for (const action of this.mine) {
      action.landed = !!action.stored;
      if (action.landed) this._shown.add(action);
    }
  }

  /** A part of a client-made base; handed on as a whole. */
  base({ offset, part, last, data }: Base): boolean {
    const base = this._base;
    if (this.stage !== Stage.BASE || base?.offset !== offset || part !== this._part++) return false;
    this._whole.raw(content(data));
    if (this._whole.at > Most.BASE) {
      // Coming back would only bring it once more.
      this._clear();
      this.end('refused', new HighwaterError('too_large', 'a base over 64 MiB'));
    } else if (last) {
      this._tell('base', { offset, version: base.version, last, data: this._whole.done() });
      this._based();
    }
    return true;
  }

  /** A part of a base that the server keeps; handed on part by part. */
  baseRecords({ offset, last, complete, origins, records }: BaseRecords): boolean {
    if (this.stage !== Stage.BASE || this._base?.offset !== offset) return false;
    const entries = records.map((kept) => this._entry(kept.record, kept.offset, origins));
    this._key = entries.at(-1)?.key ?? this._key;
    this._tell('base', { offset, version: this._base.version, last, records: entries });
    if (last) {
      this._target = Math.max(this._target, complete);
      this._based();
    }
    return true;
  }

  private _based(): void {
    this.stage = Stage.LIVE;
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
    if (this.stage !== Stage.LIVE || repeated < 0) return false;
    if (repeated >= records.length) return true;
    const fresh = records
      .slice(repeated)
      .map((record, index) => this._entry(record, this.cursor + index, origins));
    this.cursor += fresh.length;
    const { id, queue } = this.author;
    for (const { offset, origin, seq } of fresh) {
      const own = this._due.get(offset!) ?? (origin.writer === id && queue.get(seq));
      if (!own || !this.mine.has(own)) continue;
      own.landed = true;
      this._shown.add(own);
    }
    this._tell('records', { records: fresh });
    this._check(true);
    return true;
  }

  gap(frame: Gap): boolean {
    if (this.stage !== Stage.LIVE || frame.from > this.cursor) return false;
    // The cursor of an opening or a reset is the end of the gap that follows it.
    if (frame.to <= this.cursor && frame.from >= this._from) return true;
    this.cursor = Math.max(this.cursor, frame.to);
    this._tell('gap', frame);
    this._check();
    return true;
  }

  // Own actions on top.

  /** Puts one there. */
  act(action: Action): void {
    this.mine.add(action);
    this._tell('pending', { actions: [action] });
  }

  /** One was stored there, or not at all. */
  answered(action: Action, stored?: Stored): void {
    if (!this.mine.has(action)) return;
    if (!stored) return this._lift([action]);
    action.stored = stored;
    this._place(action);
    // Answers come in order, so the answered ones stand first; of too many (an inactive client may
    // append for long) the oldest goes, and is seen again when the log is live.
    const many = ++this._answered > this.core.config.maxPending;
    if (many) for (const oldest of this.mine) return this._lift([oldest]);
    this._settle();
  }

  /** An answered one goes with its record; or soon, where nothing of it will come any more. */
  private _place(action: Action): void {
    const { landed, stored } = action;
    if (!stored) return;
    const { log, offset } = stored;
    const comes = this.stage !== Stage.OVER && log === this.id && offset >= this.cursor;
    if (comes && !landed) this._due.set(offset, action);
    else this._shown.add(action);
  }

  /** Lets go what the log shows or, where it shows no more, what is answered. */
  private _settle(): void {
    const shows = this.stage === Stage.OVER || (this.complete && !this._foreign);
    if (shows && this._shown.size) this._lift([...this._shown]);
  }

  private _lift(actions: Action[]): void {
    for (const action of actions) {
      this.mine.delete(action);
      this._shown.delete(action);
      if (!action.stored) continue;
      this._due.delete(action.stored.offset);
      this._answered--;
    }
    this._tell('pending', { actions });
  }

  /** One as an entry. */
  own({ record, seq }: Action): Entry {
    const { config, greeting } = this.core;
    const writer = this.author.id;
    const origin = { user: greeting?.user ?? '', writer, connection: config.connection };
    const tombstone = record.payload === undefined;
    return { ...record, tombstone, origin, seq, pending: true };
  }

  private _entry(
    { record, place, time, seq, origin }: Delivered,
    offset: number,
    by: Origin[],
  ): Entry {
    this.core.history.saw(place.batch);
    const tombstone = record.payload === undefined;
    const from = by[origin] ?? NOBODY;
    return { ...record, tombstone, place, time, seq, origin: from, offset, pending: false };
  }

  /**
   * Tells when the log becomes complete, or stops being so, and lets go what it now shows; `step`:
   * the cursor moved over records alone, each of which was looked at.
   */
  private _check(step = false): void {
    this.head = Math.max(this.head, this.cursor);
    const was = this.complete;
    this.complete = this.stage === Stage.LIVE && this.cursor >= this._target;
    if (was !== this.complete) {
      this.whole ||= this.complete;
      this._tell(was ? 'behind' : 'complete', { cursor: this.cursor });
    }
    if (!step) for (const action of this.mine) this._place(action);
    this._settle();
  }

  /** The server ended it, or would not begin. */
  end<K extends 'ended' | 'refused'>(on: K, event: Told[K]): void {
    this.stage = Stage.OVER;
    this.over = event;
    this._tell(on, event);
    for (const action of this.mine) this._place(action);
    this._settle();
  }

  /** The server will not go where the app sought to. */
  stay(error: HighwaterError): void {
    this.saying = this.to = undefined;
    this._sought = false;
    this._tell('refused', error);
  }

  snapshotWanted(frame: { atLeast: number }): void {
    this._tell('snapshotWanted', frame);
  }
}
