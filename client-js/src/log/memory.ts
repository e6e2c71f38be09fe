/**
 * Rows in memory: a store for tests and for pages that have no other, what others fall to, and what
 * the file keeps beside the disk.
 *
 * Promise: it takes and gives what a disk would: what cannot be cloned is refused, and what was
 * given is not what is read.
 */

import { Keeper, type Disk } from './keeper.js';
import type { Change, OpenStore, Row } from './store.js';

/** What is there after these changes, of the keys that they name; `undefined`: nothing. */
export const outcome = (
  changes: Iterable<Change>,
  get: (key: string) => unknown,
): Map<string, unknown> => {
  const now = new Map<string, unknown>();
  for (const [key, value] of changes) {
    const old = (): unknown => (now.has(key) ? now.get(key) : get(key));
    now.set(key, typeof value === 'function' ? value(old()) : value);
  }
  return now;
};

export class Rows implements Disk {
  readonly all = new Map<string, unknown>();

  read(prefix: string): Row[] {
    const keys = [...this.all.keys()].filter((key) => key.startsWith(prefix)).sort();
    return keys.map((key) => [key, structuredClone(this.all.get(key))]);
  }

  /** Throws, and has changed nothing, where a value cannot be cloned or a function throws. */
  write(changes: Iterable<Change>): void {
    this.put(structuredClone(outcome(changes, (key) => structuredClone(this.all.get(key)))));
  }

  put(rows: Iterable<readonly [string, unknown]>): void {
    for (const [key, value] of rows) {
      if (value === undefined) this.all.delete(key);
      else this.all.set(key, value);
    }
  }

  wipe(): void {
    this.all.clear();
  }

  close(): void {}
}

/** Rows that live as long as this store. */
export const memory: OpenStore = (_name, options) =>
  new Keeper('memory', options, () => new Rows(), Rows);
