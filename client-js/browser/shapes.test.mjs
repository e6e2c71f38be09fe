// The page with two windows in many shapes: pictures to look at, and what each must show.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from './server.mjs';
import { launch, picture, Window } from './world.mjs';

let server, browser;

const PHONE = { isMobile: true, hasTouch: true };
const SHAPES = {
  desktop: { viewport: { width: 1280, height: 800 } },
  'desktop-dark': { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
  'desktop-forced': { viewport: { width: 1280, height: 800 }, forcedColors: 'active' },
  phone: { ...PHONE, viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 },
  'phone-dark': { ...PHONE, viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
  'phone-forced': { ...PHONE, viewport: { width: 390, height: 844 }, forcedColors: 'active' },
  narrow: { ...PHONE, viewport: { width: 320, height: 640 } },
  landscape: { ...PHONE, viewport: { width: 844, height: 390 } },
};

before(async () => {
  server = await new Server().start();
  browser = await launch();
  const note = (id, field, text) => server.append('demo/board', `note/${id}/${field}`, text);
  await note('a', 'at', '16,16');
  await note('a', 'color', '2');
  await note('a', 'text', 'Call the harbour about the tide tables');
  await note('b', 'at', '240,16');
  await note('b', 'text', 'A note with more to say, of which every word is to be seen: '.repeat(3));
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const open = async (shape) => {
  const context = await browser.newContext({ reducedMotion: 'reduce', ...shape });
  const tour = await Window.tour(context, server.url, 'shape');
  await tour.page.waitForFunction(() => demo.panes.every(({ calm }) => calm));
  await tour.page.waitForFunction(() => document.querySelectorAll('#mine li').length >= 2);
  return tour;
};

/** What is wrong with how it fits: wider than the page, cut off, or on top of one another. */
const misfits = () => {
  const wrong = [];
  if (document.scrollingElement.scrollWidth > innerWidth) wrong.push('wider than the page');
  for (const element of document.querySelectorAll('header, .head, .head button, #side, #grip')) {
    if (!element.checkVisibility()) continue;
    const { left, right, top, bottom } = element.getBoundingClientRect();
    const out = left < -1 || right > innerWidth + 1 || top < -1 || bottom > innerHeight + 1;
    if (out) wrong.push(`${element.className || element.id || element.tagName} is outside`);
  }
  for (const pane of document.querySelectorAll('.pane')) {
    const { width, height, left, top } = pane.querySelector('.board').getBoundingClientRect();
    if (width < 190 || height < 90) wrong.push(`a board of ${width} x ${height}`);
    const at = document.elementFromPoint(left + 60, top + 40);
    if (!at?.closest('.note')) wrong.push(`no note is seen in ${pane.id}, but ${at?.className}`);
  }
  return wrong;
};

for (const [name, shape] of Object.entries(SHAPES)) {
  test(`${name}: all fits, notes are seen in both windows`, async () => {
    const tour = await open(shape);
    const { page } = tour;
    assert.deepEqual(await page.evaluate(misfits), []);
    await picture(page, `shape-${name}`);
    const grip = page.locator('#grip');
    if (await grip.isVisible()) {
      await grip.tap();
      await page.waitForSelector('#own', { state: 'visible' });
      assert.deepEqual(await page.evaluate(misfits), [], 'over the open sheet');
      const share = await page.evaluate(
        () => document.querySelector('#side').offsetHeight / innerHeight,
      );
      assert.ok(share <= 0.5, `the sheet takes ${share}`);
      await picture(page, `shape-${name}-sheet`);
      await grip.tap();
    } else {
      const { bottom } = await page.locator('#own').evaluate((own) => own.getBoundingClientRect());
      const { height } = shape.viewport;
      if (height >= 800) assert.ok(bottom <= height, 'above the fold');
    }
    await page.locator('#ana .offline').click();
    await page.waitForSelector('#ana[data-state=offline]');
    await picture(page, `shape-${name}-cut`);
    assert.deepEqual(await page.evaluate(misfits), [], 'cut off');
    await tour.check();
    await page.context().close();
  });
}

test('headings descend by one, all that is used has a name, states are told', async () => {
  const { page } = await open(SHAPES.desktop);
  await page.locator('#ana .add').click();
  await page.evaluate(() => {
    document.querySelector('#hood').open = true;
  });
  const levels = await page.evaluate(() =>
    [...document.querySelectorAll('h1, h2, h3, h4')].map(({ tagName }) => +tagName[1]));
  assert.equal(levels[0], 1);
  assert.equal(levels.filter((level) => level === 1).length, 1);
  for (const [at, level] of levels.entries()) {
    assert.ok(level <= (levels[at - 1] ?? 0) + 1, `${levels}`);
  }
  const tree = await page.locator('body').ariaSnapshot();
  assert.doesNotMatch(tree, /- (button|textbox|link)( \[|:|$)/m, 'each has a name');
  const names = [...tree.matchAll(/- button "([^"]+)"/g)].map(([, name]) => name);
  const alike = names.filter((name, at) => /Ana|Ben/.test(name) && names.indexOf(name) !== at);
  assert.deepEqual(alike, [], 'no two of the windows’ buttons go by one name');
  for (const region of ['Ana', 'Ben', 'Board: Ana', 'Board: Ben']) {
    assert.ok(tree.includes(`region "${region}"`), region);
  }
  const live = await page.evaluate(() => {
    const told = [...document.querySelectorAll('[role=status], [role=alert]')];
    return told.map(({ id, className }) => id || className);
  });
  assert.deepEqual(live.sort(), ['full', 'full', 'state', 'state', 'told', 'word']);
  assert.equal(await page.locator('[aria-current=step]').count(), 1);
  await page.context().close();
});

test('by keyboard: a note is made, written, moved and deleted, and it comes back', async () => {
  const { page } = await open(SHAPES.desktop);
  const focus = () =>
    page.evaluate(() => document.activeElement.className || document.activeElement.tagName);
  const tab = async (wanted) => {
    for (let times = 0; times < 60 && (await focus()) !== wanted; times++) {
      await page.keyboard.press('Tab');
    }
    assert.equal(await focus(), wanted);
    const outline = await page.evaluate(
      () => getComputedStyle(document.activeElement).outlineStyle,
    );
    assert.equal(outline, 'solid', `the focus on ${wanted} is seen`);
  };
  await tab('offline');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#ana[data-state=offline]');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#ana[data-state=live]');
  await tab('add primary');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement?.matches('#ana textarea'));
  await page.keyboard.type('by keyboard');
  const key = await page.evaluate(() => document.activeElement.closest('.note').dataset.key);
  for (const back of ['bin', 'paint', 'grip']) {
    await page.keyboard.press('Shift+Tab');
    assert.equal(await focus(), back);
  }
  const at = () =>
    page.evaluate((key) => document.querySelector(`[data-key="${key}"]`).style.translate, key);
  const from = await at();
  await page.keyboard.press('ArrowRight');
  assert.notEqual(await at(), from);
  await page.keyboard.press('Delete');
  await page.waitForSelector(`#ben [data-key="${key}"]`, { state: 'detached' });
  await page.keyboard.press('Control+z');
  await page.waitForSelector(`#ben [data-key="${key}"]`);
  await page.context().close();
});
