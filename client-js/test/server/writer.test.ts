/** A writer that outlives its process, against a real server, with kills on either side. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  fileStorage,
  highwater,
  HighwaterError,
  memoryStorage,
  type WriterState,
} from '../../src/server.js';
import { operator, Server, token } from '../server.js';
import { Chance, Child, folder, Proxy, upTo, type Fault } from './support.js';

const server = new Server();
before(() => server.start());
after(() => server.remove());

const backend = (url = server.url) => highwater({ url, token: operator() });

test('killed at random moments, its server too: each record once, in order', async (context) => {
  const chance = new Chance(context, 'server/writer');
  const own = new Server();
  context.after(() => own.remove());
  await own.start();
  const proxy = await new Proxy(
    () => own.url,
    () =>
      chance.pick(['pass', 'pass', 'pass', 'lose', { status: 502 }, { status: 503 }, { cut: 20 }]),
  ).start(context);
  const file = join(folder(context), 'writer.json');
  const last = 240;
  let kills = 0;
  let again = 0;
  for (let done = false; !done;) {
    const args = [proxy.url, operator(), file, 'killed', `${last}`, '8'];
    const child = new Child(context, 'writer', ...args);
    await child.printed(1 + chance.below(40));
    if (chance.below(4) === 0) {
      await own.kill();
      await own.start();
    }
    done = await child.kill();
    if (!done) kills++;
    assert.ok(kills < 60, 'it does not get on');
    const state = JSON.parse(readFileSync(file, 'utf8')) as WriterState;
    if (state.batch) again++;
  }
  assert.deepEqual((await own.payloads('killed')).map(Number), upTo(1, last + 1));
  assert.ok(
    kills >= 3 && again >= 1,
    `killed ${kills} times, ${again} of them with a batch on its way`,
  );
  context.diagnostic(
    `killed ${kills} times, ${again} with a batch on its way, ${proxy.asked} requests`,
  );
});

test('what was durable when the process ended is sent first, under its numbers', async () => {
  const storage = memoryStorage<WriterState>();
  const writer = '00112233445566778899aabbccddee01';
  const lines = ['{"payload":"a"}', '{"payload":"b"}'];
  const batch = { log: 'owed', first: 1, lines };
  storage.save({ version: 1, writer, next: 3, run: 'x', batch });
  const own = backend();
  const opened = await own.writer({ storage });
  assert.deepEqual([opened.id, opened.next, opened.owed], [writer, 3, 2]);
  await own.append('owed', { payload: 'c' }, { writer: opened });
  assert.deepEqual(await server.payloads('owed'), ['a', 'b', 'c']);
  assert.equal(opened.owed, 0);
  // The same file once more, as after a crash before the next append: nothing comes twice.
  const state = (await storage.load())!;
  assert.equal(state.batch?.lines.length, 1, 'its answer needs no write');
  const next = await own.writer({ storage });
  await next.flush();
  await next.close();
  assert.deepEqual(await server.payloads('owed'), ['a', 'b', 'c']);
  assert.equal((await storage.load())!.batch, undefined, 'closed, it owes nothing');
  await assert.rejects(own.append('owed', { payload: 'd' }, { writer: next }), { code: 'closed' });
});

test('it is durable before it is sent', async (context) => {
  const order: string[] = [];
  const memory = memoryStorage<WriterState>();
  const storage = {
    load: () => memory.load(),
    save: (state: WriterState) => {
      order.push(`saved ${state.batch?.lines.length ?? 0}`);
      memory.save(state);
    },
  };
  const proxy = await new Proxy(
    () => server.url,
    () => {
      order.push('sent');
      return 'pass';
    },
  ).start(context);
  const own = backend(proxy.url);
  const writer = await own.writer({ storage });
  await Promise.all(upTo(0, 50).map((n) => own.append('before', { payload: `${n}` }, { writer })));
  assert.deepEqual(order, ['saved 0', 'saved 50', 'sent'], 'calls of one turn go together');
  assert.deepEqual(await server.payloads('before'), upTo(0, 50).map(String));
});

test('a storage that fails: nothing is sent', async () => {
  const memory = memoryStorage<WriterState>();
  let broken = false;
  const own = backend();
  const writer = await own.writer({
    storage: {
      load: () => memory.load(),
      save: (state) => {
        if (broken) throw new Error('no room');
        memory.save(state);
      },
    },
  });
  broken = true;
  const failed = { code: 'lost', message: 'no room', maybeStored: true };
  await assert.rejects(own.append('broken', { payload: 'x' }, { writer }), failed);
  broken = false;
  assert.equal(writer.next, 1, 'its number is not spent');
  await own.append('broken', { payload: 'y' }, { writer });
  assert.deepEqual(await server.payloads('broken'), ['y']);
});

test('two processes with one storage: the older one is fenced, nothing is doubled', async () => {
  const storage = memoryStorage<WriterState>();
  const own = backend();
  const older = await own.writer({ storage });
  await own.append('two', { payload: '1' }, { writer: older });
  const newer = await own.writer({ storage });
  await assert.rejects(own.append('two', { payload: 'no' }, { writer: older }), {
    code: 'fenced',
    maybeStored: false,
  });
  await own.append('two', { payload: '2' }, { writer: newer });
  assert.deepEqual(await server.payloads('two'), ['1', '2']);
  await older.close();
});

test('given up, it may be stored; it is sent before what follows', async (context) => {
  let down = false;
  const proxy = await new Proxy(
    () => server.url,
    () => (down ? { status: 503 } : 'pass'),
  ).start(context);
  const own = highwater({ url: proxy.url, token: operator(), giveUpAfter: 200 });
  const storage = memoryStorage<WriterState>();
  const writer = await own.writer({ storage });
  down = true;
  const owed = own.append('late', { payload: '1' }, { writer });
  await assert.rejects(owed, { code: 'lost', maybeStored: true });
  await assert.rejects(writer.flush(), { code: 'lost', maybeStored: false });
  assert.equal(writer.owed, 1);
  const stop = new AbortController();
  const asked = proxy.asked;
  const aborted = own.append('late', { payload: 'never' }, { writer, signal: stop.signal });
  while (proxy.asked === asked) await new Promise((done) => setImmediate(done));
  stop.abort(new Error('enough'));
  await assert.rejects(aborted, (error: HighwaterError) => {
    assert.deepEqual([error.code, error.maybeStored], ['closed', false]);
    return (error.cause as Error).message === 'enough';
  });
  down = false;
  await own.append('late', { payload: '2' }, { writer });
  assert.deepEqual(await server.payloads('late'), ['1', '2']);
});

test('what a wrong proxy answers does not end a writer', async (context) => {
  let wrong: Fault = 'pass';
  const proxy = await new Proxy(
    () => server.url,
    () => wrong,
  ).start(context);
  const own = backend(proxy.url);
  const writer = await own.writer({ storage: memoryStorage() });
  for (const [fault, code] of [
    [{ status: 404 }, 'bad_request'],
    [{ status: 301, headers: { location: '/x' } }, 'bad_request'],
    [{ status: 413 }, 'too_large'],
  ] as const) {
    wrong = fault;
    const refused =
      code === 'too_large' ? writer.flush() : own.append('way', { payload: code }, { writer });
    await assert.rejects(refused, { code });
    assert.equal(writer.over, undefined);
  }
  wrong = 'pass';
  await own.append('way', { payload: 'last' }, { writer });
  assert.deepEqual(await server.payloads('way'), ['bad_request', 'last']);
});

test('one record of many is refused for good: the others are stored, it says which', async () => {
  const own = highwater({
    url: server.url,
    token: token('ben', [{ logs: 'mine/**', can: ['append', 'read'] }]),
  });
  const writer = await own.writer({ storage: memoryStorage() });
  await own.append('mine/a', { payload: '1' }, { writer });
  await assert.rejects(own.append('other', { payload: 'x' }, { writer }), { code: 'denied' });
  const big = { payload: 'x'.repeat(600_000) };
  const mixed = own.append('mine/a', [{ payload: '2' }, big, { payload: '3' }], { writer });
  await assert.rejects(
    mixed,
    (error: { code: string; results: { offset?: number; code?: string }[] }) => {
      assert.equal(error.code, 'too_large');
      assert.deepEqual(
        error.results.map(({ offset, code }) => offset ?? code),
        [1, 'too_large', 2],
      );
      return true;
    },
  );
  const condition = own.append('mine/a', { payload: 'no' }, { writer, ifHead: 1 });
  await assert.rejects(condition, { code: 'conflict' });
  await own.append('mine/a', { payload: '4' }, { writer, ifHead: 3 });
  assert.deepEqual(await server.payloads('mine/a'), ['1', '2', '3', '4']);
});

test('a storage that was set back is told, and no number is used twice', async () => {
  const storage = memoryStorage<WriterState>();
  const own = backend();
  const first = await own.writer({ storage });
  await own.append('back', { payload: '1' }, { writer: first });
  const kept = (await storage.load())!;
  for (const payload of ['2', '3']) await own.append('back', { payload }, { writer: first });
  // It owes '1' by that copy, to which the answer has been confirmed since.
  storage.save(kept);
  let writer = await own.writer({ storage });
  const behind = own.append('back', { payload: 'other' }, { writer });
  await assert.rejects(behind, { code: 'sequence_old', maybeStored: false });
  assert.equal(writer.over?.code, 'sequence_old');
  // The same where nothing is owed: its next number was given to another record.
  storage.save({ ...kept, batch: undefined });
  writer = await own.writer({ storage });
  const refused = own.append('back', { payload: 'other' }, { writer });
  await assert.rejects(refused, { code: 'sequence_old', maybeStored: true });
  const later = own.append('back', { payload: 'x' }, { writer });
  await assert.rejects(later, { code: 'sequence_old', maybeStored: false });
  const owed = await writer.renew();
  const record = { payload: 'other' };
  assert.deepEqual(owed, [{ log: 'back', writer: first.id, seq: 2, record }]);
  assert.notEqual(writer.id, first.id);
  await own.append('back', { payload: '4' }, { writer });
  assert.deepEqual(await server.payloads('back'), ['1', '2', '3', '4']);
});

test('another history: told, nothing is stored there until renew()', async (context) => {
  const own = new Server();
  context.after(() => own.remove());
  await own.start();
  const storage = fileStorage<WriterState>(join(folder(context), 'writer.json'));
  const api = highwater({ url: own.url, token: operator() });
  let writer = await api.writer({ storage });
  await api.append('there', { payload: '1' }, { writer });
  await writer.close();
  await own.restore();
  writer = await api.writer({ storage });
  await assert.rejects(api.append('there', { payload: '2' }, { writer }), {
    code: 'other_history',
  });
  await assert.rejects(own.payloads('there'), /unknown_log/);
  // Also after a restart of the process.
  writer = await api.writer({ storage });
  assert.equal(writer.over?.code, 'other_history');
  const owed = await writer.renew();
  assert.deepEqual(
    owed.map(({ log, seq, record }) => [log, seq, record]),
    [['there', 2, { payload: '2' }]],
  );
  await api.append(
    'there',
    owed.map(({ record }) => record),
    { writer },
  );
  assert.deepEqual(await own.payloads('there'), ['2']);
});

test('a log that was deleted: the append is refused by its id, the writer goes on', async () => {
  const own = backend();
  const writer = await own.writer({ storage: memoryStorage() });
  const { log: logId } = await own.append('gone', { payload: '1' }, { writer });
  await own.append('gone', { payload: '2' }, { writer, logId });
  await server.ask('DELETE', '/v1/logs/gone');
  await assert.rejects(own.append('gone', { payload: '3' }, { writer, logId }), { code: 'epoch' });
  await own.append('gone', { payload: '4' }, { writer });
  assert.deepEqual(await server.payloads('gone'), ['4']);
});

test('retired, it goes on under another id', async () => {
  const own = backend();
  const storage = memoryStorage<WriterState>();
  const writer = await own.writer({ storage });
  const { id } = writer;
  await own.append('retired', { payload: '1' }, { writer });
  await writer.retire();
  assert.notEqual(writer.id, id);
  await own.append('retired', { payload: '2' }, { writer });
  assert.deepEqual(await server.payloads('retired'), ['1', '2']);
});

test('a file that holds something else is refused, not begun anew', async (context) => {
  const file = join(folder(context), 'writer.json');
  for (const [text, field] of [
    ['{', 'path'],
    ['[]', 'storage'],
    ['{"version":2}', 'storage.version'],
    ['{"version":1,"writer":"x"}', 'storage.writer'],
  ] as const) {
    writeFileSync(file, text);
    const opened = backend().writer({ storage: fileStorage(file) });
    await assert.rejects(opened, (error: HighwaterError) => error.message.startsWith(`${field}: `));
  }
});
