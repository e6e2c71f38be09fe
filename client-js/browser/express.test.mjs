// The Express example's page in two windows: who logs in reads and writes, and each message is
// there once, in one order, also over kill -9 of the node and a time without a network.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Server } from './server.mjs';
import { DEADLINE, launch, picture } from './world.mjs';

const example = fileURLToPath(new URL('../../examples/express/', import.meta.url));
/** Its log. */
const BOOK = 'guestbook';
let server, app, url, browser, ana, ben;

const install = () => {
  if (existsSync(join(example, 'node_modules', 'express'))) return;
  const { status, stderr } = spawnSync('npm', ['ci'], { cwd: example, encoding: 'utf8' });
  assert.equal(status, 0, `express could not be installed: ${stderr}`);
};

/** Starts it, the second time on the port of the first. */
const start = async () => {
  const port = url ? new URL(url).port : '0';
  const own = { HIGHWATER_URL: server.url, HIGHWATER_SECRET: server.secret, PORT: port };
  const env = { ...process.env, ...own };
  app = spawn(process.execPath, ['app.mjs'], { cwd: example, env, stdio: ['ignore', 'pipe', 2] });
  const child = app;
  process.once('exit', () => child.kill('SIGKILL'));
  const [line] = await once(createInterface(app.stdout), 'line');
  url = line.replace('listening on ', '');
};
const kill = async () => {
  const gone = once(app, 'exit');
  app.kill('SIGKILL');
  await gone;
};

const login = async (page, name) => {
  await page.goto(url);
  assert.equal(await page.isVisible('#write'), false);
  await page.fill('#login input', name);
  await page.press('#login input', 'Enter');
  await says(page, 'live');
  assert.deepEqual([await page.isVisible('#login'), await page.isVisible('#write')], [false, true]);
};
const open = async (name, options) => {
  const page = await (await browser.newContext(options)).newPage();
  page.setDefaultTimeout(DEADLINE);
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(`${error.stack}`));
  await login(page, name);
  return page;
};
const says = (page, text) =>
  page.waitForFunction((text) => document.querySelector('#status').textContent === text, text);
const write = async (page, text) => {
  await page.fill('#write input', text);
  await page.press('#write input', 'Enter');
};
const shown = (page) => page.locator('#book li').allInnerTexts();
/** When it shows so many messages. */
const shows = (page, many) =>
  page.waitForFunction((many) => document.querySelectorAll('#book li').length >= many, many);
/** What the node holds, as the page says it. */
const stored = async () =>
  (await server.records(BOOK)).map(({ payload }) => {
    const { from, text } = JSON.parse(payload);
    return `${from}: ${text}`;
  });

before(async () => {
  install();
  server = await new Server().start();
  await start();
  browser = await launch();
  ana = await open('ana', { viewport: { width: 800, height: 600 } });
  ben = await open('ben', { viewport: { width: 390, height: 700 } });
});

after(async () => {
  await browser?.close();
  app?.kill('SIGKILL');
  await server?.stop();
});

test('what one writes the other sees', async () => {
  await write(ana, 'hello');
  await shows(ben, 1);
  await write(ben, 'hello, ana');
  await shows(ana, 2);
  assert.deepEqual(await shown(ana), ['ana: hello', 'ben: hello, ana']);
  assert.deepEqual(await shown(ben), await shown(ana));
  await picture(ana, 'express');
});

test('messages written while the node is killed, or without a network, are there once', async () => {
  await server.kill();
  await write(ana, 'to a dead node');
  await ben.context().setOffline(true);
  await write(ben, 'without a network');
  await server.start();
  await shows(ana, 3);
  await ben.context().setOffline(false);
  await shows(ana, 4);
  await shows(ben, 4);
  const all = await stored();
  assert.deepEqual([...all].sort(), [
    'ana: hello', 'ana: to a dead node', 'ben: hello, ana', 'ben: without a network',
  ]);
  assert.deepEqual(await shown(ana), all);
  assert.deepEqual(await shown(ben), all);
});

test('what is refused for good is told, and is still there to send', async () => {
  // The app forgets who is logged in with its process.
  await kill();
  await start();
  await write(ana, 'who am I?');
  await says(ana, 'log in first');
  assert.equal(await ana.inputValue('#write input'), 'who am I?');
  await login(ana, 'ana');
  await shows(ana, 4);
  await write(ana, 'it is me');
  await shows(ana, 5);
  await shows(ben, 5);
  assert.deepEqual(await shown(ana), await stored());
  assert.deepEqual(await shown(ben), await stored());
  assert.deepEqual([...ana.problems, ...ben.problems], []);
});
