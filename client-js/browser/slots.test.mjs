// More windows than slots: they come to rest, and a slot that falls free is taken.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from './server.mjs';
import { converge, launch, picture, Window } from './world.mjs';

let server, browser, context;

before(async () => {
  const limits = { active_per_user: 5, active_per_device: 5, activate_after_ms: 300 };
  server = await new Server(limits).start();
  browser = await launch();
  context = await browser.newContext();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const generations = (windows) =>
  Promise.all(windows.map(async (window) => (await window.info()).generation));

test('six visible windows on five slots come to rest', async () => {
  const windows = [];
  for (const name of ['anna', 'berta', 'cleo', 'dora', 'emma']) {
    windows.push(await (await Window.open(context, server.url, name)).state('live'));
  }
  const before = await generations(windows);
  const sixth = await (await Window.open(context, server.url, 'fanny')).state('inactive');
  for (const { page } of [...windows, sixth]) assert.equal(await page.evaluate(() => document.hidden), false);

  // It asks again and again, and takes nobody's slot.
  await sixth.page.waitForFunction(() => {
    const frames = [...document.querySelectorAll('.feed b')];
    return frames.some(({ textContent }) => +/^refused ×(\d+)$/.exec(textContent)?.[1] >= 4);
  });
  assert.deepEqual(await generations(windows), before, 'nobody was downgraded for it');
  for (const window of windows) await window.state('live');
  await picture(sixth.page, 'no-slot');

  // What it writes counts all the same.
  await sixth.write();
  await sixth.written(5);
  await sixth.rest();
  await windows[0].find(`fanny ${await sixth.page.evaluate(() => writing.n)}`);

  const left = windows.pop();
  await left.check();
  await left.page.close();
  await sixth.state('live');
  assert.equal((await sixth.info()).met, 'cloned');
  await converge(server, [...windows, sixth]);
});
