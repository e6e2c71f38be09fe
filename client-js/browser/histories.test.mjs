// The server's data is lost under open pages, and restored from a backup that they have seen more
// than, or made anew: they show what the server has now, and go on with it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from './server.mjs';
import { launch, stored, textOf, Window } from './world.mjs';

const LOG = 'demo/board';
let server, browser, windows;

before(async () => {
  server = await new Server().start();
  browser = await launch();
  windows = [];
  for (const name of ['anna', 'berta']) {
    const context = await browser.newContext();
    windows.push(await (await Window.open(context, server.url, name)).state('live'));
  }
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** All show what the log holds, with the own actions in it. */
const settle = async () => {
  for (const window of windows) await window.rest();
  const records = await server.records(LOG);
  for (const { page, name } of windows) {
    const whole = (head) => demo.log.status.value.phase === 'live' && demo.log.cursor === head && !document.querySelector('.pending');
    await page.waitForFunction(whole, records.length).catch(() => assert.fail(`${name} never reached ${records.length}`));
  }
  for (const window of windows) stored(records, await window.board());
  return records;
};

const resets = ({ page }) =>
  page.evaluate(() => seen.delivered.flatMap(({ reset }) => reset ?? []).filter((reason) => reason !== 'new'));

/** Both write while the server is down. */
const away = async (work, word) => {
  const writers = windows.map((window) => window.burst(5, 2));
  await work();
  await Promise.all(writers);
  for (const window of windows) {
    await window.state('live');
    await window.add(`${window.name} ${word}`);
  }
};

test('restored from a backup that has grown past what the pages have seen', async () => {
  const [anna, berta] = windows;
  await anna.add('in the backup');
  await berta.find('in the backup');
  const backup = await server.backup();
  for (const window of windows) await window.state('live');
  await anna.add('lost with the disk');
  await berta.find('lost with the disk');
  await settle();
  const before = await Promise.all(windows.map(resets));
  for (const window of windows) {
    await window.page.evaluate(() => demo.client.disconnect());
  }
  await away(async () => {
    await server.restore(backup);
    for (let n = 0; n < 20; n++) await server.note(LOG, `new-${n % 4}`, `new ${n}`);
    for (const { page } of windows) await page.evaluate(() => demo.client.connect());
  }, 'goes on');
  const records = await settle();
  const texts = records.map(textOf);
  assert.ok(!texts.includes('lost with the disk'));
  for (const { name } of windows) {
    const bursts = texts.filter((text) => new RegExp(`^${name} \\d+$`).test(text));
    assert.deepEqual(bursts, [1, 2, 3, 4, 5].map((n) => `${name} ${n}`), 'each once, in order');
  }
  for (const [at, window] of windows.entries()) {
    assert.deepEqual((await resets(window)).slice(before[at].length), ['other_history']);
    const shown = Object.values(await window.board()).map(({ text }) => text);
    assert.ok(shown.includes('in the backup') && shown.includes('new 19') && shown.includes(`${window.name} goes on`));
    assert.ok(!shown.includes('lost with the disk'));
  }
});

test('the folder is made anew under open pages', async () => {
  const before = await Promise.all(windows.map(resets));
  for (const window of windows) await window.page.evaluate(() => demo.debug.cut());
  await server.restore();
  for (const window of windows) {
    await window.cut();
    await window.state('live');
    await window.add(`${window.name} begins anew`);
  }
  const records = await settle();
  // A note is stored while it is written, so a record may have the beginning of its text alone.
  const own = windows.map(({ name }) => `${name} begins anew`);
  const others = records.map((record) => textOf(record) ?? '').filter((text) => !own.some((whole) => whole.startsWith(text)));
  assert.deepEqual(others, [], 'nothing of the folder before');
  for (const [at, window] of windows.entries()) {
    assert.deepEqual((await resets(window)).slice(before[at].length), ['other_history']);
  }
});
