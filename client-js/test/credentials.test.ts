/** Who a connection is: tokens that end, are refused or renewed, and its id. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HighwaterError } from '../src/errors.js';
import { World } from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};

const bye = (world: World, code: string, reconnect: boolean, after = 0): void =>
  world.tell('bye', { code, message: 'so it is', reconnect, after });

test('a token that no longer serves: another is asked for where there is a function, else it stops', () => {
  for (const code of ['unauthorized', 'revoked', 'token_expired']) {
    const fixed = new World().attach();
    bye(fixed, code, code === 'token_expired');
    assert.equal(fixed.is, `needs-auth ${code}`);
    assert.equal(fixed.core.deadline(), Infinity, 'nobody can give it another');

    const world = new World({ tokens: true, token: 'old' }).attach();
    bye(world, code, false);
    assert.equal(world.is, `needs-auth ${code}`, 'said at once');
    world.clear();
    world.pass(500);
    assert.deepEqual(world.effects, ['token']);
    world.core.gotToken(world.now, 'new');
    world.settle();
    assert.equal(world.hello().token, 'new');
  }
});

test('a token function that fails, or gives none, is asked again with backoff', () => {
  for (const [token, error] of [
    [undefined, new HighwaterError('unauthorized', 'no')], [undefined, undefined], ['', undefined],
  ] as const) {
    const world = new World({ tokens: true, token: undefined });
    world.core.start(world.now);
    world.settle();
    assert.equal(world.effects.at(-1), 'token');
    for (let round = 0; round < 5; round++) {
      world.core.gotToken(world.now, token, error);
      world.settle();
      assert.equal(world.is, 'needs-auth unauthorized');
      assert.ok(world.status.retryAfter > 0);
      world.pass(world.status.retryAfter);
      assert.equal(world.effects.at(-1), 'token');
    }
  }
});

test('a token is refreshed in band before its end', () => {
  const world = new World({ tokens: true, token: 'first' });
  world.attach({ time: 5_000_000, expires: 5_000_000 + 600_000 });
  world.clear();
  const asked = (): boolean => world.effects.includes('token');
  // Pings go on meanwhile; the server answers them.
  const alive = (ms: number): void => {
    for (let left = ms; left > 0; left -= 20_000) {
      world.pass(Math.min(20_000, left));
      world.tell('pong', { nonce: 1 });
    }
  };
  alive(500_000);
  assert.ok(!asked(), 'not before 20 % of it, at most 60 s, are left');
  alive(80_000);
  assert.ok(asked());
  world.core.gotToken(world.now, 'second');
  world.settle();
  assert.equal(world.last('refresh').token, 'second');
  world.clear();
  world.tell('refreshed', { expires: 5_000_000 + 1_200_000 });
  alive(400_000);
  assert.ok(!asked());
  alive(200_000);
  assert.ok(asked());
  lose(world);
  world.clear();
  world.pass(500);
  assert.deepEqual(world.effects, ['token'], 'so little is left of it that another comes first');
  world.core.gotToken(world.now, 'third');
  world.settle();
  assert.equal(world.hello().token, 'third');
  world.welcome({ time: 0, expires: 600_000 });
  for (let round = 0; round < 5; round++) {
    lose(world);
    assert.equal(world.again({ time: 0, expires: 600_000 }).token, 'third');
    assert.ok(!asked(), 'a token that is still good is used again');
  }
});

test('a token that ended is replaced at once, with backoff while the server refuses', () => {
  const world = new World({ tokens: true }).attach();
  world.clear();
  const refuse = (): void =>
    world.tell('refused', {
      request: 0, name: undefined,
      refusal: { code: 'token_expired', message: 'over', retryAfter: 0 },
    });
  const waits: number[] = [];
  for (let round = 0; round < 8; round++) {
    refuse();
    refuse(); // more of the same make no difference
    const from = world.now;
    const rounds = world.effects.length;
    while (!world.effects.slice(rounds).includes('token')) {
      world.pass(10);
      world.tell('pong', { nonce: 1 });
    }
    waits.push(world.now - from);
    world.core.gotToken(world.now, `token ${round}`);
    world.settle();
  }
  assert.ok(waits[0]! <= 500, `${waits}`);
  assert.ok(waits[7]! >= 5000, `${waits}`);
  assert.equal(world.got('refresh').length, 8);
});

test('a token that a server in --dev made up is kept, shown later, and dropped when it no longer serves', () => {
  const world = new World({ token: undefined });
  assert.equal(world.hello().token, undefined);
  world.welcome({ token: 'made up' });
  assert.deepEqual(world.kept, ['made up']);
  lose(world);
  assert.equal(world.again().token, 'made up');
  bye(world, 'unauthorized', false);
  assert.deepEqual(world.kept, ['made up', undefined]);
  // The folder was made anew: this server makes up another user.
  assert.equal(world.again({ user: 'dev-2', token: 'another' }).token, undefined);
  assert.equal(world.is, 'live resumed');
});

test("another user's connection id is replaced; one that the app gave, or that was ours, is not", () => {
  const world = new World();
  world.hello();
  bye(world, 'unknown_connection', false);
  assert.ok(world.effects.includes('rename'));
  assert.ok(world.status.phase === 'offline' && world.status.retryAfter < 500);
  const fixed = new World({ fixed: true });
  fixed.hello();
  bye(fixed, 'unknown_connection', false);
  assert.equal(fixed.status.phase, 'closed');
  const ours = new World().attach();
  bye(ours, 'unknown_connection', false);
  assert.equal(ours.status.phase, 'closed');
});
