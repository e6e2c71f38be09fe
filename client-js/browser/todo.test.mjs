// The to-do list in real windows: what is written stays on the device, also over a reload without
// any server, is shown in all tabs, arrives once, and costs no request.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { signToken } from 'highwater/server';
import { serve } from '../examples/todo/serve.mjs';
import { Server } from './server.mjs';
import { DEADLINE, launch, picture } from './world.mjs';

const LOG = 'lists/home/todos';
const DESK = { viewport: { width: 1100, height: 820 } };
const PHONE = { viewport: { width: 390, height: 844 }, colorScheme: 'dark' };
let server, pages, port, browser, one, two, tab;
const problems = [];

/** Notes what the page asks for once it is loaded; the clock can be put on. */
const open = async (context, more = '') => {
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE);
  page.on('pageerror', (error) => problems.push(`${error.stack}`));
  page.on('console', (message) => {
    const failed = /^WebSocket connection to '[^']+' failed|net::ERR_/.test(message.text());
    if (message.type() === 'error' && !failed) problems.push(message.text());
  });
  page.asked = [];
  page.on('request', (request) => page.asked.push(request.url()));
  await page.addInitScript(() => {
    const { now } = Date;
    globalThis.later = 0;
    Date.now = () => now() + globalThis.later;
  });
  await page.goto(`${pages.url}/?server=${server.url}${more}`);
  await loaded(page);
  return page;
};
/** The page is there with all that it loads, and the worker keeps it. */
const loaded = async (page) => {
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForSelector('.list');
  await page.waitForLoadState('networkidle');
  page.asked.length = 0;
};
const phase = (page, wanted) => page.waitForSelector(`#phase[data-phase="${wanted}"]`);
const work = (page, wanted) => page.waitForSelector(`.bar .hw-work[data-state="${wanted}"]`);
const add = async (page, text) => {
  await page.fill('.add input', text);
  await page.press('.add input', 'Enter');
};
const title = async (page, text) => {
  await page.fill('.title', text);
  await page.press('.title', 'Enter');
};
const network = (page) => page.locator('.bar').getByRole('switch').click();
/** When it shows just these items, `pending` of them marked as such. */
const shows = (page, texts, pending = 0) =>
  page.waitForFunction(([texts, pending]) => {
    const shown = [...document.querySelectorAll('.items .text')].map(({ value }) => value);
    return `${shown.sort()}` === `${texts.toSorted()}` &&
      document.querySelectorAll('.items .badge').length === pending;
  }, [texts, pending]);
/** When it says so of an item: how many, and who. */
const says = (page, text, count, who) =>
  page.waitForFunction(([text, count, who]) => {
    const row = [...document.querySelectorAll('.items li')].find(
      (row) => row.querySelector('.text').value === text,
    );
    return row?.querySelector('.stepper b').textContent === `${count}` &&
      row.querySelector('.who').value === who;
  }, [text, count, who]);
const titled = (page, text) =>
  page.waitForFunction((text) => document.querySelector('.title').value === text, text);
/** How often each item was added, by what the server has stored. */
const added = async () => {
  const counts = {};
  for (const { kind, payload } of await server.records(LOG)) {
    if (kind !== 'add') continue;
    const { text } = JSON.parse(payload);
    counts[text] = (counts[text] ?? 0) + 1;
  }
  return counts;
};
/** No page and no worker reaches the files any more. */
const filesGone = async () => {
  const closed = new Promise((done) => pages.close(done));
  pages.closeAllConnections();
  await closed;
};

before(async () => {
  server = await new Server().start();
  pages = await serve();
  port = +new URL(pages.url).port;
  browser = await launch();
  one = await open(await browser.newContext(DESK));
  two = await open(await browser.newContext(PHONE));
  for (const page of [one, two]) await phase(page, 'live');
});

after(async () => {
  await browser?.close();
  pages?.close();
  await server?.stop();
});

test('what is written in one window shows in the other, both ways', async () => {
  await picture(one, 'todo-empty');
  await title(one, 'Saturday');
  await add(one, 'Bread');
  await add(two, 'Milk');
  for (const page of [one, two]) await shows(page, ['Bread', 'Milk']);
  await titled(two, 'Saturday');
  await two.getByLabel('Bread', { exact: true }).check();
  await one.getByText('1 of 2 done').waitFor();
  for (const page of [one, two]) await work(page, 'server');
  await picture(two, 'todo-phone-dark');
});

test('undo and redo take back what was done here, and nothing else', async () => {
  await one.getByLabel('Remove Milk').click();
  await shows(two, ['Bread']);
  await one.getByLabel('Undo').click();
  await shows(two, ['Bread', 'Milk']);
  await one.getByLabel('Redo').click();
  await shows(two, ['Bread']);
  await one.getByLabel('Undo').click();
  for (const page of [one, two]) await shows(page, ['Bread', 'Milk']);
});

test('offline edits of two windows meet, each by its strategy', async () => {
  for (const page of [one, two]) await network(page);
  for (const page of [one, two]) await phase(page, 'offline');
  await title(one, 'From the desk');
  await title(two, 'From the phone');
  for (const page of [one, two, two]) await page.getByLabel('One more: Milk').click();
  await one.getByLabel('Who: Milk').selectOption('Ana');
  await two.getByLabel('Who: Bread').selectOption('Ben');
  await add(one, 'Eggs');
  await add(two, 'Tea');
  await shows(one, ['Bread', 'Milk', 'Eggs'], 2);
  await work(one, 'device');
  await picture(one, 'todo-offline');
  await picture(two, 'todo-phone-offline-dark');
  // The last to reach the log is the phone.
  await network(one);
  await work(one, 'server');
  await network(two);
  for (const page of [one, two]) {
    await shows(page, ['Bread', 'Milk', 'Eggs', 'Tea']);
    await titled(page, 'From the phone');
    await says(page, 'Milk', 4, 'Ana');
    await says(page, 'Bread', 1, 'Ben');
  }
});

test('server and files gone, the page reloaded: content and pending are there', async () => {
  await server.kill();
  await filesGone();
  for (const page of [one, two]) await phase(page, 'offline');
  await add(one, 'Candles');
  await add(one, 'Soup');
  await shows(one, ['Bread', 'Milk', 'Eggs', 'Tea', 'Candles', 'Soup'], 2);
  await work(one, 'device');
  assert.deepEqual(one.asked, []);
  await one.reload();
  await loaded(one);
  await shows(one, ['Bread', 'Milk', 'Eggs', 'Tea', 'Candles', 'Soup'], 2);
  await titled(one, 'From the phone');
  await says(one, 'Milk', 4, 'Ana');
  await one.getByText('On this device: 2 changes to send').waitFor();
  await phase(one, 'offline');
  await picture(one, 'todo-reloaded');
});

test('a second tab shows what waits, also what the first does now', async () => {
  tab = await open(one.context());
  await shows(tab, ['Bread', 'Milk', 'Eggs', 'Tea', 'Candles', 'Soup'], 2);
  await add(one, 'Matches');
  await shows(tab, ['Bread', 'Milk', 'Eggs', 'Tea', 'Candles', 'Soup', 'Matches'], 3);
  await add(tab, 'Rope');
  const all = ['Bread', 'Milk', 'Eggs', 'Tea', 'Candles', 'Soup', 'Matches', 'Rope'];
  await shows(one, all, 4);
  await one.getByText('On this device: 4 changes to send').waitFor();
});

test('the first tab closed, the server back: the second sends all of it, once', async () => {
  await one.close();
  await server.start();
  const all = ['Bread', 'Milk', 'Eggs', 'Tea', 'Candles', 'Soup', 'Matches', 'Rope'];
  await phase(tab, 'live');
  for (const page of [tab, two]) await shows(page, all);
  await work(tab, 'server');
  assert.deepEqual(await added(), Object.fromEntries(all.map((text) => [text, 1])));
  assert.deepEqual(tab.asked, []);
  assert.deepEqual(two.asked, []);
});

test('a refused edit waits in the inbox, also over a page load, and is tried again', async () => {
  pages = await serve(port);
  const token = (...can) =>
    signToken({ secret: server.secret, user: 'guest', grants: [{ logs: 'lists/**', can }] });
  const context = await browser.newContext(DESK);
  const reader = await open(context, `&token=${token('read')}`);
  await phase(reader, 'live');
  await add(reader, 'Cake');
  await title(reader, 'Party');
  const items = reader.locator('.hw-refused-item');
  await items.nth(1).waitFor();
  assert.equal(await reader.locator('.items .text').count(), 8, 'it is not shown any more');
  await titled(reader, 'From the phone');
  const told = await items.allInnerTexts();
  assert.match(told.join(), /Add an item[^]*You may not change this list[^]*Yours[^]*Cake/);
  assert.match(told.join(), /There[^]*From the phone[^]*Yours[^]*Party/);
  await picture(reader, 'todo-refused');
  await reader.emulateMedia({ colorScheme: 'dark' });
  await picture(reader, 'todo-refused-dark');
  await reader.close();
  const writer = await open(context, `&token=${token('read', 'append')}`);
  await writer.locator('.hw-refused-item').nth(1).waitFor();
  const item = (text) => writer.locator('.hw-refused-item', { hasText: text });
  await item('Cake').getByRole('button', { name: 'Try again' }).click();
  await item('Party').getByRole('button', { name: 'Drop' }).click();
  await item('Party').getByRole('button', { name: 'Drop for good?' }).click();
  await writer.locator('.hw-refused').waitFor({ state: 'hidden' });
  await two.waitForSelector('.items li:nth-child(9)');
  await titled(two, 'From the phone');
  assert.equal((await added()).Cake, 1);
  await writer.close();
});

test('what waited for too long is not sent late, but offered', async () => {
  await network(two);
  await phase(two, 'offline');
  await two.getByLabel(/^Ring for everyone/).click();
  await two.evaluate(() => {
    globalThis.later = 60_000;
  });
  await network(two);
  await two.locator('.hw-refused-item[data-code="expired"]').waitFor();
  await picture(two, 'todo-phone-refused-dark');
  await two.getByRole('button', { name: 'Try again' }).click();
  await tab.waitForSelector('.bell[data-rings="1"]');
  await two.locator('.hw-refused').waitFor({ state: 'hidden' });
});

test('two devices in one page: three strategies side by side', async () => {
  await tab.getByRole('button', { name: 'Try it' }).click();
  const devices = ['Ana’s phone', 'Ben’s laptop'].map((name) => tab.getByRole('region', { name }));
  for (const device of devices) await device.getByText('On the server').waitFor();
  for (const device of devices) await device.getByRole('switch').click();
  for (const [at, device] of devices.entries()) {
    const name = device.getByLabel(/^Title on/);
    await name.fill(`Title ${at}`);
    await name.press('Enter');
    await device.getByLabel(/^One more/).click();
    await device.getByLabel(/^Who/).selectOption(['Ana', 'Ben'][at]);
  }
  await tab.locator('.meet').scrollIntoViewIfNeeded();
  await picture(tab, 'todo-apart');
  for (const device of devices) {
    await device.getByRole('switch').click();
    await device.getByText('On the server').waitFor();
  }
  for (const device of devices) {
    await device.locator('.stepper b', { hasText: '3' }).waitFor();
    const values = () => device.evaluate((root) => [
      root.querySelector('.strategy input').value, root.querySelector('.who').value,
    ]);
    while (`${await values()}` !== 'Title 1,Ben');
  }
  await picture(tab, 'todo-together');
  await tab.getByRole('button', { name: 'Hide' }).click();
});

test('it looks the same where the system chooses the colours, and fits a phone', async () => {
  await tab.emulateMedia({ forcedColors: 'active' });
  await picture(tab, 'todo-forced');
  await tab.emulateMedia({ forcedColors: 'none', colorScheme: 'dark' });
  await picture(tab, 'todo-dark');
  for (const page of [tab, two]) {
    const wide = () => page.evaluate(() => document.scrollingElement.scrollWidth > innerWidth);
    assert.equal(await wide(), false);
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, input, select')]
        .filter((one) => !one.ariaLabel && !one.textContent.trim())
        .map(({ outerHTML }) => outerHTML));
    assert.deepEqual(nameless, []);
  }
});

test('after they were loaded the pages asked for nothing, and nothing went wrong', () => {
  for (const page of [tab, two]) assert.deepEqual(page.asked, []);
  assert.deepEqual(problems, []);
});
