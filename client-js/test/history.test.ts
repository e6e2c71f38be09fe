/** One history (promise 15): positions, where logs were made, and a server that is another's. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { History } from '../src/history.js';
import { latest } from '../src/latest.js';
import { view } from '../src/view.js';
import { ANEW, collect, delivered, hexId, MINE, OTHER, outcome, text, World, WRITER } from './world.js';

const ERA = hexId('e');
const LATER = hexId('f');
/** The first batch of the shard after the first. */
const SHARD = 2 ** 45;
const at = (batch: number, era = ERA): string => `${era}.${batch}`;
const chained = (batch: number, era = ERA): string => `${at(batch, era)}.0123456789abcdef`;

const cut = (world: World): void => {
  world.core.cut(world.now);
  world.settle();
};
const chain = (world: World): [string, number, number][] =>
  world.got('append').flatMap(({ writer, items }) =>
    items.map(({ seq, prev }): [string, number, number] => [writer, seq, prev]));
const said = (world: World): unknown[] =>
  world.got('append').flatMap(({ items }) => items.map(({ record }) => record.payload));

test('the highest position of each shard is kept, and a batch raises its own alone', () => {
  const history = new History();
  history.saw(5);
  assert.deepEqual(history.positions, [], 'a place without an era says nothing');
  history.told([chained(7), at(SHARD + 3, LATER)]);
  assert.deepEqual(history.positions, [chained(7), at(SHARD + 3, LATER)]);
  history.saw(7);
  history.saw(SHARD + 2);
  assert.deepEqual(history.positions, [chained(7), at(SHARD + 3, LATER)], 'nothing that is not past it');
  history.saw(8);
  history.saw(SHARD * 255 + 1); // nothing was told of that shard
  history.saw(SHARD + 2 ** 40);
  assert.deepEqual(history.positions, [at(8), at(SHARD + 2 ** 40, LATER)]);
  history.told([chained(7)]);
  assert.deepEqual(history.positions[0], at(8), 'an answer may be behind a record');
  history.told([chained(8)]);
  assert.deepEqual(history.positions[0], chained(8));
  history.told([at(2, LATER)]);
  assert.deepEqual(history.positions, [at(2, LATER), at(SHARD + 2 ** 40, LATER)], 'another era counts anew');
  history.told([at(1)], true);
  assert.deepEqual(history.positions, [at(1)], 'those of another history are forgotten');
});

test('Hello and Append state the highest position that was told or seen', () => {
  const world = new World();
  assert.deepEqual(world.hello().capabilities, ['history', 'starts', 'requests', 'parts', 'held', 'bases', 'delivered']);
  assert.deepEqual(world.last('hello').positions, []);
  world.welcome({ positions: [chained(10)] });
  world.subscribe('a');
  world.begin('a', 7);
  world.append('a', text('1'));
  assert.deepEqual(world.last('append').positions, [chained(10)]);
  world.tell('ping', { nonce: 1, positions: [chained(12)] });
  world.append('a', text('2'));
  assert.deepEqual(world.last('append').positions, [chained(12)]);
  world.records(7, 0, [text('x')]); // place 101
  world.append('a', text('3'));
  assert.deepEqual(world.last('append').positions, [at(101)]);
  const stored = { stored: { log: 7, offset: 1, place: { batch: 200, index: 0 }, level: 'synced' as const } };
  world.tell('answers', { writer: WRITER, mark: 1, answers: [{ seq: 1, outcome: stored }] });
  world.append('a', text('4'));
  assert.deepEqual(world.last('append').positions, [at(200)]);
  world.tell('answers', { writer: WRITER, mark: 1, answers: [], positions: [chained(300)] });
  cut(world);
  assert.deepEqual(world.again().positions, [chained(300)]);
});

test('a record of a base counts for the position as well', () => {
  const world = new World().attach({ positions: [chained(10)] });
  world.subscribe('a');
  world.announce('a', 7, { cursor: 5, head: 5, rule: 'latest', reset: true });
  const base = { rule: 'latest' as const, offset: 5, version: 0 };
  world.tell('reset', { log: 7, reason: 'new', base, cursor: 5, complete: 5 });
  const records = [4, 9].map((seq) => ({ offset: seq - 4, record: delivered(seq, text('x', `${seq}`)) }));
  world.tell('baseRecords', { log: 7, offset: 5, last: true, complete: 5, origins: [OTHER], records });
  cut(world);
  assert.deepEqual(world.again().positions, [at(109)]);
});

test('an action remembers its log id and where that was made, over new sockets', () => {
  const world = new World().attach({ positions: [at(10)] });
  world.subscribe('a');
  world.announce('a', 7, { made: at(3) });
  world.append('a', text('1'));
  world.append('named', text('2'));
  world.append('a', text('3'));
  cut(world);
  world.append('a', text('4'));
  world.again();
  const { items, made } = world.last('append');
  assert.deepEqual(items.map(({ to }) => to), [{ log: 7 }, { name: 'named' }, { log: 7 }, { log: 7 }]);
  assert.deepEqual(made, [{ log: 7, position: at(3) }], 'each log once');
});

test('two logs of one number, of two histories, never stand in one frame', () => {
  const world = new World().attach({ positions: [at(10)] });
  world.subscribe('a');
  world.subscribe('b');
  world.announce('a', 7, { made: at(3) });
  cut(world);
  world.append('a', text('on the old 7'));
  world.again({ otherHistory: true, positions: [at(4, LATER)] });
  world.clear();
  // Nothing went out yet for `a`: it is told that its number is another log's now.
  world.announce('b', 7, { made: at(2, LATER), reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: undefined, cursor: 0, complete: 0 });
  world.core.append('b', text('on the new 7')).catch(() => {});
  cut(world);
  world.append('b', text('again on the new 7'));
  world.again({ writers: [{ writer: ANEW[0]!, mark: 0 }] });
  assert.deepEqual(
    world.got('append').map(({ items, made }) => [items.map(({ record }) => record.payload), made]),
    [
      [['on the old 7'], [{ log: 7, position: at(3) }]],
      [['on the new 7', 'again on the new 7'], [{ log: 7, position: at(2, LATER) }]],
    ],
  );
  assert.deepEqual(chain(world).map(([, seq, prev]) => [seq, prev]), [[1, 0], [2, 1], [3, 2]]);
});

test('two logs whose numbers went to each other are both followed', () => {
  const world = new World().attach({ positions: [at(10)] });
  const [a, b] = [world.subscribe('a'), world.subscribe('b')];
  world.begin('a', 7);
  world.begin('b', 8);
  cut(world);
  world.again({ otherHistory: true, positions: [at(4, LATER)] });
  world.begin('a', 8);
  world.begin('b', 7);
  world.records(8, 0, [text('of a')]);
  world.records(7, 0, [text('of b'), text('of b')]);
  assert.deepEqual([a.cursor, b.cursor], [1, 2]);
});

test('an action on a log id of another history is rejected as the server says', async () => {
  const world = new World().attach({ positions: [at(10)] });
  world.subscribe('a');
  world.announce('a', 7, { made: at(9) });
  cut(world);
  const lost = world.append('a', text('for that log only'));
  world.again({ otherHistory: true, positions: [at(5, LATER)] });
  world.tell('answers', {
    writer: ANEW[0]!, mark: 1,
    answers: [{ seq: 1, outcome: { refused: { code: 'epoch', message: 'made anew', retryAfter: 0 } } }],
  });
  const error = await outcome(lost);
  assert.deepEqual([error.code, error.maybeStored], ['epoch', false]);
});

/** Attached, with six records of the log `a` (id 7) and five own actions of which one is answered. */
const busy = (): { world: World; results: Promise<unknown>[]; log: ReturnType<World['subscribe']> } => {
  const world = new World().attach({ positions: [at(10)] });
  const log = world.subscribe('a');
  world.announce('a', 7, { made: at(3), reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: undefined, cursor: 0, complete: 6 });
  world.records(7, 0, [1, 2, 3, 4, 5, 6].map((n) => text(`old ${n}`, `k${n}`)));
  const results = [1, 2, 3, 4, 5].map((n) => world.append('a', text(`mine ${n}`, `m${n}`)));
  world.stored(1, 7, 6);
  return { world, results, log };
};
const other = { otherHistory: true, positions: [chained(4, LATER)] };

test('another history: what it has is answered first, the rest goes on under a new writer', async () => {
  const { world, results } = busy();
  cut(world);
  const hello = world.again({ ...other, writers: [{ writer: WRITER, mark: 3 }] });
  assert.deepEqual(hello.writers, [{ writer: WRITER, oldest: 2 }]);
  assert.deepEqual(hello.open[0]!.have, { log: 7, next: 6 });
  results.push(world.append('a', text('mine 6', 'm6')));
  assert.deepEqual(chain(world), [], 'the answers that are owed come first');
  world.stored(2, 7, 1, 3);
  assert.deepEqual(chain(world), []);
  world.stored(3, 7, 2, 3);
  assert.deepEqual(chain(world), [[ANEW[0], 1, 0], [ANEW[0], 2, 1], [ANEW[0], 3, 2]]);
  assert.deepEqual(said(world), ['mine 4', 'mine 5', 'mine 6']);
  assert.deepEqual(world.last('append').positions, [at(9, LATER)], 'as far as the answers tell');
  assert.equal(world.last('append').oldest, 1);
  assert.deepEqual(world.last('append').made, [{ log: 7, position: at(3) }]);
  world.clear();
  for (const seq of [1, 2, 3]) world.stored(seq, 7, 2 + seq, seq, ANEW[0]);
  const offsets = await Promise.all(results.slice(1).map(async (one) => (await outcome(one)).offset));
  assert.deepEqual(offsets, [1, 2, 3, 4, 5]);
  world.append('a', text('mine 7'));
  assert.deepEqual(chain(world), [[ANEW[0], 4, 3]]);
});

test('another history that has nothing of the writer: all is numbered anew at once', () => {
  const { world } = busy();
  cut(world);
  world.again(other);
  assert.deepEqual(chain(world), [1, 2, 3, 4].map((seq) => [ANEW[0], seq, seq - 1]));
  assert.deepEqual(said(world), ['mine 2', 'mine 3', 'mine 4', 'mine 5']);
  assert.equal(world.core.author.id, ANEW[0]);
});

test('another history: a condition on a head of the one before is refused, and never sent', async () => {
  const { world } = busy();
  const conditional = outcome(world.append('a', text('at 9'), 9));
  world.append('a', text('mine 6'));
  cut(world);
  world.again(other);
  assert.equal((await conditional).code, 'conflict');
  assert.deepEqual(said(world), ['mine 2', 'mine 3', 'mine 4', 'mine 5', 'mine 6']);
  assert.deepEqual(chain(world).at(-1), [ANEW[0], 6, 4]);
});

test('without anything to send the writer is another as well', () => {
  const world = new World().attach({ positions: [at(10)] });
  cut(world);
  world.again(other);
  world.append('a', text('1'));
  assert.deepEqual(chain(world), [[ANEW[0], 1, 0]]);
});

test('answers that are owed and do not come are asked for under the old writer, before the rest', () => {
  const { world } = busy();
  cut(world);
  world.again({ ...other, writers: [{ writer: WRITER, mark: 3 }] });
  world.announce('a', 7, { reset: true, made: at(3) });
  assert.deepEqual(chain(world), [[WRITER, 2, 0], [WRITER, 3, 2]]);
  world.clear();
  world.refuse([2], 'sequence_old', 3);
  world.stored(3, 7, 2, 3);
  assert.deepEqual(chain(world), [[ANEW[0], 1, 0], [ANEW[0], 2, 1]]);
});

test('the socket breaks before the answers that are owed: the writer is still over', () => {
  const { world } = busy();
  cut(world);
  world.again({ ...other, writers: [{ writer: WRITER, mark: 3 }] });
  cut(world);
  const hello = world.again({ positions: [at(5, LATER)], writers: [{ writer: WRITER, mark: 3 }] });
  assert.deepEqual(hello.writers, [{ writer: WRITER, oldest: 2 }]);
  assert.deepEqual(hello.positions, [chained(4, LATER)]);
  world.stored(2, 7, 1, 3);
  world.stored(3, 7, 2, 3);
  assert.deepEqual(chain(world), [[ANEW[0], 1, 0], [ANEW[0], 2, 1]]);
});

test('another history twice in a row: numbered anew twice, in order, nothing twice', () => {
  const { world } = busy();
  cut(world);
  world.again({ ...other, writers: [{ writer: WRITER, mark: 2 }] });
  world.stored(2, 7, 1, 2);
  world.stored(1, 7, 5, 1, ANEW[0]);
  cut(world);
  const hello = world.again({ otherHistory: true, positions: [at(3, hexId('d'))], writers: [{ writer: ANEW[0]!, mark: 0 }] });
  assert.deepEqual(hello.writers, [{ writer: ANEW[0], oldest: 2 }]);
  assert.deepEqual(chain(world), [[ANEW[1], 1, 0], [ANEW[1], 2, 1]]);
  assert.deepEqual(said(world), ['mine 4', 'mine 5']);
  assert.deepEqual(world.last('append').positions, [at(3, hexId('d'))]);
});

test('another history: each log held is reset, and shows what it showed until the new state is whole', () => {
  const { world, log } = busy();
  const board = latest(log);
  const words = view(log, (all: string[], { payload }) => [...all, `${payload}`], []);
  world.settle();
  world.announce('a', 7, { request: world.last('seek').request, reset: true, head: 6, made: at(3) });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 0, complete: 6 });
  world.records(7, 0, [1, 2, 3, 4, 5, 6].map((n) => text(`old ${n}`, `k${n}`)));
  const shown = (): string[] => [...board.value!.values()].map(({ payload }) => `${payload}`);
  const before = ['old 1', 'old 2', 'old 3', 'old 4', 'old 5', 'old 6', 'mine 1', 'mine 2', 'mine 3', 'mine 4', 'mine 5'];
  assert.deepEqual([shown(), words.value], [before, before]);
  const resets = collect(log, 'reset');
  cut(world);
  world.again({ ...other, writers: [{ writer: WRITER, mark: 2 }] });
  world.stored(2, 7, 3, 2); // this history has it, at another offset
  assert.deepEqual([shown(), words.value], [before, before], 'nothing is gone before the reset');
  world.announce('a', 7, { reset: true, head: 4, made: at(3) });
  world.tell('reset', { log: 7, reason: 'other_history', base: undefined, cursor: 0, complete: 4 });
  assert.deepEqual([shown(), words.value], [before, before], 'nor before the new state is whole');
  assert.deepEqual(resets.map(({ reason, cursor }) => [reason, cursor]), [['other_history', 0]]);
  world.records(7, 0, [text('old 1', 'k1'), text('old 2', 'k2'), text('new', 'k3')]);
  world.records(7, 3, [text('mine 2', 'm2')], MINE, 2);
  const after = ['old 1', 'old 2', 'new', 'mine 2', 'mine 3', 'mine 4', 'mine 5'];
  assert.deepEqual([shown(), words.value], [after, after], 'what was stored in the other history is gone');
  assert.deepEqual(log.top.map(({ seq, origin }) => [origin.writer, seq]), [1, 2, 3].map((seq) => [ANEW[0], seq]));
  world.records(7, 4, [text('mine 3', 'm3')], { ...MINE, writer: ANEW[0]! }, 1);
  assert.deepEqual(log.top.map(({ payload }) => payload), ['mine 4', 'mine 5']);
  world.stored(1, 7, 4, 1, ANEW[0]);
  assert.deepEqual([shown(), words.value], [after, after]);
});

test('met without a slot: it shows what it showed, and is reset when it becomes active', () => {
  const { world, log } = busy();
  const board = latest(log);
  world.settle();
  world.announce('a', 7, { request: world.last('seek').request, reset: true, head: 6, made: at(3) });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 0, complete: 6 });
  world.records(7, 0, [1, 2, 3, 4, 5, 6].map((n) => text(`old ${n}`, `k${n}`)));
  const shown = (): string[] => [...board.value!.values()].map(({ payload }) => `${payload}`);
  const resets = collect(log, 'reset');
  cut(world);
  world.again({ ...other, met: 'waiting' });
  world.tell('state', { active: false, met: 'waiting', reason: 'no_slot', activateAfter: 100, generation: 2, source: undefined });
  // Stored below the cursor of the other history: not shown by it.
  world.stored(1, 7, 3, 1, ANEW[0]);
  assert.equal(shown().length, 11);
  assert.deepEqual([resets, log.complete], [[], true]);
  world.clear();
  world.pass(2000);
  const [asked] = world.last('activate').open;
  assert.deepEqual([asked!.name, asked!.have, asked!.start], ['a', undefined, 'state']);
  world.tell('state', { active: true, met: 'restored', reason: undefined, activateAfter: 0, generation: 3, source: undefined });
  world.announce('a', 7, { reset: true, head: 4, made: at(3) });
  world.tell('reset', { log: 7, reason: 'restored', base: undefined, cursor: 0, complete: 4 });
  assert.deepEqual(resets.map(({ reason }) => reason), ['other_history'], 'told for what it is');
  world.records(7, 0, [text('new 1', 'k1'), text('new 2', 'k2'), text('new 3', 'k3')]);
  world.records(7, 3, [text('mine 2', 'm2')], { ...MINE, writer: ANEW[0]! }, 1);
  assert.deepEqual(shown(), ['new 1', 'new 2', 'new 3', 'mine 2', 'mine 3', 'mine 4', 'mine 5']);
});

test('the socket breaks between the welcome of another history and the reset: it is still due', () => {
  const { world, log } = busy();
  const resets = collect(log, 'reset');
  cut(world);
  world.again(other);
  cut(world);
  const hello = world.again({ writers: [{ writer: ANEW[0]!, mark: 0 }] });
  assert.deepEqual([hello.open[0]!.have, hello.open[0]!.start], [undefined, 'state']);
  world.begin('a', 7, 0, 0);
  assert.deepEqual(resets.map(({ reason }) => reason), ['other_history']);
});

test('a log that is asked from its start is told of the reset too, when no frame says so', () => {
  const world = new World().attach({ positions: [at(10)] });
  const log = world.subscribe('a', { start: 'earliest' });
  world.announce('a', 7, { head: 2 });
  world.records(7, 0, [text('1'), text('2')]);
  const resets = collect(log, 'reset');
  cut(world);
  world.again(other);
  world.announce('a', 9, { head: 0 }); // Made anew, and nothing is in it.
  assert.deepEqual(resets.map(({ reason, cursor }) => [reason, cursor]), [['other_history', 0]]);
  assert.deepEqual([log.id, log.cursor, log.complete], [9, 0, true]);
});

test('a log of which nothing was held, or that is new, is not reset', () => {
  const world = new World();
  const log = world.subscribe('a', { start: 'end' });
  const resets = collect(log, 'reset');
  world.attach({ positions: [at(1)], otherHistory: true });
  world.announce('a', 7, { cursor: 3 });
  world.records(7, 3, [text('x')]);
  assert.deepEqual([resets, log.cursor], [[], 4]);
});

test('manual commits: nothing of the other history is told as worked off in this one', () => {
  const world = new World().attach({ positions: [at(10)] });
  const log = world.subscribe('a', { commit: 'manual' });
  world.begin('a', 7, 0, 5);
  world.records(7, 0, [1, 2, 3, 4, 5].map((n) => text(`${n}`)));
  log.commit(4);
  cut(world);
  assert.deepEqual(world.again(other).open[0]!.have, { log: 7, next: 4 });
  world.clear();
  log.commit(5);
  world.pass(2000);
  assert.deepEqual(world.got('ack').flatMap(({ cursors }) => cursors), []);
  world.announce('a', 7, { reset: true, head: 6 });
  world.tell('reset', { log: 7, reason: 'other_history', base: undefined, cursor: 0, complete: 6 });
  world.pass(2000);
  assert.deepEqual(world.last('ack').cursors, [{ log: 7, next: 0 }]);
});

test('an append refused for its position: it comes back, and the next welcome says the rest', async () => {
  const { world, results } = busy();
  world.refuse([2, 3, 4, 5], 'other_history', 0);
  assert.equal(world.is, 'offline lost');
  assert.equal(await outcome(results[1]!), 'unanswered');
  world.again(other);
  assert.deepEqual(chain(world), [1, 2, 3, 4].map((seq) => [ANEW[0], seq, seq - 1]));
});

test('a change of the era closes the socket with a word that lets it come back', () => {
  for (const end of [
    (world: World) => world.tell('bye', { code: 'other_history', message: 'moved', reconnect: true, after: 0 }),
    (world: World) => {
      world.core.closed(world.now, 4011, 'other_history');
      world.settle();
    },
  ]) {
    const world = new World().attach({ positions: [at(10)] });
    end(world);
    assert.equal(world.is, 'offline lost');
    assert.deepEqual(world.again().positions, [at(10)]);
  }
});

test('the same history after a restart: logs go on, and the writer stays', () => {
  const { world, log } = busy();
  const resets = collect(log, 'reset');
  cut(world);
  world.again({ positions: [at(300, LATER)], writers: [{ writer: WRITER, mark: 1 }] });
  assert.deepEqual(chain(world).map(([writer, seq]) => [writer, seq]), [2, 3, 4, 5].map((seq) => [WRITER, seq]));
  world.announce('a', 7, { cursor: 6, head: 7, made: at(3) });
  world.records(7, 6, [text('mine 1', 'm1')], MINE, 1);
  assert.deepEqual([resets, log.cursor], [[], 7]);
});
