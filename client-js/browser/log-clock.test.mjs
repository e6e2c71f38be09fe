// Time that passes unseen: a day without a server, and a machine that slept. The page's clock is
// the test's; the client finds out by itself, and soon.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  add, pageOf, serveLogs, servePages, settled, state, stored, storedOnce, until,
} from './log-world.mjs';
import { Profile } from './profile.mjs';

const DAY = 24 * 3_600_000;
let server, pages, profile;

before(async () => {
  server = await serveLogs();
  pages = await servePages();
  profile = await new Profile().start();
});

after(async () => {
  await profile?.close();
  pages?.close();
  await server?.stop();
});

const open = (name) =>
  profile.page(pageOf(pages, server, { user: name, list: name }), (page) => page.clock.install());
const phases = (page) => page.evaluate(() => {
  globalThis.phases = [];
  app.client.status.subscribe(({ phase }) => phases.push([phase, Date.now(), performance.now()]));
});

test('a day offline: what was done goes out with a server, but the too old', async () => {
  const page = await open('day');
  await until(page, ({ phase }) => phase === 'live');
  await server.kill();
  await until(page, ({ phase }) => phase === 'offline');
  await add(page, 'one', 'two');
  await page.evaluate(() => app.follow('ping', app.list.do.ping({ n: 1 })).saved);
  await page.clock.fastForward(DAY);
  await add(page, 'three');
  await server.start();
  const before = Date.now();
  await settled(page);
  const took = Date.now() - before;
  console.log(`all was there ${took} ms after the server`);
  assert.ok(took < 25_000, 'the longest wait before it comes back, and no more');
  await storedOnce(server, 'day', ['one', 'two', 'three']);
  assert.deepEqual(await stored(server, 'day'), ['one', 'two', 'three'], 'in the order of the day');
  assert.deepEqual((await state(page)).refused, [[{ n: 1 }, 'expired']]);
  await page.close();
});

test('a machine that slept: that the other side is gone is found out by a probe', async () => {
  const page = await open('slept');
  await until(page, ({ phase }) => phase === 'live');
  await add(page, 'before');
  await settled(page);
  await phases(page);
  // Its socket stays open, with nobody who answers; its clock goes on, its timers were held.
  server.pause();
  await page.clock.setSystemTime(Date.now() + DAY / 3);
  const before = Date.now();
  await until(page, ({ phase }) => phase !== 'live');
  const took = Date.now() - before;
  console.log(`found out after ${took} ms`);
  // It looks every five seconds, and waits five for an answer; the server's own word is 25 s apart.
  assert.ok(took < 13_000, `${took} ms`);
  await add(page, 'after');
  server.resume();
  await settled(page);
  await storedOnce(server, 'slept', ['before', 'after']);
  await page.close();
});
