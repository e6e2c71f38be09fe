/** The writing side: order, sequences, answers, refusals that pass and refusals that stay. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HighwaterError } from '../src/errors.js';
import { hexId, outcome, text, World, WRITER } from './world.js';

const seqs = (world: World): number[][] => world.got('append').map(({ items }) => items.map(({ seq }) => seq));
const chain = (world: World): [number, number][] =>
  world.got('append').flatMap(({ items }) => items.map(({ seq, prev }): [number, number] => [seq, prev]));
const cut = (world: World): void => {
  world.core.cut(world.now);
  world.settle();
};

test('appends of a turn go in one frame and resolve where they are stored', async () => {
  const world = new World().attach();
  world.subscribe('a');
  world.begin('a', 7);
  const results = ['1', '2', '3'].map((payload) => world.core.append('a', text(payload)));
  world.settle();
  assert.deepEqual(chain(world), [[1, 0], [2, 1], [3, 2]]);
  assert.equal(world.got('append').length, 1);
  assert.deepEqual(world.last('append').items[0]!.to, { log: 7 });
  world.stored(1, 7, 40);
  assert.deepEqual(await outcome(results[0]!), { log: 7, offset: 40, place: { batch: 9, index: 1 }, level: 'synced' });
  assert.equal(await outcome(results[1]!), 'unanswered');
});

test('a log never seen is named; ifHead and the record go as they are', () => {
  const world = new World().attach();
  const record = { key: 'k', kind: 'note', eventTime: 5, headers: [['h', 'v']] as [string, string][], payload: new Uint8Array([1, 2]) };
  world.append('new/log', record, 0);
  const item = world.last('append').items[0]!;
  assert.deepEqual(item.to, { name: 'new/log' });
  assert.equal(item.ifHead, 0);
  assert.deepEqual(item.record, record);
});

test('what the app changes in its record afterwards changes nothing that is sent again', () => {
  const world = new World().attach();
  const record = { payload: new Uint8Array([1, 2]) };
  world.append('a', record);
  record.payload[0] = 9;
  cut(world);
  world.again();
  assert.deepEqual(world.last('append').items[0]!.record.payload, new Uint8Array([1, 2]));
});

test('after a reconnect all without an answer are sent again, in order, above the mark', async () => {
  const world = new World().attach();
  const results = [1, 2, 3, 4].map((n) => world.append('a', text(`${n}`)));
  world.stored(1, 7, 0);
  cut(world);
  results.push(world.append('a', text('made offline')));
  const hello = world.again({ writers: [{ writer: WRITER, mark: 2 }] });
  assert.deepEqual(hello.writers, [{ writer: WRITER, oldest: 2 }]);
  assert.deepEqual(chain(world), [[3, 2], [4, 3], [5, 4]]);
  assert.equal(world.last('append').oldest, 2);
  world.stored(2, 7, 1); // kept by the server, told again
  world.records(99, 0, [text('something else')]);
  assert.deepEqual(seqs(world), [[3, 4, 5]]);
  assert.equal((await outcome(results[1]!)).offset, 1);
});

test('what the mark covers and nobody answers is asked about once more', () => {
  const world = new World().attach();
  world.append('a', text('1'));
  world.append('a', text('2'));
  cut(world);
  world.again({ writers: [{ writer: WRITER, mark: 2 }] });
  assert.deepEqual(seqs(world), []);
  world.begin('a', 7); // the kept answers come before this
  assert.deepEqual(chain(world), [[1, 0], [2, 1]]);
});

test('a transient refusal: the round is sent again from the mark, not before the time told', async () => {
  const world = new World().attach();
  const results = [1, 2, 3].map((n) => world.append('a', text(`${n}`)));
  world.stored(1, 7, 0);
  world.clear();
  world.refuse([2], 'rate', 1, 3000);
  world.refuse([3], 'sequence_gap', 1);
  world.pass(2999);
  assert.deepEqual(seqs(world), []);
  results.push(world.append('a', text('4')));
  assert.deepEqual(seqs(world), [], 'nothing overtakes what was refused');
  world.pass(101);
  assert.deepEqual(chain(world), [[2, 1], [3, 2], [4, 3]]);
  for (const seq of [2, 3, 4]) world.stored(seq, 7, seq);
  assert.deepEqual(await Promise.all(results.slice(1).map(async (result) => (await result).offset)), [2, 3, 4]);
});

test('the round is not sent again while answers to it are still coming', () => {
  const world = new World().attach();
  for (const n of [1, 2]) world.append('a', text(`${n}`));
  world.clear();
  world.refuse([1], 'overloaded', 0);
  world.pass(4000);
  assert.deepEqual(seqs(world), []);
  world.refuse([2], 'sequence_gap', 0);
  world.pass(101);
  assert.deepEqual(seqs(world), [[1, 2]]);
  world.clear();
  world.refuse([1], 'overloaded', 0);
  world.pass(6000);
  assert.deepEqual(seqs(world), [[1, 2]], 'but not for ever');
});

test('retries slow down while refusals go on, and begin anew once something is stored', () => {
  const world = new World({ chance: () => 1 }).attach();
  world.append('a', text('1'));
  const waits: number[] = [];
  const wait = (): number => {
    world.clear();
    world.refuse([1], 'overloaded', 0);
    const from = world.now;
    while (!world.got('append').length) {
      world.pass(100);
      world.tell('pong', { nonce: 1 });
    }
    return world.now - from;
  };
  for (let round = 0; round < 9; round++) waits.push(wait());
  assert.deepEqual(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
});

test('a permanent refusal rejects with its reason; the next goes on from it', async () => {
  const world = new World().attach();
  const first = world.append('a', text('1'), 5);
  const second = world.append('a', text('2'));
  world.refuse([1], 'conflict', 1);
  world.stored(2, 7, 0);
  const error: HighwaterError = await outcome(first);
  assert.deepEqual([error.name, error.code, error.message, error.maybeStored], ['HighwaterError', 'conflict', 'conflict it is', false]);
  assert.equal((await outcome(second)).offset, 0);
  world.clear();
  world.append('a', text('3'));
  assert.deepEqual(chain(world), [[3, 2]]);
});

test('codes by their range: an unknown transient one is tried again, an unknown permanent one is not', async () => {
  const world = new World().attach();
  const first = world.append('a', text('1'));
  world.refuse([1], 'code_20', 0);
  assert.equal(await outcome(first), 'unanswered');
  world.pass(1000);
  world.refuse([1], 'code_50', 1);
  assert.equal((await outcome(first)).code, 'code_50');
});

test('never more in flight than the limit', () => {
  const world = new World({ maxPending: 10_000 });
  world.hello();
  world.welcome({ limits: { frameBytes: 65_536, recordBytes: 16_384, window: 4000, inFlight: 10, subscriptions: 10 } });
  for (let n = 1; n <= 25; n++) void world.core.append('a', text(`${n}`)).catch(() => {});
  world.settle();
  assert.deepEqual(seqs(world), [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]);
  world.stored(1, 7, 0);
  world.stored(2, 7, 1);
  assert.deepEqual(seqs(world).slice(1), [[11], [12]]);
});

test('frames keep to the limit of their size; a record that is too large is refused here', async () => {
  const world = new World().attach();
  const large = 'x'.repeat(16_000);
  for (let n = 0; n < 9; n++) void world.core.append('a', text(large)).catch(() => {});
  const over = world.core.append('a', text('x'.repeat(16_385)));
  const after = world.core.append('a', text('fits'));
  world.settle();
  assert.deepEqual(seqs(world), [[1, 2, 3], [4, 5, 6], [7, 8, 9, 11]]);
  assert.deepEqual(chain(world).at(-1), [11, 9], 'what was never sent is no predecessor');
  const error: HighwaterError = await outcome(over);
  assert.deepEqual([error.code, error.maybeStored], ['too_large', false]);
  assert.equal(await outcome(after), 'unanswered');
});

test('the queue is bounded', async () => {
  const world = new World({ maxPending: 3 });
  const results = [1, 2, 3, 4].map((n) => world.append('a', text(`${n}`)));
  assert.equal((await outcome(results[3]!)).code, 'queue_full');
  assert.equal(await outcome(results[2]!), 'unanswered');
});

test("answers of another writer are not ours", async () => {
  const world = new World().attach();
  const result = world.append('a', text('1'));
  world.tell('answers', { writer: hexId('e'), mark: 1, answers: [{ seq: 1, outcome: { stored: { log: 7, offset: 0, place: { batch: 1, index: 0 }, level: 'synced' } } }] });
  assert.equal(await outcome(result), 'unanswered');
});

test('an append refused for its ended token asks for another', () => {
  const world = new World({ tokens: true }).attach();
  world.append('a', text('1'));
  world.clear();
  world.refuse([1], 'token_expired', 0);
  world.pass(500);
  assert.ok(world.effects.includes('token'));
});
