// Which connection a page has: after a reload, as a duplicate, and back from the browser's cache.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect } from '../dist/highwater.js';
import { Server } from './server.mjs';
import { launch, picture, Window } from './world.mjs';

let server, browser;

before(async () => {
  const limits = { active_per_user: 8, active_per_device: 8, activate_after_ms: 300 };
  server = await new Server(limits).start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

test('a reload resumes its own connection, whichever others were left', async () => {
  const context = await browser.newContext();
  const windows = [];
  for (const name of ['anna', 'berta', 'cleo', 'dora']) {
    windows.push(await (await Window.open(context, server.url, name)).state('live'));
  }
  const ids = await Promise.all(windows.map(async (window) => (await window.info()).connection));
  assert.equal(new Set(ids).size, 4);
  await windows.pop().page.close();
  for (const at of [0, 2, 1, 0]) {
    await windows[at].page.reload();
    await windows[at].state('live');
    const { connection, met } = await windows[at].info();
    assert.deepEqual([connection, met], [ids[at], 'resumed'], windows[at].name);
  }
});

test('a duplicated tab remembers the same connection, and makes one of its own', async () => {
  const context = await browser.newContext();
  const first = await (await Window.open(context, server.url, 'anna')).state('live');
  const opens = context.waitForEvent('page');
  // A page that another opens begins with a copy of its `sessionStorage`, as a duplicate does.
  await first.page.evaluate(() => void open('/demo?window'));
  const second = await new Window(await opens, 'copy').state('live');
  const memory = await second.page.evaluate(() => Object.keys(sessionStorage));
  assert.equal(memory.length, 1);
  const ids = [(await first.info()).connection, (await second.info()).connection];
  assert.notEqual(ids[0], ids[1]);
  for (const [at, window] of [first, second].entries()) {
    await window.page.reload();
    await window.state('live');
    assert.equal((await window.info()).connection, ids[at]);
  }
});

test('a page that the browser had put by, and whose connection is taken, goes on with another', async () => {
  const context = await browser.newContext();
  const kept = await (await Window.open(context, server.url, 'kept')).state('live');
  const other = await (await Window.open(context, server.url, 'other')).state('live');
  const { connection } = await kept.info();
  await other.page.evaluate(async (connection) => {
    const { held } = await navigator.locks.query();
    const { name } = held.find(({ name }) => name.endsWith(connection));
    await new Promise((stolen) => {
      void navigator.locks.request(name, { steal: true }, () => new Promise(stolen));
    });
  }, connection);
  const token = await kept.page.evaluate(() => {
    const [key] = Object.keys(localStorage).filter((key) => key.endsWith(':token'));
    return localStorage.getItem(key);
  });
  const thief = connect(server.url, { token, connection });
  await kept.state('closed');
  await kept.page.evaluate(() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })));
  await kept.state('live');
  const { connection: now, met } = await kept.info();
  assert.notEqual(now, connection);
  assert.equal(met, 'cloned');
  assert.equal(thief.status.value.phase, 'live', 'nobody is fenced for it');
  thief.close();
  await kept.add('still at it');
  await other.find('still at it');
});

test('a full board says so, and how many notes it does not show', async () => {
  const window = await (await Window.open(await browser.newContext(), server.url, 'full')).state('live');
  const { page } = window;
  // A connection is active before its board has been read: what the board holds is known after that.
  await page.waitForFunction(() => demo.board.view.value !== undefined);
  await page.evaluate(async () => {
    const had = demo.board.notes.size;
    const note = { text: 'x', x: 700, y: 700, color: 0 };
    await Promise.all(Array.from({ length: 501 - had }, (_, at) => demo.board.change(`full-${at}`, note)));
  });
  await page.waitForFunction(() => document.querySelector('.add').disabled);
  assert.match(await page.innerText('.full'), /^The board is full: 1 more not shown$/);
  assert.equal(await page.locator('.note').count(), 500);
  await picture(page, 'full');
  await page.evaluate(() => Promise.all([demo.board.remove('full-0'), demo.board.remove('full-1')]));
  await page.waitForFunction(() => !document.querySelector('.add').disabled);
  assert.ok(await page.locator('.full').isHidden());
  await window.add('one more');
});
