/**
 * Where the log of a client keeps its rows: what any storage gives, whatever it stands on.
 *
 * Promise: a write is on disk as a whole when it says `disk`, and not at all when it rejects; until
 * one of the two nobody knows, and `health` says so after a while. What cannot be kept on disk any
 * more is kept in memory, visibly.
 *
 * Keys are strings; values are what a structured clone carries (objects, strings, numbers, bytes,
 * maps). A value that was given or read is not changed afterwards. Names of members in a value are
 * kept as they are: they are none that the build makes short (`scripts/internal.mjs`).
 */

import { report, type Read } from '../emitter.js';
import type { HighwaterError } from '../errors.js';

/**
 * One row to write: `undefined` takes it away. A function is given what is there (undefined:
 * nothing), inside the transaction, and answers what is to be there. It may run more than once,
 * also on what it has written itself: a transaction that was lost without an answer may have been
 * stored, and is written again. So it is to say "at least this", not "one more".
 */
export type Change = readonly [key: string, value: unknown];

export type Row = readonly [key: string, value: any];

export type Kind = 'disk' | 'memory';

export interface Health {
  /** Where rows are kept now. */
  readonly kind: Kind;
  /**
   * `open`: nothing is known to be wrong. `stuck`: something has had no answer for five seconds;
   * it may have one yet. `lost`: it was to be on disk and cannot be; this page alone has it.
   */
  readonly state: 'open' | 'stuck' | 'lost';
  /**
   * Why it is lost; of one that is open: that the browser found it damaged and emptied it. What
   * was on this device alone is gone then.
   */
  readonly error?: Error;
}

export interface Store {
  /**
   * Rows whose keys begin so, in the order of keys (UTF-16 code units), behind all writes. Of those
   * before `from` none is asked for: they may be left out. `part` may be told of some as they come,
   * in that order, so that work on them need not wait for the rest; of the same ones also more than
   * once, where the disk had to be asked again. These are not in the answer. It must not throw.
   */
  read(prefix: string, from?: string, part?: (rows: Row[]) => void): Promise<Row[]>;
  /**
   * All of them or none, behind all that was written before; functions run in the order of the
   * changes. Resolves when it is stored, with where
   * it is now; rejects only where it was rolled back. All writes of one tick, and all that wait for
   * the same disk, share a transaction; where that fails, each is taken or refused for itself.
   */
  write(changes: readonly Change[]): Promise<Kind>;
  readonly health: Read<Health>;
  /** Asks the browser to keep it when space is short, once. */
  persist(): void;
  /** Behind all that was asked for before; nothing can be asked for after it. */
  close(): Promise<void>;
  /**
   * Everything goes; the store can be written again. Rejects where something may be left on disk,
   * since the disk was lost.
   */
  wipe(): Promise<void>;
}

export interface StoreOptions {
  /**
   * All rows that the app holds in memory now: written anew where the store reopens empty, or where
   * it falls to memory. They may be functions, as in a write; it must not throw.
   */
  readonly rows: () => Iterable<Change>;
}

/**
 * Opens the store of that name; what is asked for waits until it is open. One that cannot be opened
 * at all is memory, and its health says so.
 */
export type OpenStore = (name: string, options: StoreOptions) => Store;

/** Does it after so many ms; no process goes on for it. @internal */
export const inTime = (work: () => void, wait: number): ReturnType<typeof setTimeout> => {
  const timer = setTimeout(work, wait);
  (timer as { unref?: () => void }).unref?.();
  return timer;
};

/** What nobody awaits is reported where it fails, but for the end of its store. */
export const inBackground = (work: Promise<unknown>): void => {
  work.catch((error: unknown) => {
    if ((error as HighwaterError | undefined)?.code !== 'closed') report(error);
  });
};
