// How it looks and feels: a phone, fingers, keyboard, contrast, what the page may load.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from './server.mjs';
import { converge, launch, picture, Window } from './world.mjs';

let server, browser, phone, desk;

before(async () => {
  server = await new Server().start();
  browser = await launch();
  const mobile = await browser.newContext({
    viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true,
  });
  phone = await (await Window.open(mobile, server.url, 'phone')).state('live');
  desk = await (await Window.open(await browser.newContext(), server.url, 'desk')).state('live');
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

test('on a phone: notes by finger, the connection as a sheet', async () => {
  const { page } = phone;
  await page.tap('.add');
  await page.waitForFunction(() => document.activeElement?.matches('.note textarea'));
  await page.keyboard.type('by finger');
  await page.evaluate(() => document.activeElement.blur());
  const key = await desk.find('by finger');

  const at = () => page.evaluate((key) => document.querySelector(`[data-key="${key}"]`).style.translate, key);
  const from = await at();
  const grip = await phone.note(key).locator('.grip').boundingBox();
  const fingers = await page.context().newCDPSession(page);
  const [x, y] = [grip.x + 20, grip.y + 18];
  await fingers.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [{ x, y }] });
  for (let step = 1; step <= 8; step++) {
    const touchPoints = [{ x: x + 6 * step, y: y + 12 * step }];
    await fingers.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints });
  }
  await fingers.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
  const [left, top] = from.split(' ').map(parseFloat);
  const [movedLeft, movedTop] = (await at()).split(' ').map(parseFloat);
  assert.deepEqual([movedLeft - left, movedTop - top], [48, 96], 'it went where the finger went');
  await picture(page, 'phone');

  await page.tap('#grip');
  await page.waitForSelector('#own', { state: 'visible' });
  assert.equal(await page.getAttribute('#grip', 'aria-expanded'), 'true');
  await picture(page, 'phone-sheet');
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth > innerWidth);
  assert.equal(wide, false, 'the page is no wider than the phone');
  await page.evaluate(() => document.querySelector('#inside').scrollTo(0, 1e6));
  await picture(page, 'phone-sheet-end');
  const before = (await phone.states()).length;
  await page.tap('.cut');
  await phone.was('offline', before);
  await phone.state('live');
  await page.tap('#grip');
  await page.waitForSelector('#own', { state: 'hidden' });
  await converge(server, [phone, desk]);
});

test('every control has a name, can be reached by keyboard, and is large enough for a finger', async () => {
  for (const { page } of [phone, desk]) {
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, a, textarea')]
        .filter((element) => !(element.ariaLabel || element.textContent.trim()))
        .map((element) => element.outerHTML),
    );
    assert.deepEqual(nameless, []);
  }
  const small = await phone.page.evaluate(() =>
    [...document.querySelectorAll('.head button, .note button')]
      .map((element) => [element.className, element.getBoundingClientRect()])
      .filter(([, { width, height }]) => width && (width < 34 || height < 36))
      .map(([name]) => name),
  );
  assert.deepEqual(small, []);
  await desk.page.keyboard.press('Tab');
  assert.equal(await desk.page.evaluate(() => document.activeElement.id), 'second');
  const outline = await desk.page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid', 'the focus is seen');
});

const TEXTS =
  'h1, h1 span, .button, button:enabled, .note textarea, .note footer span, .state, .why, ' +
  '.count, .empty b, .empty span, h2, h3, h4, dt, dd, .feed li span, .feed b, #steps b, ' +
  '#steps p, #told, code, summary, #mine span';

/** The smallest contrast of the page's texts with what lies behind them (WCAG 2). */
const contrast = (wanted) => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (color) => {
    const [r, g, b] = rgba(color).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const { backgroundColor } = getComputedStyle(one);
      if (rgba(backgroundColor)[3] === 255) return backgroundColor;
    }
    return 'white';
  };
  const texts = [...document.querySelectorAll(wanted)];
  return texts
    .filter((element) => element.checkVisibility() && element.textContent + (element.value ?? ''))
    .map((element) => {
      const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
      return { text: element.textContent.slice(0, 30), what: element.className || element.tagName, ratio: (a + 0.05) / (b + 0.05) };
    })
    .filter(({ ratio }) => ratio < 4.5);
};

test('texts stand out, in light and in dark', async () => {
  for (const color of [0, 1, 2, 3, 4]) {
    await desk.page.evaluate((color) => demo.board.change(`color-${color}`, { text: 'words', x: 60 + 230 * color, y: 400, color }), color);
  }
  await desk.rest();
  for (const colorScheme of ['light', 'dark']) {
    await desk.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    assert.deepEqual(await desk.page.evaluate(contrast, TEXTS), [], colorScheme);
    await picture(desk.page, `desk-${colorScheme}`);
  }
  // The same for the page with two windows and the guide, one of them cut off.
  const { page } = await Window.tour(await browser.newContext(), server.url, 'tour');
  await page.waitForFunction(() => demo.panes.every(({ calm }) => calm));
  await page.locator('#ana .add').click();
  await page.waitForFunction(() => document.activeElement?.matches('#ana textarea'));
  await page.keyboard.type('words');
  await page.waitForSelector('#steps .past + .now');
  await page.locator('#ana .offline').click();
  await page.waitForSelector('#steps .past + .past + .now');
  await page.locator('#ana .add').click();
  await page.waitForSelector('#ana .pending');
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    assert.deepEqual(await page.evaluate(contrast, TEXTS), [], `the guide, ${colorScheme}`);
  }
});

test('the page loads from its server alone', async () => {
  const loaded = await desk.page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name));
  assert.ok(loaded.length >= 2);
  for (const address of loaded) assert.ok(address.startsWith(server.url), address);
  const answer = await fetch(`${server.url}/demo`);
  assert.match(answer.headers.get('content-security-policy'), /default-src 'none'; script-src 'self'/);
  await phone.check();
  await desk.check();
});
