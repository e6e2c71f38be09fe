// Several tabs of one profile have one log on the device: each shows what the others have logged,
// and nothing is lost or sent twice, whichever of them closes, crashes, freezes or is put by.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import {
  add, kept, pageOf, rowsOf, serveLogs, servePages, settled, state, storedOnce, until,
} from './log-world.mjs';
import { Profile } from './profile.mjs';

let server, pages, profile;

before(async () => {
  [server, pages] = await Promise.all([serveLogs(), servePages()]);
  profile = await new Profile().start();
});

after(async () => {
  await profile?.close();
  pages?.close();
  await server?.stop();
});

const open = (name, more = {}) =>
  profile.page(pageOf(pages, server, { user: name, list: name, ...more }));
const connect = (page) => page.evaluate(() => app.client.connect());
const session = (page) => profile.context.newCDPSession(page);
const shows = (page, ids) =>
  until(page, ({ ids }, wanted) => `${ids}` === `${wanted}`, [...ids].sort());
const close = (...tabs) => Promise.all(tabs.map((tab) => tab.close()));

test('five tabs write; some close, one is duplicated, one crashes: nothing is lost', async () => {
  const tabs = [];
  for (let n = 0; n < 5; n++) tabs.push(await open('five', { offline: true }));
  const ids = [];
  const write = async (tab, name, count = 3) => {
    const mine = Array.from({ length: count }, (_, n) => `${name}-${n}`);
    ids.push(...mine);
    await add(tab, ...mine);
  };
  await Promise.all(tabs.map((tab, n) => write(tab, `offline-${n}`)));
  for (const tab of tabs) {
    await shows(tab, ids);
    assert.equal((await state(tab)).pending, 15, 'those of the others are seen, offline too');
  }
  const [first, crashing, closing, ...others] = tabs;
  const opens = profile.context.waitForEvent('page');
  // A page that another opens begins with a copy of its `sessionStorage`, as a duplicate does.
  await first.evaluate(() => void globalThis.open(location.href));
  const copy = await opens;
  await copy.waitForFunction(() => globalThis.app);
  await shows(copy, ids);
  await write(copy, 'copy');
  await Promise.all([first, crashing, closing, copy].map(connect));
  await Promise.all([first, crashing, closing, copy].map((tab, n) => write(tab, `online-${n}`, 5)));
  const crashed = once(crashing, 'crash');
  void (await session(crashing)).send('Page.crash').catch(() => {});
  await Promise.all([crashed, closing.close()]);
  await Promise.all(others.map(connect));
  const left = [first, copy, ...others];
  await Promise.all(left.map((tab, n) => write(tab, `after-${n}`)));
  for (const tab of left) await settled(tab);
  await storedOnce(server, 'five', ids);
  for (const tab of left) await shows(tab, ids);
  await close(crashing, ...left);
});

test('what stands on a frozen tab goes out after it; thawed it knows', async (context) => {
  // Only a page that nobody looks at freezes: the driver is not to say of each that someone does.
  const hidden = await new Profile().start({ noDefaults: true });
  context.after(() => hidden.close());
  const url = (more) => pageOf(pages, server, { user: 'frozen', list: 'frozen', ...more });
  const frozen = await hidden.page(url({ offline: true }));
  const other = await hidden.page(url());
  await add(frozen, 'made');
  await shows(other, ['made']);
  const thaw = await hidden.context.newCDPSession(frozen);
  await thaw.send('Page.setWebLifecycleState', { state: 'frozen' });
  await frozen.evaluate(() => {
    globalThis.ticks = 0;
    setInterval(() => ticks++, 10);
  });
  const before = Date.now();
  await other.evaluate(() => app.list.do.toggle({ id: 'made' }).accepted);
  const took = Date.now() - before;
  assert.ok(took > 1000 && took < 15_000, `it was waited for: ${took} ms`);
  const records = await server.records('lists/frozen/todos');
  assert.deepEqual(records.map(({ kind }) => kind), ['add', 'toggle']);
  await settled(other);
  assert.equal(await frozen.evaluate(() => ticks), 0, 'it was frozen all the time');
  await thaw.send('Page.setWebLifecycleState', { state: 'active' });
  assert.deepEqual(
    await frozen.evaluate(() => lives.filter((name) => !name.startsWith('page'))),
    ['freeze', 'resume'],
  );
  await until(frozen, ({ work }) => work.waiting === 0);
  await connect(frozen);
  await until(frozen, ({ phase, done }) => phase === 'live' && `${done}` === 'made');
  await add(frozen, 'thawed');
  for (const tab of [frozen, other]) {
    await settled(tab);
    await shows(tab, ['made', 'thawed']);
  }
  await storedOnce(server, 'frozen', ['made', 'thawed']);
});

/** Away and back as a person goes, by the browser's cache of pages. */
const away = async (page) => {
  await page.evaluate(() => void (location.href = '/blank'));
  await page.waitForFunction(() => document.title === 'blank');
};
const back = async (page) => {
  await page.evaluate(() => history.back()).catch(() => {});
  await page.waitForFunction(() => globalThis.app);
};
/** Whether it is the page that was put by; else why the browser has loaded it anew. */
const same = (page) => page.evaluate(() => {
  const { notRestoredReasons } = performance.getEntriesByType('navigation')[0];
  const why = notRestoredReasons?.reasons.map(({ reason }) => reason) ?? [];
  return { same: lives.includes('pageshow true'), why: why.join() };
});

test('a page that is put by leaves its work to others; back, it is loaded anew', async () => {
  const page = await open('put-by', { offline: true });
  await add(page, 'one');
  await away(page);
  const other = await open('put-by');
  await settled(other);
  await storedOnce(server, 'put-by', ['one']);
  await back(page);
  // Chromium ends a page that is put by when another says something to it: it has no other reason.
  assert.deepEqual(await same(page), { same: false, why: 'broadcastchannel-message' });
  await connect(page);
  await shows(page, ['one']);
  await settled(page);
  await add(page, 'two');
  for (const tab of [page, other]) {
    await settled(tab);
    await shows(tab, ['one', 'two']);
  }
  await storedOnce(server, 'put-by', ['one', 'two']);
  await close(page, other);
});

test('put by and back with nobody else there, it sends its work itself, once', async () => {
  const page = await open('alone', { offline: true });
  await add(page, 'one', 'two');
  await away(page);
  await back(page);
  assert.deepEqual(await same(page), { same: true, why: '' });
  await connect(page);
  await settled(page);
  await storedOnce(server, 'alone', ['one', 'two']);
  // Under a writer of its own, since others may have had the first one meanwhile.
  await add(page, 'three');
  await settled(page);
  await storedOnce(server, 'alone', ['one', 'two', 'three']);
  await close(page);
});

test('an old client and a new one share what is on the device', async () => {
  const [old, now] = [
    await open('shared', { old: true, offline: true }), await open('shared', { offline: true }),
  ];
  const script = (tab) => tab.evaluate(() => document.scripts[0].src);
  assert.notEqual(await script(old), await script(now));
  await add(old, 'old-1');
  await add(now, 'new-1');
  for (const tab of [old, now]) {
    await shows(tab, ['old-1', 'new-1']);
    assert.equal((await state(tab)).pending, 2);
  }
  await Promise.all([connect(old), connect(now)]);
  await add(old, 'old-2');
  await add(now, 'new-2');
  for (const tab of [old, now]) await settled(tab);
  const ids = ['old-1', 'old-2', 'new-1', 'new-2'];
  await storedOnce(server, 'shared', ids);
  for (const tab of [old, now]) await shows(tab, ids);
  await kept(now, 'shared', 'lists/shared/todos', 4);
  await close(old, now);
  // What one has kept and left the other shows and sends.
  for (const [at, one] of [{ old: true }, {}].entries()) {
    const word = at ? 'new' : 'old';
    const leaving = await open('shared', { ...one, offline: true });
    await add(leaving, `left-by-${word}`);
    ids.push(`left-by-${word}`);
    await close(leaving);
    const next = await open('shared', { old: !one.old, offline: true });
    await shows(next, ids);
    assert.equal((await state(next)).pending, 1);
    await connect(next);
    await settled(next);
    await kept(next, 'shared', 'lists/shared/todos', ids.length);
    await close(next);
  }
  await storedOnce(server, 'shared', ids);
});

test('an old client leaves what a new one has packed to a new one', async () => {
  const packed = await open('packed', { offline: true });
  await add(packed, 'one', 'two', 'three');
  const actions = Object.keys(await rowsOf(packed, ':packed')).filter((key) => key[0] === 'a');
  assert.equal(actions.length, 1);
  await close(packed);
  let reported;
  const failed = new Promise((settle) => (reported = settle));
  const url = pageOf(pages, server, { user: 'packed', list: 'packed', old: true });
  const old = await profile.page(url, (page) => page.on('pageerror', reported));
  // It cannot send that, says so, and sends what is its own.
  assert.match(`${await failed}`, /record/);
  await old.evaluate(() => app.add('four').accepted);
  await close(old);
  const next = await open('packed');
  await settled(next);
  await storedOnce(server, 'packed', ['four', 'one', 'two', 'three']);
  await close(next);
});
