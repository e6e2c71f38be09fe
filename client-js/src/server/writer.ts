/**
 * A writer that outlives its process.
 *
 * Promise: what it sends was durable, with its number, before the first attempt; after a restart
 * exactly that is sent again under that number, before anything else. So each record of an append
 * that was begun is stored once, and all are stored in the order of the calls.
 */

import { randomBytes } from 'node:crypto';
import { HighwaterError, asError, type Code } from '../errors.js';
import { MOST, sendBatch, type Batch } from './batch.js';
import { count, members, position, wrong } from './check.js';
import { ended, Refused, type Http } from './http.js';
import { recordOf, type NewRecord } from './records.js';
import { checkStorage, type Storage } from './storage.js';
import type { CallOptions, Outcome, Signal } from './types.js';

/** What a writer keeps: JSON. */
export interface WriterState {
  readonly version: 1;
  /** 32 hexadecimal digits. */
  readonly writer: string;
  /** The sequence of the next record. */
  readonly next: number;
  /** Names the process that saved this: another one has taken over where it is not our own. */
  readonly run: string;
  /** The newest position that was told. */
  readonly position?: string | undefined;
  /** What is being sent, and may have been stored. */
  readonly batch?: Batch | undefined;
  /** Why nothing is sent any more. */
  readonly over?: { readonly code: Code; readonly message: string } | undefined;
}

/** A record that a writer had begun to send, and whose outcome it does not know. */
export interface Owed {
  readonly log: string;
  /** The writer's id and the number that it was sent under. */
  readonly writer: string;
  readonly seq: number;
  readonly record: NewRecord;
}

/** Appends that wait for their turn. */
interface Job {
  readonly batch: Omit<Batch, 'first'>;
  readonly done: (outcomes: Outcome[]) => void;
  readonly failed: (error: HighwaterError) => void;
  readonly options: CallOptions;
  over: boolean;
}

export const freshId = (): string => randomBytes(16).toString('hex');

export class Writer {
  private __state!: WriterState;
  private __saved: string | undefined;
  private readonly __run = freshId();
  private __jobs: Job[] = [];
  private __pumping: Promise<void> | undefined;
  private __closed = false;

  /** @internal */
  constructor(
    private readonly __http: Http,
    private readonly __storage: Storage<WriterState>,
  ) {}

  /** @internal */
  async open(): Promise<this> {
    checkStorage('storage', this.__storage, true);
    const found = await this.__storage.load();
    if (found !== undefined) checkState(found);
    this.__saved = found?.run;
    await this.__save(found ?? { version: 1, writer: freshId(), next: 1, run: this.__run });
    return this;
  }

  /** 32 hexadecimal digits: the `origin.writer` of its records. */
  get id(): string {
    return this.__state.writer;
  }

  /**
   * The sequence of the next record, from 1: one more than the number of records that it has begun
   * to send. After a restart an app goes on with its record of that number.
   */
  get next(): number {
    return this.__state.next;
  }

  /** How many records were begun and have no answer. */
  get owed(): number {
    return this.__state.batch?.lines.length ?? 0;
  }

  /** Why it sends no more, until `renew()`; `undefined` while it does. */
  get over(): HighwaterError | undefined {
    const { over } = this.__state;
    return over && new HighwaterError(over.code, over.message, 0, this.owed > 0);
  }

  /**
   * Sends what is owed, as from before a restart; every append does that first by itself. Rejects
   * as an append does.
   */
  async flush(options: CallOptions = {}): Promise<void> {
    await this.add({ log: '', lines: [] }, options);
  }

  /**
   * After `over`: takes a new id, and answers the records whose outcome is not known. Which of them
   * are in the log is for the app to look at, by `origin.writer` and `seq`, before it appends them
   * again; nothing does that by itself.
   */
  async renew(): Promise<readonly Owed[]> {
    await this.__idle();
    const { writer, batch } = this.__state;
    await this.__save({ version: 1, writer: freshId(), next: 1, run: this.__run });
    return (batch?.lines ?? []).map((line, at) => ({
      log: batch!.log,
      writer,
      seq: batch!.first + at,
      record: recordOf(line),
    }));
  }

  /** Sends what is owed, and tells the node that this id is done with; a new one follows. */
  async retire(options: CallOptions = {}): Promise<void> {
    await this.flush(options);
    const { writer } = this.__state;
    // The new id is durable first: one that is retired is never used again.
    await this.__save({ version: 1, writer: freshId(), next: 1, run: this.__run });
    await this.__http.send({ method: 'POST', path: `writers/${writer}/retire` }, options);
  }

  /** Ends it once what was begun is answered; what cannot be sent stays owed in the storage. */
  async close(): Promise<void> {
    if (this.__closed) return;
    this.__closed = true;
    await this.__idle();
    if (this.__state.over) return;
    try {
      await this.__save(this.__state);
    } catch (error) {
      // It is the other process's now.
      if ((error as HighwaterError).code !== 'fenced') throw error;
    }
  }

  /** @internal Resolves at the outcome of each line. */
  add(batch: Omit<Batch, 'first'>, options: CallOptions): Promise<Outcome[]> {
    return new Promise((resolve, reject) => {
      const { signal } = options;
      const { over } = this.__state;
      if (this.__closed) return reject(new HighwaterError('closed', 'the writer was closed'));
      // What was owed before may be stored; this was not sent.
      if (over) return reject(new HighwaterError(over.code, over.message));
      if (signal?.aborted) return reject(ended(signal));
      if (batch.lines.length > MOST) wrong('records', `at most ${MOST} at once`);
      const gone = (): void => job.failed(ended(signal, !this.__jobs.includes(job)));
      const end =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          signal?.removeEventListener('abort', gone);
          if (!job.over) then(value);
          job.over = true;
        };
      const job: Job = { batch, options, over: false, done: end(resolve), failed: end(reject) };
      signal?.addEventListener('abort', gone);
      this.__jobs.push(job);
      this.__pumping ??= this.__pump();
    });
  }

  private async __idle(): Promise<void> {
    while (this.__pumping) await this.__pumping;
  }

  /** Works off what waits. Never rejects: each failure goes to those that it concerns. */
  private async __pump(): Promise<void> {
    // Those that come in this turn go together.
    await null;
    for (;;) {
      this.__jobs = this.__jobs.filter(({ over }) => !over);
      if (!this.__jobs.length) {
        // In this very turn, or an append that comes in the next would wait for nobody.
        this.__pumping = undefined;
        return;
      }
      try {
        if (this.__state.batch) await this.__send(this.__jobs.slice(0, 1));
        else await this.__begin();
      } catch (error) {
        this.__fail(asError('lost', error));
      }
    }
  }

  /** Makes the next appends durable, and sends them. */
  private async __begin(): Promise<void> {
    const jobs = together(this.__jobs);
    const lines = jobs.flatMap(({ batch }) => batch.lines);
    this.__jobs.splice(0, jobs.length);
    if (!lines.length) return jobs.forEach(({ done }) => done([]));
    const { log, logId, ifHead } = jobs.find(({ batch }) => batch.lines.length)!.batch;
    const { next } = this.__state;
    const batch: Batch = { log, logId, ifHead, first: next, lines };
    try {
      await this.__save({ ...this.__state, next: next + lines.length, batch });
    } catch (error) {
      // Nothing was sent, but a later run may find it in the storage and send it.
      const { code, message } = asError('lost', error);
      const doubt = code !== 'fenced';
      jobs.forEach(({ failed }) => failed(new HighwaterError(code, message, 0, doubt)));
      throw error;
    }
    await this.__send(jobs, jobs);
  }

  /** Sends the batch of the state, for as long as one of those who wait for it does. */
  private async __send(waiting: readonly Job[], owners: readonly Job[] = []): Promise<void> {
    const { writer, batch, position } = this.__state;
    const signal = new AbortController();
    const listening = listen(waiting, signal);
    const limits = waiting.map(({ options }) => options.giveUpAfter);
    const giveUpAfter = limits.includes(undefined) ? undefined : Math.max(...(limits as number[]));
    const onPosition = (told: string): void => {
      this.__state = { ...this.__state, position: told };
    };
    try {
      const options = { signal: signal.signal, giveUpAfter, position, onPosition };
      const outcomes = await sendBatch(this.__http, writer, batch!, options);
      // Not made durable by itself: found after a restart it is sent again, and answered alike.
      this.__state = { ...this.__state, batch: undefined };
      let at = 0;
      for (const { batch: own, done } of owners) done(outcomes.slice(at, (at += own.lines.length)));
    } catch (error) {
      const reason = asError('lost', error);
      try {
        if (ends(reason)) await this.__end(reason);
      } finally {
        owners.forEach(({ failed }) => failed(withDoubt(reason)));
      }
      // All who waited for it have gone; it is tried again with whoever comes next.
      if (reason.code !== 'closed') throw reason;
    } finally {
      listening();
    }
  }

  private async __end({ code, message }: HighwaterError): Promise<void> {
    await this.__save({ ...this.__state, over: { code, message } });
  }

  /** Whoever waits is told the same: nothing of theirs was sent. */
  private __fail({ code, message, retryAfter }: HighwaterError): void {
    const jobs = this.__jobs.splice(0);
    jobs.forEach(({ failed }) => failed(new HighwaterError(code, message, retryAfter)));
  }

  private async __save(state: WriterState): Promise<void> {
    const found = await this.__storage.load();
    if (found?.run !== this.__saved) {
      throw new HighwaterError('fenced', 'storage: another process has taken this writer over');
    }
    await this.__storage.save({ ...state, run: this.__run });
    this.__saved = this.__run;
    this.__state = state;
  }
}

/** The appends from the first on that may go in one batch. */
const together = (jobs: readonly Job[]): readonly Job[] => {
  const filled = jobs.find(({ batch }) => batch.lines.length)?.batch;
  let lines = 0;
  let to = 0;
  for (const { batch } of jobs) {
    lines += batch.lines.length;
    const same = batch.log === filled?.log && batch.logId === filled.logId;
    const alone = batch.ifHead !== undefined || filled?.ifHead !== undefined;
    if (batch.lines.length && (!same || lines > MOST || (alone && batch !== filled))) break;
    to++;
  }
  return jobs.slice(0, to);
};

/** Ends the controller once each of these has gone. Answers what takes the listeners off. */
const listen = (jobs: readonly Job[], stop: AbortController): (() => void) => {
  const signals = jobs.map(({ options }) => options.signal);
  const look = (): void => {
    if (signals.every((signal) => signal?.aborted)) stop.abort();
  };
  const all = signals.filter((signal): signal is Signal => signal !== undefined);
  all.forEach((signal) => signal.addEventListener('abort', look));
  look();
  return () => all.forEach((signal) => signal.removeEventListener('abort', look));
};

/** Its numbers mean nothing to the node any more. */
const OVER: readonly Code[] = [
  'sequence_gap',
  'sequence_reused',
  'sequence_old',
  'other_history',
  'unknown_writer',
];
/** The node does not take it as it is. A proxy that says so may be changed. */
const UNFIT: readonly Code[] = ['too_large', 'bad_request', 'bad_record', 'bad_offset'];

/** Whether no later try changes it: what is owed cannot be sent under its number. */
const ends = (error: HighwaterError): boolean =>
  OVER.includes(error.code) ||
  (UNFIT.includes(error.code) && error instanceof Refused && error.body['code'] !== undefined);

/** It is kept and will be sent again, so it may be stored yet. */
const withDoubt = ({ code, message, retryAfter, cause }: HighwaterError): HighwaterError => {
  const error = new HighwaterError(code, message, retryAfter, true);
  error.cause = cause;
  return error;
};

const checkState = (state: WriterState): void => {
  members('storage', state, ['version', 'writer', 'next', 'run', 'position', 'batch', 'over']);
  if (state.version !== 1) wrong('storage.version', 'kept by another version of this package');
  if (!/^[\da-f]{32}$/.test(state.writer)) wrong('storage.writer', '32 hexadecimal digits');
  count('storage.next', state.next, 1);
  if (state.position !== undefined) position('storage.position', state.position);
  if (state.batch && !Array.isArray(state.batch.lines)) wrong('storage.batch', 'no batch');
};
