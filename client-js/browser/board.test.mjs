// One board in three windows: a user with two of them, the second a clone, and another user.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from './server.mjs';
import { converge, launch, picture, Window } from './world.mjs';

let server, browser, context, a, b, c;

before(async () => {
  server = await new Server().start();
  browser = await launch();
  context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  a = await (await Window.open(context, server.url, 'anna')).state('live');
  b = await (await Window.open(context, server.url, 'berta')).state('live');
  const other = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  c = await (await Window.open(other, server.url, 'cleo')).state('live');
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

test('a second window of a user joins as a clone of the first', async () => {
  const [first, second, third] = await Promise.all([a.info(), b.info(), c.info()]);
  assert.equal(first.met, 'fresh');
  assert.equal(second.met, 'cloned');
  assert.equal(second.source, first.connection);
  assert.equal(second.user, first.user);
  assert.notEqual(second.connection, first.connection);
  assert.equal(third.met, 'fresh');
  assert.notEqual(third.user, first.user);
});

test('what one does the others see', async () => {
  await picture(a.page, 'empty');
  const key = await a.add('from anna');
  assert.equal(await c.find('from anna'), key);
  assert.equal(await b.find('from anna'), key);

  await c.note(key).locator('textarea').fill('cleo was here');
  assert.equal(await a.find('cleo was here'), key);

  const grip = await c.note(key).locator('.grip').boundingBox();
  await c.page.mouse.move(grip.x + 9, grip.y + 9);
  await c.page.mouse.down();
  await c.page.mouse.move(grip.x - 90, grip.y - 70, { steps: 12 });
  await c.page.mouse.up();
  await c.note(key).locator('.paint').click();
  await b.note(key).locator('.grip').press('ArrowDown');
  await converge(server, [a, b, c]);

  await b.note(key).locator('.bin').click();
  for (const { page } of [a, b, c]) await page.waitForSelector('.empty', { state: 'visible' });
  await converge(server, [a, b, c]);
});

test('offline by its own switch: edits wait, are marked, and arrive once', async () => {
  await c.write();
  await c.written(5);
  await a.page.click('.offline');
  await a.state('offline');
  const { cursor } = await a.info();
  const key = await a.add('written offline');
  await a.write();
  await a.page.waitForFunction(() => parseInt(document.querySelector('.count').textContent, 10) > 6);
  assert.ok(await a.note(key).evaluate((note) => note.classList.contains('pending')));
  await picture(a.page, 'offline');
  await c.written(20);
  assert.equal((await a.info()).cursor, cursor, 'nothing comes in without a socket');
  assert.equal(await c.note(key).count(), 0, 'nothing goes out without a socket');
  await a.page.click('.offline');
  await a.state('live');
  assert.equal((await a.info()).met, 'resumed');
  await a.written(20);
  await converge(server, [a, b, c]);
  assert.equal(await c.find('written offline'), key);
});

test('without a network: the same', async () => {
  await c.write();
  await a.write();
  await a.written(5);
  await context.setOffline(true);
  await a.page.click('.cut');
  await b.page.click('.cut');
  await a.state('offline');
  await b.state('offline');
  const from = await a.page.evaluate(() => demo.log.pending.value.length);
  await a.page.waitForFunction((least) => demo.log.pending.value.length > least, from + 10);
  await c.written(20);
  await context.setOffline(false);
  await a.state('live');
  await b.state('live');
  await a.written(20);
  await converge(server, [a, b, c]);
});

test('a cut socket is back at once, by delta', async () => {
  await Promise.all([a, b, c].map((window) => window.write()));
  for (let round = 0; round < 3; round++) {
    await a.written(10);
    const { generation } = await a.info();
    await a.cut();
    await a.page.waitForFunction((before) => demo.debug.info().generation > before, generation);
    await a.page.waitForFunction(() => demo.log.status.value.phase === 'live');
    assert.equal((await a.info()).met, 'resumed');
  }
  await converge(server, [a, b, c]);
  await picture(a.page, 'board');
  await a.page.emulateMedia({ colorScheme: 'dark', reducedMotion: 'reduce' });
  await picture(a.page, 'board-dark');
});
