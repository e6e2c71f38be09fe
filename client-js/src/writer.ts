/**
 * The writing side of one run: actions in their order until each has its answer.
 *
 * Promise: actions go out in the order they were made, each with the sequence that the server must
 * have decided before it. A transient refusal, or a new socket, sends the same again from the
 * server's mark on; nothing is numbered twice, but by another history: there the writer is over.
 * What that history has of it waits for its answers, then the rest goes on under another id.
 */

import { Most, Ms } from './bounds.js';
import { content, Io, toJson, utf8Length, type Encoding } from './codec.js';
import type { Connection } from './connection.js';
import { HighwaterError, isTransient } from './errors.js';
import {
  Record, type Answers, type Append, type Credit, type Level, type LogRecord, type Made,
  type Place, type Target,
} from './frames.js';

/** Where an append was stored. */
export interface Stored {
  /** The log id. */
  readonly log: number;
  readonly offset: number;
  readonly place: Place;
  /** How durable it is. */
  readonly level: Level;
}

/** An append without an answer. */
export interface Action {
  seq: number;
  /** The log's name, for the view that shows it. */
  readonly log: string;
  readonly to: Target;
  /** Where that log id was made. */
  readonly made: Made | undefined;
  readonly if_head?: number | undefined;
  readonly record: LogRecord;
  /** Size of the record as limits count it, and as the frame carries it, in bytes. */
  readonly size: number;
  readonly weight: number;
  /** Told to whoever appended it. */
  readonly done: (result: Stored | Promise<never>) => void;
  /** It is on this socket, its answer due. */
  sent: boolean;
  /** It was on some socket: nobody knows whether it was stored. */
  tried: boolean;
}

/**
 * A copy of a record, which the app cannot change any more, with its size as limits count it, and
 * as a frame carries it, in bytes. Throws if it cannot be carried.
 */
export const weigh = (
  given: LogRecord,
  encoding: Encoding,
): { record: LogRecord; size: number; weight: number } => {
  const io = new Io();
  const record = Record(io, given);
  const { key = '', kind = '', headers = [], payload = '' } = record;
  const size = [key, kind, payload, ...headers.flat()].reduce(
    (sum, part) => sum + content(part).length,
    0,
  );
  return { record, size, weight: encoding === 'json' ? utf8Length(toJson(record)) : io.at };
};

/** A longer name would cost the socket; all other bad ones the server refuses by themselves. */
export const checkName = (name: string): void => {
  if (utf8Length(name) > 255) throw new HighwaterError('bad_name', 'over the limit');
};

/** The credit of a server that tells none. */
const FREE = { appends: Infinity, bytes: Infinity, after: 0 };

export class Writer {
  readonly pending: Action[] = [];
  id!: string;
  /** The server's history is another: what lies above its mark is to be numbered anew. */
  #over!: boolean;
  #next!: number;
  #mark!: number;
  #refusals = 0;
  /** Not before this a refused round is sent again; 0: nothing was refused. */
  #retryAt = 0;
  /** Answers for what the server's mark covers are still on their way. */
  #settling = false;
  /** What the server has set aside for what is still to be sent. */
  #credit = FREE;

  readonly #core: Connection;

  constructor(core: Connection) {
    this.#core = core;
    this.#renew();
  }

  /** The oldest sequence without an answer. */
  get oldest(): number {
    return this.pending[0]?.seq ?? this.#next;
  }

  /** When `flush` has something to say again, ms; Infinity: not by time. */
  get deadline(): number {
    if (!this.#retryAt) return Infinity;
    return this.#round() ? this.#retryAt + Ms.ROUND : this.#retryAt;
  }

  /** Answers are due. */
  #round(): boolean {
    return this.pending.some((action) => action.sent);
  }

  /** Takes credit, from which goes what is on its way. */
  #credited(now: number, { appends, bytes, after }: Credit): void {
    // What was refused has its own time in it.
    if (after) this.#retryAt = now + after;
    this.#credit = { appends, bytes, after };
    for (const one of this.pending) if (one.sent && one.seq > this.#mark) this.#spend(one, 1);
  }

  #spend({ size }: Action, appends: number): void {
    this.#credit.appends -= appends;
    this.#credit.bytes -= appends * size;
  }

  add(given: Omit<Action, 'seq' | 'sent' | 'tried'>): Action {
    const action = { ...given, seq: this.#next++, sent: false, tried: false };
    this.pending.push(action);
    return action;
  }

  /** A new socket is there: goes on above the mark; answers up to the mark are on their way. */
  welcomed(now: number, mark: number, other = false, credit: Credit = FREE): void {
    this.#mark = mark;
    this.#over ||= other;
    this.#retryAt = this.#refusals = 0;
    this.#settling = true;
    for (const action of this.pending) action.sent = action.seq <= mark;
    this.#credited(now, credit);
  }

  /** The answers that were kept have all come: what has none is asked about once more. */
  settled(): void {
    if (!this.#settling) return;
    this.#settling = false;
    for (const action of this.pending) action.sent &&= action.seq > this.#mark;
  }

  /** Takes answers; tells the first reason that passes, if any was refused for one. */
  answered({ mark, answers, credit }: Answers, now: number): string | undefined {
    let passes: string | undefined;
    this.#mark = Math.max(this.#mark, mark);
    for (const { seq, outcome } of answers) {
      const action = this.pending.find((one) => one.seq === seq);
      if (!action) continue;
      let result;
      if ('stored' in outcome) {
        this.#refusals = 0;
        result = outcome.stored;
      } else {
        const { code, message, retry_after } = outcome.refused;
        if (isTransient(code)) {
          passes ??= code;
          this.#refused(action, retry_after, now);
          continue;
        }
        result = new HighwaterError(code, message, retry_after);
      }
      this.#end(action, result);
    }
    if (credit) this.#credited(now, credit);
    return passes;
  }

  #refused(action: Action, after: number, now: number): void {
    if (action.sent) this.#spend(action, -1);
    action.sent = false;
    if (this.#retryAt) {
      // The same round: those behind a refused one are refused for the gap it left.
      this.#retryAt = Math.max(this.#retryAt, now + after);
      return;
    }
    const bound = Math.min(Ms.RETRY_TO, Ms.RETRY_FROM * 2 ** this.#refusals++);
    this.#retryAt = now + after + this.#core.config.random() * bound;
  }

  /** It begins; and where all that this history has of it is answered, begins as another. */
  #renew(): void {
    this.#over = false;
    this.id = this.#core.config.newId();
    this.#mark = 0;
    this.#next = 1;
    for (const action of this.pending.splice(0)) {
      action.seq = this.#next++;
      action.tried = false; // Not in this history.
      // A condition on a head of the other history says nothing of this one.
      if (action.if_head! >= 0) this.#core.decided(action, new HighwaterError('conflict', ''));
      else this.pending.push(action);
    }
  }

  /** Sends what is to be sent, within the limits. Actions too large for the server are refused. */
  flush(now: number): void {
    const { positions } = this.#core.history;
    const { limits } = this.#core.welcome!;
    if (this.#over && !(this.oldest <= this.#mark)) this.#renew();
    if (this.#retryAt) {
      if (now < this.deadline) return;
      this.#retryAt = 0;
      // The answers to what the mark covers are on their way.
      for (const action of this.pending) action.sent &&= action.seq <= this.#mark;
    }
    const credit = this.#credit;
    let due = false;
    const most = Math.min(limits.in_flight, Most.ITEMS);
    let body: Append | undefined;
    let room = 0;
    let prev = 0;
    for (const action of this.pending.slice(0, most)) {
      const { seq, to, made, if_head, record, size, weight } = action;
      if (this.#over && seq > this.#mark) break;
      const needs = weight + Most.AROUND_RECORD;
      if (!action.tried && (size > limits.record_bytes || needs > limits.frame_bytes)) {
        this.#end(action, new HighwaterError('too_large', 'over the limit'));
        continue;
      }
      const before = seq > this.#mark ? Math.max(this.#mark, prev) : prev;
      prev = seq;
      // Beyond its credit it sends only where nothing is due: that answer tells more.
      const spent = credit.appends < 1 || credit.bytes < size;
      if (!action.sent && spent && due && seq > this.#mark) break;
      due = true;
      if (action.sent) continue;
      this.#spend(action, 1);
      action.sent = action.tried = true;
      // Two histories may have given one number to two logs: a frame speaks of one of them.
      if (needs > room || body!.made!.some((one) => one !== made && one.log === made?.log)) {
        // Its lists are filled below, before it goes out.
        body = { writer: this.id, oldest: this.oldest, items: [], positions, made: [] };
        this.#core.send('append', body);
        room = limits.frame_bytes - Most.AROUND_LIST - Most.POSITION * positions.length;
      }
      room -= needs;
      if (made && !body!.made!.includes(made)) body!.made!.push(made);
      body!.items.push({ seq, prev: before, to, if_head, record });
    }
  }

  /** It has its answer. */
  #end(action: Action, result: Stored | HighwaterError): void {
    this.pending.splice(this.pending.indexOf(action), 1);
    this.#core.decided(action, result);
  }
}
