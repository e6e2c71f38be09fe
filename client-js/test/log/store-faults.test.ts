/** What browsers do wrong with their database, and what is left of it for an app. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { indexedDb } from '../../src/log/indexeddb.js';
import type { Change, Health, Store } from '../../src/log/store.js';
import { when } from '../when.js';
import { fresh, NONE } from './contract.js';
import { aborted, browser, held } from './faults.js';

const faults = browser();
const OPEN: Health = { kind: 'disk', state: 'open' };
const keep = (rows: Change[]): { rows: () => Change[] } => ({ rows: () => rows });
const state = (store: Store, state: Health['state']): Promise<Health> =>
  when(store.health, (health): health is Health => health.state === state);

/** What a page that comes later finds on disk. */
const left = async (name: string): Promise<unknown> => {
  const next = indexedDb(name, NONE);
  const rows = await next.read('');
  assert.deepEqual(next.health.value, OPEN);
  await next.close();
  return rows;
};

/** With a clock that stands still until it is moved. */
const still = async (work: (pass: (ms: number) => void) => Promise<void>): Promise<void> => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  try {
    await work((ms) => mock.timers.tick(ms));
  } finally {
    mock.timers.reset();
  }
};

/** When all that the fake browser has to do is done. */
const idle = async (): Promise<void> => {
  for (let turn = 0; turn < 50; turn++) await new Promise((done) => setImmediate(done));
};

/** The next transactions for writing, so many, are these; then all are real. */
const next = (...made: ((tx: IDBTransaction) => IDBTransaction)[]): void => {
  faults.now.begin = (begin, mode) => {
    const make = mode === 'readwrite' ? made.shift() : undefined;
    return make ? make(begin(mode)) : begin(mode);
  };
};

const opened = async (rows: Change[] = []): Promise<{ name: string; store: Store }> => {
  const name = fresh();
  const store = indexedDb(name, keep(rows));
  await store.read('');
  return { name, store };
};

test('a database that the browser found damaged, and emptied, is told', async () => {
  const { name, store } = await opened();
  await store.write([['a', 1]]);
  await store.close();
  await faults.now.clear(name);
  faults.now.damaged = 'checksum mismatch';
  const next = indexedDb(name, NONE);
  const { error: told } = await when(next.health, ({ error }) => !!error);
  assert.match(told!.message, /^the device lost what it kept: checksum mismatch$/);
  assert.equal(await next.write([['b', 2]]), 'disk');
  const { kind, state, error } = next.health.value;
  assert.deepEqual([kind, state, error], ['disk', 'open', told]);
  await next.close();
  // It is there again, and nothing was lost since.
  assert.deepEqual(await left(name), [['b', 2]]);
});

test('a disk that is full refuses a write, and what comes later is taken', async () => {
  const { name, store } = await opened();
  next((tx) => aborted(tx, 'QuotaExceededError'));
  await assert.rejects(store.write([['a', 1]]), { name: 'QuotaExceededError' });
  assert.deepEqual(store.health.value, OPEN);
  assert.equal(await store.write([['b', 2]]), 'disk');
  await store.close();
  assert.deepEqual(await left(name), [['b', 2]]);
});

test('of a tick that the disk refuses, each write is taken or refused for itself', async () => {
  const { name, store } = await opened();
  next(...Array(4).fill((tx: IDBTransaction) => aborted(tx, 'QuotaExceededError')));
  const all = Array.from({ length: 8 }, (_, n) => store.write([[`${n}`, n]]));
  const states = (await Promise.allSettled(all)).map(({ status }) => status[0]);
  // All eight, four, two, one: that one is refused.
  assert.equal(states.join(''), 'rfffffff');
  await store.close();
  assert.equal((await left(name) as unknown[]).length, 7);
});

test('what the browser rolled back without a reason of its own is refused', async () => {
  const { store } = await opened();
  next((tx) => {
    Object.defineProperty(tx, 'commit', { value: () => tx.abort() });
    return tx;
  });
  await assert.rejects(store.write([['a', 1]]), { name: 'AbortError' });
  assert.equal(await store.write([['a', 2]]), 'disk');
  await store.close();
});

test('a write without an answer is stuck after five seconds; its late complete counts', () =>
  still(async (pass) => {
    const { name, store } = await opened();
    let release = (): void => {};
    next((tx) => {
      const made = held(tx);
      release = made.release;
      return made.tx;
    });
    let answer: unknown;
    const write = store.write([['a', 1]]).finally(() => (answer = 'some'));
    await idle();
    pass(4999);
    assert.deepEqual(store.health.value, OPEN);
    pass(1);
    assert.deepEqual(store.health.value, { kind: 'disk', state: 'stuck' });
    pass(600_000);
    await idle();
    assert.equal(answer, undefined);
    release();
    assert.equal(await write, 'disk');
    await state(store, 'open');
    assert.equal(await store.write([['b', 2]]), 'disk');
    await store.close();
    assert.deepEqual(await left(name), [['a', 1], ['b', 2]]);
  }));

test('a handle that the browser closed is made anew, and what had no answer written', async () => {
  const { name, store } = await opened();
  // It is stored, and the browser closes before it says so: the same is written again.
  next((tx) => held(tx).tx);
  const runs: unknown[] = [];
  const most = (old: unknown): unknown => {
    runs.push(old);
    return Math.max(7, (old as number | undefined) ?? 0);
  };
  const write = store.write([['a', 1], ['n', most]]);
  while (!runs.length) await new Promise((done) => setImmediate(done));
  await idle();
  faults.now.closed();
  const behind = store.write([['a', 2]]);
  assert.deepEqual([await write, await behind], ['disk', 'disk']);
  assert.deepEqual(runs, [undefined, 7]);
  assert.deepEqual(store.health.value, OPEN);
  await store.close();
  assert.deepEqual(await left(name), [['a', 2], ['n', 7]]);
});

test('a transaction that the browser ends by closing is written again', async () => {
  const { name, store } = await opened();
  next((tx) => {
    Object.defineProperty(tx, 'commit', { value: () => faults.now.closed() });
    return tx;
  });
  assert.equal(await store.write([['a', 1]]), 'disk');
  assert.deepEqual(store.health.value, OPEN);
  await store.close();
  assert.deepEqual(await left(name), [['a', 1]]);
});

for (const name of ['InvalidStateError', 'UnknownError', 'NotFoundError']) {
  const fail = (): never => {
    throw new DOMException('injected', name);
  };
  test(`a handle that answers ${name} is opened anew, once`, async () => {
    const { name, store } = await opened();
    next(fail);
    assert.equal(await store.write([['a', 1]]), 'disk');
    await store.close();
    assert.deepEqual(await left(name), [['a', 1]]);
  });

  test(`twice ${name}, and memory takes its place with all that the app has, visibly`, async () => {
    const { store } = await opened([['held', 1], ['n', (old: any) => (old ?? 0) + 1]]);
    faults.now.begin = fail;
    const writes = [store.write([['a', 1]]), store.write([['b', 2]])];
    const { kind, error } = await state(store, 'lost');
    assert.equal(kind, 'memory');
    assert.equal(error?.name, name);
    assert.deepEqual(await Promise.all(writes), ['memory', 'memory']);
    assert.deepEqual(await store.read(''), [['a', 1], ['b', 2], ['held', 1], ['n', 1]]);
    faults.now.begin = undefined;
    assert.equal(await store.write([['c', 3]]), 'memory');
    await store.close();
  });
}

test('lost backing store: the commit fails twice, then memory, and order is kept', async () => {
  const { store } = await opened();
  // The second is of the new handle, which looks what it has opened, and is not harmed.
  next(...Array(3).fill((tx: IDBTransaction) => aborted(tx, 'UnknownError')));
  const all = [store.write([['a', 1]]), store.read(''), store.write([['a', undefined]])];
  assert.deepEqual(await Promise.all(all), ['memory', [['a', 1]], 'memory']);
  assert.equal(store.health.value.state, 'lost');
  await store.close();
});

test('data that a person cleared are written anew, without being asked for', async () => {
  const rows: Change[] = [];
  const { name, store } = await opened(rows);
  rows.push(['a', 1], ['b', { c: 2 }]);
  await store.write(rows);
  await faults.now.clear(name);
  assert.deepEqual(await store.read(''), rows);
  assert.deepEqual(store.health.value, OPEN);
  await store.close();
  assert.deepEqual(await left(name), rows);
});

test('a tab that deletes the database is let, and it is written anew behind it', async () => {
  const rows: Change[] = [['a', 1]];
  const { name, store } = await opened(rows);
  await store.write(rows);
  await faults.now.remove(name);
  assert.deepEqual(await store.read(''), rows);
  await store.close();
});

test('a handle that opens with the same rows is not written anew', async () => {
  const { name, store } = await opened([['stale', 1]]);
  await store.write([['a', 1]]);
  faults.now.closed();
  assert.deepEqual(await store.read(''), [['a', 1]]);
  await store.close();
  assert.deepEqual(await left(name), [['a', 1]]);
});

test('what one tab wiped, another does not bring back when it opens anew', async () => {
  const { name, store } = await opened([['secret', 1]]);
  await store.write([['secret', 1]]);
  const other = indexedDb(name, NONE);
  await other.wipe();
  await other.close();
  faults.now.handles.pop();
  faults.now.closed();
  assert.deepEqual(await store.read(''), []);
  await store.close();
});

test('an open that is never answered is stuck, and tried again until one is', () =>
  still(async (pass) => {
    faults.now.hung = 2;
    const name = fresh();
    const store = indexedDb(name, NONE);
    const write = store.write([['a', 1]]);
    await idle();
    pass(5000);
    assert.deepEqual(store.health.value, { kind: 'disk', state: 'stuck' });
    await idle();
    pass(9999);
    assert.equal(faults.now.hung, 0);
    assert.equal(faults.now.handles.length, 0);
    pass(1);
    assert.equal(await write, 'disk');
    await state(store, 'open');
    await store.close();
    assert.equal(faults.now.handles.length, 1);
    assert.deepEqual(await left(name), [['a', 1]]);
  }));

test('an open that is answered late is closed where another is in use', () =>
  still(async (pass) => {
    const { open } = faults.now.factory;
    const late: IDBOpenDBRequest[] = [];
    faults.now.open = (name, version) => {
      const request = open.call(faults.now.factory, name, version);
      if (late.length) return request;
      late.push(request);
      // Its answer waits for ours.
      const shown = { onsuccess: null, onerror: null } as unknown as IDBOpenDBRequest;
      request.onupgradeneeded = () => shown.onupgradeneeded?.call(request, {} as any);
      Object.defineProperty(shown, 'result', { get: () => request.result });
      late[0] = shown;
      return shown;
    };
    const store = indexedDb(fresh(), NONE);
    await idle();
    pass(5000);
    assert.equal(await store.write([['a', 1]]), 'disk');
    late[0]!.onsuccess!({} as Event);
    assert.throws(() => late[0]!.result.transaction('rows'), { name: 'InvalidStateError' });
    assert.deepEqual(await store.read(''), [['a', 1]]);
    await store.close();
  }));

test('a browser that refuses to open, or has no database, is memory, visibly', async () => {
  faults.now.refused = new DOMException('private mode', 'InvalidStateError');
  const one = indexedDb(fresh(), keep([['held', 1]]));
  assert.equal((await state(one, 'lost')).error, faults.now.refused);
  delete (globalThis as any).indexedDB;
  const none = indexedDb(fresh(), keep([['held', 1]]));
  assert.equal((await state(none, 'lost')).error?.name, 'ReferenceError');
  for (const store of [one, none]) {
    assert.equal(store.health.value.kind, 'memory');
    assert.equal(await store.write([['a', 1]]), 'memory');
    assert.deepEqual(await store.read(''), [['a', 1], ['held', 1]]);
    await store.close();
  }
});

test('a wipe of what was lost takes what is on disk too, or says that it cannot', async () => {
  const { name, store } = await opened([['a', 1]]);
  await store.write([['a', 1]]);
  faults.now.begin = () => {
    throw new DOMException('injected', 'UnknownError');
  };
  assert.equal(await store.write([['b', 1]]), 'memory');
  await assert.rejects(store.wipe(), { name: 'UnknownError' });
  assert.deepEqual(await store.read(''), []);
  faults.now.begin = undefined;
  assert.deepEqual(await left(name), [['a', 1]]);
  await store.wipe();
  assert.deepEqual(await left(name), []);
  await store.close();
});

test('two stores of one name see each other\'s rows, and a function compares inside', async () => {
  const { name, store } = await opened();
  const other = indexedDb(name, NONE);
  const raise = (to: number) => (old: unknown): unknown => Math.max(to, (old as number) ?? 0);
  const all = Array.from({ length: 50 }, (_, n) =>
    (n % 2 ? store : other).write([['most', raise((n * 37) % 50)], [`${n}`, n]]));
  await Promise.all(all);
  assert.deepEqual(await store.read('most'), [['most', 49]]);
  assert.deepEqual(await other.read(''), await store.read(''));
  assert.equal((await store.read('')).length, 51);
  await Promise.all([store.close(), other.close()]);
});

test('the browser is asked once to keep it, and may say no', async () => {
  const asked: string[] = [];
  const storage = { persist: () => Promise.reject(new Error(`${asked.push('once')}`)) };
  const before = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { storage }, configurable: true });
  try {
    const { store } = await opened();
    assert.deepEqual(asked, []);
    store.persist();
    store.persist();
    assert.deepEqual(asked, ['once']);
    await store.close();
  } finally {
    if (before) Object.defineProperty(globalThis, 'navigator', before);
    else delete (globalThis as any).navigator;
  }
});

test('those who watch its health are told of each change', async () => {
  const { store } = await opened();
  const seen: string[] = [];
  const off = store.health.subscribe(({ kind, state }) => seen.push(`${kind} ${state}`));
  faults.now.begin = () => {
    throw new DOMException('injected', 'UnknownError');
  };
  await store.write([['a', 1]]);
  off();
  assert.deepEqual(seen, ['disk open', 'memory lost']);
  await store.close();
});
