/** Appends, notifications, operations and their errors, against a real server and a bad network. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { HighwaterError as ClientError } from '../../src/index.js';
import { AppendError, highwater, HighwaterError, json, type Writer } from '../../src/server.js';
import { operator, Server, token } from '../server.js';
import { Chance, Proxy, upTo } from './support.js';

const server = new Server('[limits]\nappends_per_user_second = 400\n');
before(() => server.start());
after(() => server.remove());

const backend = (url = server.url) => highwater({ url, token: operator() });

test('over a network that loses, cuts and refuses, each record is stored once', async (context) => {
  const chance = new Chance(context, 'server/append');
  const proxy = await new Proxy(
    () => server.url,
    () =>
      chance.pick([
        'pass',
        'lose',
        { status: 502 },
        { status: 503, headers: { 'retry-after': '0' } },
        { status: 504 },
        { cut: chance.below(60) },
        { old: chance.below(60) },
      ]),
  ).start(context);
  const own = backend(proxy.url);
  const all = await Promise.all(
    upTo(0, 20).map((n) =>
      own.append(
        'storm',
        upTo(n * 5, n * 5 + 5).map((at) => ({ payload: `${at}` })),
      ),
    ),
  );
  const stored = await server.payloads('storm');
  assert.deepEqual(
    stored.map(Number).sort((a, b) => a - b),
    upTo(0, 100),
  );
  // What is told is where they are.
  all.forEach((places, n) =>
    places.forEach(({ offset }, at) => assert.equal(stored[offset], `${n * 5 + at}`)),
  );
  assert.ok(proxy.asked > 40, `${proxy.asked} requests`);
});

test('under one key it is stored once, by whichever process and however often', async (context) => {
  let lost = 1;
  const proxy = await new Proxy(
    () => server.url,
    () => (lost-- > 0 ? 'lose' : 'pass'),
  ).start(context);
  const order = { kind: 'order', payload: { id: 17 } };
  const options = { idempotencyKey: 'order-17', codec: json };
  const first = await backend(proxy.url).append('orders', order, options);
  const again = await Promise.all(upTo(0, 5).map(() => backend().append('orders', order, options)));
  again.forEach((one) => assert.deepEqual(one, first));
  assert.deepEqual(await server.payloads('orders'), ['{"id":17}']);
  const other = backend().append('orders', { payload: 'other' }, { idempotencyKey: 'order-17' });
  await assert.rejects(other, { code: 'sequence_reused' });
  await backend().append('elsewhere', order, options);
  assert.deepEqual(await server.payloads('elsewhere'), ['{"id":17}'], 'a key is that of a log');
});

test('another user may use the same key, and a process may come to have another user', async () => {
  const grants = [{ logs: 'keys', can: ['append' as const] }];
  let user = 'fay';
  const own = highwater({ url: server.url, token: () => token(user, grants, 30) });
  const options = { idempotencyKey: 'same' };
  await own.append('keys', { payload: 'fay' }, options);
  await own.append('keys', { payload: 'once' });
  user = 'gil';
  const other = highwater({ url: server.url, token: () => token(user, grants) });
  await other.append('keys', { payload: 'gil' }, options);
  await backend().revoke({ user: 'fay', before: Date.now() + 5_000 });
  // Its token is refused, the next is another user's, to whom the writer of before is unknown.
  await own.append('keys', { payload: 'twice' });
  assert.deepEqual(await server.payloads('keys'), ['fay', 'once', 'gil', 'twice']);
});

test('a body that a proxy takes no more of is parted, and stored once', async (context) => {
  const sizes: number[] = [];
  const proxy = await new Proxy(
    () => server.url,
    (path) => {
      const first = Number(new URL(path, 'http://x').searchParams.get('seq'));
      sizes.push(first);
      // The first tries have too much for it.
      return sizes.length <= 3 ? { status: 413 } : 'pass';
    },
  ).start(context);
  const records = upTo(0, 64).map((at) => ({ payload: `${at}` }));
  await backend(proxy.url).append('parted', records);
  assert.deepEqual((await server.payloads('parted')).map(Number), upTo(0, 64));
  assert.equal(sizes.length, 3 + 8, 'an eighth at once');
});

test('over the rate it waits as told', async () => {
  const started = Date.now();
  await Promise.all(
    upTo(0, 3).map(() =>
      backend().append(
        'fast',
        upTo(0, 400).map((at) => ({ payload: `${at}` })),
      ),
    ),
  );
  assert.equal((await server.payloads('fast')).length, 1200);
  assert.ok(Date.now() - started >= 500, 'it was refused at least once');
});

test('a token is asked for once, again where it was refused or ends', async () => {
  let asked = 0;
  const good = (): string => token('ben', [{ logs: '**', can: ['append', 'read'] }]);
  const own = highwater({
    url: server.url,
    token: async () =>
      `${++asked === 1 ? token('ben', [{ logs: '**', can: ['append'] }], -60) : good()}\n`,
  });
  await own.append('tokens', { payload: '1' });
  assert.equal(asked, 2, 'the first had ended');
  await Promise.all(upTo(0, 5).map(() => own.append('tokens', { payload: '2' })));
  assert.equal(asked, 2);
  await backend().revoke({ user: 'ben', before: Date.now() + 5_000 });
  await assert.rejects(own.append('tokens', { payload: '3' }), { code: 'revoked' });
  assert.equal(asked, 3);
  const late = highwater({
    url: server.url,
    token: () => Promise.reject(new Error('no login')),
    giveUpAfter: 100,
  });
  await assert.rejects(late.append('tokens', { payload: '4' }), {
    code: 'lost',
    message: 'token: no login',
    maybeStored: false,
  });
  const none = highwater({ url: server.url });
  await assert.rejects(none.append('tokens', { payload: '5' }), { code: 'unauthorized' });
});

test('nobody there: given up after the time told, and told that nothing was stored', async () => {
  const own = highwater({ url: 'http://127.0.0.1:1/x', giveUpAfter: 300 });
  // A port that no `fetch` opens, and one where nobody listens.
  await assert.rejects(own.append('a', { payload: 'x' }), { code: 'lost' });
  const free = createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const closed = (free.address() as AddressInfo).port;
  free.close();
  const gone = highwater({ url: `http://127.0.0.1:${closed}`, giveUpAfter: 300 });
  await assert.rejects(gone.append('a', { payload: 'x' }), { code: 'lost', maybeStored: false });
});

test('a node that is mute, a token that does not come: given up after the time told', async (context) => {
  const mute = createServer().listen(0, '127.0.0.1');
  await once(mute, 'listening');
  const sockets = new Set<Socket>();
  mute.on('connection', (socket) => sockets.add(socket.on('error', () => {})));
  context.after(() => {
    for (const socket of sockets) socket.destroy();
    mute.close();
  });
  const url = `http://127.0.0.1:${(mute.address() as AddressInfo).port}`;
  const own = highwater({ url, giveUpAfter: 1_000 });
  const began = performance.now();
  const calls = [
    own.append('a', { payload: 'x' }),
    own.append('a', { payload: 'x' }, { idempotencyKey: 'x' }),
    own.notify({ user: 'ana', record: { payload: 'x' } }),
    own.putSnapshot('a', { offset: 1, data: new Uint8Array(1) }),
    own.createLog('a'),
  ];
  await Promise.all(calls.map((call) =>
    assert.rejects(call, { code: 'lost', message: /^no answer/, maybeStored: true })));
  await assert.rejects(own.read('a').next(), { code: 'lost', maybeStored: false });
  await assert.rejects(own.state('a'), { code: 'lost', maybeStored: false });
  const slow = { url: server.url, token: () => new Promise<string>(() => {}), giveUpAfter: 1_000 };
  for (const options of [{}, { idempotencyKey: 'x' }]) {
    const call = highwater(slow).append('a', { payload: 'x' }, options);
    await assert.rejects(call, { code: 'lost', message: /^token: /, maybeStored: false });
  }
  // An attempt alone had 30 s before, and a token 15 s.
  assert.ok(performance.now() - began < 14_000);
});

test('a signal ends a call while it waits; its reason is the cause', async (context) => {
  const proxy = await new Proxy(
    () => server.url,
    () => ({ status: 503, headers: { 'retry-after': '30' } }),
  ).start(context);
  const stop = new AbortController();
  const call = backend(proxy.url).append('a', { payload: 'x' }, { signal: stop.signal });
  while (!proxy.asked) await new Promise((done) => setImmediate(done));
  stop.abort('reason');
  await assert.rejects(call, { code: 'closed', cause: 'reason', maybeStored: true });
  const over = backend().append('a', { payload: 'x' }, { signal: AbortSignal.abort('before') });
  await assert.rejects(over, { code: 'closed', maybeStored: false, cause: 'before' });
});

test('told to come back too late, it rejects at once with that time', async (context) => {
  const proxy = await new Proxy(
    () => server.url,
    () => ({ status: 503, headers: { 'retry-after': '600' } }),
  ).start(context);
  await assert.rejects(
    highwater({ url: proxy.url, token: operator(), giveUpAfter: 5_000 }).append('a', {
      payload: 'x',
    }),
    {
      code: 'lost',
      retryAfter: 600_000,
    },
  );
  assert.equal(proxy.asked, 1);
});

test('what is no node is told as that, not waited for', async (context) => {
  const answers = [
    { status: 404 },
    { status: 301, headers: { location: 'https://x' } },
    { status: 401 },
  ];
  for (const answer of answers) {
    const proxy = await new Proxy(
      () => server.url,
      () => answer,
    ).start(context);
    const call = backend(proxy.url).append('a', { payload: 'x' });
    await assert.rejects(call, (error: HighwaterError) => {
      assert.match(error.message, /^url: /);
      return error.code === 'bad_request';
    });
  }
  const page = await new Proxy(
    () => server.url,
    () => ({ status: 200, body: '{}' }),
  ).start(context);
  const own = highwater({ url: page.url, giveUpAfter: 200 });
  await assert.rejects(own.append('a', { payload: 'x' }), { code: 'lost', maybeStored: true });
});

test('notify tells who is reached, and which log refused', async (context) => {
  const own = backend();
  const record = { kind: 'note', payload: 'hello' };
  await own.append('news', { payload: 'first' });
  let lost = 2;
  const proxy = await new Proxy(
    () => server.url,
    () => (lost-- > 0 ? 'lose' : 'pass'),
  ).start(context);
  const results = await backend(proxy.url).notify({ logs: ['news', 'docs/1'], record });
  assert.deepEqual(
    results.map(({ name, offset }) => [name, offset]),
    [
      ['news', 1],
      ['docs/1', 0],
    ],
  );
  assert.deepEqual(results[0]!.reached, { attached: 0, detached: 0, inactive: 0, more: false });
  const [inbox] = await own.notify({ user: 'ana', record });
  assert.equal(inbox!.name, 'users/ana/inbox');
  assert.deepEqual(await server.payloads('users/ana/inbox'), ['hello']);
  assert.deepEqual(await server.payloads('news'), ['first', 'hello']);
  const narrow = highwater({
    url: server.url,
    token: token('cy', [{ logs: 'news', can: ['append'] }]),
  });
  await assert.rejects(
    narrow.notify({ logs: ['news', 'docs/1'], record }),
    (error: AppendError) => {
      assert.equal(error.code, 'denied');
      assert.deepEqual(
        error.results.map((one) => ('code' in one ? one.code : one.offset)),
        [2, 'denied'],
      );
      return error instanceof AppendError;
    },
  );
  await assert.rejects(own.notify({ user: 'ana@example.com', record }), { code: 'bad_name' });
});

test('users are subscribed and unsubscribed, and revoked', async () => {
  const own = backend();
  const user = 'zoë@example.com';
  assert.deepEqual(await own.subscribeUser(user, ['team/1']), { reached: [], unknown: [] });
  assert.deepEqual(await own.unsubscribeUser(user, ['team/1', 'team/2']), {
    reached: [],
    unknown: ['team/2'],
  });
  assert.deepEqual(await own.revoke({ user }), { closed: 0 });
  assert.deepEqual(await own.revoke({ token: 'abc' }), { closed: 0 });
  const narrow = highwater({ url: server.url, token: token('cy') });
  await assert.rejects(narrow.revoke({ user }), { code: 'denied' });
});

test('every wrong field is named where it is called, and nothing is sent', async (context) => {
  const proxy = await new Proxy(() => server.url).start(context);
  const own = backend(proxy.url) as any;
  const cases: [string, () => unknown][] = [
    ['url', () => highwater({ url: 'ftp://x' })],
    ['url', () => highwater({ url: 'http://ana:pw@x' })],
    ['url', () => highwater({} as any)],
    ['token', () => highwater({ url: 'http://x', token: 'a b' })],
    ['token', () => highwater({ url: 'http://x', token: 7 as any })],
    ['giveUpAfter', () => highwater({ url: 'http://x', giveUpAfter: -1 })],
    ['tokn', () => highwater({ url: 'http://x', tokn: 'x' } as any)],
    ['log', () => own.append('a//b', { payload: 'x' })],
    ['log', () => own.append(undefined, { payload: 'x' })],
    ['record', () => own.append('a')],
    ['record.payload', () => own.append('a', {})],
    ['record.payload', () => own.append('a', { payload: { id: 1 } })],
    ['record.payload', () => own.append('a', { payload: 'half \ud83d' })],
    ['record.paylaod', () => own.append('a', { paylaod: 'x' })],
    ['record.key', () => own.append('a', { key: '', payload: 'x' })],
    ['record.eventTime', () => own.append('a', { eventTime: 1.5, payload: 'x' })],
    [
      'records[1].headers[0]',
      () => own.append('a', [{ payload: '' }, { payload: '', headers: [['x']] }]),
    ],
    ['records', () => own.append('a', [])],
    ['ifHead', () => own.append('a', [{ payload: '' }, { payload: '' }], { ifHead: 0 })],
    ['idempotencyKey', () => own.append('a', { payload: '' }, { idempotencyKey: '' })],
    ['idempotencykey', () => own.append('a', { payload: '' }, { idempotencykey: 'x' })],
    ['writer', () => own.append('a', { payload: '' }, { writer: {} as Writer })],
    ['signal', () => own.append('a', { payload: '' }, { signal: 1 })],
    ['from', () => own.read('a', { from: -1 })],
    ['position', () => own.read('a', { position: 'x' })],
    ['limit', () => own.read('a', { limit: '1' })],
    ['logs, user', () => own.notify({ record: { payload: '' } })],
    ['logs[1]', () => own.notify({ logs: ['a', '..'], record: { payload: '' } })],
    ['user', () => own.subscribeUser('a\nb', ['a'])],
    ['logs', () => own.subscribeUser('a', [])],
    ['user, token', () => own.revoke({})],
    ['cursor.load', () => own.follow('a', { cursor: {}, onRecords: () => {} })],
    ['onRecords', () => own.follow('a', { cursor: { load: () => undefined } })],
    [
      'most',
      () => own.follow('a', { cursor: { load: () => undefined }, onRecords: () => {}, most: 0 }),
    ],
  ];
  for (const [field, call] of cases) {
    await assert.rejects(
      async () => await call(),
      (error: HighwaterError) => {
        assert.ok(error instanceof HighwaterError, `${field}: ${error}`);
        assert.ok(error.message.startsWith(`${field}: `), `${field}: ${error.message}`);
        return true;
      },
      field,
    );
  }
  assert.equal(proxy.asked, 0);
  assert.equal(HighwaterError, ClientError);
});
