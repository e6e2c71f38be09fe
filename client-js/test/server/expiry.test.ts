/**
 * Tokens that end, or are revoked, in the middle of a read and of a follow: another one is asked
 * for and nothing is missing or twice; where none is to be had, the call says why.
 */

import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import {
  highwater,
  memoryStorage,
  signToken,
  type Cursor,
  type TokenSource,
} from '../../src/server.js';
import { operator, SECRET, Server, token } from '../server.js';
import { upTo } from './support.js';

/** More than an answer holds, so that a read of it asks several times. */
const MANY = 3000;
const server = new Server();
before(async () => {
  await server.start();
  const records = upTo(0, MANY).map((n) => ({ payload: `${n} ${'é'.repeat(500)}` }));
  for (let at = 0; at < MANY; at += 1000) {
    await backend().append('long', records.slice(at, at + 1000));
  }
});
after(() => server.remove());

const backend = (by: TokenSource = operator) => highwater({ url: server.url, token: by });
const READ = [{ logs: '**', can: ['read' as const] }];
/** A node believes a token for five seconds after its end, for clocks that differ: three are left. */
const ending = (): string => token('reader', READ, -2);
const lasting = (id: string): string =>
  signToken({ secret: SECRET, user: 'reader', grants: READ, expiresIn: '1h', id });
const revoke = async (id: string): Promise<void> => void (await backend().revoke({ token: id }));

/** When the node takes that token no more. */
const refused = async (one: string): Promise<void> => {
  const headers = { authorization: `Bearer ${one}` };
  while ((await fetch(`${server.url}/v1/logs/long?limit=0`, { headers })).status !== 401) {
    await new Promise((done) => setTimeout(done, 50));
  }
};

/** Reads all; the first token ends by `end` behind the first record. Answers the offsets. */
const reading = async (source: TokenSource, end: () => Promise<void>): Promise<number[]> => {
  const offsets: number[] = [];
  for await (const { offset } of backend(source).read('long')) {
    if (!offsets.length) await end();
    offsets.push(offset);
  }
  return offsets;
};

test('a token that ends in the middle of a read', async () => {
  const first = ending();
  const tokens = [first, lasting('a')];
  const got = await reading(() => tokens.shift()!, () => refused(first));
  assert.deepEqual(got, upTo(0, MANY));
  assert.deepEqual(tokens, [], 'both were asked for');
});

test('a token that is revoked in the middle of a read', async () => {
  const tokens = [lasting('b'), lasting('c')];
  const got = await reading(() => tokens.shift()!, () => revoke('b'));
  assert.deepEqual(got, upTo(0, MANY));
  assert.deepEqual(tokens, [], 'both were asked for');
});

test('a read that has no other token ends with the reason', async () => {
  const only = ending();
  await assert.rejects(reading(only, () => refused(only)), { code: 'token_expired' });
  await assert.rejects(reading(lasting('d'), () => revoke('d')), { code: 'revoked' });
});

/** A follower of an empty log, which waits. */
const following = (context: TestContext, log: string, source: TokenSource) => {
  const stop = new AbortController();
  context.after(() => stop.abort());
  const got: string[] = [];
  let look = (): void => {};
  const done = backend(source).follow(log, {
    cursor: memoryStorage<Cursor>(),
    signal: stop.signal,
    onRecords: (records) => {
      got.push(...records.map(({ payload }) => payload as string));
      look();
    },
  });
  const reached = async (many: number): Promise<void> => {
    while (got.length < many) {
      await Promise.race([done, new Promise<void>((found) => (look = found))]);
    }
  };
  return { got, done, reached, stop: () => stop.abort() };
};

test('tokens that end while a follower waits: it asks for others', async (context) => {
  const own = backend();
  await own.append('quiet', { payload: '0' });
  let asked = 0;
  let look = (): void => {};
  const source = (): string => {
    asked++;
    look();
    return ending();
  };
  const one = following(context, 'quiet', source);
  for (let round = 1; round <= 2; round++) {
    await one.reached(round);
    // Nothing is written: what has it ask again is that tokens ended as it waited, two of them in
    // one wait. The first that is asked for may be that of the wait's own beginning.
    const before = asked;
    while (asked < before + 3) await new Promise<void>((found) => (look = found));
    await own.append('quiet', { payload: `${round}` });
  }
  await one.reached(3);
  one.stop();
  await one.done;
  assert.deepEqual(one.got, ['0', '1', '2']);
});

test('a token that is revoked while a follower waits', async (context) => {
  const own = backend();
  await own.append('told', { payload: '0' });
  let asked = 0;
  let look = (): void => {};
  const source = (): string => {
    look();
    return lasting(`told-${asked++}`);
  };
  const one = following(context, 'told', source);
  await one.reached(1);
  const next = new Promise<void>((found) => (look = found));
  await revoke('told-0');
  await next;
  await own.append('told', { payload: '1' });
  await one.reached(2);
  one.stop();
  await one.done;
  assert.deepEqual(one.got, ['0', '1']);
  assert.equal(asked, 2);
});

test('a follower that has no other token ends with the reason', async (context) => {
  await backend().append('last', { payload: '0' });
  const one = following(context, 'last', ending());
  await assert.rejects(one.done, { code: 'token_expired' });
  assert.deepEqual(one.got, ['0']);
  const two = following(context, 'last', lasting('e'));
  await two.reached(1);
  await revoke('e');
  await assert.rejects(two.done, { code: 'revoked' });
});
