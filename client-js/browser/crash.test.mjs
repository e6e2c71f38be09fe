// The server is killed while three windows write, and started again on the same data and port.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from './server.mjs';
import { converge, launch, Window } from './world.mjs';

const ROUNDS = 3;
let server, browser, windows;

before(async () => {
  server = await new Server().start();
  browser = await launch();
  const context = await browser.newContext();
  const other = await browser.newContext();
  windows = [];
  for (const [where, name] of [[context, 'anna'], [context, 'berta'], [other, 'cleo']]) {
    windows.push(await (await Window.open(where, server.url, name)).state('live'));
  }
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

test('kill -9 in the middle of edits: all that was acknowledged is there, and all go on', async () => {
  for (const window of windows) await window.write(15);
  for (let round = 0; round < ROUNDS; round++) {
    for (const window of windows) await window.written(10);
    await server.kill();
    for (const window of windows) await window.state('offline');
    await server.start();
    for (const window of windows) await window.state('live');
  }
  for (const window of windows) await window.written(10);
  await converge(server, windows);
  for (const window of windows) {
    const lost = (await window.states()).filter(({ state }) => state === 'offline').length;
    assert.ok(lost >= ROUNDS, `${window.name} has lost its socket ${lost} times`);
  }
});
