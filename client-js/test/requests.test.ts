/** Which request is this the answer to? What crosses what, under fake time. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collect, text, World, type TestLog } from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};
const close = (world: World, log: TestLog): void => {
  log.release();
  world.settle();
};
const refuse = (world: World, request: number, code: string, name?: string): void =>
  world.tell('refused', { request, name, refusal: { code, message: 'no', retryAfter: 0 } });
const names = (world: World): string[] =>
  world.sent.map(({ name }) => name).filter((name) => name === 'subscribe' || name === 'unsubscribe');

test('opened anew while hello is on its way: the old answer opens nothing, and it is asked for', () => {
  const world = new World().attach();
  const old = world.subscribe('a');
  world.begin('a', 7);
  world.records(7, 0, [text('0'), text('1')]);
  lose(world);
  world.clear();
  world.pass(20_000);
  world.hello();
  close(world, old);
  const log = world.subscribe('a');
  const resets = collect(log, 'reset');
  world.welcome({ met: 'resumed' });
  assert.deepEqual(names(world), ['unsubscribe'], 'not asked for before the old answer is here');
  world.announce('a', 7, { request: 0, cursor: 2, head: 2 });
  assert.deepEqual([log.phase, log.complete], ['asked', false]);
  assert.deepEqual(names(world), ['unsubscribe', 'subscribe']);
  assert.equal(world.last('subscribe').open[0]!.have, undefined);
  world.tell('unsubscribed', { request: world.last('unsubscribe').request, log: 7, reason: 'asked' });
  world.begin('a', 7, 0, 2);
  world.records(7, 0, [text('0'), text('1')]);
  assert.deepEqual([log.complete, log.cursor, resets.length], [true, 2, 1]);
});

test('opened twice with different starts before an answer: each is asked for by itself', () => {
  const world = new World().attach();
  const first = world.subscribe('a', { start: 'earliest' });
  const { request } = world.last('subscribe');
  close(world, first);
  const second = world.subscribe('a', { start: 'end' });
  assert.equal(world.got('subscribe').length, 1, 'one name once at a time');
  world.announce('a', 7, { request, cursor: 0, head: 9 });
  world.records(7, 0, [text('0')]);
  assert.deepEqual([second.phase, second.cursor], ['asked', 0], 'what came of the first is not its');
  assert.deepEqual(world.last('unsubscribe').logs, [7]);
  assert.deepEqual(world.last('subscribe').open[0]!.start, 'end');
  world.tell('unsubscribed', { request: world.last('unsubscribe').request, log: 7, reason: 'asked' });
  world.announce('a', 7, { cursor: 9, head: 9 });
  assert.deepEqual([second.cursor, second.complete], [9, true]);
});

test('a refusal of an older request neither ends nor resets what was opened since', () => {
  const world = new World().attach();
  const first = world.subscribe('a');
  const { request } = world.last('subscribe');
  const ends = collect(first, 'refused');
  close(world, first);
  const second = world.subscribe('a');
  const refused = collect(second, 'refused');
  refuse(world, request, 'denied', 'a');
  assert.deepEqual([refused.length, ends.length, second.phase], [0, 0, 'asked']);
  world.begin('a', 7);
  refuse(world, request, 'superseded', 'a');
  refuse(world, request, 'denied');
  assert.equal(second.phase, 'live');
  world.clear();
  close(world, second);
  assert.deepEqual(names(world), ['unsubscribe'], 'nothing of that holds the next request up');
});

test('unsubscribe crosses subscribe: its late answer does not end the new subscription', () => {
  const world = new World().attach();
  const old = world.subscribe('a');
  world.begin('a', 7);
  close(world, old);
  const { request } = world.last('unsubscribe');
  const log = world.subscribe('a');
  world.begin('a', 7, 3);
  world.tell('unsubscribed', { request, log: 7, reason: 'asked' });
  world.records(7, 3, [text('3')]);
  assert.deepEqual([log.phase, log.cursor], ['live', 4]);
  world.tell('unsubscribed', { request: 0, log: 7, reason: 'deleted' });
  assert.equal(log.phase, 'over', 'by the server it ends');
});

test('a refused unsubscribe below a new subscription: that one begins anew too', () => {
  const world = new World().attach();
  const old = world.subscribe('a');
  world.begin('a', 7);
  world.records(7, 0, [text('0')]);
  close(world, old);
  const first = world.last('unsubscribe').request;
  const log = world.subscribe('a');
  refuse(world, first, 'rate');
  world.announce('a', 7, { cursor: 1, head: 1 });
  assert.equal(log.complete, false, 'it holds nothing of what was sent before');
  world.clear();
  world.pass(2000);
  assert.deepEqual(names(world), ['unsubscribe', 'subscribe']);
  world.begin('a', 7, 0, 1);
  assert.equal(log.phase, 'live');
});

test('what the app closes while away stays closed: offline, before the answer to hello, inactive', () => {
  for (const when of ['offline', 'hello', 'inactive']) {
    const world = new World().attach();
    const log = world.subscribe('a');
    world.begin('a', 7);
    world.records(7, 0, [text('0')]);
    const state = { met: undefined, reason: undefined, activateAfter: 0, generation: 2, source: undefined };
    if (when === 'inactive') world.tell('state', { ...state, active: false, reason: 'slots' });
    else lose(world);
    world.clear();
    if (when === 'hello') {
      world.pass(20_000);
      world.hello();
    }
    close(world, log);
    if (when === 'offline') world.again();
    if (when === 'hello') world.welcome();
    if (when === 'inactive') {
      world.pass(1000);
      world.tell('state', { ...state, active: true, met: 'restored' });
    }
    world.announce('a', 7, { request: 0, cursor: 1, head: 2 });
    world.records(7, 1, [text('1')]);
    assert.ok(!world.effects.includes('adopted'), when);
    assert.equal(world.core.followed.named.size, 0, when);
    assert.deepEqual(world.got('unsubscribe').map(({ logs }) => logs), [[7]], when);
    world.tell('unsubscribed', { request: world.last('unsubscribe').request, log: 7, reason: 'asked' });
    world.announce('a', 7, { request: 0, cursor: 2, head: 2 });
    assert.ok(world.effects.includes('adopted'), `${when}: then another may bring it along`);
  }
});

test('closed before its first answer, which never came: also the next socket lets it go', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  close(world, log);
  lose(world);
  world.again();
  world.announce('a', 7, { request: 0, cursor: 0, head: 2 });
  assert.ok(!world.effects.includes('adopted'));
  assert.deepEqual(world.last('unsubscribe').logs, [7]);
});

test('closed and opened again while away: hello says it, and nothing is let go', () => {
  const world = new World().attach();
  const old = world.subscribe('a');
  world.begin('a', 7);
  lose(world);
  close(world, old);
  world.subscribe('a', { start: 'end' });
  const hello = world.again();
  assert.deepEqual(hello.open.map(({ name, start }) => [name, start]), [['a', 'end']]);
  world.announce('a', 7, { cursor: 5, head: 5 });
  assert.deepEqual(names(world), []);
});

test('in another history the number of what was closed is not let go', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7);
  lose(world);
  close(world, log);
  world.again({ otherHistory: true });
  assert.deepEqual(world.got('unsubscribe'), []);
  world.announce('a', 9, { request: 0, cursor: 0, head: 2 });
  assert.deepEqual(world.last('unsubscribe').logs, [9]);
});

test('refresh and visible are refused by their number, older ones and superseded ones by none', () => {
  const world = new World({ tokens: true, token: 'old' }).attach({ time: 0, expires: 100_000, pingInterval: 1e6 });
  world.pass(95_000);
  world.core.gotToken(world.now, 'new');
  world.settle();
  const first = world.last('refresh').request!;
  assert.ok(first > 0);
  world.core.gotToken(world.now, 'newer');
  world.settle();
  world.clear();
  refuse(world, first, 'superseded');
  world.pass(500);
  assert.ok(!world.effects.includes('token'), 'of an older one');
  world.core.gotToken(world.now, 'newest');
  world.settle();
  refuse(world, world.last('refresh').request!, 'overloaded');
  world.pass(500);
  assert.ok(world.effects.includes('token'), 'whatever the reason');
  world.clear();
  world.core.look(world.now, false);
  world.settle();
  const { request } = world.last('visible');
  assert.ok(request! > 0);
  world.tell('done', { request: request! });
  world.core.look(world.now, true);
  world.settle();
  refuse(world, request!, 'superseded');
  world.pass(2000);
  assert.equal(world.got('visible').length, 2);
  refuse(world, world.last('visible').request!, 'rate');
  world.pass(2000);
  assert.equal(world.got('visible').length, 3);
});

test('a held log that nobody takes up costs nothing; one that is taken up is asked for', () => {
  const world = new World().attach();
  world.announce('a', 7, { request: 0, held: true, cursor: 3, head: 5 });
  assert.ok(world.effects.includes('adopted'));
  const came = world.core.followed.named.get('a')!;
  assert.deepEqual([came.head, came.lag], [5, 2], 'what there is to catch up on');
  const taken = world.subscribe('a');
  assert.ok(taken.shared === came);
  assert.deepEqual(world.last('subscribe').open, [{ name: 'a', have: undefined, start: 'state', priority: 0 }]);
  world.begin('a', 7, 0, 5);
  assert.equal(taken.phase, 'live');

  const deaf = new World().attach();
  const poll = deaf.core.poll.bind(deaf.core);
  deaf.core.poll = () => {
    const output = poll();
    if (output?.[0] === 'adopted') deaf.core.followed.drop(output[1]); // As the client does without a listener.
    return output;
  };
  deaf.announce('a', 7, { request: 0, held: true, cursor: 3, head: 5 });
  deaf.records(7, 3, [text('3')]);
  assert.deepEqual([names(deaf), deaf.core.followed.named.size], [[], 0]);
  const log = deaf.subscribe('a', { start: 'earliest' });
  assert.deepEqual(deaf.last('subscribe').open[0]!.start, 'earliest');
  deaf.announce('a', 7, { cursor: 0, head: 5 });
  assert.equal(log.phase, 'live');
});

test('a log that is open here and held there is asked for with what is held of it', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7);
  world.records(7, 0, [text('0')]);
  lose(world);
  world.again();
  world.announce('a', 7, { request: 0, held: true, cursor: 0, head: 3 });
  assert.deepEqual(world.last('subscribe').open[0]!.have, { log: 7, next: 1 });
  world.announce('a', 7, { cursor: 1, head: 3 });
  world.records(7, 1, [text('1'), text('2')]);
  assert.equal(log.complete, true);
});
