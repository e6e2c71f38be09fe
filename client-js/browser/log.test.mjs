// The log on the device in a real Chromium that is killed: nothing that was saved is gone, and what
// is on the device is shown without a server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  add, kept, pageOf, random, serveLogs, servePages, settled, state, stored, storedOnce, until,
} from './log-world.mjs';
import { Profile } from './profile.mjs';

const ROUNDS = 6;
let server, pages, profile;

before(async () => {
  [server, pages] = await Promise.all([serveLogs(), servePages()]);
  profile = await new Profile().start();
});

after(async () => {
  await profile?.close();
  pages?.close();
  await server?.stop();
});

/** In a page: does things without an end; some belong together, some are refused. */
const work = ([round, seed]) => {
  let now = seed;
  const chance = (below) => {
    now = (Math.imul(now, 1664525) + 1013904223) >>> 0;
    return Math.floor((now / 2 ** 32) * below);
  };
  let n = 0;
  const next = () => {
    const id = `${round}-${String(n++).padStart(4, '0')}`;
    const kind = chance(10);
    if (kind < 5) app.add(`${id}-one`);
    else if (kind < 8) for (const part of ['a', 'b']) app.add(`${id}-${part}`);
    else if (kind < 9) app.put(`${id}-denied`);
    else if (app.client.status.value.phase === 'live') app.client.disconnect();
    else app.client.connect();
    setTimeout(next, chance(12));
  };
  next();
};

/** No part of a pair is there without the other. */
const whole = (ids) => {
  for (const id of ids) {
    const [, pair, part] = /^(.*)-([ab])$/.exec(id) ?? [];
    if (pair) assert.ok(ids.has(`${pair}-${part === 'a' ? 'b' : 'a'}`), `${id} is half`);
  }
};

test('SIGKILL of the browser: what was saved is in the log once, or is refused', async () => {
  const chance = random();
  const told = { saved: new Set(), accepted: new Set(), refused: new Set(), unsaved: new Set() };
  const grants = [
    { logs: 'lists/**', can: ['read', 'append'] }, { logs: 'boards/**', can: ['read'] },
  ];
  const url = pageOf(pages, server, { user: 'killed', list: 'killed', grants });
  for (let round = 0; round < ROUNDS; round++) {
    let begun;
    const first = new Promise((resolve) => (begun = resolve));
    const page = await profile.page(url, (page) => page.exposeFunction('told', (what, id, kind) => {
      if (what === 'saved') assert.equal(kind, 'disk');
      told[what].add(id);
      begun();
    }));
    await page.evaluate(work, [round, chance(2 ** 31)]);
    await first;
    await sleep(chance(1200));
    await profile.kill();
    await profile.start();
  }
  const page = await profile.page(url);
  await settled(page);
  const { refused, ids, work: left } = await state(page);
  assert.deepEqual(left.store, { kind: 'disk', state: 'open' });
  const log = await stored(server, 'killed');
  const inLog = new Set(log);
  assert.equal(inLog.size, log.length, 'nothing is there twice');
  const inbox = refused.map(([{ text }, code]) => [text.slice('text of '.length), code]);
  const inInbox = new Map(inbox);
  assert.equal(inInbox.size, inbox.length, 'nothing is refused twice');
  for (const id of told.saved) {
    assert.ok(inLog.has(id) !== inInbox.has(id), `${id}: ${inLog.has(id)}, ${inInbox.get(id)}`);
  }
  for (const id of told.accepted) assert.ok(inLog.has(id), `${id} was accepted`);
  for (const id of told.refused) assert.ok(inInbox.has(id), `${id} was refused`);
  for (const [id, code] of inInbox) {
    assert.deepEqual([id.endsWith('denied'), code], [true, 'denied']);
  }
  whole(inLog);
  assert.deepEqual(ids, [...log].sort(), 'all of it is shown');
  assert.equal(told.unsaved.size, 0);
  console.log(`saved ${told.saved.size}, of them accepted before a kill ${told.accepted.size}, ` +
    `refused ${told.refused.size}; in the log ${log.length}, refused in the end ${inbox.length}`);
  assert.ok(told.saved.size > ROUNDS && inbox.length > 0, 'there was something to lose');
});

test('browser killed, server down: a page shows what is kept and pending', async () => {
  const url = pageOf(pages, server, { user: 'cold', list: 'cold' });
  const page = await profile.page(url);
  await add(page, 'kept-1', 'kept-2');
  await page.evaluate(() => app.cards.view.title.set('Kept').accepted);
  await settled(page);
  await kept(page, 'cold', 'lists/cold/todos', 2);
  await kept(page, 'cold', 'boards/cold', 1);
  await server.kill();
  await until(page, ({ phase }) => phase === 'offline');
  await add(page, 'pending-1', 'pending-2');
  await page.evaluate(() => app.list.do.toggle({ id: 'kept-1' }).saved);
  await page.evaluate(() => app.put('card').saved);
  await profile.kill();
  await profile.start();
  const next = await profile.page(url);
  await until(next, ({ count, pending }) => count === 4 && pending === 4);
  const shown = await state(next);
  assert.deepEqual(shown.ids, ['kept-1', 'kept-2', 'pending-1', 'pending-2']);
  assert.deepEqual([shown.done, shown.title, shown.cards], [['kept-1'], 'Kept', ['card']]);
  assert.deepEqual(shown.work, {
    unsaved: 0, waiting: 4, refused: 0, store: { kind: 'disk', state: 'open' },
  });
  // No server was there for it; how soon that is, `npm run bench:log -- shown` measures.
  await server.start();
  await settled(next);
  await storedOnce(server, 'cold', shown.ids);
  assert.equal((await server.records('lists/cold/todos')).length, 5);
  assert.equal((await server.records('boards/cold')).length, 2);
  assert.deepEqual((await state(next)).done, ['kept-1']);
});

test('the browser finds its database damaged and empties it: the client says so', async () => {
  const url = pageOf(pages, server, { user: 'torn', list: 'torn', offline: true });
  const own = await new Profile().start();
  const again = async () => {
    await own.kill(true);
    await own.start();
    return own.page(url);
  };
  const said = (page) => page.evaluate(() => app.client.work.value.store.error?.message);
  try {
    let page = await own.page(url);
    await add(page, 'first');
    await add(page, 'second');
    page = await again();
    // Half of what came last is there, and passed over.
    await until(page, ({ ids }) => ids.includes('first'));
    assert.equal(await said(page), undefined);
    await add(page, 'third');
    page = await again();
    await add(page, 'fourth');
    assert.match(await said(page), /^the device lost what it kept: .*corrupt/);
    assert.deepEqual((await state(page)).ids, ['fourth']);
    assert.equal((await state(page)).work.store.kind, 'disk');
  } finally {
    await own.close();
  }
});
