/** Situations at the edges, under fake time: what hangs, comes late, or is asked for twice. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { latest } from '../src/index.js';
import { collect, text, World } from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};

test('a token function that never answers is given up, and asked again', () => {
  const world = new World({ tokens: true, token: undefined });
  world.core.start(world.now);
  world.settle();
  assert.deepEqual(world.effects, ['token']);
  world.pass(15_000);
  assert.equal(world.is, 'needs-auth unauthorized');
  world.clear();
  world.pass(500);
  assert.deepEqual(world.effects, ['token'], 'a second call, though the first hangs');
  world.core.gotToken(world.now, 'late');
  world.settle();
  assert.equal(world.hello().token, 'late');
});

test('a refresh that hangs does not keep the next socket from a token', () => {
  const world = new World({ tokens: true, token: 'old' });
  world.attach({ time: 0, expires: 60_000, pingInterval: 100_000 });
  world.pass(59_000);
  assert.ok(world.effects.includes('token'), 'it was asked for and never came');
  world.tell('bye', { code: 'token_expired', message: '', reconnect: true, after: 0 });
  world.clear();
  world.pass(500);
  assert.deepEqual(world.effects, ['token']);
});

test('tokens at their end are not asked for in a tight circle', () => {
  const world = new World({ tokens: true, token: 'old' });
  world.attach({ time: 0, expires: 1 });
  for (let round = 0; round < 3; round++) {
    world.clear();
    world.pass(999);
    assert.deepEqual(world.got('refresh'), []);
    world.pass(1);
    assert.ok(world.effects.includes('token'));
    world.core.gotToken(world.now, 'new');
    world.settle();
    // The server believes a token a little past its end.
    world.tell('refreshed', { expires: 1 });
  }
});

test('one that waits comes back at once when it is asked to, but not before the time told', () => {
  const world = new World().attach();
  lose(world);
  assert.equal(world.is, 'offline lost');
  world.clear();
  world.core.start(world.now);
  world.pass(0);
  assert.deepEqual(world.effects, ['connect']);
  world.core.opened(world.now);
  world.welcome();
  world.tell('bye', { code: 'shutting_down', message: '', reconnect: true, after: 3000 });
  world.core.start(world.now);
  world.clear();
  world.pass(2999);
  assert.deepEqual(world.effects, []);
  world.pass(1);
  assert.deepEqual(world.effects, ['connect']);
});

test('with manual commits a new socket is told what was worked off; repeats are dropped', () => {
  const world = new World().attach();
  const log = world.subscribe('a', { commit: 'manual', start: 'committed' });
  const records = collect(log, 'records');
  const gaps = collect(log, 'gap');
  world.announce('a', 7, { cursor: 10, head: 14 });
  world.records(7, 10, ['10', '11', '12'].map((payload) => text(payload)));
  lose(world);
  assert.deepEqual(world.again().open[0]!.have, { log: 7, next: 10 }, 'nothing was worked off yet');
  world.announce('a', 7, { cursor: 10, head: 14 });
  world.records(7, 10, ['10', '11', '12', '13'].map((payload) => text(payload)));
  const offsets = records.flatMap((event) => event.records).map(({ offset }) => offset);
  assert.deepEqual(offsets, [10, 11, 12, 13]);
  log.commit(12);
  lose(world);
  assert.deepEqual(world.again().open[0]!.have, { log: 7, next: 12 });
  world.announce('a', 7, { cursor: 13, start: 13, head: 14 });
  world.tell('gap', { log: 7, from: 12, to: 13, reason: 'trimmed' });
  assert.deepEqual(gaps, [], 'what was delivered before is not missing');
  assert.equal(log.cursor, 14);
});

test('a base that the app did not work off is not told, and comes again', () => {
  const world = new World().attach();
  const log = world.subscribe('a', { commit: 'manual', start: 'committed' });
  const base = { rule: 'latest' as const, offset: 5, version: 0 };
  const send = (): void => {
    world.announce('a', 7, { cursor: 5, head: 6, rule: 'latest', reset: true });
    world.tell('reset', { log: 7, reason: 'new', base, cursor: 5, complete: 6 });
    world.tell('baseRecords', { log: 7, offset: 5, last: true, complete: 6, origins: [], records: [] });
    world.records(7, 5, [text('5')]);
    world.pass(1000);
  };
  send();
  assert.deepEqual(world.last('ack').cursors, []);
  lose(world);
  const [open] = world.again().open;
  assert.deepEqual([open!.have, open!.start], [undefined, 'state']);
  send();
  log.commit(5);
  world.settle();
  world.pass(1000);
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 5 }]);
  lose(world);
  assert.deepEqual(world.again().open[0]!.have, { log: 7, next: 5 });
});

test('what was committed of another state is not told of the new one', () => {
  const world = new World().attach();
  const log = world.subscribe('a', { commit: 'manual', start: 'committed' });
  world.begin('a', 7);
  world.records(7, 0, [text('0'), text('1')]);
  log.commit(2);
  world.pass(1000);
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 2 }]);
  log.seek({ offset: 0 });
  world.settle();
  const { request } = world.last('seek');
  world.announce('a', 7, { request, cursor: 0, head: 2, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 0, complete: 2 });
  world.clear();
  world.records(7, 0, [text('0')]);
  world.pass(1000);
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 0 }]);
  assert.throws(() => log.commit(Number.NaN), /number/);
  assert.throws(() => log.commit(-1), /number/);
});

test('a log sought while it is asked for is sought when it comes', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const { request } = world.last('subscribe');
  log.seek('end');
  world.settle();
  assert.deepEqual(world.got('seek'), []);
  world.announce('a', 7, { request, cursor: 0, head: 5 });
  assert.deepEqual(world.got('seek').map(({ log, to }) => [log, to]), [[7, 'end']]);
  world.announce('a', 7, { request: world.last('seek').request, cursor: 5, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 5, complete: 5 });
  world.clear();
  lose(world);
  assert.deepEqual(world.again().open[0]!.have, { log: 7, next: 5 });
  world.announce('a', 7, { cursor: 5 });
  assert.deepEqual(world.got('seek'), [], 'once is enough');
});

test('a log sought while its first reset is on the way, or sought twice, ends up where it was last', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const { request } = world.last('subscribe');
  const answer = (request: number, cursor: number): void => {
    world.announce('a', 7, { request, cursor, head: 5, reset: true });
    world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor, complete: 5 });
  };
  log.seek({ offset: 1 });
  answer(request, 0); // to the subscription
  const first = world.last('seek').request;
  log.seek({ offset: 2 });
  world.settle();
  answer(first, 1);
  lose(world);
  const [open] = world.again().open;
  assert.deepEqual([open!.start, open!.have], [{ offset: 2 }, undefined], 'the second was not answered');
});

test('a refused seek: sent again where it passes, else told, and all goes on as it was', () => {
  const world = new World().attach();
  const log = world.subscribe('a', { start: 'earliest' });
  const refused = collect(log, 'refused');
  const refuse = (code: string, retryAfter = 0): void =>
    world.tell('refused', { request: world.last('seek').request, name: undefined, refusal: { code, message: 'no', retryAfter } });
  world.announce('a', 7, { cursor: 0, head: 2 });
  world.records(7, 0, [text('0')]);
  log.seek({ offset: 9 });
  world.settle();
  for (const [code, after] of [['rate', 3000], ['storage_full', 0], ['inactive', 0], ['stale', 0]] as const) {
    const from = world.got('seek').length;
    refuse(code, after);
    if (after) world.pass(after - 1);
    assert.equal(world.got('seek').length, from, code);
    world.pass(1001);
    assert.equal(world.got('seek').length, from + 1, code);
    assert.deepEqual(world.last('seek').to, { offset: 9 });
  }
  refuse('bad_offset');
  assert.deepEqual(refused.map(({ code }) => code), ['bad_offset']);
  assert.equal(log.phase, 'live');
  world.records(7, 1, [text('1')]);
  assert.equal(log.cursor, 2);
  const sent = world.got('seek').length;
  world.pass(10_000);
  assert.equal(world.got('seek').length, sent);
  lose(world);
  const [open] = world.again().open;
  assert.deepEqual([open!.have, open!.start], [{ log: 7, next: 2 }, 'earliest'], 'nothing is forgotten');
});

test('a subscription that things moved under is asked for again', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const { request } = world.last('subscribe');
  world.tell('refused', { request, name: undefined, refusal: { code: 'stale', message: '', retryAfter: 0 } });
  world.pass(1001);
  assert.equal(world.got('subscribe').length, 2);
  assert.equal(log.phase, 'asked');
});

test('a refused unsubscribe is sent again, and only that', () => {
  const world = new World().attach();
  for (const [name, id] of [['a', 7], ['b', 8]] as const) {
    world.subscribe(name);
    world.begin(name, id);
  }
  world.drop('a');
  world.settle();
  const { request } = world.last('unsubscribe');
  world.tell('refused', { request, name: undefined, refusal: { code: 'overloaded', message: '', retryAfter: 2000 } });
  world.drop('b');
  world.pass(1999);
  assert.equal(world.got('unsubscribe').length, 1);
  world.pass(1002);
  assert.deepEqual(world.got('unsubscribe').flatMap(({ logs }) => logs).sort(), [7, 7, 8]);
  world.tell('unsubscribed', { request: world.last('unsubscribe').request, log: 7, reason: 'asked' });
  world.pass(10_000);
  assert.equal(world.got('unsubscribe').flatMap(({ logs }) => logs).length, 3);
});

test('a refused word on being looked at is said again, as it is by then', () => {
  const world = new World().attach();
  const refuse = (): void =>
    world.tell('refused', { request: 0, name: undefined, refusal: { code: 'rate', message: '', retryAfter: 2000 } });
  world.core.look(world.now, false);
  world.settle();
  refuse();
  world.pass(1999);
  assert.equal(world.got('visible').length, 1);
  world.pass(1002);
  assert.deepEqual(world.got('visible').map(({ visible }) => visible), [false, false]);
  world.pass(10_000);
  refuse();
  world.core.look(world.now, true);
  world.pass(3001);
  assert.deepEqual(world.got('visible').slice(2).map(({ visible }) => visible), [true]);
});

test('a log sought while its base is on the way is asked for from there, not with its state', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.announce('a', 7, { cursor: 5, head: 5, rule: 'client', reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: { rule: 'client', offset: 5, version: 1 }, cursor: 5, complete: 5 });
  world.tell('base', { log: 7, offset: 5, part: 0, last: false, data: 'x' });
  lose(world);
  log.seek('end');
  const [open] = world.again().open;
  assert.deepEqual([open!.start, open!.have], ['end', undefined]);
});

test('a log sought without a socket is asked for anew, and not sought besides', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7);
  world.records(7, 0, [text('0')]);
  lose(world);
  log.seek('earliest');
  const [open] = world.again().open;
  assert.deepEqual([open!.start, open!.have], ['earliest', undefined]);
  world.announce('a', 7, { cursor: 0, head: 1 });
  assert.deepEqual(world.got('seek'), []);
});

test('an old handle does not end the new subscription of its name', () => {
  const world = new World().attach();
  const old = world.subscribe('a');
  old.release();
  const log = world.subscribe('a');
  old.release();
  assert.ok([...world.core.followed.named.values()][0] === log.shared);
});

test('a listener or watcher that throws is reported, and harms no other', (context) => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const later: (() => void)[] = [];
  context.mock.method(globalThis, 'queueMicrotask', (work: () => void) => void later.push(work));
  const thrown: string[] = [];
  const run = (): void => {
    for (let work; (work = later.shift()); ) {
      try {
        work();
      } catch (error) {
        thrown.push((error as Error).message);
      }
    }
  };
  const board = latest(log);
  log.on('records', () => {
    throw new Error('a listener');
  });
  const heard = collect(log, 'records');
  let told = 0;
  board.subscribe(() => {
    throw new Error('a watcher');
  });
  const off = board.subscribe(() => told++);
  run();
  told = thrown.length = 0;
  world.begin('a', 7);
  world.records(7, 0, [text('1', 'x')]);
  run();
  assert.deepEqual([thrown, heard.length, told], [['a listener', 'a watcher'], 1, 1]);
  assert.equal(board.value?.get('x')?.payload, '1');
  off();
  board.close();
  world.records(7, 1, [text('2', 'x')]);
  run();
  assert.deepEqual([told, board.value?.get('x')?.payload], [1, '1'], 'it follows no longer');
});

test('a log that is missing is looked for again, and holds nothing else up', () => {
  const world = new World().attach();
  const log = world.open('a');
  const over = collect(log, 'refused');
  world.settle();
  const { request } = world.last('subscribe');
  const refusal = { code: 'unknown_log', message: '', retryAfter: 5000 };
  world.tell('refused', { request, name: 'a', refusal });
  world.clear();
  world.open('b');
  world.settle();
  assert.deepEqual(world.got('subscribe').map(({ open }) => open.map(({ name }) => name)), [['b']]);
  world.clear();
  world.pass(4000);
  assert.deepEqual(world.got('subscribe'), [], 'not before the time told');
  world.pass(2000);
  assert.deepEqual(world.got('subscribe').map(({ open }) => open.map(({ name }) => name)), [['a']]);
  assert.deepEqual(over, []);
});
