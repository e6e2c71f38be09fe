// The log in browsers other than Chromium, as far as they are installed: what was saved outlives
// the browser, tabs show what others have pending, and send it when those are dead.
// `make browsers`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BROWSERS, Driven, serveDriven } from './driven.mjs';
import { pageOf, serveLogs, storedOnce } from './log-world.mjs';

const STEPS = 200;

for (const [name, browser] of Object.entries(BROWSERS)) {
  const skip = browser.path ? false : `${name} is not installed`;
  test(`${name}: saved on disk, seen by tabs, sent for the dead`, { skip }, async (context) => {
    const server = await serveLogs();
    context.after(() => server.stop());
    const pages = await serveDriven();
    context.after(() => pages.close());
    const driven = new Driven(browser);
    context.after(() => driven.close());
    const { ask } = pages;
    const url = (tab, offline) => {
      const page = pageOf(pages, server, { user: 'ana', list: name.toLowerCase(), offline });
      return `${page.replace('/?', '/driven?')}&tab=${tab}`;
    };
    const state = (tab) => ask(tab, 'app.state()');
    const until = async (tab, test) => {
      let now;
      for (let step = 0; step < STEPS; step++) {
        now = await state(tab);
        if (test(now)) return now;
        await ask(tab, 'new Promise((done) => setTimeout(done, 50))');
      }
      return assert.fail(`never ${test}: ${JSON.stringify(now)}`);
    };
    const add = async (tab, id) => assert.equal(await ask(tab, `app.add('${id}').saved`), 'disk');
    const shows = (tab, ids) => until(tab, (now) => `${now.ids}` === `${ids}`);
    const list = name.toLowerCase();

    await driven.start(url('one', true));
    console.log(await ask('one', 'navigator.userAgent'));
    assert.ok(await ask('one', '!!navigator.locks'));
    await add('one', 'a');
    await driven.kill();
    await driven.start(url('two', true));
    const { pending, work } = await shows('two', ['a']);
    assert.deepEqual([pending, work.store], [1, { kind: 'disk', state: 'open' }]);

    const next = JSON.stringify(url('three', true));
    await ask('two', `void (globalThis.other = window.open(${next}))`);
    await shows('three', ['a']);
    await add('three', 'b');
    await shows('two', ['a', 'b']);
    assert.equal((await state('two')).pending, 2);
    // It closes with its work unsent; the other has what it left, and sends it.
    await ask('two', 'void other.close()');
    await ask('two', 'app.client.connect()');
    await until('two', ({ work, pending }) => work.waiting === 0 && pending === 0);
    await storedOnce(server, list, ['a', 'b']);
    await shows('two', ['a', 'b']);
  });
}
