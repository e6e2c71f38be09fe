// The page with two windows: its guide from end to end, and what a board owes to who writes on it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from './server.mjs';
import { launch, picture, stored, Window } from './world.mjs';

const LOG = 'demo/board';
let server, browser, tour, page, ana, ben;

before(async () => {
  server = await new Server().start();
  browser = await launch();
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  tour = await Window.tour(context, server.url, 'tour');
  // The server may not know how to kill itself; then the page says what to do.
  tour.expected = /status of 404/;
  page = tour.page;
  [ana, ben] = [page.locator('#ana'), page.locator('#ben')];
  for (const name of ['ana', 'ben']) await state(name, 'live');
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const state = (name, wanted) => page.waitForSelector(`#${name}[data-state="${wanted}"]`);

/** Waits until the guide has come to that step, which ticks off those before. */
const step = async (number) => {
  const there = (number) => document.querySelectorAll('#steps .past').length === number - 1;
  await page.waitForFunction(there, number);
};

const note = (pane, key) => pane.locator(`.note[data-key="${key}"]`);

/** Adds a note in a pane, as a user does; answers its key. */
const write = async (pane, text) => {
  await pane.locator('.add').click();
  await page.waitForFunction(() => document.activeElement?.matches('.note textarea'));
  const key = await page.evaluate(() => document.activeElement.closest('.note').dataset.key);
  await page.keyboard.type(text);
  await page.evaluate(() => document.activeElement.blur());
  return key;
};

const shows = (name, key, text) =>
  page.waitForFunction(
    ([name, key, text]) =>
      document.querySelector(`#${name} .note[data-key="${key}"] textarea`)?.value === text,
    [name, key, text],
  );

const place = (pane, key) => note(pane, key).evaluate((element) => element.style.translate);

const texts = (name) =>
  page.evaluate((name) => {
    const areas = [...document.querySelectorAll(`#${name} .note textarea`)];
    return areas.map(({ value }) => value).sort();
  }, name);

/** Both panes have all, and nothing waits; what they show is what is stored. */
const settle = async () => {
  await page.waitForFunction(() => demo.panes.every(({ calm }) => calm));
  await page.waitForFunction(() => !document.querySelector('.draft'));
  const records = await server.records(LOG);
  await page.waitForFunction(
    (head) => demo.panes.every(({ log, calm }) => calm && log.cursor === head),
    records.length,
  );
  for (const name of ['ana', 'ben']) {
    const board = await page.evaluate((name) => {
      const notes = [...document.querySelectorAll(`#${name} .note`)];
      const one = (note) => [
        note.dataset.key,
        { offset: note.dataset.offset, text: note.querySelector('textarea').value },
      ];
      return Object.fromEntries(notes.map(one).sort(([a], [b]) => (a < b ? -1 : 1)));
    }, name);
    stored(records, board);
  }
  await tour.check();
};

test('the second window is a clone of the first, and both go by names', async () => {
  await page.waitForFunction(() => demo.panes.every(({ calm }) => calm));
  assert.equal(await ben.locator('.why').innerText(), 'Caught up from Ana’s window.');
  const ids = await page.evaluate(() => demo.panes.map(({ client }) => client.connection));
  assert.notEqual(ids[0], ids[1]);
  await page.waitForFunction(() => document.querySelectorAll('#mine li').length === 2);
  const own = await page.locator('#mine .badge').allInnerTexts();
  assert.deepEqual(own.sort(), ['Ana', 'Ben']);
  const words = await page.evaluate(() => document.body.innerText);
  assert.doesNotMatch(words, /[0-9a-f]{6}/, 'no hex where people look');
});

test('the guide, with a server that is killed: nothing is lost', async () => {
  await step(1);
  await page.click('#steps .now button');
  await page.waitForFunction(() => document.activeElement?.matches('#ana textarea'));
  await page.keyboard.type('from Ana');
  await step(2);
  await page.click('#steps .now button');
  await step(3);
  await state('ana', 'offline');
  assert.match(await page.innerText('#told'), /^Next: Write in Ben/);
  const waits = await write(ana, 'Ana in the tunnel');
  assert.equal(await page.locator('#steps .past').count(), 2, 'only what Ben writes counts');
  assert.ok(await note(ana, waits).evaluate((card) => card.classList.contains('pending')));
  await write(ben, 'Ben meanwhile');
  await step(4);
  await picture(page, 'tour-cut');
  assert.ok(!(await texts('ana')).includes('Ben meanwhile'));
  assert.ok(!(await texts('ben')).includes('Ana in the tunnel'));
  await page.click('#steps .now button');
  await step(5);
  const all = ['Ana in the tunnel', 'Ben meanwhile', 'from Ana'];
  assert.deepEqual([await texts('ana'), await texts('ben')], [all, all]);
  await kill();
  await step(6);
  for (const name of ['ana', 'ben']) {
    assert.equal(await page.innerText(`#${name} .state`), 'Connection lost, retrying');
  }
  await write(ana, 'Ana without a server');
  await write(ben, 'Ben without a server');
  await step(7);
  await picture(page, 'tour-killed');
  await server.start();
  await step(8);
  const told = await page.innerText('#told');
  assert.equal(told, 'Nothing was lost: 5 notes, the same in both windows.');
  const every = [...all, 'Ana without a server', 'Ben without a server'].sort();
  assert.deepEqual([await texts('ana'), await texts('ben')], [every, every]);
  await settle();
  await picture(page, 'tour-done');
});

/** By the page's own button, or as it says. */
const kill = async () => {
  await page.click('#steps .now button');
  for (;;) {
    if (server.dead) return;
    const said = page.locator('#steps .now code');
    if (await said.count()) break;
    await page.evaluate(() => new Promise(requestAnimationFrame));
  }
  assert.equal(await page.innerText('#steps .now code'), 'pkill -9 -f "highwater serve"');
  await server.kill();
};

test('a step is not ticked off by what only looks like it', async () => {
  await page.click('#again');
  await step(1);
  await write(ben, 'not by Ana');
  await settle();
  await step(1);
  await write(ana, 'by Ana');
  await step(2);
  await ana.locator('.offline').click();
  await step(3);
  await ana.locator('.offline').click();
  await step(2);
  await settle();
});

test('one window writes on a note while the other moves it: both stay', async () => {
  const key = await write(ana, 'a ');
  await shows('ben', key, 'a ');
  const from = await place(ana, key);
  await note(ana, key).locator('textarea').focus();
  await page.keyboard.press('End');
  // Both at once: the moves go to Ben's grip while Ana's text has the focus.
  const moves = ben.page().evaluate(async (key) => {
    const grip = document.querySelector(`#ben .note[data-key="${key}"] .grip`);
    for (let times = 0; times < 12; times++) {
      grip.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown' }));
      await new Promise(requestAnimationFrame);
    }
  }, key);
  await page.keyboard.type('sentence that goes on', { delay: 15 });
  await moves;
  for (const name of ['ana', 'ben']) await shows(name, key, 'a sentence that goes on');
  await settle();
  const [x, y] = from.split(' ').map(parseFloat);
  for (const pane of [ana, ben]) assert.equal(await place(pane, key), `${x}px ${y + 12 * 16}px`);
});

test('written by one while cut, moved and coloured by the other: both stay', async () => {
  const key = await write(ana, 'before');
  await shows('ben', key, 'before');
  await ana.locator('.offline').click();
  await state('ana', 'offline');
  await note(ana, key).locator('textarea').fill('written in the tunnel');
  await note(ben, key).locator('.grip').press('ArrowRight');
  await note(ben, key).locator('.paint').click();
  const color = await note(ben, key).getAttribute('data-color');
  const at = await place(ben, key);
  await page.waitForFunction(() => demo.panes[1].calm && !document.querySelector('#ben .draft'));
  await ana.locator('.offline').click();
  await shows('ben', key, 'written in the tunnel');
  await settle();
  for (const pane of [ana, ben]) {
    assert.equal(await place(pane, key), at);
    assert.equal(await note(pane, key).getAttribute('data-color'), color);
  }
});

test('a deletion can be undone, and takes nothing that another wrote since', async () => {
  const key = await write(ana, 'worth keeping');
  await shows('ben', key, 'worth keeping');
  const at = await place(ana, key);
  await note(ana, key).locator('.bin').press('Enter');
  await note(ben, key).waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement.className), 'undo');
  await page.keyboard.press('Enter');
  await shows('ben', key, 'worth keeping');
  assert.equal(await place(ben, key), at);
  const focus = await page.evaluate(
    () => document.activeElement.closest('#ana .note')?.dataset.key,
  );
  assert.equal(focus, key, 'the focus is in the note again');
  await ana.locator('.undo').waitFor({ state: 'hidden' });
  // Deleted by one while the other writes on it, cut off: what was written comes back.
  await ben.locator('.offline').click();
  await state('ben', 'offline');
  await note(ana, key).locator('.grip').press('Delete');
  await note(ana, key).waitFor({ state: 'detached' });
  await note(ben, key).locator('textarea').fill('written on meanwhile');
  await ben.locator('.offline').click();
  await shows('ana', key, 'written on meanwhile');
  await page.keyboard.press('Control+z');
  await shows('ana', key, 'written on meanwhile');
  await settle();
});

test('the focus and the caret stay when records arrive', async () => {
  const key = await write(ana, 'the caret stays here');
  await shows('ben', key, 'the caret stays here');
  await note(ana, key).locator('textarea').focus();
  await page.evaluate(() => document.activeElement.setSelectionRange(4, 9));
  const held = () =>
    page.evaluate(() => {
      const area = document.activeElement;
      const key = area.closest('#ana .note')?.dataset.key;
      return [key, area.selectionStart, area.selectionEnd];
    });
  await server.note(LOG, 'other', 'by somebody else');
  await shows('ana', 'other', 'by somebody else');
  assert.deepEqual(await held(), [key, 4, 9]);
  await page.evaluate((key) => demo.panes[1].board.change(key, { x: 300, y: 300 }), key);
  await page.waitForFunction(
    (key) => document.querySelector(`#ana [data-key="${key}"]`).style.translate === '300px 300px',
    key,
  );
  assert.deepEqual(await held(), [key, 4, 9], 'the note moved under it');
  const seen = (await tour.states()).length;
  await page.evaluate(() => demo.panes[0].debug.cut());
  await tour.was('live', seen);
  await settle();
  assert.deepEqual(await held(), [key, 4, 9], 'and the connection came back');
});

test('notes of the old kind, whole in one record, are shown and go on', async () => {
  await server.note(LOG, 'old', 'an old note');
  await shows('ana', 'old', 'an old note');
  assert.equal(await place(ana, 'old'), '20px 400px');
  await note(ana, 'old').locator('.grip').press('ArrowUp');
  await note(ben, 'old').locator('textarea').fill('written on anew');
  await shows('ana', 'old', 'written on anew');
  await settle();
  assert.equal(await place(ben, 'old'), '20px 384px');
  await server.note(LOG, 'old', 'by an old client');
  await shows('ana', 'old', 'by an old client');
  assert.equal(await place(ana, 'old'), '20px 400px', 'the newer one counts');
  await note(ben, 'old').locator('.bin').click();
  await note(ana, 'old').waitFor({ state: 'detached' });
  await settle();
});

test('new notes cover no other while there is room; long ones show all their text', async () => {
  await page.evaluate(() => {
    const { board } = demo;
    return Promise.all([...board.notes.keys()].map((id) => board.remove(id)));
  });
  await ben.locator('.empty').waitFor({ state: 'visible' });
  for (let n = 0; n < 4; n++) await write(ana, n ? `note ${n}` : 'a long one: '.repeat(12));
  await settle();
  const boxes = await page.evaluate(() =>
    [...document.querySelectorAll('#ana .note')].map((note) =>
      note.getBoundingClientRect().toJSON(),
    ),
  );
  for (const [at, a] of boxes.entries()) {
    for (const b of boxes.slice(at + 1)) {
      const beside = a.right <= b.left || b.right <= a.left;
      assert.ok(beside || a.bottom <= b.top || b.bottom <= a.top, JSON.stringify([a, b]));
    }
  }
  const hidden = await page.evaluate(() => {
    const areas = [...document.querySelectorAll('.note textarea')];
    return areas.filter((area) => area.scrollHeight > area.clientHeight + 1).length;
  });
  assert.equal(hidden, 0);
  await picture(page, 'tour-notes');
  for (let n = 0; n < 4; n++) await write(ana, `more ${n}`);
  await settle();
  const places = await page.evaluate(() =>
    [...document.querySelectorAll('#ana .note')].map((note) => note.style.translate));
  assert.equal(new Set(places).size, 8, 'then they make a cascade');
});

test('a server that kills itself when asked; where it is back too early, once more', async () => {
  const other = await Window.tour(await browser.newContext(), server.url, 'other');
  const at = (number) =>
    other.page.waitForFunction(
      (number) => document.querySelectorAll('#steps .past').length === number - 1,
      number,
    );
  const change = (pane, id) =>
    other.page.evaluate(([pane, id]) => {
      void demo.panes[pane].board.change(id, { text: `by ${pane}`, x: 0, y: 0 });
    }, [pane, id]);
  await other.page.waitForFunction(() => demo.panes.every(({ calm }) => calm));
  await change(0, 'one');
  await at(2);
  await other.page.evaluate(() => demo.panes[0].client.disconnect());
  await at(3);
  await change(1, 'two');
  await at(4);
  await other.page.evaluate(() => demo.panes[0].client.connect());
  await at(5);
  const asked = [];
  await other.page.route('**/v1/dev/kill', async (route) => {
    asked.push(route.request().method(), !!route.request().headers().authorization);
    await server.kill();
    await route.abort('connectionreset');
  });
  await other.page.click('#steps .now button');
  await at(6);
  assert.deepEqual(asked, ['POST', true]);
  assert.equal(await other.page.locator('#steps code').count(), 0);
  await server.start();
  await at(5);
  await other.page.waitForFunction(() => demo.panes.every(({ calm }) => calm));
  await other.check();
  await tour.check();
});
