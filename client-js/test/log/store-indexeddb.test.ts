import assert from 'node:assert/strict';
import { test } from 'node:test';
import { indexedDb } from '../../src/log/indexeddb.js';
import { contract } from './contract.js';
import { browser } from './faults.js';

browser();
contract({ open: indexedDb, kind: 'disk' });

test('of rows in a line those alone go that were to go, however many', async () => {
  const store = indexedDb('lines', { rows: () => [] });
  const keyOf = (writer: string, seq: number): string => `a/${writer}/${`${seq}`.padStart(16, '0')}`;
  const all = ['one', 'two'].flatMap((writer) =>
    Array.from({ length: 1500 }, (_, seq) => keyOf(writer, seq)));
  await store.write(all.map((key) => [key, key]));
  // A line of many, its ends left; every other one; and one that was never there between two.
  const gone = new Set([
    ...all.slice(1, 700), ...all.filter((_, at) => at > 800 && at % 2), keyOf('one', 1500),
    keyOf('two', 0), keyOf('three', 1),
  ]);
  await store.write([
    ...[...gone].map((key) => [key, undefined] as const),
    ['h', (old: unknown) => old ?? 'new'], ['i', 'new'],
  ]);
  const left = all.filter((key) => !gone.has(key));
  assert.deepEqual((await store.read('a/')).map(([key, value]) => [key, value]),
    left.sort().map((key) => [key, key]));
  assert.deepEqual(await store.read('h'), [['h', 'new']]);
  assert.deepEqual(await store.read('i'), [['i', 'new']]);
  await store.close();
});

test('what was read of a first part is followed by the rest, each once and in order', async () => {
  const store = indexedDb('parts', { rows: () => [] });
  const keys = Array.from({ length: 4096 * 2 + 1 }, (_, at) => `a/${`${at}`.padStart(16, '0')}`);
  for (const count of [4095, 4096, 4097, 8192, 8193]) {
    await store.write(keys.map((key, at) => [key, at < count ? at : undefined]));
    await store.write([['b', 'behind'], ['Z', 'before']]);
    assert.deepEqual(await store.read('a/'), keys.slice(0, count).map((key, at) => [key, at]));
    assert.equal((await store.read('')).length, count + 2);
    assert.deepEqual((await store.read('a/', keys[2046])).length, count - 2046);
  }
  await store.close();
});
