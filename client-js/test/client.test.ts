/**
 * The whole client over real WebSockets, against a server whose answers are hooks of the test.
 *
 * The timing of the laws is tested elsewhere under fake time; here it is the plumbing: `ws`, both
 * encodings, promises, events, tokens, and coming back after a real cut.
 */

import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { connect, debug, latest, type Client, type ClientOptions } from '../src/index.js';
import type { ServerFrame } from '../src/frames.js';
import { serve, store, welcome } from './stub.js';
import { until } from './when.js';
import { forms, text } from './world.js';

const open = (context: TestContext, url: string, options: ClientOptions = {}): Client => {
  const client = connect(url, { token: 'secret', ...options });
  context.after(() => client.close());
  return client;
};

for (const encoding of ['bincode', 'json'] as const) {
  test(`append, deliver, show: ${encoding}`, async (context) => {
    const { hook, seen } = store();
    const client = open(context, await serve(context, hook), { encoding: forms[encoding] });
    const log = client.log('boards/1');
    const board = latest(log);
    const [first, second] = await Promise.all([
      client.append('boards/1', text('1', 'x')),
      client.append('boards/1', { key: 'y', payload: new Uint8Array([1, 2, 255]) }),
    ]);
    assert.deepEqual([first.offset, second.offset, first.level], [0, 1, 'synced']);
    if (log.cursor < 2) await new Promise((done) => log.on('records', () => log.cursor === 2 && done(0)));
    assert.deepEqual([...board.value!].map(([key, { payload, pending }]) => [key, payload, pending]), [
      ['x', '1', false], ['y', new Uint8Array([1, 2, 255]), false],
    ]);
    assert.equal(seen.filter(({ name }) => name === 'append').length, 1, 'both went in one frame');
    const info = debug(client).info();
    assert.deepEqual([info.user, info.met, info.generation, info.pending], ['ada', 'fresh', 1, 0]);
    assert.deepEqual([log.cursor, log.head, log.status.value.phase, log.id], [2, 2, 'live', 7]);
  });
}

test('cut and offline: what was not answered is sent again and stored once', async (context) => {
  const { hook, records, seen } = store();
  let swallow = true;
  const url = await serve(context, (frame, reply, socket) => {
    // The first append is stored, but its answer is lost with the socket.
    if (frame.name === 'append' && swallow) {
      swallow = false;
      hook(frame, () => {}, socket);
      return socket.terminate();
    }
    hook(frame, reply, socket);
    if (frame.name === 'hello' && records.length) {
      const { writer } = frame.body.writers[0]!;
      reply({ name: 'answers', body: { writer, mark: 1, answers: [{ seq: 1, outcome: { stored: { log: 7, offset: 0, place: { batch: 101, index: 0 }, level: 'synced' } } }] } });
    }
  });
  const client = open(context, url);
  const log = client.log('a');
  const offsets: number[] = [];
  log.on('records', ({ records }) => offsets.push(...records.map(({ offset }) => offset!)));
  assert.equal((await client.append('a', text('1'))).offset, 0);
  client.disconnect();
  assert.deepEqual(client.status.value, { phase: 'offline', reason: 'asked' });
  const later = client.append('a', text('2'));
  assert.equal(log.pending.value.at(-1)?.payload, '2');
  client.connect();
  assert.equal((await later).offset, 1);
  debug(client).cut();
  assert.equal((await client.append('a', text('3'))).offset, 2);
  assert.deepEqual(records.map(({ record }) => record.payload), ['1', '2', '3']);
  const haves = seen.flatMap((frame) => (frame.name === 'hello' ? [frame.body.open[0]?.have?.next] : []));
  assert.equal(haves.length, 4);
  if (log.cursor < 3) await new Promise((done) => log.on('records', () => log.cursor === 3 && done(0)));
  assert.deepEqual(offsets, [0, 1, 2]);
});

test('the token function is asked, and its failure told', async (context) => {
  const tokens: (string | undefined)[] = [];
  const url = await serve(context, (frame, reply) => {
    if (frame.name !== 'hello') return;
    tokens.push(frame.body.token);
    reply(welcome(frame));
  });
  let asked = 0;
  const client = open(context, url, {
    token: async () => {
      if (asked++ === 0) throw new Error('no network yet');
      return 'fresh';
    },
  });
  const waiting = await until(client, 'needs-auth');
  assert.match(waiting.error.message, /no network yet/);
  await until(client, 'live');
  assert.deepEqual(tokens, ['fresh']);
});

test('a made up token is kept in the storage and shown by the next client', async (context) => {
  const tokens: (string | undefined)[] = [];
  const url = await serve(context, (frame, reply) => {
    if (frame.name !== 'hello') return;
    tokens.push(frame.body.token);
    reply(welcome(frame, 0, { token: frame.body.token ?? 'made up' }));
  });
  const kept = new Map<string, string>();
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  for (let run = 0; run < 2; run++) {
    const client = open(context, url, { token: undefined, storage });
    await until(client, 'live');
    client.close();
  }
  assert.deepEqual(tokens, [undefined, 'made up']);
});

test('bye stops it with its code, and a log that comes along can be taken up', async (context) => {
  const let_go: number[] = [];
  const url = await serve(context, (frame, reply) => {
    const comes = (name: string, log: number): ServerFrame => ({
      name: 'subscribed',
      body: { request: 0, name, log, priority: 0, rule: 'none', start: 0, head: 0, cursor: 0, complete: 0, reset: false },
    });
    if (frame.name === 'hello') reply(welcome(frame), comes('taken', 1), comes('left', 2));
    if (frame.name === 'unsubscribe') {
      let_go.push(...frame.body.logs);
      reply({ name: 'bye', body: { code: 'fenced', message: 'another one came', reconnect: false, after: 0 } });
    }
  });
  const client = open(context, url);
  const opened: string[] = [];
  client.on('log', ({ name }) => {
    if (name === 'taken') opened.push(client.log(name).name);
  });
  const stopped = await until(client, 'closed');
  assert.deepEqual([stopped.error.code, stopped.error.message], ['fenced', 'another one came']);
  assert.deepEqual(let_go, [2]);
  assert.deepEqual(opened, ['taken']);
  await assert.rejects(client.append('taken', text('1')), { name: 'HighwaterError', code: 'fenced' });
});

test('rubbish from the server, or no server, is a lost socket', async (context) => {
  const url = await serve(context, (_, __, socket) => socket.send(new Uint8Array([64, 1, 7])));
  const client = open(context, url);
  const waiting = await until(client, 'offline');
  assert.equal(waiting.reason, 'lost');
  assert.match(waiting.error!.message, /welcome/);
  const nobody = open(context, 'ws://127.0.0.1:9/v1/connect');
  await until(nobody, 'offline');
});

test('close leaves, and a client that was closed before it began stays closed', async (context) => {
  const names: string[] = [];
  let left: (() => void) | undefined;
  const gone = new Promise<void>((done) => (left = done));
  const url = await serve(context, (frame, reply) => {
    names.push(frame.name);
    if (frame.name === 'hello') reply(welcome(frame));
    if (frame.name === 'leave') left!();
  });
  const never = open(context, url);
  never.close();
  const client = open(context, url);
  await until(client, 'live');
  client.close({ forget: true });
  await gone;
  assert.deepEqual(names, ['hello', 'leave']);
  assert.equal(never.status.value.phase, 'closed');
});

test('what is no option is told where it is given, by its name', () => {
  for (const [url, options, field] of [
    ['ftp://x', {}, /^url: ftp:/], ['', {}, /^url: /], ['nowhere', {}, /^url: /], [7, {}, /^url: /],
    ['ws://x', { connection: 'not an id' }, /^connection: .*32 hex digits/],
    ['ws://x', { device: 5 }, /^device: /], ['ws://x', { cloning: 'some' }, /^cloning: /],
    ['ws://x', { window: -1 }, /^window: /], ['ws://x', { visible: 'yes' }, /^visible: /],
    ['ws://x', { token: 5 }, /^token: /], ['ws://x', { maxPending: 0 }, /^maxPending: /],
    ['ws://x', { encoding: 'json' }, /^encoding: /], ['ws://x', { WebSocket: 'ws' }, /^WebSocket: /],
  ] as [any, any, RegExp][]) {
    assert.throws(() => connect(url, { autoConnect: false, ...options }), (error: any) => {
      assert.deepEqual([error.name, error.code], ['HighwaterError', 'bad_request'], error.message);
      assert.match(error.message, field);
      return true;
    });
  }
});
