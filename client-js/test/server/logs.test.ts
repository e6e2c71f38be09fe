/** Logs as a whole: made, listed, trimmed, deleted, and given a state, over answers that are lost. */

import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { highwater, HighwaterError, type Highwater, type LogInfo } from '../../src/server.js';
import { operator, Server, token } from '../server.js';
import { Proxy, upTo } from './support.js';

const server = new Server('[[rules]]\npattern = "docs/**"\nsnapshot = "client"\n');
before(() => server.start());
after(() => server.remove());

const maker = (): string =>
  token('operator', [{ logs: '**', can: ['read', 'append', 'snapshot', 'admin'] }]);
const backend = (url = server.url, by = maker()): Highwater =>
  highwater({ url, token: by, giveUpAfter: 10_000 });
const all = async (logs: AsyncIterable<LogInfo>): Promise<LogInfo[]> => {
  const found: LogInfo[] = [];
  for await (const log of logs) found.push(log);
  return found;
};
/** The first answer is lost, after the node has carried the request out. */
const losing = (context: TestContext): Promise<Proxy> =>
  new Proxy(
    () => server.url,
    (_, asked) => (asked === 0 ? 'lose' : 'pass'),
  ).start(context);

test('a log is made once, and is listed with what it holds', async (context) => {
  const own = backend();
  const made = await own.createLog('made/a', { pageSize: 64 });
  assert.equal(made.created, true);
  assert.deepEqual(await own.createLog('made/a'), { log: made.log, created: false });
  await own.append('made/a', [{ payload: 'one' }, { payload: 'two' }]);
  const [one, ...others] = await all(own.logs({ prefix: 'made/' }));
  assert.deepEqual(others, []);
  const { created, appended, bytes, ...rest } = one!;
  assert.deepEqual(rest, {
    name: 'made/a',
    id: made.log,
    start: 0,
    head: 2,
    rule: 'none',
    deriving: null,
    pageSize: 64,
  });
  assert.ok(bytes >= 6 && created > 0 && appended >= created);
  // Made, and nobody said so: it is there, and made by nobody else.
  const proxy = await losing(context);
  const lost = await backend(proxy.url).createLog('made/b');
  assert.equal(proxy.asked, 2);
  const [, b] = await all(own.logs({ prefix: 'made/' }));
  assert.deepEqual(lost, { log: b!.id, created: false });
});

test('a list is of many pages, by name, of what may be read', async () => {
  const own = backend();
  const names = upTo(0, 1003).map((n) => `many/${n}`);
  while (names.length) await Promise.all(names.splice(0, 60).map((name) => own.createLog(name)));
  const found = (await all(own.logs({ prefix: 'many/' }))).map(({ name }) => name);
  assert.deepEqual(found, upTo(0, 1003).map((n) => `many/${n}`).sort());
  const few = token('eve', [{ logs: 'many/7', can: ['read'] }]);
  assert.deepEqual((await all(backend(server.url, few).logs())).map(({ name }) => name), ['many/7']);
  assert.deepEqual(await all(own.logs({ prefix: 'none/' })), []);
  const stop = new AbortController();
  stop.abort();
  await assert.rejects(all(own.logs({ signal: stop.signal })), { code: 'closed' });
});

test('what is trimmed is gone, and what is behind it stays', async (context) => {
  const own = backend();
  const { log } = (await own.append('trim', upTo(0, 9).map((n) => ({ payload: `${n}` }))))[0]!;
  assert.deepEqual(await own.trimLog('trim', 4), { log, start: 4 });
  assert.deepEqual(await own.trimLog('trim', 2), { log, start: 4 }, 'it never comes back');
  const proxy = await losing(context);
  assert.deepEqual(await backend(proxy.url).trimLog('trim', 6), { log, start: 6 });
  const left: unknown[] = [];
  for await (const { payload } of own.read('trim')) left.push(payload);
  assert.deepEqual(left, ['6', '7', '8']);
  await own.append('docs/kept', { payload: 'x' });
  await assert.rejects(own.trimLog('docs/kept', 1), { code: 'trim_rule' });
});

test('a deletion is sent once: a log made anew under the name stays', async (context) => {
  const own = backend();
  const { log } = await own.createLog('gone');
  assert.deepEqual(await own.deleteLog('gone'), { log });
  await assert.rejects(own.deleteLog('gone'), { code: 'unknown_log' });
  // Carried out, and nobody said so; then someone makes another log of the name.
  await own.createLog('again');
  const proxy = await losing(context);
  await assert.rejects(backend(proxy.url).deleteLog('again'), { code: 'lost', maybeStored: true });
  assert.equal(proxy.asked, 1);
  await own.append('again', { payload: 'anew' });
  assert.deepEqual((await all(own.logs({ prefix: 'again' }))).map(({ head }) => head), [1]);
  // What surely was not carried out is sent again.
  const busy = { code: 'overloaded', message: 'busy', retry_after: 1 };
  const answer = { status: 503, body: JSON.stringify(busy) };
  const shedding = await new Proxy(
    () => server.url,
    (_, asked) => (asked < 2 ? answer : 'pass'),
  ).start(context);
  await backend(shedding.url).deleteLog('again');
  assert.equal(shedding.asked, 3);
});

test('a state is put, and is what is read; one that is put twice is put once', async (context) => {
  const own = backend();
  await own.append('docs/1', [{ payload: 'a' }, { payload: 'b' }]);
  const data = new Uint8Array(3_000_000).map((_, at) => at % 251);
  await own.putSnapshot('docs/1', { offset: 1, version: 7, data });
  const state = await own.state('docs/1');
  assert.equal(state.rule === 'client' && state.version, 7);
  assert.equal(state.offset, 1);
  assert.deepEqual(Buffer.compare(state.state as Uint8Array, data), 0);
  const proxy = await losing(context);
  const again = { offset: 2, data: Uint8Array.of(1) };
  await backend(proxy.url).putSnapshot('docs/1', again);
  assert.equal(proxy.asked, 2, 'the second try found what the first had stored');
  await assert.rejects(own.putSnapshot('docs/1', again), { code: 'snapshot_behind' });
  await assert.rejects(own.putSnapshot('docs/1', { ...again, offset: 9 }), {
    code: 'snapshot_beyond',
  });
  await own.createLog('plain');
  await assert.rejects(own.putSnapshot('plain', again), { code: 'snapshot_rule' });
});

test('what one may not do is told, and what is wrong before anything is sent', async (context) => {
  const own = backend(server.url, token('eve', [{ logs: 'made/**', can: ['read', 'append'] }]));
  const data = Uint8Array.of(1);
  await assert.rejects(own.createLog('made/c'), { code: 'denied' });
  await assert.rejects(own.trimLog('made/a', 1), { code: 'denied' });
  await assert.rejects(own.deleteLog('made/a'), { code: 'denied' });
  await assert.rejects(own.putSnapshot('made/a', { offset: 1, data }), { code: 'denied' });
  const proxy = await new Proxy(() => server.url).start(context);
  const api = backend(proxy.url, operator()) as any;
  for (const [field, call] of [
    ['log', () => api.createLog('a//b')],
    ['pageSize', () => api.createLog('a', { pageSize: -1 })],
    ['pagesize', () => api.createLog('a', { pagesize: 1 })],
    ['offset', () => api.trimLog('a', 1.5)],
    ['log', () => api.deleteLog('..')],
    ['prefix', () => all(api.logs({ prefix: 1 }))],
    ['snapshot.data', () => api.putSnapshot('a', { offset: 1, data: 'x' })],
    ['snapshot.version', () => api.putSnapshot('a', { offset: 1, version: 2 ** 32, data })],
  ] as [string, () => Promise<unknown>][]) {
    const named = (error: HighwaterError): boolean => error.message.startsWith(`${field}: `);
    await assert.rejects(async () => call(), named, field);
  }
  assert.equal(proxy.asked, 0);
});
