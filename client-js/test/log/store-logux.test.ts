/**
 * A suite that nobody here wrote: what Logux asks of any store of a client's log, of ours through
 * an adapter. All of its cases hold; none had to be left out.
 */
import { eachStoreCheck, isFirstOlder, type LogStore } from '@logux/core';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, describe, test } from 'node:test';
import { file } from '../../src/log/file.js';
import { indexedDb } from '../../src/log/indexeddb.js';
import { memory } from '../../src/log/memory.js';
import type { OpenStore, Store } from '../../src/log/store.js';
import { fresh, NONE } from './contract.js';
import { browser } from './faults.js';

type Meta = Record<string, any> & { id: string; time: number; added: number };
type Entry = [action: any, meta: Meta];
type Criteria = Parameters<LogStore['removeReason']>[1];

const byAdded = ([, a]: Entry, [, b]: Entry): number => a.added - b.added;
const byTime = ([, a]: Entry, [, b]: Entry): number => (isFirstOlder(a as any, b as any) ? -1 : 1);
const number = (value: unknown): number => (value as number | undefined) ?? 0;

/** An entry is a row under its id; the last number given is one too. */
class Adapter {
  constructor(private readonly store: Store) {}

  async add(action: unknown, meta: Meta): Promise<Meta | false> {
    let last = 0;
    let result: Meta | false = false;
    await this.store.write([
      ['added', (old: unknown) => (last = number(old))],
      [`entry/${meta.id}`, (old: unknown) => {
        result = old ? false : { ...meta, added: last + 1 };
        return old ?? [action, result];
      }],
      ['added', () => (result ? last + 1 : last)],
    ]);
    return result;
  }

  private async entries(): Promise<Entry[]> {
    return (await this.store.read('entry/')).map(([, entry]) => entry);
  }

  async byId(id: string): Promise<Entry | [null, null]> {
    const found = (await this.entries()).find(([, meta]) => meta.id === id);
    return found ?? [null, null];
  }

  async changeMeta(id: string, diff: object): Promise<boolean> {
    let there = false;
    await this.store.write([[`entry/${id}`, (old: Entry | undefined) => {
      there = !!old;
      return old && [old[0], { ...old[1], ...diff }];
    }]] as any);
    return there;
  }

  clean(): Promise<void> {
    return this.store.wipe();
  }

  async get({ index, order }: { index?: string; order?: string } = {}): Promise<any> {
    const all = await this.entries();
    const some = index ? all.filter(([, meta]) => meta['indexes']?.includes(index)) : all;
    return { entries: some.sort(order === 'created' ? byTime : byAdded) };
  }

  async getLastAdded(): Promise<number> {
    return number((await this.store.read('added'))[0]?.[1]);
  }

  async getLastSynced(): Promise<{ received: number; sent: number }> {
    const rows = new Map(await this.store.read('synced/'));
    return {
      received: number(rows.get('synced/received')), sent: number(rows.get('synced/sent')),
    };
  }

  async remove(id: string): Promise<Entry | false> {
    let removed: Entry | false = false;
    await this.store.write([[`entry/${id}`, (old: any) => void (removed = old ?? false)]]);
    return removed;
  }

  async removeReason(
    reason: string,
    { id, olderThan, youngerThan, minAdded, maxAdded }: Criteria,
    callback: (action: any, meta: any) => void,
  ): Promise<void> {
    const meant = (meta: any): boolean =>
      (!id || meta.id === id) && meta.reasons?.includes(reason) &&
      (!olderThan || isFirstOlder(meta, olderThan)) &&
      (!youngerThan || isFirstOlder(youngerThan, meta)) &&
      (minAdded === undefined || meta.added >= minAdded) &&
      (maxAdded === undefined || meta.added <= maxAdded);
    const removed: Entry[] = [];
    const changes = (await this.entries()).map(([, { id }]) => [`entry/${id}`, (old: any) => {
      if (!old || !meant(old[1])) return old;
      const [action, meta] = old as Entry;
      const reasons = meta['reasons'].filter((one: string) => one !== reason);
      if (reasons.length) return [action, { ...meta, reasons }];
      removed.push([action, { ...meta, reasons }]);
      return undefined;
    }] as const);
    await this.store.write(changes);
    for (const [action, meta] of removed) callback(action, meta);
  }

  async setLastSynced(values: { sent?: number; received?: number }): Promise<void> {
    const given = Object.entries(values).filter(([, value]) => value !== undefined);
    await this.store.write(given.map(([name, value]) => [`synced/${name}`, value]));
  }
}

browser();
const folder = mkdtempSync(join(tmpdir(), 'highwater-logux-'));
after(() => rmSync(folder, { recursive: true }));

const kinds: [string, OpenStore][] = [
  ['memory', memory], ['indexedDb', indexedDb], ['file', file(folder)],
];
for (const [kind, open] of kinds) {
  describe(kind, () => {
    let store: Store | undefined;
    afterEach(async () => {
      await store?.close();
      store = undefined;
    });
    // Within a case the store is one: what it asks of a second is what the first has left.
    const make = (): LogStore => new Adapter((store ??= open(fresh(), NONE))) as any;
    eachStoreCheck((name, creator) => void test(name, creator(make) as () => Promise<void>));
  });
}
