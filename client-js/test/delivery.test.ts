/** The laws of order, bases and completeness, and views over them. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { latest } from '../src/latest.js';
import { view } from '../src/view.js';
import type { Entry } from '../src/delivery.js';
import type { Start } from '../src/frames.js';
import { collect, delivered, MINE, OTHER, outcome, text, World, type TestLog } from './world.js';

const payloads = (records: readonly Entry[]): unknown[] => records.map(({ payload }) => payload);

test('records come once and in order; a repeat is dropped by its offset', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const records = collect(log, 'records');
  world.begin('a', 7);
  world.records(7, 0, [text('0'), text('1'), text('2')]);
  world.records(7, 1, [text('1'), text('2'), text('3')]); // overlaps
  world.records(7, 0, [text('0')]); // wholly old
  assert.deepEqual(records.flatMap(({ records }) => payloads(records)), ['0', '1', '2', '3']);
  assert.deepEqual(records.flatMap(({ records }) => records.map(({ offset }) => offset)), [0, 1, 2, 3]);
  assert.equal(log.cursor, 4);
  assert.equal(world.status.phase, 'live');
});

test('a jump is never let through: the client closes and resumes with what it holds', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const records = collect(log, 'records');
  world.begin('a', 7);
  world.records(7, 0, [text('0')]);
  world.records(7, 2, [text('2')]);
  assert.equal(world.is, 'offline lost');
  assert.ok(world.effects.includes('disconnect'));
  const hello = world.again();
  assert.deepEqual(hello.open[0]!.have, { log: 7, next: 1 });
  world.announce('a', 7, { cursor: 1, head: 3 });
  world.records(7, 1, [text('1'), text('2')]);
  assert.deepEqual(records.flatMap(({ records }) => payloads(records)), ['0', '1', '2']);
});

// Promise 7. `cursor` of what goes before is the end of the gap that follows at once.
test('a gap that comes with an opening is told, before what comes after it', () => {
  const cases: [string, Start, number, (world: World) => void][] = [
    ['an offset below start', { offset: 2 }, 2, (world) => world.announce('a', 7, { start: 10, cursor: 10, head: 11 })],
    ['committed below start', 'committed', 4, (world) => world.announce('a', 7, { start: 10, cursor: 10, head: 11 })],
    ['a trimmed log without a snapshot', 'state', 0, (world) => world.begin('a', 7, 10, 11)],
  ];
  for (const [what, start, from, opens] of cases) {
    const world = new World().attach();
    const log = world.subscribe('a', { start });
    const gaps = collect(log, 'gap');
    opens(world);
    world.tell('gap', { log: 7, from, to: 10, reason: 'trimmed' });
    world.records(7, 10, [text('10')]);
    assert.deepEqual(gaps.map(({ from, to, reason }) => [from, to, reason]), [[from, 10, 'trimmed']], what);
    assert.deepEqual(world.events.slice(-3), ['a gap', 'a records', 'a complete'], what);
    assert.equal(log.cursor, 11);
  }
});

test('a gap that comes with a seek is told; one over what was delivered since is not', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const gaps = collect(log, 'gap');
  world.begin('a', 7, 0, 12);
  world.records(7, 0, Array.from({ length: 12 }, () => text('x')));
  log.seek({ offset: 1 });
  world.settle();
  const { request } = world.last('seek');
  world.announce('a', 7, { request, start: 10, cursor: 10, head: 12, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 10, complete: 12 });
  world.tell('gap', { log: 7, from: 1, to: 10, reason: 'trimmed' });
  world.records(7, 10, [text('10'), text('11')]);
  world.tell('gap', { log: 7, from: 10, to: 11, reason: 'trimmed' });
  assert.deepEqual(gaps.map(({ from, to }) => [from, to]), [[1, 10]]);
  assert.equal(log.cursor, 12);
});

test('a gap after what was held is told from there on', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const gaps = collect(log, 'gap');
  world.begin('a', 7, 0, 3);
  world.records(7, 0, [text('0'), text('1'), text('2')]);
  world.core.cut(world.now);
  world.settle();
  world.again();
  world.announce('a', 7, { start: 10, cursor: 10, head: 11 });
  world.tell('gap', { log: 7, from: 3, to: 10, reason: 'trimmed' });
  world.records(7, 10, [text('10')]);
  assert.deepEqual(gaps.map(({ from, to }) => [from, to]), [[3, 10]]);
  assert.equal(log.cursor, 11);
});

test('a gap that begins past the cursor is a jump', () => {
  const world = new World().attach();
  world.subscribe('a');
  world.begin('a', 7);
  world.tell('gap', { log: 7, from: 3, to: 5, reason: 'trimmed' });
  assert.equal(world.is, 'offline lost');
});

test('frames of a log id that was not announced are left aside, but counted', () => {
  const world = new World().attach();
  world.records(99, 5, [text('x')], OTHER, 1, 300);
  world.tell('gap', { log: 99, from: 0, to: 5, reason: 'trimmed' });
  assert.equal(world.status.phase, 'live');
  assert.equal(world.core.worked, 300);
});

test('a base of the server comes in parts, then records; complete as its last part says', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const bases = collect(log, 'base');
  world.announce('a', 7, { cursor: 5, head: 5, rule: 'latest', reset: true });
  world.tell('reset', { log: 7, reason: 'cloned', base: { rule: 'latest', offset: 5, version: 0 }, cursor: 5, complete: 5 });
  const part = (offset: number, key: string, last: boolean, complete: number): void =>
    world.tell('baseRecords', {
      log: 7, offset: 5, last, complete, origins: [OTHER],
      records: [{ offset, record: delivered(1, text('v', key)) }],
    });
  part(1, 'a', false, 0);
  assert.equal(log.complete, false);
  part(4, 'b', true, 6);
  assert.equal(log.complete, false, 'a record below 6 is still to come');
  world.records(7, 5, [text('w', 'c')]);
  assert.equal(log.complete, true);
  assert.deepEqual(bases.flatMap(({ records }) => records!.map(({ offset }) => offset)), [1, 4]);
});

test('a base of a client comes whole', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const bases = collect(log, 'base');
  world.announce('a', 7, { cursor: 5, head: 5, rule: 'client', reset: true });
  world.tell('reset', { log: 7, reason: 'restored', base: { rule: 'client', offset: 5, version: 3 }, cursor: 5, complete: 5 });
  world.tell('base', { log: 7, offset: 5, part: 0, last: false, data: new Uint8Array([1, 2]) });
  assert.equal(bases.length, 0);
  world.tell('base', { log: 7, offset: 5, part: 1, last: true, data: 'c' });
  assert.deepEqual(bases, [{ offset: 5, version: 3, last: true, data: new Uint8Array([1, 2, 99]) }]);
  assert.equal(log.complete, true);
});

test('a base of a client that is too large ends the log with a reason; nothing is fetched again', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const refused = collect(log, 'refused');
  world.announce('a', 7, { cursor: 5, head: 5, rule: 'client', reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: { rule: 'client', offset: 5, version: 3 }, cursor: 5, complete: 5 });
  const data = new Uint8Array(16 << 20);
  const part = (part: number): void => {
    const frame = { name: 'base', body: { log: 7, offset: 5, part, last: false, data } } as const;
    world.core.frames(world.now, [{ frame, size: data.length }]);
    world.settle();
  };
  for (let at = 0; at < 4; at++) part(at);
  assert.deepEqual(refused, []);
  part(4);
  part(5);
  assert.deepEqual(refused.map(({ code }) => code), ['too_large']);
  assert.deepEqual([log.phase, world.status.phase], ['over', 'live']);
  assert.deepEqual(world.last('unsubscribe').logs, [7]);
  world.core.cut(world.now);
  world.settle();
  assert.deepEqual(world.again().open, []);
  world.announce('a', 7, { cursor: 5, head: 5, rule: 'client', reset: true });
  assert.deepEqual(world.last('unsubscribe').logs, [7], 'let go where the server has it still');
  assert.equal(world.subscribe('a').phase, 'asked', 'the app may ask for it again');
});

test('parts out of order, or records before the base is whole, are a jump', () => {
  for (const wrong of [
    (world: World) => world.tell('base', { log: 7, offset: 5, part: 1, last: true, data: 'c' }),
    (world: World) => world.records(7, 5, [text('x')]),
    (world: World) => world.tell('baseRecords', { log: 7, offset: 4, last: true, complete: 5, origins: [], records: [] }),
  ]) {
    const world = new World().attach();
    world.subscribe('a');
    world.announce('a', 7, { cursor: 5, head: 5, rule: 'client', reset: true });
    world.tell('reset', { log: 7, reason: 'new', base: { rule: 'client', offset: 5, version: 3 }, cursor: 5, complete: 5 });
    wrong(world);
    assert.equal(world.is, 'offline lost');
    const hello = world.again();
    assert.equal(hello.open[0]!.have, undefined, 'half a base is nothing that is held');
    assert.equal(hello.open[0]!.start, 'state');
  }
});

test('what was to be complete is not complete earlier after a resume', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7, 0, 9);
  world.records(7, 0, [text('0')]);
  world.core.cut(world.now);
  world.settle();
  world.again();
  world.announce('a', 7, { cursor: 1, head: 9, complete: 1 });
  assert.equal(log.complete, false);
  world.records(7, 1, Array.from({ length: 8 }, () => text('x')));
  assert.equal(log.complete, true);
});

test('a log that goes on under another id begins anew', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const resets = collect(log, 'reset');
  world.begin('a', 7);
  world.records(7, 0, [text('0')]);
  world.core.cut(world.now);
  world.settle();
  world.again();
  world.announce('a', 8, { cursor: 0, head: 0, reset: true });
  world.tell('reset', { log: 8, reason: 'other_log', base: undefined, cursor: 0, complete: 0 });
  world.records(7, 1, [text('of the old one')]);
  assert.equal(resets.at(-1)!.reason, 'other_log');
  assert.deepEqual([log.id, log.cursor], [8, 0]);
});

test('latest shows the newest of each key, without what was taken away, own actions on top', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const board = latest(log);
  assert.equal(board.value, undefined, 'nothing is shown before it is complete');
  world.begin('a', 7, 0, 3);
  world.records(7, 0, [text('1', 'x'), text('1', 'y')]);
  assert.equal(board.value, undefined);
  world.records(7, 2, [{ key: 'x' }]);
  const shown = (): unknown => Object.fromEntries([...board.value!].map(([key, { payload, pending }]) => [key, [payload, pending]]));
  assert.deepEqual(shown(), { y: ['1', false] });
  world.append('a', text('2', 'y'));
  world.append('a', text('1', 'z'));
  assert.deepEqual(shown(), { y: ['2', true], z: ['1', true] });
  const before = board.value;
  assert.equal(board.value, before, 'the same object as long as nothing changes');
});

test('an own action stays on top until the log shows it, whichever of answer and record is first', () => {
  for (const answerFirst of [true, false]) {
    const world = new World().attach();
    const log = world.subscribe('a');
    const board = latest(log);
    world.begin('a', 7);
    world.append('a', text('mine', 'k'));
    const state = (): unknown => [board.value!.get('k')?.payload, board.value!.get('k')?.pending];
    const steps = [
      () => world.stored(1, 7, 0),
      () => world.records(7, 0, [text('mine', 'k')], MINE, 1),
    ];
    if (!answerFirst) steps.reverse();
    assert.deepEqual(state(), ['mine', true]);
    steps[0]!();
    assert.deepEqual(state(), ['mine', answerFirst]);
    steps[1]!();
    assert.deepEqual(state(), ['mine', false]);
    assert.equal(log.top.length, 0);
  }
});

test('a refused action is rolled back', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const board = latest(log);
  world.begin('a', 7);
  world.append('a', text('mine', 'k'));
  assert.equal(board.value!.size, 1);
  world.refuse([1], 'conflict', 1);
  assert.equal(board.value!.size, 0);
});

test('a clone replaces the base; pending actions lie on the new one; nothing shown goes away between', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const board = latest(log);
  const shown = (): unknown => Object.fromEntries([...board.value!].map(([key, { payload }]) => [key, payload]));
  world.begin('a', 7);
  world.records(7, 0, [text('old', 'x')]);
  world.append('a', text('mine', 'k'));
  assert.deepEqual(shown(), { x: 'old', k: 'mine' });
  world.core.cut(world.now);
  world.settle();
  assert.deepEqual(shown(), { x: 'old', k: 'mine' });
  world.again({ met: 'cloned', source: OTHER.connection });
  assert.deepEqual(world.last('append').items.map(({ seq }) => seq), [1], 'what is written stays');
  world.announce('a', 7, { cursor: 50, head: 51, rule: 'latest', reset: true });
  world.tell('reset', { log: 7, reason: 'cloned', base: { rule: 'latest', offset: 50, version: 0 }, cursor: 50, complete: 51 });
  assert.deepEqual(shown(), { x: 'old', k: 'mine' });
  world.tell('baseRecords', {
    log: 7, offset: 50, last: true, complete: 51, origins: [OTHER],
    records: [{ offset: 44, record: delivered(1, text('new', 'y')) }],
  });
  assert.deepEqual(shown(), { x: 'old', k: 'mine' });
  world.records(7, 50, [text('new', 'z')]);
  assert.deepEqual(shown(), { y: 'new', z: 'new', k: 'mine' });
});

test('a delta after a time away is shown at once when complete, own actions never missing', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const board = latest(log);
  const shown = (): unknown => Object.fromEntries([...board.value!].map(([key, { payload }]) => [key, payload]));
  world.begin('a', 7);
  world.records(7, 0, [text('1', 'x')]);
  world.append('a', text('mine', 'k'));
  world.core.cut(world.now);
  world.settle();
  world.again({ writers: [{ writer: MINE.writer, mark: 1 }] });
  world.announce('a', 7, { cursor: 1, head: 4 });
  assert.ok(world.events.includes('a behind'));
  world.records(7, 1, [text('2', 'x')]);
  assert.deepEqual(shown(), { x: '1', k: 'mine' }, 'a state on the way is not shown');
  world.records(7, 2, [text('mine', 'k')], MINE, 1);
  assert.deepEqual(shown(), { x: '1', k: 'mine' });
  world.records(7, 3, [text('3', 'x')]);
  assert.deepEqual(shown(), { x: '3', k: 'mine' });
  assert.equal(board.value!.get('k')!.pending, false);
});

test('view folds by a reducer: records in order, then the pending ones', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const words = view(log, (state: string, { payload }) => state + payload, '');
  world.begin('a', 7);
  world.append('a', text('c'));
  world.records(7, 0, [text('a'), text('b')]);
  assert.equal(words.value, 'abc');
});

test('view takes a base that a client made by its own rule', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const words = view(
    log,
    (state: string, { payload }) => state + payload,
    '',
    (data, version) => `${version}:${new TextDecoder().decode(data)}|`,
  );
  world.announce('a', 7, { cursor: 5, head: 6, rule: 'client', reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: { rule: 'client', offset: 5, version: 3 }, cursor: 5, complete: 6 });
  world.tell('base', { log: 7, offset: 5, part: 0, last: true, data: 'abc' });
  world.records(7, 5, [text('d')]);
  assert.equal(words.value, '3:abc|d');
});

test('a view that comes later asks for the state once more', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7);
  world.records(7, 0, [text('1', 'x')]);
  world.clear();
  const board = latest(log);
  world.settle();
  assert.deepEqual(world.got('seek').map(({ log, to }) => [log, to]), [[7, 'state']]);
  world.announce('a', 7, { cursor: 0, head: 1, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 0, complete: 1 });
  world.records(7, 0, [text('1', 'x')]);
  assert.equal(board.value!.size, 1);
});

test('a view that comes while the log catches up shows nothing of that', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7, 0, 3);
  world.records(7, 0, [text('1', 'x')]);
  const board = latest(log);
  world.settle();
  const { request } = world.last('seek');
  world.records(7, 1, [text('1', 'y'), text('1', 'z')]);
  assert.ok(world.events.includes('a complete'));
  assert.equal(board.value, undefined, 'x went by before it came');
  world.append('a', text('mine', 'k'));
  world.announce('a', 7, { request, cursor: 0, head: 3, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 0, complete: 3 });
  world.records(7, 0, [text('1', 'x'), text('1', 'y'), text('1', 'z')]);
  assert.deepEqual([...board.value!.keys()], ['x', 'y', 'z', 'k']);
});

test('own actions lie on top also where they were made before the log was opened, or opened again', () => {
  const world = new World().attach();
  world.append('a', text('1', 'x'));
  world.append('b', text('other', 'x'));
  world.append('a', text('2', 'y'));
  const seqs = (log: TestLog): number[] => log.top.map(({ seq }) => seq);
  const first = world.subscribe('a');
  assert.deepEqual(seqs(first), [1, 3]);
  world.begin('a', 7);
  assert.deepEqual([...latest(first).value ?? []], [], 'a view asks for all once more');
  first.release();
  world.settle();
  const again = world.subscribe('a');
  const board = latest(again);
  world.begin('a', 7);
  assert.deepEqual([...board.value!].map(([key, { pending }]) => [key, pending]), [['x', true], ['y', true]]);
  world.stored(1, 7, 0);
  world.refuse([2], 'conflict', 2);
  world.refuse([3], 'conflict', 3);
  assert.deepEqual(seqs(again), [1]);
  world.records(7, 0, [text('1', 'x')], MINE, 1);
  assert.deepEqual([seqs(again), board.value!.get('x')!.pending], [[], false]);
});

test('where the log shows no more, an own action goes when it is answered', () => {
  for (const ends of [
    (world: World) => world.tell('unsubscribed', { request: 0, log: 7, reason: 'denied' }),
    (world: World) => {
      world.core.cut(world.now);
      world.settle();
      world.again();
      world.tell('refused', { request: 0, name: 'a', refusal: { code: 'denied', message: '', retryAfter: 0 } });
    },
  ]) {
    const world = new World().attach();
    const log = world.subscribe('a');
    world.begin('a', 7);
    for (const key of ['x', 'y', 'z']) world.append('a', text('mine', key));
    world.stored(1, 7, 5);
    assert.equal(log.top.length, 3, 'the log stands below it');
    ends(world);
    assert.deepEqual(log.top.map(({ seq }) => seq), [2, 3]);
    world.stored(2, 7, 6);
    assert.deepEqual(log.top.map(({ seq }) => seq), [3]);
    world.refuse([3], 'conflict', 3);
    for (let n = 4; n < 300; n++) {
      world.append('a', text('more'));
      world.stored(n, 7, n);
    }
    assert.equal(log.top.length, 0);
  }
});

test('an inactive client appends as long as it is answered; of what is answered the newest stay on top', async () => {
  const world = new World({ maxPending: 10, visible: false }).attach();
  const log = world.subscribe('a');
  world.begin('a', 7);
  world.tell('state', { active: false, met: undefined, reason: 'slots', activateAfter: 0, generation: 2, source: undefined });
  for (let seq = 1; seq <= 50; seq++) {
    const result = world.append('a', text(`${seq}`));
    world.stored(seq, 7, seq - 1);
    assert.equal((await outcome(result)).offset, seq - 1);
  }
  assert.deepEqual(log.top.map(({ seq }) => seq), Array.from({ length: 10 }, (_, at) => 41 + at));
});

test('watchers are told once for many changes of a turn', async () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const board = latest(log);
  let told = 0;
  const stop = board.subscribe(() => told++);
  assert.equal(told, 1, 'at once');
  told = 0;
  world.begin('a', 7);
  world.records(7, 0, [text('1', 'x')]);
  world.records(7, 1, [text('2', 'x')]);
  await Promise.resolve();
  assert.equal(told, 1);
  stop();
  world.records(7, 2, [text('3', 'x')]);
  await Promise.resolve();
  assert.equal(told, 1);
});

test('a log that the server deletes ends, and can be opened again', () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  const ended = collect(log, 'ended');
  world.begin('a', 7);
  world.tell('unsubscribed', { request: 0, log: 7, reason: 'deleted' });
  assert.deepEqual(ended, [{ reason: 'deleted' }]);
  world.records(7, 0, [text('late')]);
  assert.equal(log.cursor, 0);
  assert.deepEqual(log.status.value, { phase: 'closed', reason: 'deleted' });
  world.clear();
  assert.equal(world.subscribe('a').status.value.phase, 'loading');
  assert.equal(world.last('subscribe').open[0]!.name, 'a');
});
