/** What every store is held to, whatever it stands on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Change, OpenStore, Row, Store } from '../../src/log/store.js';

/** A way to open stores, each name its own, and to open what one has left. */
export interface Kept {
  readonly open: OpenStore;
  readonly kind: 'disk' | 'memory';
}

let named = 0;
export const fresh = (): string => `store-${++named}`;
export const NONE = { rows: (): Change[] => [] };

/** Opens one for a test and closes it behind. */
export const using = async (
  open: OpenStore,
  work: (store: Store, name: string) => Promise<void>,
): Promise<void> => {
  const name = fresh();
  const store = open(name, NONE);
  try {
    await work(store, name);
  } finally {
    await store.close();
  }
};

const plus = (by: number) => (old: unknown): unknown => ((old as number | undefined) ?? 0) + by;

const reads = ({ open, kind }: Kept): void => {
  test('rows are read by the beginning of their keys, in the order of code units', () =>
    using(open, async (store) => {
      const keys = ['a/2', 'a/10', 'b/1', 'a', 'a/', 'a/\uffff', 'a/\u{1f600}', 'a/\ue000', 'A/1'];
      assert.equal(await store.write([...keys, ''].map((key, n) => [key, n])), kind);
      const found = async (prefix: string): Promise<string[]> =>
        (await store.read(prefix)).map(([key]) => key);
      const order = ['a/', 'a/10', 'a/2', 'a/\u{1f600}', 'a/\ue000', 'a/\uffff'];
      assert.deepEqual(await found('a/'), order);
      assert.deepEqual(await found(''), ['', 'A/1', 'a', ...order, 'b/1']);
      assert.deepEqual(await found('c'), []);
      assert.deepEqual(await store.read('b'), [['b/1', 2]]);
    }));

  test('values are kept as they are, and are nobody else\'s', () =>
    using(open, async (store) => {
      const value = {
        text: 'ä\u{1f600}', number: -0.5, none: undefined, nothing: null, yes: true,
        bytes: new Uint8Array([0, 255, 7]), map: new Map([['k', { deep: [1, 2] }]]), list: [1, 't'],
      };
      await store.write([['v', value], ['n', 0], ['e', ''], ['null', null]]);
      const given = (await store.read('v'))[0]![1];
      assert.deepEqual(given as unknown, value);
      given.map.get('k').deep.push(3);
      assert.deepEqual((await store.read('v'))[0]![1], value);
      const rest = [['e', ''], ['n', 0], ['null', null]];
      const all = await store.read('');
      assert.deepEqual(all.filter(([key]) => key !== 'v'), rest);
    }));

  test('a read sees what was written before it, in the same tick too', () =>
    using(open, async (store) => {
      void store.write([['a', 1]]);
      const one = store.read('');
      void store.write([['a', undefined], ['b', 2]]);
      const two = store.read('');
      assert.deepEqual(await one, [['a', 1]]);
      assert.deepEqual(await two, [['b', 2]]);
    }));
};

const writes = ({ open, kind }: Kept): void => {
  test('a function is given what is there, also by earlier changes of the same transaction', () =>
    using(open, async (store) => {
      const changes: Change[] = [['n', plus(1)], ['n', plus(10)], ['m', 5], ['m', plus(1)]];
      const all = [store.write(changes), store.write([['n', plus(100)], ['m', () => undefined]])];
      assert.deepEqual(await Promise.all(all), [kind, kind]);
      assert.deepEqual(await store.read(''), [['n', 111]]);
    }));

  test('many increments from many ticks are each there once', () =>
    using(open, async (store) => {
      const all: Promise<unknown>[] = [];
      for (let n = 0; n < 100; n++) {
        all.push(store.write([['n', plus(1)], [`row/${n}`, n]]));
        if (n % 7 === 0) await new Promise((done) => setImmediate(done));
      }
      await Promise.all(all);
      assert.deepEqual(await store.read('n'), [['n', 100]]);
      assert.equal((await store.read('row/')).length, 100);
    }));

  test('what is told of in parts, and the answer, are together all there is, in order', () =>
    using(open, async (store) => {
      const all = Array.from({ length: 5000 }, (_, n): Change => [`a/${10_000 + n}`, n]);
      await store.write(all);
      const told: Row[] = [];
      const rest = await store.read('a/', 'a/', (rows) => told.push(...rows));
      assert.deepEqual([...told, ...rest], all);
    }));

  test('functions of a write run in its order, on what is there in that moment', () =>
    using(open, async (store) => {
      await store.write([['b', 1], ['a', 1]]);
      const seen: unknown[] = [];
      const look = (key: string): Change => [key, (old: unknown) => {
        seen.push(key, old);
        return old;
      }];
      const all = [store.write([['a', 2]]), store.write([look('b'), look('c'), look('a')])];
      await Promise.all(all);
      // It may run more than once.
      assert.deepEqual(seen.slice(-6), ['b', 1, 'c', undefined, 'a', 2]);
    }));

  test('what cannot be cloned, or throws, is refused as a whole, and nothing beside it', () =>
    using(open, async (store) => {
      await store.write([['a', 'old']]);
      const boom = (): never => {
        throw new RangeError('boom');
      };
      const results = await Promise.allSettled([
        store.write([['before', 1]]),
        store.write([['a', 'new'], ['x', { f: boom }]]),
        store.write([['between', 2]]),
        store.write([['a', undefined], ['y', boom]]),
        store.write([]),
        store.write([['after', 3]]),
      ]);
      const states = results.map(({ status }) => status[0]);
      assert.deepEqual(states.join(''), 'frfrff');
      assert.equal((results[1] as PromiseRejectedResult).reason.name, 'DataCloneError');
      assert.equal((results[3] as PromiseRejectedResult).reason.message, 'boom');
      const rows = [['a', 'old'], ['after', 3], ['before', 1], ['between', 2]];
      assert.deepEqual(await store.read(''), rows);
      assert.deepEqual(store.health.value, { kind, state: 'open' });
    }));
};

const ends = ({ open, kind }: Kept): void => {
  test('a wipe takes all that was written before it, and the store goes on', () =>
    using(open, async (store) => {
      void store.write([['a', 1], ['', 2]]);
      const wiped = store.wipe();
      const written = store.write([['b', 2]]);
      await wiped;
      assert.equal(await written, kind);
      assert.deepEqual(await store.read(''), [['b', 2]]);
    }));

  test('a close waits for what was asked before, and nothing can be asked after it', async () => {
    const name = fresh();
    const store = open(name, NONE);
    const written = store.write([['a', 1]]);
    const closed = store.close();
    assert.equal(store.close(), closed);
    for (const late of [store.write([['b', 1]]), store.read(''), store.wipe()]) {
      await assert.rejects(late, { code: 'closed' });
    }
    await closed;
    assert.equal(await written, kind);
    const next = open(name, NONE);
    assert.deepEqual(await next.read(''), kind === 'disk' ? [['a', 1]] : []);
    await next.close();
  });

  test('stores of other names share nothing', () =>
    using(open, async (one) =>
      using(open, async (other) => {
        await Promise.all([one.write([['a', 1]]), other.write([['a', 2]])]);
        await one.wipe();
        assert.deepEqual(await one.read(''), []);
        assert.deepEqual(await other.read(''), [['a', 2]]);
      })));
};

export const contract = (kept: Kept): void => {
  for (const part of [reads, writes, ends]) part(kept);
};
