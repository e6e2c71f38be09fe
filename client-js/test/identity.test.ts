/** Which connection a page takes up, with storage and locks played by the test. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Identity, newId, userOf, type Locks, type Storage } from '../src/identity.js';

const memory = (): Storage & { kept: Map<string, string> } => {
  const kept = new Map<string, string>();
  return {
    kept,
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
};

/** Web Locks in memory: exclusive ones, in the order of the requests. */
const locksOf = (): Locks => {
  const held = new Map<string, Promise<unknown>>();
  const request: Locks['request'] = async (name, { ifAvailable }, work) => {
    if (ifAvailable && held.has(name)) return work(null);
    while (held.has(name)) await held.get(name);
    const done = Promise.resolve().then(() => work({ name }));
    held.set(name, done);
    try {
      return await done;
    } finally {
      held.delete(name);
    }
  };
  return { request };
};

const page = (storage?: Storage, locks?: Locks, scope = 'highwater:u'): Identity =>
  new Identity(scope, storage, locks);

test('a reload takes up the connection that its page left; living tabs keep theirs', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const [first, second] = [page(storage, locks), page(storage, locks)];
  const [a, b] = await Promise.all([first.claim(), second.claim()]);
  assert.notEqual(a, b, 'two tabs that open at once');
  first.leave();
  await new Promise((done) => setImmediate(done)); // A lock is let go a moment later.
  assert.equal(await page(storage, locks).claim(), a);
  const third = await page(storage, locks).claim();
  assert.ok(third !== a && third !== b);
});

test('a forgotten connection is not taken up again; another user has their own', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const first = page(storage, locks);
  const id = await first.claim();
  await first.forget(id);
  assert.notEqual(await page(storage, locks).claim(), id);
  const other = page(storage, locks, 'highwater:v');
  const theirs = await other.claim();
  assert.notEqual(theirs, id);
});

test('the ids that are kept are bounded, and rubbish in the storage does no harm', async () => {
  const [storage, locks] = [memory(), locksOf()];
  for (let tab = 0; tab < 40; tab++) await page(storage, locks).claim();
  const ids = JSON.parse(storage.kept.get('highwater:u:connections')!) as string[];
  assert.equal(ids.length, 32);
  for (const rubbish of ['{', '5', '["x",7]', 'null']) {
    storage.kept.set('highwater:u:connections', rubbish);
    assert.match(await page(storage, locks).claim(), /^[0-9a-f]{32}$/);
  }
});

test('without locks or storage the ids live in memory', async () => {
  const storage = memory();
  assert.notEqual(await page(storage).claim(), await page(storage).claim());
  assert.notEqual(await page().claim(), await page().claim());
  assert.equal(page().device(), undefined);
  const broken: Storage = {
    getItem: () => { throw new Error('forbidden'); },
    setItem: () => { throw new Error('full'); },
    removeItem: () => { throw new Error('forbidden'); },
  };
  assert.match(await page(broken, locksOf()).claim(), /^[0-9a-f]{32}$/);
});

test('the device and a kept token stay', () => {
  const storage = memory();
  const device = page(storage).device();
  assert.equal(page(storage).device(), device);
  const first = page(storage);
  first.token = 'made up';
  assert.equal(page(storage).token, 'made up');
  first.token = undefined;
  assert.equal(page(storage).token, undefined);
});

test('ids are 128 random bits; the user of a token is read unchecked', () => {
  assert.match(newId(), /^[0-9a-f]{32}$/);
  assert.notEqual(newId(), newId());
  const token = (claims: string): string => `x.${Buffer.from(claims).toString('base64url')}.y`;
  assert.equal(userOf(token('{"sub":"ada"}')), 'ada');
  for (const odd of ['', 'a.b', token('{}'), token('5'), '...']) assert.equal(userOf(odd), '');
});
