/** Waiting actions in packs: what is seen above the store is what rows of their own would be. */

import assert from 'node:assert/strict';
import { forceCloseDatabase } from 'fake-indexeddb';
import { test } from 'node:test';
import fc from 'fast-check';
import { connect, indexedDb, type LogClient } from '../../src/log/index.js';
import { digits } from '../../src/log/rows.js';
import type { Change, Store } from '../../src/log/store.js';
import { token } from '../server.js';
import { when } from '../when.js';
import { fresh, NONE } from './contract.js';
import { aborted, browser, held } from './faults.js';
import { broken, PackedRows, plainly } from './packed-rows.js';
import { asyncProperty, property } from './random.js';
import { todos } from './todos.js';

const faults = browser();
const keyOf = (writer: string, seq: number): string => `a/${writer}/${digits(seq)}`;
const row = (at: number, text = `text ${at}`) =>
  ({ log: 'lists/a', at, until: undefined, record: { kind: 'add', payload: text } });
/** One writer's, from one sequence to another. */
const line = (writer: string, first: number, last: number, value: (seq: number) => unknown) =>
  Array.from({ length: last - first + 1 }, (_, at): Change =>
    [keyOf(writer, first + at), value(first + at)]);
const gone = (): undefined => undefined;

/** The database itself, as it stands. */
const raw = async (name: string, put: (readonly [string, unknown])[] = []) => {
  const done = <T>(request: IDBRequest<T>): Promise<T> => new Promise((settle, fail) => {
    request.onsuccess = () => settle(request.result);
    request.onerror = () => fail(request.error);
  });
  const opening = faults.now.factory.open(name, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore('rows');
  const db = await done(opening);
  const rows = db.transaction('rows', 'readwrite').objectStore('rows');
  for (const [key, value] of put) rows.put(value, key);
  const [keys, values] = await Promise.all([done(rows.getAllKeys()), done(rows.getAll())]);
  db.close();
  return keys.map((key, at) => [key, values[at]] as [string, any]).filter(([key]) => +key !== 0);
};
const keysOf = async (name: string): Promise<string[]> => (await raw(name)).map(([key]) => key);

type Move = readonly [what: 'add' | 'many' | 'out' | 'say' | 'read', one: number, two: number];
const moves = (...more: Move[0][]): fc.Arbitrary<Move[]> => fc.array(fc.tuple(
  fc.constantFrom('add', 'add', 'add', 'many', 'out', 'out', 'out', 'say', 'read', ...more as []),
  fc.nat(20), fc.nat(1000),
), { maxLength: 30, size: 'max' }) as fc.Arbitrary<Move[]>;

/** What is written where writers act, are answered and say something else; the next numbers. */
class Writers {
  readonly rows = new Map<string, unknown>();
  private readonly next = [1, 1, 1];

  changes([what, one, two]: Move): Change[] {
    const there = [...this.rows.keys()].filter((key) => key.startsWith('a/')).sort();
    const from = two % (there.length || 1);
    const some = there.slice(from, from + 1 + one * one);
    if (what === 'out') return [
      // In any order, and also what is gone already.
      ...some.filter((_, at) => one % 3 || at % 3).map((key): Change => [key, undefined]),
      [keyOf('w0', 1), undefined], ['h', (old: number = 0) => Math.max(old, two)],
      [`d/${two}`, row(two)],
    ];
    if (what === 'say') return some.map((key, at): Change => [key, (old: any) =>
      (at % 3 === 0 ? old && row(old.at, 'else') : at % 3 === 1 ? old : undefined)]);
    const writer = one % 3;
    const count = what === 'many' ? 60 + two % 150 : 1 + (two % 7);
    const first = this.next[writer]!;
    this.next[writer] = first + count;
    const size = what === 'add' && two % 11 === 0 ? 30_000 : two % 5;
    const made = line(`w${writer}`, first, first + count - 1, (seq) => row(seq, 'x'.repeat(size)));
    // One that another ends, or changes, in the same write.
    const both: Change[] = one % 4 ? [] : [[made[two % count]![0], one % 8 ? undefined : (old: any) => old] as const];
    return [['w/w', two], ...made, ...both];
  }
}

test('in any order of changes, what is read is what each row for itself would be', () =>
  property(moves(), (list) => {
    const writers = new Writers();
    const rows = new PackedRows();
    for (const move of list) {
      const changes = writers.changes(move);
      rows.write(changes);
      plainly(writers.rows, changes);
      if (move === list.at(-1) || move[0] === 'read') {
        assert.deepEqual(rows.read(''), [...writers.rows].sort(([a], [b]) => (a < b ? -1 : 1)));
      }
    }
  }, 60));

/** The next write is stored, and its handle is closed before it says so. */
const cut = (): void => {
  faults.now.begin = (begin, mode, db) => {
    const tx = begin(mode);
    if (mode !== 'readwrite') return tx;
    faults.now.begin = undefined;
    tx.addEventListener('complete', () => forceCloseDatabase(db as any));
    return held(tx).tx;
  };
};

test('the same in two tabs of a browser that loses handles, and all', async () => {
  let packs = 0;
  await asyncProperty(moves('read', 'read'), async (list) => {
    const name = fresh();
    const writers = new Writers();
    const options = { rows: (): Change[] => [...writers.rows] };
    const stores: Store[] = [indexedDb(name, options), indexedDb(name, options)];
    for (const [n, move] of list.entries()) {
      const changes = writers.changes(move);
      const store = stores[n % 2]!;
      const [what, one, two] = move;
      if (what === 'read' && one > 16) await faults.now.clear(name);
      else if (two % 4 === 0) cut();
      assert.equal(await store.write(changes), 'disk');
      plainly(writers.rows, changes);
      faults.now.begin = undefined;
      if (what !== 'read') continue;
      const sorted = [...writers.rows].sort(([a], [b]) => (a < b ? -1 : 1));
      for (const one of stores) assert.deepEqual(await one.read(''), sorted);
      const rows = await raw(name);
      assert.equal(broken(rows), undefined);
      packs += rows.filter(([, value]) => value?.pack).length;
    }
    for (const store of stores) await store.close();
    faults.now.handles.length = 0;
  }, 25);
  assert.ok(packs > 0);
});

test('what is made together is one row, what is alone is as it was, each bounded', async () => {
  const name = fresh();
  const store = indexedDb(name, NONE);
  await store.write(line('one', 1, 1, row));
  await Promise.all([store.write(line('one', 2, 3, row)), store.write(line('one', 4, 150, row))]);
  // Two writers at once; and some that are large.
  const two = [line('two', 1, 2, row), line('low', 7, 9, row), line('two', 3, 3, row)];
  await store.write(two.flat());
  await store.write(line('big', 1, 5, (seq) => row(seq, 'x'.repeat(30_000))));
  const lengths = (await raw(name)).map(([key, { pack }]) => [key, pack?.length]);
  assert.deepEqual(lengths, [
    [`${keyOf('big', 1)}/${digits(2)}`, 2], [`${keyOf('big', 3)}/${digits(4)}`, 2],
    [keyOf('big', 5), undefined], [`${keyOf('low', 7)}/${digits(9)}`, 3],
    [keyOf('one', 1), undefined], [`${keyOf('one', 2)}/${digits(65)}`, 64],
    [`${keyOf('one', 66)}/${digits(129)}`, 64], [`${keyOf('one', 130)}/${digits(150)}`, 21],
    [`${keyOf('two', 1)}/${digits(3)}`, 3],
  ]);
  assert.deepEqual(await store.read('a/one/'), line('one', 1, 150, row));
  assert.deepEqual(await store.read(keyOf('one', 100)), line('one', 100, 100, row));
  const told: unknown[] = [];
  assert.deepEqual(await store.read('a/one/', 'a/one/', (rows) => told.push(...rows)), []);
  assert.deepEqual(told, line('one', 1, 150, row));
  await store.close();
});

test('what is answered goes from its pack with the outcome, or neither is stored', async () => {
  const name = fresh();
  const store = indexedDb(name, NONE);
  await store.write(line('w', 1, 5, row));
  const outcome: Change[] = [[keyOf('w', 3), undefined], ['r/3', 'refused']];
  faults.now.begin = (begin, mode) =>
    mode === 'readwrite' ? aborted(begin(mode), 'QuotaExceededError') : begin(mode);
  await assert.rejects(store.write(outcome), { name: 'QuotaExceededError' });
  faults.now.begin = undefined;
  assert.deepEqual(await store.read(''), line('w', 1, 5, row));
  await store.write(outcome);
  const left = [...line('w', 1, 2, row), ...line('w', 4, 5, row)];
  assert.deepEqual(await store.read(''), [...left, ['r/3', 'refused']]);
  await store.write(line('w', 1, 5, gone));
  assert.deepEqual(await keysOf(name), ['r/3']);
  await store.close();
});

test('of several that the disk rolls back together, each is taken or refused for itself', async () => {
  const name = fresh();
  const store = indexedDb(name, NONE);
  await store.write([]);
  let left = 4;
  faults.now.begin = (begin, mode) =>
    mode === 'readwrite' && left-- > 0 ? aborted(begin(mode), 'QuotaExceededError') : begin(mode);
  const all = Array.from({ length: 8 }, (_, n) => store.write(line('w', 2 * n + 1, 2 * n + 2, row)));
  const states = (await Promise.allSettled(all)).map(({ status }) => status[0]);
  assert.equal(states.join(''), 'rfffffff');
  assert.deepEqual(await store.read('a/'), line('w', 3, 16, row));
  assert.equal(broken(await raw(name)), undefined);
  await store.close();
});

test('what is written once more, by a tab or where no answer came, stands there once', async () => {
  const name = fresh();
  const rows: Change[] = [];
  const one = indexedDb(name, { rows: () => rows });
  await one.write([['first', 1]]);
  // Stored as a pack; then each is written for itself, since the disk refuses the two together.
  cut();
  const refuse = faults.now.begin!;
  let left = 2;
  faults.now.begin = (begin, mode, db) => {
    if (mode !== 'readwrite') return begin(mode);
    // The new handle looks what it has opened.
    const tx = left === 2 ? refuse(begin, mode, db) : begin(mode);
    const told = left-- === 0 ? aborted(tx, 'QuotaExceededError') : tx;
    faults.now.begin = left < 0 ? undefined : faults.now.begin ?? again;
    return told;
  };
  const again = faults.now.begin;
  const both = [1, 2].map((seq) => one.write(line('w', seq, seq, row)));
  assert.deepEqual(await Promise.all(both), ['disk', 'disk']);
  assert.equal(left, -1);
  assert.deepEqual(await keysOf(name), [`${keyOf('w', 1)}/${digits(2)}`, 'first']);
  // Another tab has heard of what a new one writes, and writes all anew before that does.
  rows.push(...line('w', 1, 2, row), ...line('new', 1, 5, row));
  await faults.now.clear(name);
  assert.deepEqual(await one.read('a/'), [...rows].sort());
  const two = indexedDb(name, NONE);
  await two.write(line('new', 1, 1, row));
  await two.write(line('new', 2, 4, row));
  assert.equal(broken(await raw(name)), undefined);
  await two.write(line('new', 1, 5, gone));
  assert.deepEqual(await one.read('a/'), line('w', 1, 2, row));
  await Promise.all([one.close(), two.close()]);
});

test('those of packs are told of in parts, as many at once as rows of their own', async () => {
  const store = indexedDb(fresh(), NONE);
  const all = line('w', 1, 6000, row);
  await store.write(all);
  const sizes: number[] = [];
  const told: unknown[] = [];
  assert.deepEqual(await store.read('a/', 'a/', (rows) => {
    sizes.push(rows.length);
    told.push(...rows);
  }), []);
  assert.deepEqual(told, all);
  assert.ok(Math.max(...sizes) < 2048 + 64, `${sizes}`);
  await store.close();
});

test('a function is given what stands in a pack, and what it answers stands there', async () => {
  const name = fresh();
  const store = indexedDb(name, NONE);
  await store.write(line('w', 1, 4, row));
  const seen: unknown[] = [];
  await store.write(line('w', 2, 3, (seq) => (old: unknown) => {
    seen.push(old);
    return seq === 2 ? row(2, 'else') : old;
  }));
  assert.deepEqual(seen.slice(-2), [row(2), row(3)]);
  const now = [...line('w', 1, 1, row), [keyOf('w', 2), row(2, 'else')], ...line('w', 3, 4, row)];
  assert.deepEqual(await store.read('a/'), now);
  await store.close();
});

test('a database of rows of their own opens, and one of packs as docs/actions.md has it', async () => {
  const name = fresh();
  await raw(name, [
    ...line('old', 1, 3, row),
    ['a/new/0000000000000004/0000000000000007', { at: 4, pack: [row(4), undefined, row(6), row(7)] }],
  ]);
  const store = indexedDb(name, NONE);
  const rest = [...line('new', 4, 4, row), ...line('new', 6, 7, row)];
  assert.deepEqual(await store.read('a/'), [...rest, ...line('old', 1, 3, row)]);
  await store.write([...line('old', 1, 2, gone), ...line('new', 4, 6, gone)]);
  assert.deepEqual(await store.read('a/'), [...line('new', 7, 7, row), ...line('old', 3, 3, row)]);
  await store.close();
});

// The whole client on it, without a server.

const page = (): LogClient => connect('http://127.0.0.1:9', {
  token: token('ana'), store: indexedDb, autoConnect: false,
});
const name = 'highwater:log:1:ws://127.0.0.1:9/v1/connect:ana';
/** What it shows when so many wait. */
const words = async (client: LogClient, count: number): Promise<(readonly [string, string])[]> => {
  const { view, pending } = client.open(todos, { list: 'a' });
  await when(pending, (now) => now === count);
  assert.equal(client.work.value.waiting, count);
  return [...view.byId.value!.entries()].map(([id, { text }]) => [id, text] as const).sort();
};
const actions = async (): Promise<string[]> =>
  (await keysOf(name)).filter((key) => key.startsWith('a/'));

test('five of a tick are one row; who comes next shows them, and a wipe takes them', async () => {
  const one = page();
  const list = one.open(todos, { list: 'a' });
  const ids = ['1', '2', '3', '4', '5'];
  const receipts = ids.map((id) => list.do.add({ id, text: 'milk' }));
  assert.deepEqual(await Promise.all(receipts.map(({ saved }) => saved)), ids.map(() => 'disk'));
  assert.equal((await actions()).length, 1);
  // What takes it back is one more, and what is renamed stands where it stood.
  list.undo();
  list.do.rename({ id: '1', text: 'tea' });
  await list.do.rename({ id: '1', text: 'coffee' }).saved;
  await one.logout('keep');
  const two = page();
  const shown = [['1', 'coffee'], ['2', 'milk'], ['3', 'milk'], ['4', 'milk']];
  assert.deepEqual(await words(two, 7), shown);
  await two.logout('wipe');
  assert.deepEqual(await keysOf(name), []);
});

test('a database that was emptied has all of them again, each once', async () => {
  const one = page();
  const list = one.open(todos, { list: 'a' });
  const add = (id: string) => list.do.add({ id, text: 'milk' }).saved;
  await Promise.all(['1', '2', '3'].map(add));
  await faults.now.clear(name);
  await Promise.all(['4', '5', '6'].map(add));
  assert.equal(broken(await raw(name)), undefined);
  await one.close();
  const two = page();
  assert.deepEqual(await words(two, 6), ['1', '2', '3', '4', '5', '6'].map((id) => [id, 'milk']));
  await two.close();
});
