/** Whose token, and until when: tokens that hang, end, or are another user's, under fake time. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcome, text, World, type TestLog } from './world.js';

const jwt = (sub: string, more = ''): string =>
  `e30.${Buffer.from(JSON.stringify({ sub })).toString('base64url')}.${more}`;
const give = (world: World, token: string): void => {
  world.core.gotToken(world.now, token);
  world.settle();
};
const alive = (world: World, ms: number): void => {
  for (let left = ms; left > 0; left -= 5000) {
    world.pass(Math.min(5000, left));
    world.tell('pong', { nonce: 0 });
  }
};
const expired = (world: World): void =>
  world.tell('refused', {
    request: 0, name: undefined, refusal: { code: 'token_expired', message: 'it ended', retryAfter: 0 },
  });

test('a token of another user ends the client at once; nothing of the first goes out as theirs', async () => {
  for (const when of ['refresh', 'reconnect', 'later']) {
    const world = new World({ tokens: true, token: jwt('ana') }).attach({ user: 'ana' });
    const log: TestLog = world.subscribe('a');
    world.begin('a', 7);
    if (when !== 'refresh') {
      world.tell('bye', { code: 'token_expired', message: '', reconnect: true, after: 0 });
      world.pass(500);
    }
    const waits = world.append('a', text('of ana'));
    world.clear();
    give(world, when === 'later' ? jwt('ana', 'x') : jwt('berta'));
    if (when === 'later') {
      world.hello();
      world.welcome({ user: 'ana' });
      world.clear();
      give(world, jwt('berta'));
    }
    assert.equal(world.is, 'needs-auth other_user', when);
    assert.match(world.status.error.message, /berta.*ana/);
    assert.equal((await outcome(waits)).code, 'other_user');
    assert.deepEqual(world.got('append'), []);
    assert.equal(log.status.value.phase, 'needs-auth');
    assert.equal(world.core.deadline(), Infinity);
    assert.equal((await outcome(world.append('a', text('later')))).code, 'other_user');
  }
});

test('tokens without a name are taken by what the server says of them', () => {
  const world = new World({ tokens: true, token: 'opaque' }).attach({ user: 'ana' });
  world.tell('bye', { code: 'revoked', message: '', reconnect: false, after: 0 });
  world.pass(500);
  give(world, 'another');
  world.hello();
  world.welcome({ user: 'berta' });
  assert.equal(world.is, 'needs-auth other_user');
});

test('while nothing is delivered for want of a token, it says so; then it is live again', () => {
  const world = new World({ tokens: true }).attach();
  const log = world.subscribe('a');
  world.begin('a', 7);
  const { status } = world;
  expired(world);
  assert.equal(world.is, 'needs-auth token_expired');
  assert.equal(log.status.value.phase, 'needs-auth');
  world.pass(1000);
  give(world, 'new');
  world.tell('refreshed', { expires: 0, request: world.last('refresh').request });
  assert.equal(world.status, status);
  assert.equal(log.status.value.phase, 'live');
});

test('a token that ends and that nobody can renew is said at once', () => {
  const world = new World().attach();
  expired(world);
  assert.equal(world.is, 'needs-auth token_expired');
  assert.equal(world.status.error.message, 'it ended');
});

test('a call for the next token that hangs is given up after 15 s, and made anew', () => {
  const world = new World({ tokens: true }).attach({ time: 0, expires: 100_000 });
  const asked = (): number => world.effects.filter((effect) => effect === 'token').length;
  alive(world, 86_000);
  assert.equal(asked(), 1);
  alive(world, 13_000);
  assert.equal(asked(), 1);
  alive(world, 5000);
  assert.equal(asked(), 2);
  give(world, 'the second');
  assert.equal(world.last('refresh').token, 'the second');
});

test('an answer that comes too late is taken all the same, and not asked for twice', () => {
  const world = new World({ tokens: true, token: undefined });
  world.core.start(world.now);
  world.settle();
  world.pass(15_000);
  assert.equal(world.is, 'needs-auth unauthorized');
  give(world, 'late');
  world.clear();
  world.pass(500);
  assert.deepEqual(world.effects, ['connect']);
  assert.equal(world.hello().token, 'late');
});

test('a storm of reconnects is none on the app: a good token is used again', () => {
  const world = new World({ tokens: true, token: 'good' }).attach({ time: 0, expires: 3_600_000 });
  for (let round = 0; round < 50; round++) {
    world.core.closed(world.now, 1006);
    world.settle();
    assert.equal(world.again({ time: 0, expires: 3_600_000 }).token, 'good');
    assert.ok(!world.effects.includes('token'));
  }
});

test('connecting is told once, until it is asked for again', () => {
  const world = new World({ tokens: true, token: undefined });
  world.core.start(world.now);
  world.settle();
  give(world, 'one');
  world.core.closed(world.now, 1006);
  world.pass(500);
  world.core.closed(world.now, 1006);
  world.settle();
  assert.deepEqual(world.states.map(({ phase }) => phase), ['offline', 'offline']);
});

test('a closed client does not come back, whatever it is told', () => {
  const world = new World().attach();
  world.core.close(world.now, true, false);
  world.settle();
  world.clear();
  world.core.start(world.now);
  world.core.offline(world.now);
  world.core.probe(world.now);
  world.pass(60_000);
  assert.deepEqual([world.is, world.effects], ['closed closed', []]);
});
