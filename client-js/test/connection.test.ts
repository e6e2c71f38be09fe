/** The life of a connection: coming back, being told to stop, slots, tokens, silence, windows. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ms } from '../src/bounds.js';
import { HighwaterError } from '../src/errors.js';
import { clientFrames, type ClientFrame } from '../src/frames.js';
import {
  collect, encode, forms, hexId, ME, OTHER, text, World, WRITER, type Form,
} from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};

const bye = (world: World, code: string, reconnect: boolean, after = 0): void =>
  world.tell('bye', { code, message: 'so it is', reconnect, after });

test('Hello says who it is and what it holds', () => {
  const world = new World({ device: hexId('d'), cloning: 'own', window: 5000 });
  world.subscribe('b', { start: 'end', priority: 3 });
  assert.deepEqual(world.sent, [], 'nothing goes out before there is a socket');
  const hello = world.hello();
  assert.equal(hello.version, 1);
  assert.equal(hello.connection, ME);
  assert.equal(hello.device, hexId('d'));
  assert.equal(hello.token, 'token');
  assert.equal(hello.visible, true);
  assert.equal(hello.cloning, 'own');
  assert.equal(hello.window, 5000);
  assert.deepEqual(hello.writers, [{ writer: WRITER, oldest: 1 }]);
  assert.deepEqual(hello.open, [{ name: 'b', have: undefined, start: 'end', priority: 3 }]);
});

test('a resume lists what is held of every log; what the app let go is not listed', () => {
  const world = new World().attach();
  for (const [name, id] of [['a', 7], ['b', 8], ['c', 9]] as const) {
    world.subscribe(name);
    world.begin(name, id);
    world.records(id, 0, [text('x')]);
  }
  world.drop('b');
  world.settle();
  assert.deepEqual(world.last('unsubscribe').logs, [8]);
  lose(world);
  const hello = world.again();
  assert.deepEqual(hello.open.map(({ name, have }) => [name, have]), [
    ['a', { log: 7, next: 1 }], ['c', { log: 9, next: 1 }],
  ]);
});

/** A frame's size as its limit counts it, in that encoding. */
const sizeOf = (name: 'hello' | 'subscribe' | 'activate', body: object, encoding: Form): number => {
  const message = encode(clientFrames, { name, body } as ClientFrame, encoding);
  return typeof message === 'string' ? Buffer.byteLength(message) : message.length;
};
const LIMIT = 65_536;
const longName = (index: number): string => `${index}/`.padEnd(250, 'x');

test('many subscriptions of a turn go in few frames, in the order they were made', () => {
  const world = new World().attach();
  for (let index = 0; index < 900; index++) {
    world.open(`log/${index}`);
  }
  world.settle();
  const frames = world.got('subscribe');
  assert.ok(frames.length <= 3, `${frames.length} frames`);
  assert.deepEqual(frames.flatMap(({ open }) => open.map(({ name }) => name)), [...world.core.followed.named.keys()]);
  assert.equal(new Set(frames.map(({ request }) => request)).size, frames.length);
});

test('no frame is larger than the limit, however many logs are open', () => {
  const token = 'x'.repeat(3000);
  for (const encoding of ['bincode', 'json'] as const) {
    const world = new World({ encoding: forms[encoding], token });
    const names = Array.from({ length: 1000 }, (_, index) => longName(index));
    for (const name of names) world.open(name, { start: { offset: 2 ** 52 }, priority: 255 });
    const check = (hello: object, name: 'hello' | 'activate'): void => {
      const rest = world.got('subscribe');
      const asked = [hello as { open: { name: string }[] }, ...rest].flatMap(({ open }) => open.map(({ name }) => name));
      assert.deepEqual(asked.sort(), [...names].sort(), 'each is asked for once');
      assert.ok(rest.length > 0, 'it would not fit');
      for (const size of [sizeOf(name, hello, encoding), ...rest.map((body) => sizeOf('subscribe', body, encoding))]) {
        assert.ok(size <= LIMIT, `${size} bytes as ${encoding}`);
      }
    };
    const hello = world.hello();
    world.welcome();
    check(hello, 'hello');
    for (const [index, name] of names.entries()) world.announce(name, 2 ** 52 + index, { cursor: 2 ** 52 });
    world.clear();
    world.tell('state', { active: false, met: undefined, reason: 'slots', activateAfter: 0, generation: 2, source: undefined });
    world.pass(1000);
    assert.deepEqual(world.got('subscribe'), [], 'not while it is inactive');
    world.tell('state', { active: true, met: 'restored', reason: undefined, activateAfter: 0, generation: 3, source: undefined });
    check(world.last('activate'), 'activate');
    assert.ok(world.last('activate').open[0]!.have);
  }
});

test('a frame that has not room for all tells first what is held, and as much as this server takes', () => {
  const world = new World();
  const names = Array.from({ length: 1000 }, (_, index) => longName(index));
  for (const name of names.slice(0, 900)) world.open(name);
  world.attach();
  const held = names[899]!;
  world.announce(held, 7);
  lose(world);
  assert.equal(world.again().open[0]!.name, held);
  lose(world);
  const limits = { frameBytes: 1 << 20, recordBytes: 16_384, window: 4000, inFlight: 1024, subscriptions: 1000 };
  world.again({ limits });
  lose(world);
  assert.equal(world.again({ limits }).open.length, 900);
});

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

test('downgraded: it says so, waits the time told, asks with what it holds, and goes on', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7);
  world.records(7, 0, [text('0')]);
  world.tell('state', { active: false, met: undefined, reason: 'lag', activateAfter: 3000, generation: 2, source: undefined });
  assert.deepEqual(world.status, { phase: 'inactive', reason: 'lag', retryAfter: 3000 });
  world.records(7, 9, [text('late')]);
  assert.equal(log.cursor, 1, 'nothing of before is let through');
  const kept = world.append('a', text('mine'));
  assert.equal(world.last('append').items[0]!.seq, 1, 'appends go on');
  world.pass(2999);
  assert.equal(world.got('activate').length, 0);
  world.pass(501);
  const { request, open, cloning } = world.last('activate');
  assert.equal(cloning, 'all');
  assert.deepEqual(open, [{ name: 'a', have: { log: 7, next: 1 }, start: 'state', priority: 0 }]);
  world.tell('refused', { request, name: undefined, refusal: { code: 'slots', message: 'full', retryAfter: 2000 } });
  assert.equal(world.status.phase, 'inactive');
  world.pass(4000);
  assert.equal(world.got('activate').length, 2);
  world.tell('state', { active: true, met: 'cloned', reason: undefined, activateAfter: 0, generation: 3, source: OTHER.connection });
  assert.deepEqual(world.status, { phase: 'live', reason: 'cloned', generation: 3, source: OTHER.connection });
  world.announce('a', 7, { cursor: 1, head: 2 });
  world.records(7, 1, [text('1')]);
  assert.equal(log.cursor, 2);
  world.stored(1, 7, 2);
  assert.ok(kept);
});

test('a hidden client does not ask to be active until it is seen; one may be told to', () => {
  const inactive = { active: false, met: undefined, reason: 'slots', activateAfter: 1000, generation: 2, source: undefined } as const;
  const world = new World({ visible: false }).attach();
  world.tell('state', inactive);
  world.pass(20_000);
  assert.equal(world.got('activate').length, 0);
  world.core.look(world.now, true);
  world.settle();
  assert.equal(world.last('visible').visible, true);
  world.pass(600);
  assert.equal(world.got('activate').length, 1);

  const manual = new World({ activate: false }).attach();
  manual.tell('state', inactive);
  manual.core.activate(manual.now, true);
  manual.settle();
  assert.equal(manual.got('activate').length, 0, 'not before the time told');
  manual.pass(1000);
  assert.equal(manual.got('activate').length, 1);
});

test('met without a slot: inactive from the start', () => {
  const world = new World();
  world.subscribe('a');
  world.hello();
  world.welcome({ met: 'waiting' });
  world.tell('state', { active: false, met: undefined, reason: 'no_slot', activateAfter: 500, generation: 1, source: undefined });
  assert.equal(world.status.phase, 'inactive');
  assert.equal(world.got('subscribe').length, 0);
  world.pass(1000);
  assert.equal(world.last('activate').open[0]!.name, 'a');
});

test('what is worked off is acknowledged: each quarter of the window, and within a second', () => {
  const world = new World().attach();
  world.subscribe('a');
  world.begin('a', 7); // window: 4,000
  world.clear();
  world.records(7, 0, [text('0')], OTHER, 1, 600);
  assert.equal(world.got('ack').length, 0);
  world.records(7, 1, [text('1')], OTHER, 1, 400);
  assert.deepEqual(world.got('ack'), [{ received: 1000, cursors: [{ log: 7, next: 2 }] }]);
  world.records(7, 2, [text('2')], OTHER, 1, 10);
  world.pass(999);
  assert.deepEqual(world.last('ack'), { received: 1010, cursors: [{ log: 7, next: 3 }] });
  world.pass(10_000);
  assert.equal(world.got('ack').length, 2, 'nothing new, nothing said');
  world.records(7, 0, [text('0')], OTHER, 1, 50);
  world.pass(1000);
  assert.equal(world.last('ack').received, 1060, 'a repeat counts against the window too');
});

test('received begins anew with each socket', () => {
  const world = new World().attach();
  world.subscribe('a');
  world.begin('a', 7);
  world.records(7, 0, [text('0')], OTHER, 1, 600);
  lose(world);
  world.again();
  world.announce('a', 7, { cursor: 1 });
  world.records(7, 1, [text('1')], OTHER, 1, 70);
  world.pass(1000);
  assert.equal(world.last('ack').received, 70);
});

test('a half delivered base is not acknowledged as something to restart from', () => {
  const world = new World().attach();
  world.subscribe('a');
  world.announce('a', 7, { cursor: 5, head: 5, rule: 'client', reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: { rule: 'client', offset: 5, version: 1 }, cursor: 5, complete: 5 });
  world.tell('base', { log: 7, offset: 5, part: 0, last: false, data: 'x' }, 100);
  world.pass(1000);
  assert.deepEqual(world.last('ack'), { received: 100, cursors: [] });
  world.tell('base', { log: 7, offset: 5, part: 1, last: true, data: 'y' }, 100);
  world.pass(1000);
  assert.deepEqual(world.last('ack'), { received: 200, cursors: [{ log: 7, next: 5 }] });
});

test('with manual commits only what the app committed is told', () => {
  const world = new World().attach();
  const log = world.subscribe('a', { commit: 'manual', start: 'committed' });
  world.begin('a', 7);
  world.records(7, 0, [text('0'), text('1')]);
  world.pass(1000);
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 0 }], 'where delivery began');
  log.commit(1);
  world.settle();
  world.pass(1000);
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 1 }]);
  log.commit(99);
  world.settle();
  world.pass(1000);
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 2 }], 'never past what was delivered');
});

test('a refused subscription: for good, or asked for again after the time told', () => {
  const world = new World().attach();
  const a = world.subscribe('a');
  const b = world.subscribe('b');
  const refused = collect(a, 'refused');
  const asked = (name: string): number =>
    world.got('subscribe').find(({ open }) => open.some((one) => one.name === name))!.request;
  const refuse = (name: string, code: string, retryAfter: number): void =>
    world.tell('refused', { request: asked(name), name, refusal: { code, message: 'no', retryAfter } });
  refuse('a', 'denied', 0);
  refuse('b', 'rate', 2000);
  assert.deepEqual(refused.map(({ code }) => code), ['denied']);
  world.clear();
  world.pass(1999);
  assert.equal(world.got('subscribe').length, 0);
  world.pass(1001);
  assert.deepEqual(world.got('subscribe').flatMap(({ open }) => open.map(({ name }) => name)), ['b']);
  assert.equal(b.phase, 'asked');
  lose(world);
  assert.deepEqual(world.again().open.map(({ name }) => name), ['b'], 'what is denied is not asked for again');
});

test('a log that comes along unasked is told, and let go when nobody takes it', () => {
  const world = new World().attach();
  world.begin('stranger', 9);
  assert.ok(world.effects.includes('adopted'));
  assert.ok(world.core.followed.named.has('stranger'));
  world.drop('stranger');
  world.settle();
  assert.deepEqual(world.last('unsubscribe').logs, [9]);
});

test('a log let go while it was asked for is unsubscribed when it comes', () => {
  const world = new World().attach();
  world.subscribe('a');
  const { request } = world.last('subscribe');
  world.drop('a');
  world.announce('a', 7, { request });
  assert.deepEqual(world.last('unsubscribe').logs, [7]);
  assert.ok(!world.effects.includes('adopted'));
});

test('asked for twice, by the attach and by the app: the second answer disturbs nothing', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.announce('a', 7, { cursor: 5, head: 5, rule: 'client', reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: { rule: 'client', offset: 5, version: 1 }, cursor: 5, complete: 5 });
  world.announce('a', 7, { request: 1, cursor: 5, head: 5, rule: 'client' });
  assert.equal(log.phase, 'base');
  world.tell('base', { log: 7, offset: 5, part: 0, last: true, data: 'x' });
  assert.equal(log.complete, true);
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
