// Whose log it is: another user of the same browser sees and sends nothing of it, who logs out
// leaves what was asked for, and where the browser has no locks it is kept in memory, said.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  add, kept, pageOf, rowsOf, serveLogs, servePages, settled, state, stored, storedOnce, until,
} from './log-world.mjs';
import { Profile } from './profile.mjs';

const ELSEWHERE = 'highwater.test';
let server, pages, profile;

before(async () => {
  server = await serveLogs();
  pages = await servePages();
  profile = await new Profile(`--host-resolver-rules=MAP ${ELSEWHERE} 127.0.0.1`).start();
});

after(async () => {
  await profile?.close();
  pages?.close();
  await server?.stop();
});

const open = (user, list, more = {}) =>
  profile.page(pageOf(pages, server, { user, list, ...more }));
const connect = (page) => page.evaluate(() => app.client.connect());
const logout = (page, what) => page.evaluate((what) => app.client.logout(what), what);
const nothing = ({ ids, count, pending, work, refused }) =>
  !ids.length && !count && pending === 0 && work.waiting === 0 && !refused.length;

test('keep: the next user sees and sends nothing of it; the same one has it again', async () => {
  const ana = await open('ana', 'both');
  await add(ana, 'ana-kept');
  await settled(ana);
  await kept(ana, 'ana', 'lists/both/todos', 1);
  await ana.evaluate(() => app.client.disconnect());
  await add(ana, 'ana-pending');
  await logout(ana, 'keep');
  await ana.close();
  const ben = await open('ben', 'both', { offline: true });
  assert.ok(nothing(await state(ben)), JSON.stringify(await state(ben)));
  await add(ben, 'ben-pending');
  await connect(ben);
  await settled(ben);
  const { ids } = await state(ben);
  assert.deepEqual(ids, ['ana-kept', 'ben-pending'], 'what the server has, and his own');
  await storedOnce(server, 'both', ids);
  await ben.close();
  const back = await open('ana', 'both', { offline: true });
  await until(back, ({ ids }) => `${ids}` === 'ana-kept,ana-pending');
  await connect(back);
  await settled(back);
  await storedOnce(server, 'both', ['ana-kept', 'ana-pending', 'ben-pending']);
  const whose = (await server.records('lists/both/todos')).map(({ origin, payload }) =>
    JSON.parse(payload).id.startsWith(origin.user));
  assert.deepEqual(whose, [true, true, true], 'each under the name of who did it');
  await back.close();
});

test('wipe: nothing is left in the database, also with a second tab that is at work', async () => {
  const tabs = [await open('cleo', 'wiped'), await open('cleo', 'wiped')];
  await add(tabs[0], 'secret-0');
  for (const tab of tabs) await settled(tab);
  await tabs[0].evaluate(() => app.client.disconnect());
  await add(tabs[0], 'secret-1');
  // The other has something to keep, and to send, at the moment of the end.
  await tabs[1].evaluate(() => {
    globalThis.n = 0;
    globalThis.timer = setInterval(() => {
      try {
        app.add(`secret-other-${n++}`);
      } catch ({ code }) {
        globalThis.ended = code;
        clearInterval(timer);
      }
    }, 3);
  });
  await tabs[1].waitForFunction(() => n > 30);
  assert.ok(Object.keys(await rowsOf(tabs[0], ':cleo')).length > 0);
  await logout(tabs[0], 'wipe');
  await tabs[1].waitForFunction(() => globalThis.ended);
  assert.equal(await tabs[1].evaluate(() => ended), 'closed');
  await until(tabs[1], ({ phase }) => phase === 'closed');
  // Longer than anything is put off until it is kept.
  await tabs[1].waitForTimeout(1500);
  assert.deepEqual(await rowsOf(tabs[1], ':cleo'), {});
  for (const tab of tabs) await tab.close();
  const next = await open('cleo', 'wiped', { offline: true });
  assert.ok(nothing(await state(next)));
  assert.deepEqual(await rowsOf(next, ':cleo'), {});
  await next.close();
  assert.ok(!(await stored(server, 'wiped')).includes('secret-1'), 'what was not sent is gone');
});

test('wipe: a tab that is frozen meanwhile brings nothing back, thawed', async (context) => {
  const hidden = await new Profile().start({ noDefaults: true });
  context.after(() => hidden.close());
  const url = pageOf(pages, server, { user: 'emil', list: 'thawed' });
  const frozen = await hidden.page(url);
  await until(frozen, ({ phase }) => phase === 'live');
  const other = await hidden.page(url);
  await add(other, 'one');
  await settled(other);
  await until(frozen, ({ ids }) => `${ids}` === 'one');
  // It has shown what it has not kept yet: that is put off for a second.
  await frozen.evaluate(() => {
    app.client.disconnect();
    return app.add('two').saved;
  });
  const session = await hidden.context.newCDPSession(frozen);
  await session.send('Page.setWebLifecycleState', { state: 'frozen' });
  await logout(other, 'wipe');
  assert.deepEqual(await rowsOf(other, ':emil'), {});
  await session.send('Page.setWebLifecycleState', { state: 'active' });
  await until(frozen, ({ phase }) => phase === 'closed');
  await frozen.waitForTimeout(1500);
  assert.deepEqual(Object.keys(await rowsOf(frozen, ':emil')), []);
});

test('plain HTTP on a network, where a browser has no locks: in memory, and said', async () => {
  const origin = `http://${ELSEWHERE}:${pages.port}`;
  const address = pageOf(pages, server, { user: 'dora', list: 'plain', origin });
  const page = await profile.page(address);
  assert.deepEqual(await page.evaluate(() => [isSecureContext, !!navigator.locks]), [false, false]);
  assert.equal(await page.evaluate(() => app.add('one').saved), 'memory');
  await settled(page);
  assert.deepEqual((await state(page)).work, {
    unsaved: 0, waiting: 0, refused: 0, store: { kind: 'memory', state: 'open' },
  });
  await storedOnce(server, 'plain', ['one']);
  assert.deepEqual(await rowsOf(page, ''), {}, 'nothing is on the disk');
  await page.close();
});
