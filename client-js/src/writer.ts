/**
 * The writing side of one run: actions in their order until each has its answer.
 *
 * Promise: actions go out in the order they were made, each with the sequence that the server must
 * have decided before it. A transient refusal, or a new socket, sends the same again from the
 * server's mark on; nothing is numbered twice, but by another history: there the writer is over.
 * What that history has of it waits for its answers, then the rest goes on under another id.
 */

import { Most, Ms } from './bounds.js';
import {
  u64, utf8Length, written, type Encoding, type Payload, type Type,
} from './codec.js';
import { asError, HighwaterError, isTransient, refusalOf } from './errors.js';
import {
  draft, type Answers, type Append, type Credit, type Draft, type Level, type Made, type Place,
  type Target,
} from './frames.js';
import type { Core } from './states.js';

export interface AppendOptions {
  /** Store it only if the log's head stands here; else it is refused with `conflict`. */
  readonly ifHead?: number | undefined;
}

/** Where an append was stored. */
export interface Stored {
  /** The log id. */
  readonly log: number;
  readonly offset: number;
  readonly place: Place;
  /** How durable it is. */
  readonly level: Level;
}

/** An own action, until it has its answer and its log shows it. */
export interface Action {
  seq: number;
  /** The log's name, for the view that shows it. */
  readonly log: string;
  readonly to: Target;
  /** Where that log id was made. */
  readonly made: Made | undefined;
  readonly ifHead?: number | undefined;
  readonly record: Draft;
  /** Size of the record as limits count it, and as the frame carries it, in bytes. */
  readonly bulk: number;
  readonly weight: number;
  /** Told to whoever appended it. */
  readonly settle: (result: Stored | Promise<never>) => void;
  /** It may not go out yet, nor what was made after it. */
  held?: boolean;
  /** It is on this socket, its answer due. */
  sent?: boolean;
  /** It was on some socket: nobody knows whether it was stored. */
  tried?: boolean;
  /** Where it was stored, once answered. */
  stored?: Stored | undefined;
  /** It is among what its log has delivered; it goes when that is shown. */
  landed?: boolean;
}

const within = (field: string, text: string | undefined, most: number): void => {
  if (text === undefined) return;
  const size = utf8Length(text);
  if (!size || size > most) throw new HighwaterError('bad_record', `${field}: 1 to ${most} bytes`);
};

/**
 * A copy of a record, which the app cannot change any more, with its size as limits count it, and
 * as a frame carries it, in bytes. Throws, with the field's name, if it cannot be carried.
 */
export const weigh = (
  given: Draft,
  encoding: Encoding,
  ifHead = 0,
): { record: Draft; bulk: number; weight: number } => {
  try {
    written(u64, ifHead, 'ifHead');
    const { io, value: record } = written(draft, given, 'record');
    const { key, kind, headers = [], payload } = record;
    within('key', key, 255);
    within('kind', kind, 64);
    if (payload === undefined && key === undefined) {
      throw new HighwaterError('bad_record', 'payload: none, and no key');
    }
    const size = (part: Payload = ''): number =>
      typeof part === 'string' ? utf8Length(part) : part.length;
    const many = headers.flat().reduce((sum, part) => sum + size(part), 0);
    if (headers.length > 32 || many > 4096) {
      throw new HighwaterError('bad_record', 'headers: at most 32, and 4096 bytes');
    }
    const bulk = many + size(key) + size(kind) + size(payload);
    return { record, bulk, weight: encoding.weigh(record, io.at) };
  } catch (error) {
    throw asError('bad_record', error);
  }
};

/** That value, where it is of the type; else throws `bad_request`, with the field's name. */
export const valid = <T>(type: Type<T>, value: T, field?: string): T => {
  try {
    return written(type, value, field).value;
  } catch (error) {
    throw asError('bad_request', error);
  }
};

/** Throws where it is no log's name: the server would refuse it, or end the socket for it. */
export const checkName = (name: string): void => {
  const segments = typeof name === 'string' && name.length < 256 ? name.split('/') : [''];
  if (segments.every((segment) => /^(?!\.\.?$)[\w.~-]+$/.test(segment))) return;
  const rule = 'segments of A-Z a-z 0-9 _ . ~ - parted by /, none . or .., at most 255 bytes';
  throw new HighwaterError('bad_name', `name: ${rule}`);
};

/** The credit of a server that tells none. */
export const FREE: Credit = { appends: Infinity, bytes: Infinity, after: 0 };

export class Writer {
  /** Those without an answer, by their sequence and in its order. */
  readonly queue = new Map<number, Action>();
  id!: string;
  /** Whoever holds this writer has no answers from here on: `oldest` does not rise past it. */
  floor = Infinity;
  /** The server's history is another: what lies above its mark is to be numbered anew. */
  private _over!: boolean;
  private _next!: number;
  private _oldest!: number;
  /** All below this sequence are on their way. */
  private _unsent!: number;
  private _mark!: number;
  private _refusals = 0;
  /** Not before this a refused round is sent again; 0: nothing was refused. */
  private _retryAt = 0;
  /** Answers for what the server's mark covers are still on their way. */
  private _settling?: boolean;

  private readonly _core: Core;
  private readonly _decided: (action: Action, result: Stored | HighwaterError) => void;
  private readonly _ended: ((rest: Action[]) => void) | undefined;

  /**
   * `decided` is told of each action's end. A writer that is kept on disk has its id and the next
   * sequence from there; in another history `ended` is given what it has left, and it is over.
   */
  constructor(
    core: Core,
    decided: (action: Action, result: Stored | HighwaterError) => void,
    kept?: { readonly id: string; readonly next: number; ended(rest: Action[]): void },
  ) {
    this._core = core;
    this._decided = decided;
    this._ended = kept?.ended;
    this._begin(kept?.id ?? core.config.newId(), kept?.next ?? 1);
  }

  private _begin(id: string, next: number): void {
    this.id = id;
    this._over = false;
    this._unsent = this._mark = 0;
    this._next = this._oldest = next;
  }

  /** The oldest sequence without an answer. */
  get oldest(): number {
    // Those that begin a map are found behind all that was taken out of it: this way is shorter.
    while (this._oldest < this._next && !this.queue.has(this._oldest)) this._oldest++;
    return Math.min(this._oldest, this.floor);
  }

  /** As many as may be on their way: no other is sent, however many wait. */
  private _first(): Action[] {
    return this._within(this.oldest, this.oldest + Most.ITEMS);
  }

  private _within(from: number, end: number): Action[] {
    const found: Action[] = [];
    for (; from < end && from < this._next; from++) {
      const action = this.queue.get(from);
      if (action) found.push(action);
    }
    return found;
  }

  /** Takes all out. */
  empty(): Action[] {
    const all = [...this.queue.values()];
    this.queue.clear();
    return all;
  }

  /** When `flush` has something to say again, ms; Infinity: not by time. */
  get deadline(): number {
    if (!this._retryAt) return Infinity;
    // Answers of the round are due.
    return this._retryAt + (this._first().some((action) => action.sent) ? Ms.ROUND : 0);
  }

  /** Takes credit, from which goes what is on its way. */
  private _credited(now: number, credit: Credit): void {
    // What was refused has its own time in it.
    if (credit.after) this._retryAt = now + credit.after;
    this._core.credit = { ...credit };
    for (const writer of this._core.writers) {
      for (const one of writer._first()) {
        if (one.sent && one.seq > writer._mark) this._spend(one, 1);
      }
    }
  }

  private _spend({ bulk: size }: Action, appends: number): void {
    this._core.credit.appends -= appends;
    this._core.credit.bytes -= appends * size;
  }

  /** The sequence of the next that is added. */
  get next(): number {
    return this._next;
  }

  /** Takes up what has its sequence already, in the order of these. */
  take(action: Action): void {
    this.queue.set(action.seq, action);
    this._oldest = Math.min(this._oldest, action.seq);
    this._next = Math.max(this._next, action.seq + 1);
  }

  add(given: Omit<Action, 'seq' | 'sent' | 'tried'>): Action {
    const action = { ...given, seq: this._next++ };
    this.queue.set(action.seq, action);
    return action;
  }

  /** A new socket is there: goes on above the mark; answers up to the mark are on their way. */
  welcomed(now: number, mark: number, other = false, credit: Credit = FREE): void {
    this._mark = mark;
    this._over ||= other;
    this._retryAt = this._refusals = this._unsent = 0;
    this._settling = true;
    for (const action of this.queue.values()) action.sent = action.seq <= mark;
    this._credited(now, credit);
  }

  /** The answers that were kept have all come: what has none is asked about once more. */
  settled(): void {
    if (!this._settling) return;
    this._settling = false;
    this._unsent = 0;
    for (const action of this._first()) action.sent &&= action.seq > this._mark;
  }

  /** Takes answers; tells the first reason that passes, if any was refused for one. */
  answered({ mark, answers, credit }: Answers, now: number): string | undefined {
    let passes: string | undefined;
    this._mark = Math.max(this._mark, mark);
    for (const { seq, outcome } of answers) {
      const action = this.queue.get(seq);
      if (!action) continue;
      if ('stored' in outcome) {
        this._refusals = 0;
        this._end(action, outcome.stored);
        continue;
      }
      const error = refusalOf(outcome.refused);
      if (isTransient(error.code)) {
        passes ??= error.code;
        this._refused(action, error.retryAfter, now);
      } else {
        this._end(action, error);
      }
    }
    if (credit) this._credited(now, credit);
    return passes;
  }

  private _refused(action: Action, after: number, now: number): void {
    if (action.sent) this._spend(action, -1);
    action.sent = false;
    this._unsent = 0;
    if (this._retryAt) {
      // The same round: those behind a refused one are refused for the gap it left.
      this._retryAt = Math.max(this._retryAt, now + after);
      return;
    }
    const bound = Math.min(Ms.RETRY_TO, Ms.RETRY_FROM * 2 ** this._refusals++);
    this._retryAt = now + after + this._core.config.chance() * bound;
  }

  /** It begins; and where all that this history has of it is answered, begins as another. */
  private _renew(): void {
    if (this._ended) return this._ended(this.empty());
    this._begin(this._core.config.newId(), 1);
    for (const action of this.empty()) {
      action.seq = this._next++;
      action.tried = false; // Not in this history.
      // A condition on a head of the other history says nothing of this one.
      const bound = action.ifHead !== undefined;
      if (bound) this._decided(action, new HighwaterError('conflict', 'another history'));
      else this.queue.set(action.seq, action);
    }
  }

  /** Sends what is to be sent, within the limits. Actions too large for the server are refused. */
  flush(now: number): void {
    const { positions } = this._core.history;
    const { limits } = this._core.greeting!;
    if (this._over && !(this.oldest <= this._mark)) this._renew();
    if (this._retryAt) {
      if (now < this.deadline) return;
      this._retryAt = this._unsent = 0;
      // The answers to what the mark covers are on their way.
      for (const action of this._first()) action.sent &&= action.seq <= this._mark;
    }
    const { credit } = this._core;
    const { oldest } = this;
    const most = oldest + Math.min(limits.inFlight, Most.ITEMS);
    let body: Append | undefined;
    let room = 0;
    this._unsent = Math.max(this._unsent, oldest);
    // The last one that is on its way.
    let prev = this._unsent - 1;
    while (prev >= oldest && !this.queue.has(prev)) prev--;
    if (prev < oldest) prev = 0;
    for (const action of this._within(this._unsent, most)) {
      const { seq, made, bulk: size, weight } = action;
      const above = seq > this._mark;
      if (action.held || (this._over && above)) break;
      const needs = weight + Most.AROUND_RECORD;
      if (!action.tried && (size > limits.recordBytes || needs > limits.frameBytes)) {
        this._end(action, new HighwaterError('too_large', 'over the limit'));
        continue;
      }
      const before = above ? Math.max(this._mark, prev) : prev;
      // Beyond its credit it sends only where nothing is due: that answer tells more.
      const spent = credit.appends < 1 || credit.bytes < size;
      if (!action.sent && spent && prev && above) break;
      prev = seq;
      this._unsent = seq + 1;
      if (action.sent) continue;
      this._spend(action, 1);
      action.sent = action.tried = true;
      // Two histories may have given one number to two logs: a frame speaks of one of them.
      if (needs > room || body!.made!.some((one) => one !== made && one.log === made?.log)) {
        // Its lists are filled below, before it goes out.
        body = { writer: this.id, oldest: this.oldest, items: [], positions, made: [] };
        this._core.say('append', body);
        room = limits.frameBytes - Most.AROUND_LIST - Most.POSITION * positions.length;
      }
      room -= needs;
      if (made && !body!.made!.includes(made)) body!.made!.push(made);
      const { to, ifHead, record } = action;
      body!.items.push({ seq, prev: before, to, ifHead, record });
    }
  }

  /** It has its answer. */
  private _end(action: Action, result: Stored | HighwaterError): void {
    this.queue.delete(action.seq);
    this._decided(action, result);
  }
}
