/** Which connection a page takes up, with storage and locks played by the test. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Identity, newId, userOf, type Locks, type Storage } from '../src/identity.js';
import { locksOf, memory, moment } from './page.js';

const page = (storage?: Storage, locks?: Locks, scope = 'highwater:u', tab?: Storage): Identity =>
  new Identity(scope, storage, locks, tab);

test('a reload takes up the connection that its page left; living tabs keep theirs', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const [first, second] = [page(storage, locks), page(storage, locks)];
  const [a, b] = await Promise.all([first.claim(), second.claim()]);
  assert.notEqual(a, b, 'two tabs that open at once');
  first.leave();
  await moment();
  assert.equal(await page(storage, locks).claim(), a);
  const third = await page(storage, locks).claim();
  assert.ok(third !== a && third !== b);
});

test('a tab comes back to its own connection, whichever others were left and when', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const tabs = Array.from({ length: 4 }, () => ({ tab: memory(), page: undefined as Identity | undefined, id: '' }));
  const load = async (at: number): Promise<string> => {
    const it = tabs[at]!;
    it.page?.leave();
    await moment();
    it.page = page(storage, locks, undefined, it.tab);
    return it.page.claim();
  };
  for (const [at, it] of tabs.entries()) it.id = await load(at);
  assert.equal(new Set(tabs.map(({ id }) => id)).size, 4);
  tabs[3]!.page!.leave(); // closed, the newest
  for (const at of [0, 2, 1, 0]) assert.equal(await load(at), tabs[at]!.id, `tab ${at}`);
});

test('a duplicated tab remembers the id of the first, and does not get it', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const tab = memory();
  const first = await page(storage, locks, undefined, tab).claim();
  const copy = memory();
  for (const [key, value] of tab.kept) copy.kept.set(key, value);
  const second = await page(storage, locks, undefined, copy).claim();
  assert.notEqual(second, first);
  assert.deepEqual([...tab.kept.values(), ...copy.kept.values()], [first, second]);
});

test('without a word of its tab a page takes up the newest that was left', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const pages = [page(storage, locks), page(storage, locks), page(storage, locks)];
  const ids: string[] = [];
  for (const one of pages) ids.push(await one.claim());
  for (const one of pages) one.leave();
  await moment();
  assert.equal(await page(storage, locks).claim(), ids[2]);
});

test('a page that is frozen while it claims keeps nobody waiting', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const first = await page(storage, locks).claim();
  const frozen: Locks = { request: () => new Promise(() => {}) };
  void page(storage, frozen).claim();
  const second = await page(storage, locks).claim();
  assert.notEqual(second, first);
  page(storage, locks).forget('x');
  assert.deepEqual(JSON.parse(storage.kept.get('highwater:u:connections')!), [second, first]);
});

test("the ids of another user are dropped at once, and the tab's word with them", async () => {
  const [storage, locks, tab] = [memory(), locksOf(), memory()];
  const old: string[] = [];
  for (let at = 0; at < 5; at++) {
    const one = page(storage, locks);
    old.push(await one.claim());
  }
  const mine = page(storage, locks, undefined, tab);
  old.push(await mine.claim());
  const renewed = mine.renew();
  assert.ok(!old.includes(renewed));
  await moment();
  mine.leave();
  await moment();
  assert.equal(await page(storage, locks, undefined, tab).claim(), renewed);
  assert.deepEqual(JSON.parse(storage.kept.get('highwater:u:connections')!), [renewed]);
});

test('a user whom only the token names has ids of their own', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const claim = async (user: string): Promise<string> => {
    const one = page(storage, locks, 'highwater:');
    const id = await one.claim(user);
    one.leave();
    await moment();
    return id;
  };
  const ada = await claim('ada');
  const bob = await claim('bob');
  assert.notEqual(bob, ada);
  assert.deepEqual([await claim('ada'), await claim('bob')], [ada, bob]);
});

test('a forgotten connection is not taken up again; another user has their own', async () => {
  const [storage, locks] = [memory(), locksOf()];
  const first = page(storage, locks);
  const id = await first.claim();
  first.forget(id);
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
