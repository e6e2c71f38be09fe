/**
 * Promise 15 against the real server: restored from a backup, its folder copied or made anew, under
 * clients that have seen more. In the end each shows what its log holds, knows that it was reset,
 * and nothing that it sent is stored in another log or twice.
 */

import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { WebSocket } from 'ws';
import { newId } from '../src/identity.js';
import {
  connect, view, type Client, type ClientOptions, type HighwaterError, type Log,
} from '../src/index.js';
import type { WebSocketConstructor } from '../src/socket.js';
import { Server, token } from './server.js';
import { forms, type Form } from './world.js';

const CONFIG = `
[limits]
drain_ms = 0
activate_after_ms = 100
active_per_user = 1
active_per_device = 1
`;

const serve = async (context: TestContext): Promise<Server> => {
  const server = new Server(CONFIG);
  context.after(() => server.remove());
  return server.start();
};

const open = (context: TestContext, url: string, options: ClientOptions = {}): Client => {
  const client = connect(url, { token: token('ada'), ...options });
  context.after(() => client.close());
  return client;
};

/** Waits for a condition; says which one it was. */
const until = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
  const end = Date.now() + 30_000;
  while (!(await holds())) {
    assert.ok(Date.now() < end, `not within 30 s: ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
};

/** What a listener and a view make of a log, and the reasons of its later resets. */
const watch = (log: Log) => {
  const words = view(log, (all: string[], { payload }) => [...all, `${payload}`], []);
  const seen = { heard: [] as string[], resets: [] as string[], least: Infinity, words };
  log.on('records', ({ records }) => seen.heard.push(...records.map(({ payload }) => `${payload}`)));
  log.on('reset', ({ reason }) => {
    seen.heard = [];
    if (reason !== 'new') seen.resets.push(reason); // The first one says that there was nothing.
  });
  words.subscribe((shown) => (seen.least = Math.min(seen.least, shown?.length ?? Infinity)));
  return seen;
};

/** All of it was heard and is shown, as the log holds it. */
const same = async (server: Server, log: Log, seen: ReturnType<typeof watch>): Promise<void> => {
  const held = await server.payloads(log.name);
  const is = (list: readonly string[]): boolean => list.join() === held.join();
  await until(`${seen.heard} is ${held}`, () => is(seen.heard) && is(seen.words.value ?? []));
  assert.deepEqual([log.cursor, log.pending.value.length], [held.length, 0]);
};

const upTo = (from: number, to: number, word: string): string[] =>
  Array.from({ length: to - from }, (_, index) => `${word} ${from + index}`);

const active = (client: Client): Promise<void> =>
  until('live', () => client.status.value.phase === 'live');

const live = ({ status }: Log): boolean => status.value.phase === 'live';

/** Comes back at once, however long it wanted to wait. */
const online = async (client: Client): Promise<void> => {
  client.connect();
  await until('attached', () => {
    client.connect();
    return ['live', 'inactive'].includes(client.status.value.phase);
  });
};

for (const encoding of ['bincode', 'json'] satisfies Form[]) {
  test(`a restored backup that has grown past what the client saw: ${encoding}`, async (context) => {
    const server = await serve(context);
    const client = open(context, server.url, { encoding: forms[encoding] });
    const log = client.log('notes');
    await active(client);
    await log.append({ payload: 'mine 0' });
    await server.append('notes', ...upTo(1, 5, 'both'));
    const backup = await server.backup();
    await online(client);
    const seen = watch(log);
    await server.append('notes', ...upTo(5, 9, 'lost'));
    await log.append({ payload: 'mine, answered and lost' });
    await same(server, log, seen);
    const { writer } = client;
    client.disconnect();
    const answers = upTo(0, 3, 'mine, offline').map((payload) => log.append({ payload }));
    seen.resets = [];
    seen.least = Infinity;

    await server.restore(backup);
    await server.append('notes', ...upTo(5, 20, 'new'));
    await online(client);
    const stored = await Promise.all(answers);
    assert.deepEqual(stored.map(({ offset }) => offset), [20, 21, 22]);
    await same(server, log, seen);
    assert.deepEqual(seen.resets, ['other_history']);
    assert.equal(seen.least, 13, 'what was shown stayed until the new state was whole');
    assert.notEqual(client.writer, writer);
    assert.equal(new Set(await server.payloads('notes')).size, 23, 'nothing twice');
  });
}

test('a restored backup that holds actions whose answers were lost: each is stored once', async (context) => {
  const server = await serve(context);
  let deaf = false;
  /** Hears no answers to appends, as long as it is deaf. */
  class Deaf extends WebSocket {
    override emit(name: string | symbol, ...given: unknown[]): boolean {
      if (deaf && name === 'message') {
        const lines = `${given[0] as Buffer}`.split('\n');
        given[0] = Buffer.from(lines.filter((line) => !line.startsWith('{"answers":')).join('\n'));
      }
      return super.emit(name, ...given);
    }
  }
  const client = open(context, server.url, { WebSocket: Deaf as unknown as WebSocketConstructor, encoding: forms.json });
  const log = client.log('notes');
  const seen = watch(log);
  await active(client);
  await log.append({ payload: 'mine 0' });
  deaf = true;
  const answers = upTo(1, 4, 'mine').map((payload) => log.append({ payload }));
  await until('stored', () => log.cursor === 4);
  const backup = await server.backup();
  await online(client);
  await server.append('notes', 'lost');
  answers.push(...upTo(4, 7, 'mine').map((payload) => log.append({ payload })));
  await until('stored', () => log.cursor === 8);
  client.disconnect();
  deaf = false;
  await server.restore(backup);
  await server.append('notes', ...upTo(0, 5, 'new'));
  await online(client);
  const stored = await Promise.all(answers);
  assert.deepEqual(stored.map(({ offset }) => offset), [1, 2, 3, 9, 10, 11]);
  await same(server, log, seen);
  assert.deepEqual(seen.resets, ['other_history']);
  assert.equal(new Set(await server.payloads('notes')).size, 12);
});

test('the number of a log that is gone went to another: nothing is stored there', async (context) => {
  const server = await serve(context);
  await server.append('first', 'x');
  const backup = await server.backup();
  await server.append('salaries', 'made after the backup');
  const client = open(context, server.url);
  const [salaries, first] = [client.log('salaries'), client.log('first')];
  const [seen, kept] = [watch(salaries), watch(first)];
  await until('complete', () => live(salaries) && live(first));
  const { id } = salaries;
  client.disconnect();
  const lost = salaries.append({ payload: 'for salaries only' }).catch((error: HighwaterError) => error);
  const lives = first.append({ payload: 'both histories have this log' });
  const named = client.append('salaries/new', { payload: 'by its name' });
  await server.restore(backup);
  await server.append('public', 'made after the restore');
  assert.equal((await (await server.ask('HEAD', '/v1/logs/public')).headers).get('highwater-log'), `${id}`);
  await online(client);
  assert.equal((await lost as HighwaterError).code, 'epoch');
  assert.equal((await lives).offset, 1);
  assert.equal((await named).offset, 0);
  assert.deepEqual(await server.payloads('public'), ['made after the restore']);
  await until('reset', () => seen.resets.length > 0 && live(salaries));
  assert.deepEqual(seen.resets, ['other_history']);
  await salaries.append({ payload: 'in the new one' });
  await same(server, salaries, seen);
  await same(server, first, kept);
  assert.deepEqual(await server.payloads('salaries'), ['in the new one']);
});

test('a folder made anew under open clients: they begin anew with it', async (context) => {
  const server = await serve(context);
  const client = open(context, server.url);
  const log = client.log('notes');
  const seen = watch(log);
  await active(client);
  await server.append('notes', ...upTo(0, 5, 'old'));
  await log.append({ payload: 'mine, lost' });
  await same(server, log, seen);
  await server.restore();
  await server.append('notes', ...upTo(0, 9, 'new'));
  await online(client);
  // What is appended before the log has begun anew is meant for the one that is gone: `epoch`.
  await same(server, log, seen);
  await log.append({ payload: 'mine' });
  await same(server, log, seen);
  assert.deepEqual(seen.resets, ['other_history']);
  // And once more: what it goes by now is the new history's.
  await server.restore();
  await server.append('notes', ...upTo(0, 20, 'newest'));
  await online(client);
  await same(server, log, seen);
  assert.deepEqual(seen.resets, ['other_history', 'other_history']);
});

test('a copied folder: a client that goes from one server to the other is told both times', async (context) => {
  const one = await serve(context);
  await one.append('notes', ...upTo(0, 3, 'both'));
  const two = new Server(CONFIG);
  context.after(() => two.remove());
  await one.stop();
  cpSync(one.data, two.data, { recursive: true });
  await Promise.all([one.start(), two.start()]);
  let at = one;
  class There extends WebSocket {
    constructor(_url: string, protocols: string[]) {
      super(`${at.url.replace('http', 'ws')}/v1/connect`, protocols);
    }
  }
  const client = open(context, one.url, { WebSocket: There as unknown as WebSocketConstructor });
  const log = client.log('notes');
  const seen = watch(log);
  await active(client);
  for (const [server, payloads, resets] of [
    [one, upTo(0, 4, 'one'), 0],
    [two, upTo(0, 6, 'two'), 1],
    [one, upTo(4, 8, 'one'), 2],
    [one, upTo(8, 9, 'one'), 2],
  ] as const) {
    client.disconnect();
    const mine = log.append({ payload: `mine ${resets} ${payloads[0]}` });
    await server.append('notes', ...payloads);
    at = server;
    await online(client);
    await mine;
    await same(server, log, seen);
    assert.deepEqual(seen.resets.filter((reason) => reason === 'other_history').length, resets);
  }
  assert.equal((await one.payloads('notes')).filter((payload) => payload.startsWith('mine')).length, 3);
  assert.equal((await two.payloads('notes')).filter((payload) => payload.startsWith('mine')).length, 1);
});

test('a log deleted and made anew in one history: reset, and the action on the old one is rejected', async (context) => {
  const server = await serve(context);
  await server.append('notes', ...upTo(0, 5, 'old'));
  const client = open(context, server.url);
  const log = client.log('notes');
  const seen = watch(log);
  await until('complete', () => log.status.value.phase === 'live');
  const { writer } = client;
  client.disconnect();
  const lost = log.append({ payload: 'on the old one' }).catch((error: HighwaterError) => error);
  await server.ask('DELETE', '/v1/logs/notes');
  await server.append('notes', ...upTo(0, 9, 'new'));
  await online(client);
  assert.equal((await lost as HighwaterError).code, 'epoch');
  await same(server, log, seen);
  assert.deepEqual([seen.resets, client.writer], [['other_log'], writer]);
});

test('restored while all slots are taken: it shows what it showed, and is reset once it is active', async (context) => {
  const server = await serve(context);
  await server.append('notes', ...upTo(0, 5, 'both'));
  const backup = await server.backup();
  await server.append('notes', ...upTo(5, 8, 'lost'));
  const client = open(context, server.url, { connection: newId() });
  const log = client.log('notes');
  const seen = watch(log);
  await same(server, log, seen);
  client.disconnect();
  await server.restore(backup);
  await server.append('notes', ...upTo(5, 20, 'new'));
  const holds = open(context, server.url, { connection: newId() });
  await active(holds);
  await online(client);
  assert.equal(client.status.value.phase, 'inactive');
  assert.equal((await log.append({ payload: 'from the inactive one' })).offset, 20);
  assert.deepEqual([seen.resets, seen.heard.length, seen.words.value!.length], [[], 8, 9]);
  holds.close();
  await active(client);
  await same(server, log, seen);
  assert.deepEqual(seen.resets, ['other_history']);
});

test('a restart is no other history: nothing is reset, whoever was killed', async (context) => {
  const server = await serve(context);
  const client = open(context, server.url);
  const log = client.log('notes');
  const seen = watch(log);
  await active(client);
  for (let round = 0; round < 3; round++) {
    await server.append('notes', ...upTo(0, 3, `round ${round}`));
    await log.append({ payload: `mine ${round}` });
    await server.kill();
    await server.start();
    await server.append('notes', `away ${round}`);
    await online(client);
    await same(server, log, seen);
  }
  assert.deepEqual(seen.resets, []);
});
