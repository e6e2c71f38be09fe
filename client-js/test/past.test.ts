/** Older records over HTTP, and snapshots that clients make, against the real server. */

import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import {
  connect, debug, history, json, jsonWire, putSnapshot, view, type Client, type ClientOptions,
} from '../src/index.js';
import { Server, token } from './server.js';
import { reached, until, when } from './when.js';

const CONFIG = `
[[rules]]
pattern = "docs/**"
snapshot = "client"

[[rules]]
pattern = "short/**"
retain_records = 10
`;
const server = new Server(CONFIG);
before(() => server.start());
after(() => server.remove());

const open = (context: TestContext, options: ClientOptions = {}): Client => {
  const client = connect(server.url, { token: token('ada'), ...options });
  context.after(() => client.close());
  return client;
};
const upTo = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, at) => from + at);

test('a window of the last records, and what lies before it, with the same entries', async (context) => {
  for (const encoding of [undefined, jsonWire]) {
    const client = open(context, { ...(encoding && { encoding }) });
    const name = `chat/${encoding?.name ?? 'binary'}`;
    const headers: [string, string][] = [['a', 'ä']];
    const values = upTo(0, 30).map((n) => ({ n, text: `wörd ${n}` }));
    const writer = client.log<{ n: number; text: string }>(name, { codec: json, start: 'end' });
    await Promise.all(values.map((payload) => writer.append({ payload, key: `k${payload.n}`, kind: 'said', eventTime: 5, headers })));
    const log = client.log(`${name}`, { codec: json, start: { last: 10 } });
    const seen: unknown[] = [];
    log.on('records', ({ records }) => seen.push(...records));
    await reached(log, 30);
    const reader = open(context, { cloning: 'none' });
    const window = reader.log<{ n: number; text: string }>(name, { codec: json, start: { last: 10 } });
    const last: { offset?: number }[] = [];
    window.on('records', ({ records }) => last.push(...records));
    await when(window.status, (status): status is typeof status => status.phase === 'live');
    assert.deepEqual(last.map(({ offset }) => offset), upTo(20, 30));
    const older = await history(window, { before: last[0]!.offset, limit: 15 });
    assert.deepEqual(older.map(({ offset }) => offset), upTo(5, 20));
    assert.deepEqual(older.map(({ payload }) => payload), values.slice(5, 20));
    const again = await history(window, { before: 21, limit: 1 });
    assert.deepEqual(again, [last[0]], 'the very same entry');
    assert.deepEqual((await history(window, { before: 5 })).map(({ offset }) => offset), upTo(0, 5));
    assert.deepEqual(await history(window, { before: 0 }), []);
    assert.equal((await history(window)).length, 30);
  }
});

test('history says why not: a bad range, no right, a log made anew, another address', async (context) => {
  const client = open(context);
  const log = client.log('plain');
  await log.append({ payload: 'x' });
  await reached(log, 1);
  for (const before of [-1, 1.5, '3', Number.NaN] as number[]) {
    await assert.rejects(history(log, { before }), { code: 'bad_request' });
  }
  const foreign = open(context, { token: token('bert', [{ logs: 'other', can: ['read'] }]) });
  await assert.rejects(history(foreign.log('plain'), { before: 1 }), { code: 'denied' });
  assert.equal((await history(log, { before: 7 })).length, 1, 'past the head there is nothing');
  await server.ask('DELETE', '/v1/logs/plain');
  await server.append('plain', 'anew');
  await assert.rejects(history(log, { before: 1 }), { code: 'epoch' });
  const lost = connect('http://127.0.0.1:9', { token: 'x', autoConnect: false });
  await assert.rejects(history(lost.log('plain'), { before: 1 }), { code: 'lost' });
  lost.close();
});

test('what is kept no more is left out', async (context) => {
  const client = open(context);
  const log = client.log('short/log');
  await Promise.all(upTo(0, 200).map((at) => log.append({ payload: `${at}` })));
  await reached(log, 200);
  const start = async (): Promise<number> =>
    Number((await server.ask('HEAD', '/v1/logs/short/log')).headers.get('highwater-start'));
  let kept = 0;
  while (!(kept = await start())) await new Promise((done) => setImmediate(done));
  const all = await history(log, { before: 200, limit: 200 });
  assert.ok(all.length > 0 && all[0]!.offset! >= kept);
  assert.equal(all.at(-1)!.offset, 199);
});

test('a snapshot of many parts is what the next reader begins with, in both forms', async (context) => {
  for (const encoding of [undefined, jsonWire]) {
    const client = open(context, { ...(encoding && { encoding }) });
    const log = client.log(`docs/${encoding?.name ?? 'binary'}`);
    await Promise.all(upTo(0, 5).map((at) => log.append({ payload: `${at}` })));
    await reached(log, 5);
    const data = Uint8Array.from({ length: 1_500_000 }, (_, at) => (at * 7) % 251);
    await putSnapshot(log, { offset: 3, version: 4, data });
    const reader = open(context, { cloning: 'none' });
    let base: Uint8Array | undefined;
    let version = 0;
    const words = view(
      reader.log(log.name),
      (all: string[], { payload }) => [...all, `${payload}`],
      [] as string[],
      (given, of) => {
        base = given;
        version = of;
        return ['base'];
      },
    );
    await when(words, (shown): shown is string[] => shown?.length === 3);
    assert.deepEqual([words.value, version], [['base', '3', '4'], 4]);
    assert.ok(Buffer.from(base!).equals(Buffer.from(data)));
    await assert.rejects(putSnapshot(log, { offset: 2, version: 4, data }), { code: 'snapshot_behind' });
    await assert.rejects(putSnapshot(log, { offset: 9, version: 4, data }), { code: 'snapshot_beyond' });
    await putSnapshot(log, { offset: 4, version: 4, data: new Uint8Array(0) });
  }
});

test('a snapshot is put again after a cut; where it may not be, it says why', async (context) => {
  const client = open(context);
  const log = client.log('docs/cut');
  await log.append({ payload: 'x' });
  await reached(log, 1);
  const data = new Uint8Array(3_000_000);
  const put = putSnapshot(log, { offset: 1, version: 1, data });
  debug(client).cut();
  await put;
  const plain = client.log('plain/log');
  await plain.append({ payload: 'x' });
  await assert.rejects(putSnapshot(plain, { offset: 1, version: 1, data }), { code: 'snapshot_rule' });
  await assert.rejects(putSnapshot(log, { offset: -1, version: 1, data }), { code: 'bad_request' });
  await assert.rejects(putSnapshot(log, { offset: 1, version: 1, data: 'x' as never }), { code: 'bad_request' });
  log.release();
  await assert.rejects(putSnapshot(log, { offset: 1, version: 2, data }), { code: 'closed' });
  client.close();
  await until(client, 'closed');
  await assert.rejects(putSnapshot(plain, { offset: 1, version: 1, data }), { code: 'closed' });
});

test('over the rate, the parts that were refused are sent again, and no other', async (context) => {
  const slow = new Server('[[rules]]\npattern = "docs/**"\nsnapshot = "client"\n[limits]\nappend_bytes_per_user_second = 1000000\n');
  context.after(() => slow.remove());
  await slow.start();
  const client = connect(slow.url, { token: token('ada') });
  context.after(() => client.close());
  const log = client.log('docs/slow');
  await log.append({ payload: 'x' });
  await reached(log, 1);
  await putSnapshot(log, { offset: 1, version: 1, data: new Uint8Array(2_500_000) });
});
