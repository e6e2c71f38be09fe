/** The life of a connection: coming back, being told to stop, silence, the end. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ms } from '../src/bounds.js';
import { HighwaterError } from '../src/errors.js';
import { OTHER, text, World } from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};

const bye = (world: World, code: string, reconnect: boolean, after = 0): void =>
  world.tell('bye', { code, message: 'so it is', reconnect, after });

test('backoff is full jitter: every wait lies under a bound that doubles from 0.5 to 20 s', () => {
  for (const chance of [0, 0.25, 0.999]) {
    const world = new World({ chance: () => chance });
    world.core.start(world.now);
    world.settle();
    for (let attempt = 0; attempt < 12; attempt++) {
      lose(world);
      const bound = Math.min(Ms.BACK_TO, Ms.BACK_FROM * 2 ** attempt);
      assert.ok(world.status.phase === 'offline');
      assert.equal(world.status.retryAfter, chance * bound);
      world.pass(world.status.retryAfter);
      assert.equal(world.effects.at(-1), 'connect');
    }
  }
});

test('waits are spread evenly over the bound', () => {
  // A linear congruential generator, so that every run sees the same chance.
  let seed = 42;
  const random = (): number => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31;
  const quarters = [0, 0, 0, 0];
  for (let run = 0; run < 4000; run++) {
    const world = new World({ chance: random });
    world.core.start(world.now);
    lose(world);
    assert.ok(world.status.phase === 'offline');
    quarters[Math.floor((world.status.retryAfter / Ms.BACK_FROM) * 4)]!++;
  }
  for (const count of quarters) assert.ok(count > 900 && count < 1100, `${quarters}`);
});

test('it comes back for ever, and a socket that lived begins anew at the small bound', () => {
  const world = new World({ chance: () => 0.999 });
  world.core.start(world.now);
  world.settle();
  for (let attempt = 0; attempt < 2000; attempt++) {
    lose(world);
    assert.ok(world.status.phase === 'offline' && world.status.retryAfter <= Ms.BACK_TO);
    world.pass(world.status.retryAfter);
  }
  world.attach();
  world.pass(11_000);
  lose(world);
  assert.ok(world.status.phase === 'offline' && world.status.retryAfter < Ms.BACK_FROM);
});

test('a socket that dies right after its welcome does not reset the bound', () => {
  const world = new World({ chance: () => 1 });
  world.attach();
  for (const bound of [500, 1000, 2000]) {
    lose(world);
    assert.ok(world.status.phase === 'offline');
    assert.equal(world.status.retryAfter, bound);
    world.again();
  }
});

test('a time that bye names is kept, also when the page is shown meanwhile', () => {
  const world = new World().attach();
  bye(world, 'shutting_down', true, 7000);
  assert.ok(world.status.phase === 'offline');
  assert.equal(world.status.retryAfter, 7000);
  assert.equal(world.status.error.code, 'shutting_down');
  world.core.probe(world.now);
  world.pass(6999);
  assert.equal(world.is, 'offline lost');
  world.pass(1);
  assert.equal(world.effects.at(-1), 'connect');
});

test('a waiting client that is shown, or hears of a network, tries at once', () => {
  for (const wake of [
    (world: World) => world.core.probe(world.now),
    (world: World) => world.core.network(world.now, true),
  ]) {
    const world = new World().attach();
    lose(world);
    assert.equal(world.is, 'offline lost');
    wake(world);
    world.pass(0);
    assert.equal(world.effects.at(-1), 'connect');
  }
});

test('without a network the state says so, and it is tried all the same', () => {
  const world = new World().attach();
  world.core.network(world.now, false);
  world.settle();
  assert.equal(world.status.phase, 'live', 'the browser may be wrong: the socket is asked');
  world.pass(5000);
  assert.deepEqual(world.status, { phase: 'offline', reason: 'network' });
  world.pass(20_000);
  assert.ok(world.effects.includes('connect'));
});

test('fenced stops: nothing is tried any more, actions are rejected as perhaps stored', async () => {
  const world = new World().attach();
  world.subscribe('a');
  world.begin('a', 7);
  const sent = world.append('a', text('1'));
  bye(world, 'fenced', false);
  assert.ok(world.status.phase === 'closed');
  assert.equal(world.status.error.code, 'fenced');
  const error = await outcomeOf(sent);
  assert.deepEqual([error.code, error.maybeStored], ['fenced', true]);
  assert.equal(world.core.deadline(), Infinity);
  assert.equal((await outcomeOf(world.append('a', text('2')))).code, 'fenced');
  world.core.start(world.now);
  world.settle();
  assert.equal(world.effects.at(-1), 'connect', 'the app may take it back');
});

const outcomeOf = (promise: Promise<unknown>): Promise<HighwaterError> =>
  promise.then(
    () => assert.fail('it was stored'),
    (error: HighwaterError) => (assert.ok(error instanceof HighwaterError), error),
  );

test('codes after which coming back does not help stop it; others do not', () => {
  const old = new World().attach();
  bye(old, 'version', false);
  assert.equal(old.is, 'update-required version');
  for (const code of ['bad_frame', 'unknown_writer', 'origin', 'connections']) {
    const world = new World().attach();
    bye(world, code, false);
    assert.equal(world.status.phase, 'closed', code);
  }
  for (const code of ['failed', 'silent', 'sockets', 'code_200']) {
    const world = new World().attach();
    bye(world, code, true);
    assert.equal(world.is, 'offline lost', code);
  }
});

test('a close without bye comes back', () => {
  const world = new World().attach();
  world.core.closed(world.now, 4078, 'shutting_down');
  assert.ok(world.status.phase === 'offline');
  assert.equal(world.status.error.code, 'shutting_down');
});

test('silence: a ping after pingInterval, a new socket when nothing is heard for 5 s after it', () => {
  const world = new World().attach({ pingInterval: 10_000 });
  world.pass(9_999);
  assert.equal(world.got('ping').length, 0);
  world.pass(1);
  assert.equal(world.got('ping').length, 1);
  world.pass(4_999);
  world.tell('pong', { nonce: 1 });
  world.pass(9_000);
  assert.equal(world.status.phase, 'live');
  world.tell('gap', { log: 1, from: 0, to: 1, reason: 'trimmed' }); // anything is a sign of life
  world.pass(9_000);
  assert.equal(world.got('ping').length, 1);
  world.pass(1_000 + 4_999);
  assert.equal(world.status.phase, 'live');
  world.pass(1);
  assert.equal(world.is, 'offline lost');
  assert.ok(world.effects.includes('disconnect'));
});

test('a probe asks at once; a timer that was frozen with its page asks again before it gives up', () => {
  const world = new World().attach({ pingInterval: 10_000 });
  world.core.probe(world.now);
  world.settle();
  assert.equal(world.got('ping').length, 1);
  // The page sleeps for an hour; its timers ring all at once.
  world.now += 3_600_000;
  world.core.tick(world.now);
  world.settle();
  assert.equal(world.status.phase, 'live');
  assert.equal(world.got('ping').length, 2);
  world.pass(5_000);
  assert.equal(world.is, 'offline lost');
});

test('a ping of the server is answered', () => {
  const world = new World().attach();
  world.tell('ping', { nonce: 77 });
  assert.deepEqual(world.last('pong'), { nonce: 77 });
});

test('a socket without a welcome is given up', () => {
  const world = new World();
  world.core.start(world.now);
  world.settle();
  world.pass(14_999);
  assert.equal(world.effects.at(-1), 'connect');
  world.pass(1);
  assert.equal(world.is, 'offline lost');
});

test('offline for the app: no socket until it is set back', () => {
  const world = new World().attach();
  world.core.offline(world.now);
  world.settle();
  assert.deepEqual(world.status, { phase: 'offline', reason: 'asked' });
  assert.equal(world.core.deadline(), Infinity);
  world.core.probe(world.now);
  world.core.network(world.now, true);
  world.pass(60_000);
  assert.equal(world.status.phase, 'offline');
  world.clear();
  world.core.start(world.now);
  world.settle();
  assert.deepEqual(world.effects, ['status', 'connect']);
});

test('close says what is worked off, leaves, and rejects what has no answer', async () => {
  for (const [leave, forget] of [[true, true], [true, false], [false, false]] as const) {
    const world = new World().attach();
    world.subscribe('a');
    world.begin('a', 7);
    world.records(7, 0, [text('0')], OTHER, 1, 10);
    const sent = world.append('a', text('mine'));
    world.clear();
    world.core.close(world.now, leave, forget);
    world.settle();
    assert.deepEqual(world.sent.map(({ name }) => name), leave ? ['ack', 'leave'] : ['ack']);
    if (leave) assert.equal(world.last('leave').forget, forget);
    assert.equal(world.effects.indexOf('disconnect') > world.effects.indexOf('send'), true);
    assert.ok(world.status.phase === 'closed');
    assert.equal((await outcomeOf(sent)).code, 'closed');
  }
});

test('what cannot be carried is refused to the app, not to the server', async () => {
  const world = new World().attach();
  assert.throws(() => world.subscribe('x'.repeat(256)), { code: 'bad_name' });
  assert.throws(() => world.subscribe('a', { start: { offset: 2 ** 53 } }));
  assert.throws(() => world.subscribe('a', { priority: 256 }));
  assert.equal((await outcomeOf(world.append('x'.repeat(256), text('1')))).code, 'bad_name');
  assert.equal((await outcomeOf(world.append('a', { payload: 5 as never }))).code, 'bad_record');
  assert.equal((await outcomeOf(world.append('a', { eventTime: 2 ** 53, payload: '' }))).code, 'bad_record');
  assert.equal((await outcomeOf(world.append('a', text('1'), -1))).code, 'bad_record');
  assert.equal(world.got('append').length, 0);
});
