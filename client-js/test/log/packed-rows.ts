/**
 * Rows as a browser has them, in memory: waiting actions that are written together stand in packs.
 * Each write is held to the promise of `packs.ts`.
 */

import assert from 'node:assert/strict';
import { outcome, Rows } from '../../src/log/memory.js';
import { looks, together, unpacked, within } from '../../src/log/packs.js';
import type { Change } from '../../src/log/store.js';

const ROW = /^(a\/[^/]+\/)(\d{16})(?:\/(\d{16}))?$/;

/** What those rows break of the promise; of rows of actions alone. */
export const broken = (rows: Iterable<readonly [string, any]>): string | undefined => {
  const before: { room?: string; last?: number } = {};
  for (const [key, value] of rows) {
    const [, room, first, last = first] = ROW.exec(key) ?? [];
    if (!room) continue;
    if (before.room === room && +first! <= before.last!) return `${key}: it is there twice`;
    Object.assign(before, { room, last: +last! });
    const { pack: list } = value;
    if (!list) continue;
    if (list.length !== +last! - +first! + 1) return `${key}: its length`;
    if (list.length > 64 || first === last) return `${key}: ${list.length} of them`;
    if (!list.some((one: unknown) => one !== undefined)) return `${key} is empty`;
    const bytes = JSON.stringify(list).length;
    if (bytes > 100_000) return `${key}: ${bytes} bytes`;
  }
  return undefined;
};

export class PackedRows extends Rows {
  /** As they stand. */
  readonly under = new Rows();

  override write(changes: readonly Change[]): void {
    const { under } = this;
    const keys = [...under.all.keys()].sort();
    const found = looks(changes, false).flatMap(([from, to]) =>
      keys.filter((key) => from <= key && key < to));
    const now = within(changes, found);
    const old = (key: string): unknown => structuredClone(under.all.get(key));
    const rest = together(structuredClone(outcome(now, old)), found);
    under.put(rest);
    const rows = under.read('');
    assert.equal(broken(rows), undefined);
    this.all.clear();
    this.put(unpacked(rows, ''));
  }
}

/** The same changes on rows of which each stands for itself. */
export const plainly = (rows: Map<string, unknown>, changes: readonly Change[]): void => {
  const now = outcome(changes, (key) => structuredClone(rows.get(key)));
  for (const [key, value] of structuredClone(now)) {
    if (value === undefined) rows.delete(key);
    else rows.set(key, value);
  }
};
