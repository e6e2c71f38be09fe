/**
 * The whole client over real WebSockets, against a server whose answers are hooks of the test.
 *
 * The timing of the laws is tested elsewhere under fake time; here it is the plumbing: `ws`, both
 * encodings, promises, events, tokens, and coming back after a real cut.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { WebSocketServer, type WebSocket } from 'ws';
import { connect, latestView, type Client, type ClientOptions, type ConnectionState } from '../src/index.js';
import { decode, encode, type Encoding } from '../src/codec.js';
import { clientFrames, serverFrames, type ClientFrame, type ServerFrame } from '../src/frames.js';
import { delivered, OTHER, text } from './world.js';

type Reply = (...frames: ServerFrame[]) => void;
type Hook = (frame: ClientFrame, reply: Reply, socket: WebSocket) => void;

const limits = { frame_bytes: 65_536, record_bytes: 16_384, window: 4000, in_flight: 1024, subscriptions: 1000 };

const welcome = (hello: ClientFrame, mark = 0, more: object = {}): ServerFrame => {
  assert.ok(hello.name === 'hello');
  return {
    name: 'welcome',
    body: {
      version: 1, capabilities: [], connection: hello.body.connection, user: 'ada', met: 'fresh',
      source: undefined, place: { batch: 1, index: 0 }, generation: 1, time: 1, expires: 0,
      ping_interval: 25_000, token: undefined, limits,
      writers: [{ writer: hello.body.writers[0]!.writer, mark }], ...more,
    },
  };
};

/** A server on loopback; every frame of every socket goes to `hook`. */
const serve = async (context: TestContext, hook: Hook): Promise<string> => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', path: '/v1/connect' });
  context.after(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  server.on('connection', (socket) => {
    const encoding = socket.protocol.split('.').at(-1) as Encoding;
    const reply: Reply = (...frames) => {
      for (const frame of frames) socket.send(encode(serverFrames, frame, encoding));
    };
    socket.on('message', (data: Buffer, binary) => {
      assert.equal(binary, encoding === 'bincode');
      const message = binary ? new Uint8Array(data) : data.toString();
      for (const { frame } of decode(clientFrames, message)) hook(frame, reply, socket);
    });
  });
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};

const open = (context: TestContext, url: string, options: ClientOptions = {}): Client => {
  const client = connect(url, { token: 'secret', ...options });
  context.after(() => client.close());
  return client;
};

const until = (client: Client, wanted: ConnectionState['state']): Promise<ConnectionState> =>
  new Promise((resolve) => {
    if (client.state.state === wanted) return resolve(client.state);
    const off = client.on('state', (state) => {
      if (state.state !== wanted) return;
      off();
      resolve(state);
    });
  });

/** A log that takes everything, kept over sockets. */
const store = (): { hook: Hook; records: ReturnType<typeof delivered>[]; seen: ClientFrame[] } => {
  const records: ReturnType<typeof delivered>[] = [];
  const seen: ClientFrame[] = [];
  let mark = 0;
  const hook: Hook = (frame, reply) => {
    seen.push(frame);
    const origins = [OTHER];
    if (frame.name === 'hello') reply(welcome(frame, mark));
    if (frame.name === 'hello' || frame.name === 'subscribe') {
      const request = frame.name === 'hello' ? 0 : frame.body.request;
      for (const { name, have } of frame.body.open) {
        const [next, head] = [have?.next ?? 0, records.length];
        reply({ name: 'subscribed', body: { request, name, log: 7, priority: 0, rule: 'none', start: 0, head, cursor: next, complete: head, reset: !have } });
        if (!have) reply({ name: 'reset', body: { log: 7, reason: 'new', base: undefined, cursor: 0, complete: head } });
        if (head > next) reply({ name: 'records', body: { log: 7, base: next, origins, records: records.slice(next) } });
      }
    }
    if (frame.name === 'append') {
      for (const { seq, record } of frame.body.items) {
        if (seq <= mark) continue;
        mark = seq;
        const [offset, stored] = [records.length, delivered(seq, record)];
        records.push(stored);
        reply(
          { name: 'answers', body: { writer: frame.body.writer, mark, answers: [{ seq, outcome: { stored: { log: 7, offset, place: stored.place, level: 'synced' } } }] } },
          { name: 'records', body: { log: 7, base: offset, origins: [{ ...OTHER, writer: frame.body.writer }], records: [stored] } },
        );
      }
    }
  };
  return { hook, records, seen };
};

for (const encoding of ['bincode', 'json'] as const) {
  test(`append, deliver, show: ${encoding}`, async (context) => {
    const { hook, seen } = store();
    const client = open(context, await serve(context, hook), { encoding });
    const board = latestView(client.subscribe('boards/1'));
    const [first, second] = await Promise.all([
      client.append('boards/1', text('1', 'x')),
      client.append('boards/1', { key: 'y', payload: new Uint8Array([1, 2, 255]) }),
    ]);
    assert.deepEqual([first.offset, second.offset, first.level], [0, 1, 'synced']);
    const log = client.logs[0]!;
    if (log.cursor < 2) await new Promise((done) => log.on('records', () => log.cursor === 2 && done(0)));
    assert.deepEqual([...board.value!].map(([key, { record, pending }]) => [key, record.payload, pending]), [
      ['x', '1', false], ['y', new Uint8Array([1, 2, 255]), false],
    ]);
    assert.equal(seen.filter(({ name }) => name === 'append').length, 1, 'both went in one frame');
    const info = client.debug.info();
    assert.deepEqual([info.user, info.met, info.generation, info.pending], ['ada', 'fresh', 1, 0]);
    assert.deepEqual([log.lag, log.head, log.complete, log.id], [0, 2, true, 7]);
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
  const log = client.subscribe('a');
  const offsets: number[] = [];
  log.on('records', ({ records }) => offsets.push(...records.map(({ offset }) => offset!)));
  assert.equal((await client.append('a', text('1'))).offset, 0);
  client.debug.setOffline(true);
  assert.deepEqual(client.state, { state: 'offline', reason: 'asked' });
  const later = client.append('a', text('2'));
  assert.equal(log.pending.at(-1)?.record.payload, '2');
  client.debug.setOffline(false);
  assert.equal((await later).offset, 1);
  client.debug.cut();
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
  const waiting = await until(client, 'waiting');
  assert.ok(waiting.state === 'waiting');
  assert.match(waiting.error.message, /no network yet/);
  await until(client, 'active');
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
    await until(client, 'active');
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
  client.on('log', (log) => log.name === 'taken' && log.on('records', () => {}));
  const stopped = await until(client, 'stopped');
  assert.ok(stopped.state === 'stopped');
  assert.deepEqual([stopped.error.code, stopped.error.message], ['fenced', 'another one came']);
  assert.deepEqual(let_go, [2]);
  assert.deepEqual(client.logs.map(({ name }) => name), ['taken']);
  await assert.rejects(client.append('taken', text('1')), { name: 'HighwaterError', code: 'fenced' });
});

test('rubbish from the server, or no server, is a lost socket', async (context) => {
  const url = await serve(context, (_, __, socket) => socket.send(new Uint8Array([64, 1, 7])));
  const client = open(context, url);
  const waiting = await until(client, 'waiting');
  assert.ok(waiting.state === 'waiting' && waiting.error.code === 'lost');
  assert.match(waiting.error.message, /welcome/);
  const nobody = open(context, 'ws://127.0.0.1:9/v1/connect');
  await until(nobody, 'waiting');
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
  await until(client, 'active');
  client.close({ forget: true });
  await gone;
  assert.deepEqual(names, ['hello', 'leave']);
  assert.equal(never.state.state, 'stopped');
});

test('an id that is none stops the client with a reason, and harms nobody', async (context) => {
  const url = await serve(context, (frame, reply) => frame.name === 'hello' && reply(welcome(frame)));
  const client = open(context, url, { connection: 'not an id' });
  const stopped = await until(client, 'stopped');
  assert.ok(stopped.state === 'stopped');
  assert.equal(stopped.error.code, 'bad_frame');
  assert.match(stopped.error.message, /32 hex digits/);
});
