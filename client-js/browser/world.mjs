// Windows of the demo in a real Chromium, each watched: what it was given, and all that it showed.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** How long anything may take before the test says what it waited for. */
export const DEADLINE = 30_000;
export const ARGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync',
];
/** What Chromium itself writes when a server or the network is gone. */
const NO_NETWORK = /^WebSocket connection to '[^']+' failed|^Failed to load resource: net::ERR_/;

export const executable = () => {
  const given = process.env.CHROMIUM;
  const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome'];
  const found = given ?? names.map((name) => `/usr/bin/${name}`).find(existsSync);
  if (found && existsSync(found)) return found;
  throw new Error('The browser tests need Chromium: install it (Debian: apt-get install chromium) or set CHROMIUM to its path.');
};

export const launch = () => chromium.launch({ executablePath: executable(), args: ARGS });

/** A picture for people to look at; its folder is SCREENSHOTS, else below the temporary one. */
export const picture = async (page, name) => {
  const folder = process.env.SCREENSHOTS ?? join(tmpdir(), 'highwater-screenshots');
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
};

/** Runs in each page before its own scripts: notes what each window in it was given and showed. */
const watch = () => {
  const all = [];
  let demo;
  const follow = ({ client, log, root }, seen) => {
    log.on('reset', ({ cursor, reason }) => seen.delivered.push({ reset: reason, cursor }));
    log.on('gap', ({ from, to }) => seen.delivered.push({ gap: from, cursor: to }));
    log.on('records', ({ records }) => {
      const { phase } = client.status.value;
      if (phase !== 'live') seen.delivered.push({ stray: phase });
      for (const { offset } of records) seen.delivered.push(offset);
    });
    client.status.subscribe(({ phase, reason, source }) => {
      const met = phase === 'live' ? reason : undefined;
      seen.states.push({ state: phase, met, reason, source });
    });
    root.addEventListener('shown', () => {
      const notes = {};
      for (const note of root.querySelectorAll('.note')) {
        const { key, offset } = note.dataset;
        const text = note.querySelector('textarea').value;
        notes[key] = { offset: offset === '' ? null : +offset, text };
      }
      seen.shown.push({ cursor: log.cursor, notes });
    });
  };
  Object.defineProperty(globalThis, 'demo', {
    get: () => demo,
    set(made) {
      demo = made;
      for (const pane of demo.panes) {
        const seen = { shown: [], delivered: [], states: [] };
        all.push(seen);
        follow(pane, seen);
      }
    },
  });
  Object.defineProperty(globalThis, 'seen', { get: () => all[0] });
  Object.defineProperty(globalThis, 'allSeen', { get: () => all });
};

const TYPES = {
  html: 'text/html; charset=utf-8', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml',
};
/** As the server says it, so that the page is held to it. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const answered = new WeakSet();

/** With DEMO_FILES, a folder, the demo comes from there: a server that has another one will do. */
const answer = async (context) => {
  const folder = process.env.DEMO_FILES;
  if (!folder || answered.has(context)) return;
  answered.add(context);
  // A page that did not come over the network counts as one from elsewhere.
  await context.grantPermissions(['local-network-access']);
  await context.route(/\/demo(\/|\?|$)/, (route) => {
    const [, name = ''] = /^\/demo\/?(.*)$/.exec(new URL(route.request().url()).pathname);
    const file = name || 'index.html';
    const contentType = TYPES[file.replace(/.*\./, '')];
    const headers = { 'content-security-policy': POLICY };
    return route.fulfill({ body: readFileSync(join(folder, file), 'utf8'), contentType, headers });
  });
};

/** One window of the demo. */
export class Window {
  #problems = [];
  /** What its console may say, besides. */
  expected = /^$/;

  constructor(page, name) {
    this.page = page;
    this.name = name;
    page.setDefaultTimeout(DEADLINE);
    page.on('pageerror', (error) => this.#problems.push(`${error.stack}`));
    page.on('console', (message) => {
      const text = message.text();
      if (message.type() !== 'error' || NO_NETWORK.test(text) || this.expected.test(text)) return;
      this.#problems.push(text);
    });
  }

  /** One window alone, with what is under the hood unfolded. */
  static async open(context, url, name) {
    const window = await Window.tour(context, url, name, '?window');
    await window.page.evaluate(() => {
      document.querySelector('#hood').open = true;
    });
    return window;
  }

  /** The page with two windows and the guide. */
  static async tour(context, url, name, which = '') {
    await answer(context);
    const window = new Window(await context.newPage(), name);
    await window.page.addInitScript(watch);
    await window.page.goto(`${url}/demo${which}`);
    return window;
  }

  /** Waits until the page's own word on its state is this one. */
  async state(...wanted) {
    const there = (wanted) => wanted.includes(document.querySelector('.pane')?.dataset.state);
    try {
      await this.page.waitForFunction(there, wanted);
    } catch {
      const is = await this.page.locator('.state, .why').allInnerTexts();
      assert.fail(`${this.name} is not ${wanted.join(' or ')} but ${is.join(': ')}`);
    }
    return this;
  }

  /** Breaks the socket, and does not wait for its turn to come back. */
  cut() {
    return this.page.evaluate(async () => {
      document.querySelector('.cut').click();
      await Promise.resolve();
      document.querySelector('.activate').click();
    });
  }

  info() {
    return this.page.evaluate(() => {
      const { met, source, generation, user, pending } = demo.debug.info();
      const { cursor, head } = demo.log;
      const complete = demo.log.status.value.phase === 'live';
      return { met, source, generation, user, pending, cursor, head, complete, connection: demo.client.connection };
    });
  }

  note(key) {
    return this.page.locator(`.note[data-key="${key}"]`);
  }

  /** The key of the only note with that text, once it is there. */
  async find(text) {
    const found = await this.page.waitForFunction((text) => {
      const notes = [...document.querySelectorAll('.note')];
      return notes.find((note) => note.querySelector('textarea').value === text)?.dataset.key;
    }, text);
    return found.jsonValue();
  }

  /** Adds a note as a user does. */
  async add(text) {
    const { page } = this;
    await page.click('.add');
    await page.waitForFunction(() => document.activeElement?.matches('.note textarea'));
    await page.keyboard.type(text);
    await page.evaluate(() => document.activeElement.blur());
    return this.find(text);
  }

  /** Writes numbered edits, one about every `pace` ms, on `keys` notes of its own until told to stop. */
  async write(pace = 25, keys = 3) {
    await this.page.evaluate(
      ([name, pace, keys]) => {
        const writing = (globalThis.writing ??= { n: 0, acked: [], refused: [] });
        const refused = ({ code, message }) => writing.refused.push(`${code} ${message}`);
        const one = () => {
          const n = ++writing.n;
          const id = `${name}-${n % keys}`;
          const text = `${name} ${n}`;
          if (n <= keys) {
            const [x, y] = [20 + 220 * (n % keys), 170 * (name.charCodeAt(0) % 4)];
            demo.board.change(id, { x, y, color: n % 5 }).catch(refused);
          }
          demo.board.change(id, { text }).then(
            ([{ offset }]) => writing.acked.push({ key: `note/${id}/text`, text, offset }),
            refused,
          );
        };
        clearInterval(writing.timer);
        writing.timer = setInterval(one, pace);
      },
      [this.name, pace, keys],
    );
  }

  /** So many edits at once, on `keys` large notes of its own; resolves when each is stored. */
  burst(count, keys) {
    return this.page.evaluate(
      async ([name, count, keys]) => {
        const writing = (globalThis.writing ??= { n: 0, acked: [], refused: [] });
        const one = async () => {
          const n = ++writing.n;
          const text = `${name} ${n}`;
          const [key, x, y] = [`${name}-burst-${n % keys}`, 700 + 4 * (n % keys), 4 * (n % keys)];
          // Whole notes, as they were kept before.
          const payload = JSON.stringify({ text, x, y, color: n % 5, more: '.'.repeat(2000) });
          const { offset } = await demo.log.append({ key, payload });
          writing.acked.push({ key, text, offset });
        };
        await Promise.all(Array.from({ length: count }, one));
      },
      [this.name, count, keys],
    );
  }

  /** Waits until it has written so many more, then goes on. */
  async written(more) {
    const from = await this.page.evaluate(() => writing.acked.length);
    await this.page.waitForFunction((least) => writing.acked.length >= least, from + more);
  }

  /** Stops writing; resolves when each edit has its answer. */
  async rest() {
    await this.page.evaluate(() => clearInterval(globalThis.writing?.timer));
    await this.page.waitForFunction(
      () => !document.querySelector('.draft') && demo.debug.info().pending === 0,
    );
    return this.page.evaluate(() => globalThis.writing ?? { n: 0, acked: [], refused: [] });
  }

  /** What it shows: text, place and offset by key. */
  board() {
    return this.page.evaluate(() =>
      Object.fromEntries(
        [...document.querySelectorAll('.note')]
          .map((note) => [
            note.dataset.key,
            { offset: note.dataset.offset, text: note.querySelector('textarea').value, at: note.style.translate },
          ])
          .sort(([a], [b]) => (a < b ? -1 : 1)),
      ),
    );
  }

  states() {
    return this.page.evaluate(() => seen.states);
  }

  /** Waits until it has been in that state since its `before`th, however short that was. */
  async was(state, before) {
    const there = ([state, before]) => seen.states.slice(before).some((one) => one.state === state);
    await this.page.waitForFunction(there, [state, before]);
    return this;
  }

  /** Nothing that it showed went backwards; nothing that it was given came twice or was left out. */
  async check() {
    const all = await this.page.evaluate(() => allSeen);
    for (const { shown, delivered } of all) {
      assert.ok(shown.length > 0, `${this.name} has shown nothing`);
      backwards(this.name, shown);
      repeated(this.name, delivered);
    }
    assert.deepEqual(this.#problems, [], `${this.name} wrote to its console`);
  }
}

const backwards = (name, shown) => {
  let cursor = 0;
  const newest = new Map();
  const gone = new Set();
  for (const [at, picture] of shown.entries()) {
    assert.ok(picture.cursor >= cursor, `${name}: cursor ${picture.cursor} after ${cursor}, at ${at}`);
    cursor = picture.cursor;
    for (const key of newest.keys()) if (!(key in picture.notes)) gone.add(key);
    for (const [key, { offset, text }] of Object.entries(picture.notes)) {
      const before = newest.get(key) ?? { offset: -1, number: 0 };
      const number = +(/^\w+ (\d+)$/.exec(text)?.[1] ?? 0);
      assert.ok(number >= before.number, `${name}: ${key} showed ${number} after ${before.number}, at ${at}`);
      if (offset !== null) {
        const least = gone.has(key) ? before.offset + 1 : before.offset;
        assert.ok(offset >= least, `${name}: ${key} showed offset ${offset} after ${before.offset}, at ${at}`);
        gone.delete(key);
      }
      newest.set(key, { offset: Math.max(offset ?? -1, before.offset), number });
    }
  }
};

const repeated = (name, delivered) => {
  let next;
  for (const one of delivered) {
    if (typeof one !== 'number') {
      assert.ok(!('gap' in one), `${name} was told of a gap at ${one.gap}`);
      assert.ok(!('stray' in one), `${name} was sent records while ${one.stray}`);
      next = one.cursor;
      continue;
    }
    if (next !== undefined) assert.equal(one, next, `${name} was given ${one} instead of ${next}`);
    next = one + 1;
  }
};

/** All come to rest, show the same, and what they show and were promised is what is stored. */
export const converge = async (server, windows) => {
  const wrote = new Map();
  for (const window of windows) wrote.set(window, await window.rest());
  const records = await server.records('demo/board');
  for (const { page, name } of windows) {
    const whole = (head) => demo.log.status.value.phase === 'live' && demo.log.cursor === head && !document.querySelector('.pending');
    await page.waitForFunction(whole, records.length).catch(() => assert.fail(`${name} never reached ${records.length}`));
  }
  const [first, ...others] = windows;
  const board = await first.board();
  for (const other of others) assert.deepEqual(await other.board(), board, `${other.name} differs`);
  stored(records, board);
  for (const [window, { n, acked, refused }] of wrote) {
    assert.deepEqual(refused, [], `${window.name} was refused`);
    assert.equal(acked.length, n, `${window.name} has answers for all`);
    for (const { key, text, offset } of acked) {
      assert.equal(records[offset]?.key, key, `acknowledged at ${offset}`);
      assert.equal(textOf(records[offset]), text, `acknowledged at ${offset}`);
    }
    const own = records.filter(({ key, payload }) => {
      const text = payload !== undefined && textOf({ key, payload });
      return text && split(key)[0].startsWith(`${window.name}-`);
    });
    assert.equal(own.length, n, `each edit of ${window.name} is stored once`);
    await window.check();
  }
};

const split = (key) => {
  const [, id = key, field = 'whole'] = /^note\/(.+)\/(text|at|color)$/.exec(key) ?? [];
  return [id, field];
};

/** The text that a record gives its note; none where it is about something else. */
export const textOf = ({ key, payload }) => {
  const [, field] = split(key);
  if (field === 'whole') return JSON.parse(payload).text;
  return field === 'text' ? payload : undefined;
};

/** What is shown is what the newest records say: a note is there while its text is. */
export const stored = (records, board) => {
  const notes = new Map();
  for (const { offset, key, payload } of records) {
    const [id, field] = split(key);
    const note = notes.get(id) ?? {};
    if (payload === undefined) delete note[field];
    else note[field] = { offset, text: textOf({ key, payload }) };
    notes.set(id, note);
  }
  const there = [...notes].filter(([, { whole, text }]) => whole || text).map(([id, note]) => {
    const newest = Math.max(...Object.values(note).map(({ offset }) => offset));
    const { whole = { offset: -1 }, text = { offset: -1 } } = note;
    return [id, { offset: `${newest}`, text: (text.offset > whole.offset ? text : whole).text }];
  });
  const shown = Object.entries(board).map(([id, { offset, text }]) => [id, { offset, text }]);
  const sorted = there.sort(([a], [b]) => (a < b ? -1 : 1));
  assert.deepEqual(new Map(shown), new Map(sorted), 'what is stored is shown');
};
