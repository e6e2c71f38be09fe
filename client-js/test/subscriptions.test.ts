/** What a connection tells of its logs: received, committed, refused, let go. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collect, OTHER, text, World } from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};

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
