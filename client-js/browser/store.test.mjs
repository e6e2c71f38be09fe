// The store in a real Chromium: the browser is killed while it writes; two tabs have one database.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Profile, serve } from './profile.mjs';

const ROUNDS = 4;
let server, profile;

before(async () => {
  server = await serve();
  profile = await new Profile().start();
});

after(async () => {
  await profile?.close();
  server?.close();
});

/** In a page: opens the store of that name, once. */
const open = (page, name) =>
  page.evaluate((name) => {
    globalThis.store ??= globalThis.open(name, { rows: () => [] });
  }, name);
const read = (page, prefix) => page.evaluate((prefix) => store.read(prefix), prefix);
const health = (page) => page.evaluate(() => store.health.value);

test('SIGKILL of the browser: all that resolved as disk is there, nothing is half', async () => {
  const resolved = new Set();
  for (let round = 0; round < ROUNDS; round++) {
    const page = await profile.page(server.url);
    let enough;
    const reached = new Promise((resolve) => (enough = resolve));
    await page.exposeFunction('told', (n) => {
      resolved.add(n);
      if (resolved.size >= (round + 1) * 300) enough();
    });
    await open(page, 'killed');
    await page.evaluate(async (round) => {
      let n = round * 1_000_000;
      const one = async () => {
        const mine = n++;
        const value = { mine, text: `${mine} `.repeat(mine % 500) };
        const kind = await store.write([[`a/${mine}`, value], [`b/${mine}`, value]]);
        if (kind === 'disk') told(mine);
      };
      const write = async () => {
        // Until it is killed: some alone, some together.
        for (;;) await Promise.all(Array.from({ length: 1 + (n % 4) }, one));
      };
      void write();
    }, round);
    await reached;
    await profile.kill();
    await profile.start();
    const next = await profile.page(server.url);
    await open(next, 'killed');
    const [a, b] = [new Map(await read(next, 'a/')), new Map(await read(next, 'b/'))];
    for (const n of resolved) assert.equal(a.get(`a/${n}`)?.mine, n, `${n} had resolved`);
    assert.equal(a.size, b.size);
    for (const [key, value] of a) {
      assert.deepEqual(b.get(key.replace('a', 'b')), value, `${key} is half`);
      assert.equal(value.text, `${value.mine} `.repeat(value.mine % 500));
    }
    assert.deepEqual(await health(next), { kind: 'disk', state: 'open' });
    await next.close();
  }
});

test('two tabs have one database, and a function compares inside the transaction', async () => {
  const tabs = [await profile.page(server.url), await profile.page(server.url)];
  for (const tab of tabs) await open(tab, 'shared');
  const write = (from) =>
    Promise.all(Array.from({ length: 200 }, (_, n) => store.write([
      ['count', (old = 0) => old + 1],
      ['most', (old = 0) => Math.max(old, (n * 37) % 200)],
      [`row/${from}/${n}`, new Uint8Array([n])],
    ])));
  await Promise.all(tabs.map((tab, n) => tab.evaluate(write, n)));
  for (const tab of tabs) {
    assert.deepEqual(await read(tab, 'count'), [['count', 400]]);
    assert.deepEqual(await read(tab, 'most'), [['most', 199]]);
    assert.equal((await read(tab, 'row/')).length, 400);
  }
});

test('a tab that deletes the database is let; who has it open writes it anew', async () => {
  const [one, two] = [await profile.page(server.url), await profile.page(server.url)];
  await one.evaluate(async () => {
    const rows = [['a', 1], ['anew', new Map([['k', new Uint8Array([1])]])]];
    globalThis.store = globalThis.open('deleted', { rows: () => rows });
    await store.write([['a', 1], ['old', 1]]);
  });
  await two.evaluate(() => new Promise((settle, fail) => {
    const request = indexedDB.deleteDatabase('deleted');
    Object.assign(request, { onsuccess: settle, onerror: fail });
  }));
  assert.deepEqual((await read(one, '')).map(([key]) => key), ['a', 'anew']);
  assert.deepEqual(await health(one), { kind: 'disk', state: 'open' });
  await open(two, 'deleted');
  assert.deepEqual((await read(two, '')).map(([key]) => key), ['a', 'anew']);
});

test('a person who clears the data of the site: what the page holds is on disk again', async () => {
  const page = await profile.page(server.url);
  await page.evaluate(async () => {
    globalThis.store = globalThis.open('cleared', { rows: () => [['a', 1], ['anew', 1]] });
    await store.write([['a', 1], ['old', 1]]);
  });
  const session = await page.context().newCDPSession(page);
  const [origin, storageTypes] = [new URL(server.url).origin, 'indexeddb'];
  await session.send('Storage.clearDataForOrigin', { origin, storageTypes });
  assert.equal(await page.evaluate(() => store.write([['b', 2]])), 'disk');
  assert.deepEqual(await read(page, ''), [['a', 1], ['anew', 1], ['b', 2]]);
  assert.deepEqual(await health(page), { kind: 'disk', state: 'open' });
});
