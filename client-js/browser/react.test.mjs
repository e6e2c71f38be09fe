// The React example in two windows, in StrictMode: shared by both, whole through kill -9 of the
// server, and let go when it is closed.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { serve } from '../examples/react/serve.mjs';
import { Server } from './server.mjs';
import { DEADLINE, launch, picture } from './world.mjs';

const LOG = 'lists/home';
let server, pages, browser, one, two;

/** Runs in each page before its own scripts: notes what was shown, in order. */
const watch = () => {
  const seen = (globalThis.seen = { fallbacks: 0, counts: [] });
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        const found = node.matches?.('.loading') ? 1 : node.querySelectorAll?.('.loading').length;
        seen.fallbacks += found ?? 0;
      }
    }
    const count = document.querySelector('#count')?.textContent;
    if (count !== undefined && count !== seen.counts.at(-1)) seen.counts.push(count);
  }).observe(document, { subtree: true, childList: true, characterData: true });
};

const open = async (context) => {
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE);
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(`${error.stack}`));
  page.on('console', (message) => {
    const failed = /^WebSocket connection to '[^']+' failed|net::ERR_/.test(message.text());
    if (message.type() === 'error' && !failed) page.problems.push(message.text());
  });
  await page.addInitScript(watch);
  await page.goto(`${pages.url}/?server=${server.url}`);
  await phase(page, 'live');
  await page.waitForSelector('#count');
  return page;
};
const phase = (page, wanted) => page.waitForSelector(`output[data-phase="${wanted}"]`);
const add = async (page, text) => {
  await page.fill('form input', text);
  await page.press('form input', 'Enter');
};
/** When it shows these items, all of them stored. */
const shows = (page, ...texts) =>
  page.waitForFunction((wanted) => {
    const shown = [...document.querySelectorAll('li span')].map(({ textContent }) => textContent);
    const whole = document.querySelector('#count')?.textContent === `${shown.length}`;
    return whole && !document.querySelector('.pending') && `${shown.sort()}` === `${wanted.sort()}`;
  }, texts);
/** The names of the logs that the server has for the page's connection, once there are so many. */
const subscribed = async (page, many) => {
  const id = await page.evaluate(() => client.connection);
  for (;;) {
    const { subscriptions } = await server.connection(id);
    if (subscriptions.length === many) return subscriptions.map(({ name }) => name);
  }
};

before(async () => {
  server = await new Server().start();
  pages = await serve();
  browser = await launch();
  const viewport = { width: 900, height: 640 };
  one = await open(await browser.newContext({ viewport }));
  const phone = { viewport: { width: 390, height: 700 }, colorScheme: 'dark' };
  two = await open(await browser.newContext(phone));
});

after(async () => {
  await browser?.close();
  pages?.close();
  await server?.stop();
});

test('the fallback is shown once, and all components have one subscription', async () => {
  for (const page of [one, two]) {
    assert.equal(await page.evaluate(() => seen.fallbacks), 1);
    assert.deepEqual(await subscribed(page, 1), [LOG]);
  }
  await picture(one, 'react-empty');
});

test('what is written in one shows in the other', async () => {
  await add(one, 'bread');
  await add(two, 'milk');
  const long = 'a word that is so long that it would not fit: ' + 'w'.repeat(60);
  await add(one, long);
  await shows(two, 'bread', 'milk', long);
  await two.getByLabel('bread', { exact: true }).check();
  await one.getByText('3 items, 1 done').waitFor();
  await picture(one, 'react-list');
  await picture(two, 'react-list-phone-dark');
  await two.getByLabel(/^Remove a word/).click();
  await shows(one, 'bread', 'milk');
});

test('kill -9, written meanwhile, started again: nothing is lost, nothing goes away', async () => {
  const before = await one.evaluate(() => seen.counts.length);
  await server.kill();
  for (const page of [one, two]) await phase(page, 'offline');
  await add(one, 'eggs');
  await add(two, 'tea');
  await one.waitForSelector('li.pending');
  await picture(one, 'react-offline');
  await server.start();
  for (const page of [one, two]) await phase(page, 'live');
  for (const page of [one, two]) await shows(page, 'bread', 'milk', 'eggs', 'tea');
  const counts = await one.evaluate((from) => seen.counts.slice(from), before);
  assert.deepEqual(counts, ['3', '4']);
  for (const page of [one, two]) assert.equal(await page.evaluate(() => seen.fallbacks), 1);
  const stored = await server.records(LOG);
  assert.equal(stored.length, 7, 'each is stored once');
});

test('closed, the server has no subscription any more; opened again it is whole', async () => {
  await one.click('#toggle');
  await one.waitForSelector('form', { state: 'detached' });
  await picture(one, 'react-closed');
  assert.deepEqual(await subscribed(one, 0), []);
  await add(two, 'salt');
  await one.click('#toggle');
  await shows(one, 'bread', 'milk', 'eggs', 'tea', 'salt');
  assert.deepEqual(await subscribed(one, 1), [LOG]);
  assert.equal(await one.evaluate(() => seen.fallbacks), 2, 'it was opened anew');
});

test('neither React nor the browser had anything to say', () => {
  for (const page of [one, two]) assert.deepEqual(page.problems, []);
});
