/** The shell of a client: sockets that fail in odd ways, words for people, what is not begun. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { WebSocketServer } from 'ws';
import { connect, latest, type Client, type ClientOptions } from '../src/index.js';
import { locksOf, memory } from './page.js';
import { serve, store, welcome } from './stub.js';
import { until, when } from './when.js';
import { clientFrames, serverFrames } from '../src/frames.js';
import { decode, encode, text, type Form } from './world.js';

const open = (context: TestContext, url: string, options: ClientOptions = {}): Client => {
  const client = connect(url, { token: 'secret', ...options });
  context.after(() => client.close());
  return client;
};
const turns = async (count = 20): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((done) => setImmediate(done));
};

test('what the server says before it welcomes anybody is told in its words', async (context) => {
  for (const [code, phase] of [
    ['origin', 'closed'], ['unauthorized', 'needs-auth'], ['version', 'update-required'],
  ] as const) {
    const url = await serve(context, (frame, reply, socket) => {
      if (frame.name !== 'hello') return;
      reply({ name: 'bye', body: { code, message: `no: ${code}`, reconnect: false, after: 0 } });
      socket.close(4000, code);
    });
    const client = open(context, url);
    const told = await until(client, phase);
    assert.deepEqual([told.reason, told.error.message], [code, `no: ${code}`]);
  }
});

test('a server that refuses the handshake is told of, tried again, and met when it does not', async (context) => {
  const { hook } = store();
  const inner = new URL(await serve(context, hook));
  let refuse = true;
  const server = new WebSocketServer({
    port: 0, host: '127.0.0.1', path: '/v1/connect',
    verifyClient: (_: unknown, done: (ok: boolean, status?: number) => void) => done(!refuse, 403),
  });
  context.after(() => server.close());
  server.on('connection', (socket) => {
    socket.close(4000 + 78, 'shutting_down');
  });
  await once(server, 'listening');
  const client = open(context, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const status = await until(client, 'offline');
  assert.equal(status.reason, 'lost');
  assert.match(status.error!.message, /403/);
  refuse = false;
  client.connect();
  await when(client.status, (now): now is typeof now => 'error' in now && now.error?.code === 'shutting_down');
  assert.ok(inner);
});

test('a socket that tells an error and no close is lost at once', async () => {
  let made = 0;
  class Broken {
    binaryType = '';
    onopen = null;
    onmessage = null;
    onclose = null;
    onerror: ((event: unknown) => void) | null = null;
    constructor() {
      made++;
      queueMicrotask(() => this.onerror?.({ type: 'error' }));
    }
    send(): void {}
    close(): void {}
  }
  const client = connect('ws://127.0.0.1:9', { token: 'secret', WebSocket: Broken });
  const status = await until(client, 'offline');
  assert.deepEqual([status.reason, made], ['lost', 1]);
  assert.match(status.error!.message, /^no WebSocket: .*proxy/);
  client.close();
});

test('nothing is begun before connect: no socket, no token, no id', async (context) => {
  const { hook, seen } = store();
  const url = await serve(context, hook);
  let asked = 0;
  const storage = memory();
  const client = connect(url, { autoConnect: false, storage, token: () => (asked++, 'secret') });
  context.after(() => client.close());
  const log = client.log('a');
  const board = latest(log);
  const answer = log.append(text('1', 'k'));
  await turns();
  assert.deepEqual([seen.length, asked, client.connection, client.status.value], [
    0, 0, '', { phase: 'connecting', reason: 'begun' },
  ]);
  assert.equal(log.pending.value.length, 1, 'it can be worked with all the same');
  client.connect();
  client.connect();
  assert.equal((await answer).offset, 0);
  await when(board.get('k'), (entry): entry is typeof entry => entry?.pending === false);
  assert.equal(seen.filter(({ name }) => name === 'hello').length, 1);
});

test('connect counts after a disconnect that came before it all', async (context) => {
  const { hook } = store();
  const client = connect(await serve(context, hook), { autoConnect: false, token: 'secret' });
  context.after(() => client.close());
  client.disconnect();
  client.connect();
  await until(client, 'live');
});

test('after close nothing is opened, told or begun anew', async (context) => {
  const { hook, seen } = store();
  const client = open(context, await serve(context, hook));
  const log = client.log('a');
  const told: string[] = [];
  await until(client, 'live');
  await log.append(text('1'));
  log.on('records', () => {
    told.push('records');
    client.close();
  });
  log.on('records', () => told.push('another'));
  const rejected = log.append(text('2'));
  await until(client, 'closed');
  await turns();
  const names = seen.map(({ name }) => name);
  client.connect();
  client.activate();
  client.disconnect();
  await turns();
  assert.deepEqual(seen.map(({ name }) => name), names);
  assert.throws(() => client.log('b'), { code: 'closed' });
  await assert.rejects(client.append('b', text('x')), { code: 'closed' });
  await assert.rejects(rejected.then(() => log.append(text('3'))), { code: 'closed' });
  assert.equal(log.status.value.phase, 'closed');
  assert.deepEqual(told, ['records']);
});

test('the last of `connect` and `disconnect` counts, also before it has begun', async (context) => {
  const { hook, seen } = store();
  const url = await serve(context, hook);
  const [stays, comes] = [open(context, url), open(context, url)];
  for (const client of [stays, comes]) client.disconnect();
  comes.connect();
  await until(comes, 'live');
  assert.equal(seen.filter(({ name }) => name === 'hello').length, 1);
  assert.equal(stays.status.value.phase, 'offline');
});

test('a token with a newline, or in quotes, is the token', async (context) => {
  const tokens: (string | undefined)[] = [];
  const url = await serve(context, (frame, reply) => {
    if (frame.name !== 'hello') return;
    tokens.push(frame.body.token);
    reply(welcome(frame));
  });
  for (const token of ['a.b.c\n', () => 'a.b.c\r\n', () => '"a.b.c"']) {
    await until(open(context, url, { token }), 'live');
  }
  assert.deepEqual(tokens, ['a.b.c', 'a.b.c', 'a.b.c']);
  const none = open(context, url, { token: (() => 5) as never });
  assert.match((await until(none, 'needs-auth')).error.message, /no text/);
});

test('two calls for the first token take up one id, under the user that the token names', async (context) => {
  const { hook } = store();
  const url = await serve(context, hook);
  const had = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { locks: locksOf() }, configurable: true });
  context.after(() => had
    ? Object.defineProperty(globalThis, 'navigator', had)
    : Reflect.deleteProperty(globalThis, 'navigator'));
  const jwt = `e30.${Buffer.from('{"sub":"ada"}').toString('base64url')}.x`;
  const storage = memory();
  const answers: ((token: string) => void)[] = [];
  const client = connect(url, { storage, token: () => new Promise((done) => answers.push(done)) });
  context.after(() => client.close());
  // The machine gives the first call up, and makes another.
  await turns();
  client.disconnect();
  client.connect();
  await turns();
  assert.equal(answers.length, 2);
  for (const answer of answers) answer(jwt);
  await until(client, 'live');
  const ids = [...storage.kept].filter(([key]) => key.endsWith(':connections'));
  assert.deepEqual(ids.map(([key, value]) => [/adaada/.test(key), JSON.parse(value)]), [
    [false, [client.connection]],
  ]);
});

/** A peer that takes the handshake and is mute from then on: in a process of its own. */
const MUTE = `
  import { createServer } from 'node:net';
  import { createHash } from 'node:crypto';
  createServer((socket) => socket.once('data', (data) => {
    const key = /sec-websocket-key: (.*)\\r/i.exec(data)[1];
    const accept = createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
    socket.write('HTTP/1.1 101 X\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n' +
      'Sec-WebSocket-Protocol: highwater.v1.bincode\\r\\nSec-WebSocket-Accept: ' + accept + '\\r\\n\\r\\n', () => console.log('met'));
  })).listen(0, '127.0.0.1', function () { console.log(this.address().port); });`;

for (const flags of [[], ['--experimental-websocket']]) {
  test(`a closed client lets its process end, though its peer is mute: ${flags}`, async (context) => {
    const peer = spawn(process.execPath, ['--input-type=module', '-e', MUTE]);
    context.after(() => peer.kill('SIGKILL'));
    const [port] = await once(peer.stdout, 'data');
    const script = `
      const { connect } = await import(${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)});
      const client = connect('ws://127.0.0.1:${`${port}`.trim()}', { token: 'secret' });
      for await (const _ of process.stdin);
      client.close();`;
    const child = spawn(process.execPath, [...flags, '--input-type=module', '-e', script]);
    context.after(() => child.kill('SIGKILL'));
    await once(peer.stdout, 'data'); // It was met.
    const from = performance.now();
    child.stdin.end();
    const [code] = await once(child, 'exit');
    const took = performance.now() - from;
    assert.equal(code, 0);
    assert.ok(took < 10_000, `${took} ms`);
  });
}

test('a server that sends its client away is left for the node that it names, at once', async (context) => {
  const { hook } = store();
  const other = await serve(context, hook);
  const url = await serve(context, (frame, reply, socket) => {
    if (frame.name !== 'hello') return;
    const nodes = ['no address', other];
    reply(welcome(frame), {
      name: 'bye', body: { code: 'shutting_down', message: '', reconnect: true, after: 60_000, nodes },
    });
    socket.close(4078, 'shutting_down');
  });
  const client = open(context, url);
  const { offset } = await client.append('docs/1', text('a'));
  assert.equal(offset, 0);
});

test('who may go to none of those named keeps the time that it was told', async (context) => {
  const url = await serve(context, (frame, reply, socket) => {
    if (frame.name !== 'hello') return;
    const nodes = ['no address'];
    reply({
      name: 'bye', body: { code: 'overloaded', message: '', reconnect: true, after: 60_000, nodes },
    });
    socket.close(4002, 'overloaded');
  });
  const { retryAfter } = await until(open(context, url), 'offline');
  assert.ok(retryAfter! >= 60_000);
});

test('where nobody answers the nodes that were named are tried in turn', async (context) => {
  const { hook } = store();
  const other = await serve(context, hook);
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', path: '/v1/connect' });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.on('connection', (socket) => {
    const encoding = socket.protocol.split('.').at(-1) as Form;
    socket.on('message', (data: Buffer) => {
      const [hello] = decode(clientFrames, encoding === 'json' ? data.toString() : new Uint8Array(data));
      // The first is gone too, as its node is.
      const nodes = ['http://127.0.0.1:1', other];
      socket.send(encode(serverFrames, welcome(hello!.frame, 0, { nodes }), encoding));
      server.close();
      socket.terminate();
    });
  });
  const client = open(context, `http://127.0.0.1:${port}`);
  const { offset } = await client.append('docs/1', text('a'));
  assert.equal(offset, 0);
});
