// What the tests of the log stand on: the service of their page, with the client of the sources or
// the one that was kept; tabs of a profile that open it; tokens; what the server has in the end.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { mangleCache, mangleProps } from '../scripts/internal.mjs';
import { Server } from './server.mjs';

/** The first one that was kept: what an old client is, from now on. */
export const KEPT = fileURLToPath(new URL('fixtures/log-0.1.0.js', import.meta.url));
const form = { bundle: true, format: 'iife', target: 'es2022', write: false };

/** The client's log as one script, which makes `globalThis.highwater`. */
export const library = async (more = {}) => {
  const define = { 'process.env.NODE_ENV': '"production"' };
  const { outputFiles } = await build({
    entryPoints: ['src/log/index.ts'], ...form, globalName: 'highwater', define,
    mangleCache, mangleProps, ...more,
  });
  return outputFiles[0].text;
};

/** The definitions stand on the library that the page has. */
const given = {
  name: 'given',
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /src\/log\/index\.js$/ }, () => ({ path: 'log', namespace: 'given' }));
    const contents = 'module.exports = globalThis.highwater';
    onLoad({ filter: /./, namespace: 'given' }, () => ({ contents }));
  },
};

const app = async () => {
  const { outputFiles } = await build({
    entryPoints: ['browser/log-app.mjs'], ...form, plugins: [given],
  });
  return outputFiles[0].text;
};

/**
 * Serves the page, at `/` with the sources' client, at `/old` with the kept one, or another; at
 * `/driven` with a script besides; `asked` may answer requests itself, and says so.
 */
export const servePages = async (driven = '', asked = () => false, old = KEPT) => {
  const scripts = {
    '/app.js': await app(), '/new.js': await library(), '/old.js': readFileSync(old, 'utf8'),
    '/driven.js': driven,
  };
  const page = (library) =>
    `<!doctype html><title>log</title><script src="${library}"></script>` +
    '<script src="/app.js"></script>';
  const pages = {
    '/': page('/new.js'), '/old': page('/old.js'), '/blank': '<title>blank</title>',
    '/driven': `${page('/new.js')}<script src="/driven.js"></script>`,
  };
  const server = createServer((request, answer) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    if (asked(pathname, searchParams, request, answer)) return;
    const script = scripts[pathname];
    const type = script ? 'text/javascript' : 'text/html';
    answer.setHeader('content-type', `${type}; charset=utf-8`);
    answer.end(script ?? pages[pathname] ?? '');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: server.address().port,
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
};

/** A server that pages of any origin may use, where boards keep the newest value of each key. */
export const serveLogs = () => new Server({}, `
[server]
allowed_origins = ["*"]

[[rules]]
pattern = "boards/**"
snapshot = "latest"
`).start();

const ALL = [{ logs: '**', can: ['read', 'append', 'snapshot'] }];

/** A token of that user, for a month. */
export const token = ({ secret }, sub, grants = ALL) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub, iat: now, exp: now + 30 * 86_400, grants };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
};

/** The address of a page for that user and list. */
export const pageOf = (pages, server, { user, list, grants, old, offline, origin = pages.url }) => {
  const query = new URLSearchParams({
    server: server.url, token: token(server, user, grants), list, ...(offline && { offline: '' }),
  });
  return `${origin}/${old ? 'old' : ''}?${query}`;
};

export const state = (page) => page.evaluate(() => app.state());

/** Does it in the page with what follows; resolves when all that it logged is saved on disk. */
export const add = async (page, ...ids) => {
  const kinds = await page.evaluate((ids) => Promise.all(ids.map((id) => app.add(id).saved)), ids);
  assert.deepEqual(kinds, ids.map(() => 'disk'));
};

/** Waits until what the page shows satisfies `test`; else says what it shows. */
export const until = async (page, test, given) => {
  const asked = `(given) => (${test})(app.state(), given)`;
  const now = `(${asked})(${JSON.stringify(given ?? null)})`;
  // By time, since a page that is not looked at draws nothing.
  await page.waitForFunction(now, undefined, { polling: 50 }).catch(async (error) => {
    assert.fail(`never ${test}: ${JSON.stringify(await state(page).catch(() => error.message))}`);
  });
};

/** Until all that was logged has its outcome, on disk too. */
export const settled = (page) =>
  until(page, ({ work, pending, phase }) =>
    phase !== 'connecting' && work.waiting === 0 && work.unsaved === 0 && pending === 0);

/** What stands in the databases of the page's origin whose names end so, whoever has them open. */
export const rowsOf = (page, end) =>
  page.evaluate(async (end) => {
    const done = (request) => new Promise((settle, fail) => {
      request.onsuccess = () => settle(request.result);
      request.onerror = () => fail(request.error);
    });
    const found = {};
    for (const { name } of await indexedDB.databases()) {
      if (!name.endsWith(end)) continue;
      const db = await done(indexedDB.open(name));
      const rows = db.transaction('rows').objectStore('rows');
      const [keys, values] = await Promise.all([done(rows.getAllKeys()), done(rows.getAll())]);
      for (const [at, key] of keys.entries()) if (key !== 0) found[key] = values[at];
      db.close();
    }
    return found;
  }, end);

/** Waits until a view is kept that stands there: it is a second after what it shows. */
export const kept = async (page, user, log, next) => {
  for (let tries = 0; tries < 300; tries++) {
    const rows = await rowsOf(page, `:${user}`);
    if (rows[`c/${log}`]?.next === next) return;
    await page.waitForTimeout(100);
  }
  assert.fail(`${log} was never kept at ${next}`);
};

/** The ids that were added to the list, in the order of its log. */
export const stored = async (server, list) => {
  const records = await server.records(`lists/${list}/todos`);
  return records.filter(({ kind }) => kind === 'add').map(({ payload }) => {
    const { id, text } = JSON.parse(payload);
    assert.equal(text, `text of ${id}`, 'it is whole');
    return id;
  });
};

/** Every one of these is in the log, each once, and nothing else is. */
export const storedOnce = async (server, list, ids) =>
  assert.deepEqual((await stored(server, list)).sort(), [...ids].sort());

/** Random numbers from a seed, which is printed so that a run can be had again. */
export const random = (seed = Number(process.env.SEED ?? Date.now() % 1e9)) => {
  console.log(`SEED=${seed}`);
  let now = seed >>> 0;
  const next = () => {
    now = (now + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(now ^ (now >>> 15), now | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return (below) => Math.floor(next() * below);
};
