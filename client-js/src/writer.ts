/**
 * The writing side of one run: actions in their order until each has its answer.
 *
 * Promise: actions go out in the order they were made, each with the sequence that the server must
 * have decided before it. A transient refusal, or a new socket, sends the same again from the
 * server's mark on; nothing is numbered twice.
 */

import { In, Out, toJson, utf8Length, type Encoding } from './codec.js';
import { HighwaterError, isTransient } from './errors.js';
import {
  Record, type Answers, type ClientFrame, type Item, type Level, type Limits, type LogRecord,
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
  readonly seq: number;
  /** The log's name, for the view that shows it. */
  readonly log: string;
  readonly to: Target;
  readonly if_head?: number | undefined;
  readonly record: LogRecord;
  /** Size of the record as limits count it, and as the frame carries it, in bytes. */
  readonly size: number;
  readonly weight: number;
  /** Told to whoever appended it. */
  readonly done: (result: Stored | HighwaterError) => void;
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
  const out = new Out();
  Record.put(out, given);
  const record = Record.take(new In(out.done()));
  const { key = '', kind = '', headers = [], payload = '' } = record;
  const content = typeof payload === 'string' ? utf8Length(payload) : payload.length;
  const texts = [key, kind, ...headers.flat()];
  const size = texts.reduce((sum, text) => sum + utf8Length(text), content);
  return { record, size, weight: encoding === 'json' ? utf8Length(toJson(record)) : out.size };
};

/** A longer name would cost the socket; all other bad ones the server refuses by themselves. */
export const checkName = (name: string): void => {
  if (utf8Length(name) > 255) throw new HighwaterError('bad_name', 'at most 255 bytes');
};

/** Bytes that an item has around its record: numbers, a name of 255 bytes, JSON's own. */
const AROUND = 512;
const MOST_ITEMS = 1024;
/** Shortest and longest wait bound before a transient refusal is tried again, ms. */
const RETRY_FROM = 100;
const RETRY_TO = 10_000;
/** A refused round is sent again once all of it was answered, or after this many ms more. */
const ROUND = 5_000;

export class Writer {
  readonly pending: Action[] = [];
  #next = 1;
  #mark = 0;
  #refusals = 0;
  /** Not before this a refused round is sent again; 0: nothing was refused. */
  #retryAt = 0;
  /** Answers for what the server's mark covers are still on their way. */
  #settling = false;

  readonly #random: () => number;

  constructor(
    readonly id: string,
    random: () => number,
  ) {
    this.#random = random;
  }

  /** The oldest sequence without an answer. */
  get oldest(): number {
    return this.pending[0]?.seq ?? this.#next;
  }

  /** When `frames` has something to say again, ms; Infinity: not by time. */
  get deadline(): number {
    if (!this.#retryAt) return Infinity;
    return this.#round() ? this.#retryAt + ROUND : this.#retryAt;
  }

  #round(): boolean {
    return this.pending.some((action) => action.sent);
  }

  add(given: Omit<Action, 'seq' | 'sent' | 'tried'>): Action {
    const action = { ...given, seq: this.#next++, sent: false, tried: false };
    this.pending.push(action);
    return action;
  }

  /** A new socket is there: goes on above the mark; answers up to the mark are on their way. */
  welcomed(mark: number): void {
    this.#mark = mark;
    this.#retryAt = this.#refusals = 0;
    this.#settling = true;
    for (const action of this.pending) action.sent = action.seq <= mark;
  }

  /** The answers that were kept have all come: what has none is asked about once more. */
  settled(): void {
    if (!this.#settling) return;
    this.#settling = false;
    for (const action of this.pending) if (action.seq <= this.#mark) action.sent = false;
  }

  /** Takes answers; tells which actions are decided, and how. */
  answered(frame: Answers, now: number): [Action, Stored | HighwaterError][] {
    this.#mark = Math.max(this.#mark, frame.mark);
    const decided: [Action, Stored | HighwaterError][] = [];
    for (const { seq, outcome } of frame.answers) {
      const at = this.pending.findIndex((action) => action.seq === seq);
      const action = this.pending[at];
      if (!action) continue;
      if ('stored' in outcome) {
        this.#refusals = 0;
        decided.push([action, outcome.stored]);
      } else {
        const { code, message, retry_after } = outcome.refused;
        if (isTransient(code)) {
          this.#refused(action, retry_after, now);
          continue;
        }
        decided.push([action, new HighwaterError(code, message, retry_after)]);
      }
      this.pending.splice(at, 1);
    }
    return decided;
  }

  #refused(action: Action, after: number, now: number): void {
    action.sent = false;
    if (this.#retryAt) {
      // The same round: those behind a refused one are refused for the gap it left.
      this.#retryAt = Math.max(this.#retryAt, now + after);
      return;
    }
    const bound = Math.min(RETRY_TO, RETRY_FROM * 2 ** this.#refusals++);
    this.#retryAt = now + after + this.#random() * bound;
  }

  /** Frames to send now, within the limits. Actions too large for the server are given back. */
  frames(now: number, limits: Limits, refuse: (action: Action) => void): ClientFrame[] {
    if (this.#retryAt) {
      if (now < this.deadline) return [];
      this.#retryAt = 0;
      for (const action of this.pending) action.sent = false;
    }
    const frames: ClientFrame[] = [];
    const most = Math.min(limits.in_flight, MOST_ITEMS);
    let items: Item[] = [];
    let room = 0;
    let prev = 0;
    for (const action of this.pending.slice(0, most)) {
      const { seq, to, if_head, record, size, weight } = action;
      const needs = weight + AROUND;
      const large = size > limits.record_bytes || needs > limits.frame_bytes;
      if (large && !action.sent && !action.tried) {
        refuse(action);
        this.pending.splice(this.pending.indexOf(action), 1);
        continue;
      }
      const before = seq > this.#mark ? Math.max(this.#mark, prev) : prev;
      prev = seq;
      if (action.sent) continue;
      action.sent = action.tried = true;
      if (needs > room) {
        items = [];
        // The frame's list is filled below; `oldest` is the same for all of them.
        frames.push({ name: 'append', body: { writer: this.id, oldest: this.oldest, items } });
        room = limits.frame_bytes - AROUND;
      }
      room -= needs;
      items.push({ seq, prev: before, to, record, ...(if_head !== undefined && { if_head }) });
    }
    return frames;
  }
}
