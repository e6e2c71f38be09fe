/** Whose log is it? Handles that share one subscription, under fake time. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogOptions } from '../src/handle.js';
import { latest } from '../src/latest.js';
import { collect, OTHER, outcome, text, World, type TestLog } from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};
const follow = (log: TestLog): string[] => {
  const told: string[] = [];
  log.on('reset', () => told.push('reset'));
  log.on('records', ({ records }) => told.push(...records.map(({ payload }) => `${payload}`)));
  return told;
};
/** A log of three records that one handle follows live. */
const shared = (options: LogOptions<any> = {}): { world: World; log: TestLog; told: string[] } => {
  const world = new World().attach();
  const log = world.open('a', options);
  const told = follow(log);
  world.settle();
  world.begin('a', 7);
  world.records(7, 0, ['0', '1', '2'].map((payload) => text(payload, payload)));
  return { world, log, told };
};
/** What is sought is answered: from there, with those records. */
const answer = (world: World, cursor: number, upTo: number): void => {
  const { request } = world.last('seek');
  world.announce('a', 7, { request, cursor, head: upTo, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor, complete: upTo });
  const records = Array.from({ length: upTo - cursor }, (_, at) => text(`${cursor + at}`, `${cursor + at}`));
  if (records.length) world.records(7, cursor, records);
};

test('one lets go, the other goes on; the last one is let go after its grace, and not before', () => {
  const { world, log, told } = shared({ grace: 5000 });
  const other = world.subscribe('a', { start: 'end', grace: 5000 });
  const seen = follow(other);
  log.release();
  log.release();
  world.settle();
  world.records(7, 3, [text('3')]);
  world.pass(10_000);
  assert.deepEqual([seen, told.includes('3'), world.got('unsubscribe').length], [['3'], false, 0]);
  assert.equal(log.status.value.phase, 'closed');
  other.release();
  world.settle();
  world.pass(4999);
  assert.equal(world.got('unsubscribe').length, 0);
  world.pass(1);
  assert.deepEqual(world.last('unsubscribe').logs, [7]);
  world.records(7, 4, [text('4')]);
  assert.deepEqual(seen, ['3'], 'nobody is told any more');
});

test('opened again within the grace it is not let go, and the new handle is given all', () => {
  const { world, log } = shared({ grace: 5000 });
  log.release();
  world.settle();
  const again = world.open('a', { grace: 5000 });
  const board = latest(again);
  world.settle();
  answer(world, 0, 3);
  assert.deepEqual([...board.value!.keys()], ['0', '1', '2']);
  world.pass(20_000);
  assert.equal(world.got('unsubscribe').length, 0);
});

test('a second handle is given all that it asked for, and the first nothing twice', () => {
  const { world, told } = shared();
  const second = world.open('a');
  const seen = follow(second);
  world.settle();
  assert.equal(second.status.value.phase, 'loading');
  world.records(7, 3, [text('3')]);
  assert.deepEqual(seen, [], 'half of it is nothing');
  answer(world, 0, 5);
  assert.deepEqual(seen, ['reset', '0', '1', '2', '3', '4']);
  assert.deepEqual(told, ['reset', '0', '1', '2', '3', '4']);
  assert.equal(second.status.value.phase, 'live');
});

test('the subscription goes to the widest start of all, whoever came first', () => {
  const world = new World().attach();
  const narrow = world.open('a', { start: { last: 2 } });
  const few = follow(narrow);
  world.settle();
  const wide = world.open('a', { start: 'earliest' });
  const all = follow(wide);
  world.settle();
  world.announce('a', 7, { request: world.last('subscribe').request, cursor: 3, head: 5 });
  assert.deepEqual(world.last('seek').to, 'earliest');
  world.records(7, 3, [text('3'), text('4')]);
  answer(world, 0, 6);
  assert.deepEqual([few, all], [['3', '4', '5'], ['reset', '0', '1', '2', '3', '4', '5']]);

  const before = new World();
  for (const start of ['end', { offset: 7 }, { offset: 3 }] as const) before.open('a', { start });
  assert.deepEqual(before.hello().open.map(({ start }) => start), [{ offset: 3 }]);
});

test('a base that is further than a handle was is given to it, too', () => {
  const { world, told } = shared();
  const bases = [] as number[];
  const log = [...world.core.followed.named.values()][0]!;
  world.open('a').on('base', ({ offset }) => bases.push(offset));
  world.settle();
  const { request } = world.last('seek');
  world.announce('a', 7, { request, cursor: 9, head: 9, rule: 'latest', reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: { rule: 'latest', offset: 9, version: 0 }, cursor: 9, complete: 9 });
  world.tell('baseRecords', { log: 7, offset: 9, last: true, complete: 9, origins: [OTHER], records: [] });
  assert.deepEqual([bases, told.at(-1), log.cursor], [[9], 'reset', 9]);
});

test('what one seeks takes nothing from another', () => {
  const { world, log, told } = shared();
  const second = world.subscribe('a', { start: 'end' });
  const seen = follow(second);
  second.seek({ offset: 1 });
  world.settle();
  assert.deepEqual(world.last('seek').to, 'state', 'to where all have enough');
  answer(world, 0, 4);
  assert.deepEqual(told, ['reset', '0', '1', '2', '3']);
  assert.deepEqual(seen, ['reset', '0', '1', '2', '3']);
  assert.equal(log.status.value.phase, 'live');
});

test('the end is told to all, with its reason; who opens it again begins anew', () => {
  const { world, log } = shared();
  const second = world.subscribe('a', { start: 'end' });
  const ends = [collect(log, 'ended'), collect(second, 'ended')];
  world.tell('unsubscribed', { request: 0, log: 7, reason: 'deleted' });
  for (const [at, handle] of [log, second].entries()) {
    assert.deepEqual(ends[at], [{ reason: 'deleted' }]);
    assert.deepEqual(handle.status.value, { phase: 'closed', reason: 'deleted' });
  }
  world.subscribe('a');
  assert.deepEqual(world.last('subscribe').open[0]!.have, undefined);
});

test('the first priority of all handles counts, also where it comes later', () => {
  const world = new World().attach();
  world.subscribe('a', { priority: 5 });
  assert.equal(world.last('subscribe').open[0]!.priority, 5);
  world.begin('a', 7);
  world.subscribe('a', { priority: 2, start: 'end' });
  assert.equal(world.last('subscribe').open[0]!.priority, 2);
  const from = world.got('subscribe').length;
  world.subscribe('a', { priority: 9, start: 'end' });
  assert.equal(world.got('subscribe').length, from);
});

test('one that is done with a listener inside of it is told nothing that was on its way', () => {
  const world = new World().attach();
  const log = world.open('a');
  const told: string[] = [];
  log.on('reset', () => {
    told.push('reset');
    log.release();
  });
  for (const name of ['records', 'complete', 'gap'] as const) log.on(name, () => told.push(name));
  world.settle();
  // All of it comes in one message.
  world.core.frames(world.now, [
    { name: 'subscribed', body: { request: world.last('subscribe').request, name: 'a', log: 7, priority: 0, rule: 'none', start: 0, head: 0, cursor: 0, complete: 0, reset: true, held: false } },
    { name: 'reset', body: { log: 7, reason: 'new', base: undefined, cursor: 0, complete: 0 } },
    { name: 'gap', body: { log: 7, from: 0, to: 1, reason: 'trimmed' } },
  ].map((frame) => ({ frame: frame as never, size: 1 })));
  world.settle();
  assert.deepEqual(told, ['reset']);
});

test('commits of one handle are not outrun by another that follows by itself', () => {
  const { world, log } = shared({ commit: 'manual', start: 'earliest' });
  world.subscribe('a', { start: 'end' });
  world.pass(1000);
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 0 }]);
  void log.commit(2);
  world.settle();
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 2 }]);
});

test('a commit resolves when the server has read it, over sockets; else it says why not', async () => {
  const { world, log } = shared({ commit: 'manual', start: 'earliest' });
  const first = log.commit(1);
  world.settle();
  const { nonce } = world.last('ping');
  assert.equal(await outcome(first), 'unanswered');
  lose(world);
  assert.deepEqual(world.again().open[0]!.have, { log: 7, next: 1 });
  world.announce('a', 7, { cursor: 3 });
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 1 }]);
  world.tell('pong', { nonce: nonce });
  assert.equal(await outcome(first), 'unanswered', 'that was of the other socket');
  world.tell('pong', { nonce: world.last('ping').nonce });
  assert.equal(await outcome(first), undefined);
  const second = log.commit(3);
  world.core.close(world.now, true, false);
  world.settle();
  assert.equal((await outcome(second)).code, 'closed');
});

test('a commit of a log that is over, or released, or of a closed client is rejected', async () => {
  const { world, log } = shared({ commit: 'manual', start: 'earliest' });
  world.core.cut(world.now);
  const waits = log.commit(1);
  world.again();
  world.tell('refused', { request: 0, name: 'a', refusal: { code: 'denied', message: 'no', retryAfter: 0 } });
  assert.equal((await outcome(waits)).code, 'closed');
  assert.equal((await outcome(log.commit(1))).code, 'closed');
  const again = world.subscribe('a', { commit: 'manual' });
  again.release();
  assert.equal((await outcome(again.commit(0))).code, 'closed');
  const last = world.subscribe('a', { commit: 'manual' });
  world.core.close(world.now, true, false);
  assert.equal((await outcome(last.commit(0))).code, 'closed');
});

test('released while away, it is not asked for again', () => {
  const { world, log } = shared({ grace: 60_000 });
  log.release();
  world.settle();
  lose(world);
  assert.deepEqual(world.again().open, []);
});
