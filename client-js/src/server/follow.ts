/**
 * Reads a log on for ever, and keeps how far it came.
 *
 * Promise: each record is handed over in offset order, and again only where the process ended, or
 * the handler failed, before its cursor was kept: at least once. A log that was made anew, a server
 * with another history and records that are no longer kept are told, never passed over.
 */

import type { Payload } from '../codec.js';
import { HighwaterError } from '../errors.js';
import type { Codec } from '../payload.js';
import {
  callback,
  codec,
  count,
  logName,
  maybe,
  members,
  patience,
  position,
  signal,
} from './check.js';
import type { Http, Patience } from './http.js';
import { GapFound, page, passGap, type At, type Page } from './read.js';
import { entryOf } from './records.js';
import { checkStorage, type Storage } from './storage.js';
import type { CallOptions, Entry, Gap, Signal } from './types.js';

/** How far a follower has come: all records of that log below `offset` are done. JSON. */
export interface Cursor {
  /** The log's id, and a position of the server's history: `offset` means something there alone. */
  readonly logId: number;
  readonly position: string;
  readonly offset: number;
}

/** Why a cursor means nothing any more. */
export interface Reset {
  /** The log's name. */
  readonly log: string;
  /** `epoch`: deleted, or made anew. `other_history`: the server was restored, or is another. */
  readonly reason: 'epoch' | 'other_history';
  /** How far it had come there. */
  readonly cursor: Cursor;
  readonly message: string;
}

export interface FollowOptions<T = Payload> extends CallOptions {
  /**
   * Keeps the cursor: a `fileStorage`, or one of the app's own. Without `save` the cursor is not
   * kept here, for a handler that stores it with what it made of the records: exactly once.
   */
  readonly cursor: Omit<Storage<Cursor>, 'save'> & Partial<Storage<Cursor>>;
  /** Where to begin when no cursor was kept: an offset, `'start'` (default) or `'end'`. */
  readonly from?: number | 'start' | 'end' | undefined;
  /** Most records that are handed over at once, 1 to 10,000; default 500. */
  readonly most?: number | undefined;
  readonly codec?: Codec<T> | undefined;
  /**
   * Does the work; the next records come once it resolves, and the cursor behind these is kept
   * then. Where it throws, `follow` rejects with that error, and the cursor stays before them.
   */
  readonly onRecords: (
    records: readonly Entry<T>[],
    more: { readonly cursor: Cursor; readonly signal: Signal | undefined },
  ) => void | Promise<void>;
  /** Told before the records behind it; without it a gap rejects with `bad_offset`. */
  readonly onGap?: ((gap: Gap) => void | Promise<void>) | undefined;
  /**
   * Told before it begins anew at the start; what was made of the old records is the app's to drop.
   * Without it `follow` rejects with the reason, and does so again until the storage is emptied.
   */
  readonly onReset?: ((reset: Reset) => void | Promise<void>) | undefined;
}

const OPTIONS = [
  'cursor',
  'from',
  'most',
  'codec',
  'onRecords',
  'onGap',
  'onReset',
  'signal',
  'giveUpAfter',
];
/** Milliseconds that the node is asked to wait for records: most, and where a proxy cuts sooner. */
const WAIT = 25_000;
const WAIT_LEAST = 1_000;

/** Resolves when its signal ends it. Checks its options at once. */
export const follow = <T>(http: Http, log: string, options: FollowOptions<T>): Promise<void> => {
  logName('log', log);
  members('', options, OPTIONS);
  checkStorage('cursor', options.cursor, false);
  callback('onRecords', options.onRecords);
  maybe(options.onGap, (told) => callback('onGap', told));
  maybe(options.onReset, (told) => callback('onReset', told));
  const { from = 'start' } = options;
  if (from !== 'start' && from !== 'end') count('from', from);
  maybe(options.most, (most) => count('most', most, 1, 10_000));
  codec('codec', options.codec);
  signal(options.signal);
  patience(options.giveUpAfter);
  return new Follower(http, log, options).run();
};

class Follower<T> {
  private __at: At = { from: 'start' };
  private __wait = WAIT;
  private readonly __most: number;

  constructor(
    private readonly __http: Http,
    private readonly __log: string,
    private readonly __options: FollowOptions<T>,
  ) {
    this.__most = __options.most ?? 500;
  }

  async run(): Promise<void> {
    const { cursor, from = 'start', signal, giveUpAfter = Infinity } = this.__options;
    const kept = await cursor.load();
    if (kept) this.__at = startOf(kept);
    else this.__at.from = from;
    const patience = this.__http.patience({ signal, giveUpAfter });
    while (!signal?.aborted) {
      try {
        const got = await this.__next();
        if (got.lines.length || !got.cut) patience.progress();
        await this.__hand(got);
        if (!got.lines.length && got.cut) await patience.wait(this.__broke());
      } catch (error) {
        if (error instanceof Handler || !signal?.aborted) await this.__failed(error, patience);
      }
    }
  }

  /** Resolves where it goes on. */
  private async __failed(error: unknown, patience: Patience): Promise<void> {
    if (error instanceof Handler) throw error.cause;
    try {
      if (error instanceof GapFound) await this.__gap(error);
      else if (!(await this.__reset(error))) await patience.wait(this.__known(error));
    } catch (worse) {
      if (worse instanceof Handler) throw worse.cause;
      if (!this.__options.signal?.aborted) throw worse;
    }
  }

  private async __next(): Promise<Page> {
    const { signal } = this.__options;
    const at = this.__at;
    // The end moves on while a wait is cut: it is looked for once, and waited at from then on.
    if (at.from === 'end') {
      const got = await page(this.__http, this.__log, at, { limit: 0, signal });
      await this.__keep(at.from as unknown as number);
      return got;
    }
    const asked = { limit: this.__most, signal, wait: this.__wait };
    try {
      const got = await page(this.__http, this.__log, at, asked);
      this.__wait = got.cut ? this.__less() : Math.min(WAIT, this.__wait * 2);
      return got;
    } catch (error) {
      if ((error as HighwaterError).code === 'lost') this.__wait = this.__less();
      throw error;
    }
  }

  /** A proxy may have less patience than that. */
  private __less(): number {
    return Math.max(WAIT_LEAST, this.__wait >> 1);
  }

  private __broke(): HighwaterError {
    return new HighwaterError('lost', 'the answer broke off');
  }

  private async __hand({ lines }: Page): Promise<void> {
    if (!lines.length) return;
    const { onRecords, codec: reader, signal } = this.__options;
    const entries = lines.map((line) => entryOf(line, reader));
    const cursor = this.__cursor(lines.at(-1)!.offset + 1);
    await this.__by(() => onRecords(entries, { cursor, signal }));
    await this.__keep(cursor.offset);
  }

  private __cursor(offset: number): Cursor {
    const { logId, position } = this.__at;
    return { logId: logId!, position: position!, offset };
  }

  private async __keep(offset: number): Promise<void> {
    await this.__by(() => this.__options.cursor.save?.(this.__cursor(offset)));
  }

  /** What the app does. */
  private async __by(work: () => unknown): Promise<void> {
    try {
      await work();
    } catch (error) {
      throw new Handler(error);
    }
  }

  private async __gap(error: GapFound): Promise<void> {
    await passGap(error, this.__at, this.__options.onGap);
    if (this.__at.logId !== undefined) await this.__keep(this.__at.from as number);
  }

  /** Begins anew where the cursor means nothing any more, and the app wants that. */
  private async __reset(error: unknown): Promise<boolean> {
    const { code: reason, message } = error as HighwaterError;
    const { onReset } = this.__options;
    const { logId, from } = this.__at;
    if ((reason !== 'epoch' && reason !== 'other_history') || !onReset || logId === undefined) {
      return false;
    }
    const cursor = this.__cursor(from as number);
    await this.__by(() => onReset({ log: this.__log, reason, cursor, message }));
    this.__at = { from: 'start' };
    return true;
  }

  /** A log that is not there yet is waited for. */
  private __known(error: unknown): unknown {
    const { code, message } = error as HighwaterError;
    const yet = code === 'unknown_log' && this.__at.logId === undefined;
    return yet ? new HighwaterError('timeout', message) : error;
  }
}

/** What the app's own function threw: that is no failure of ours, and is not tried again. */
class Handler extends Error {
  constructor(cause: unknown) {
    super('a handler failed', { cause });
  }
}

const startOf = (kept: Cursor): At => {
  members('cursor', kept, ['logId', 'position', 'offset']);
  const from = count('cursor.offset', kept.offset);
  const logId = count('cursor.logId', kept.logId);
  return { from, logId, position: position('cursor.position', kept.position) };
};
