/** Credit for appends: no more than it allows is sent, and what was refused no sooner than told. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcome, text, World, WRITER } from './world.js';

const seqs = (world: World): number[] => world.got('append').flatMap(({ items }) => items.map(({ seq }) => seq));
const many = (world: World, count: number, payload = 'x'): ReturnType<World['append']>[] => {
  const results = Array.from({ length: count }, () => world.core.append('a', text(payload)));
  for (const result of results) result.catch(() => {});
  world.settle();
  return results;
};
type Answers = Parameters<typeof answers>[1];
const answers = (
  world: World,
  given: { stored?: number[]; refused?: number[]; mark: number; after?: number; credit?: { appends: number; bytes: number; after: number } },
): void => {
  const { stored = [], refused = [], mark, after = 0, credit } = given;
  world.tell('answers', {
    writer: WRITER, mark, credit,
    answers: [
      ...stored.map((seq) => ({
        seq,
        outcome: { stored: { log: 7, offset: seq, place: { batch: 9, index: seq }, level: 'synced' as const } },
      })),
      ...refused.map((seq) => ({ seq, outcome: { refused: { code: 'rate', message: '', retryAfter: after } } })),
    ],
  });
};
const wide = { appends: 1000, bytes: 1e6, after: 0 } satisfies Answers['credit'];

test('no more appends, and no more bytes, than the credit', () => {
  const world = new World().attach({ credit: { ...wide, appends: 3 } });
  many(world, 5);
  assert.deepEqual(seqs(world), [1, 2, 3]);
  answers(world, { stored: [1], mark: 1 });
  assert.deepEqual(seqs(world), [1, 2, 3], 'it is not given back by an answer');
  answers(world, { stored: [2], mark: 2, credit: { ...wide, appends: 2 } });
  assert.deepEqual(seqs(world), [1, 2, 3, 4], 'what is on its way counts');
  answers(world, { stored: [3], mark: 3, credit: wide });
  assert.deepEqual(seqs(world), [1, 2, 3, 4, 5]);

  const bytes = new World().attach({ credit: { ...wide, bytes: 25 } });
  many(bytes, 3, '0123456789');
  assert.deepEqual(seqs(bytes), [1, 2]);
});

test('without any credit one goes at a time: its answer tells more', () => {
  const world = new World().attach({ credit: { appends: 0, bytes: 0, after: 0 } });
  many(world, 3);
  assert.deepEqual(seqs(world), [1]);
  answers(world, { stored: [1], mark: 1 });
  assert.deepEqual(seqs(world), [1, 2]);
  answers(world, { stored: [2], mark: 2, credit: wide });
  assert.deepEqual(seqs(world), [1, 2, 3]);
});

test('credit for later: nothing is sent before', () => {
  const world = new World().attach({ credit: { ...wide, after: 700 } });
  many(world, 2);
  world.pass(699);
  assert.deepEqual(seqs(world), []);
  world.pass(1);
  assert.deepEqual(seqs(world), [1, 2]);
});

test('a frame taken in part: the rest is sent at the time told, never sooner, and nothing twice', async () => {
  const world = new World().attach({ credit: wide });
  world.chance = [1, 1, 1, 1];
  const results = many(world, 4);
  const later = many(world, 2);
  answers(world, { stored: [1, 2], refused: [3, 4], mark: 2, after: 400, credit: { appends: 2, bytes: 2, after: 400 } });
  world.clear();
  world.pass(300);
  assert.deepEqual(seqs(world), [], 'answers are still due');
  answers(world, { refused: [5, 6], mark: 2, after: 100 });
  world.pass(99);
  assert.deepEqual(seqs(world), []);
  world.pass(1);
  assert.deepEqual(seqs(world), [3, 4], 'as much as was set aside');
  assert.deepEqual(world.last('append').items.map(({ prev }) => prev), [2, 3]);
  answers(world, { stored: [3, 4], mark: 4, credit: wide });
  assert.deepEqual(seqs(world), [3, 4, 5, 6]);
  assert.equal((await outcome(results[0]!)).offset, 1);
  assert.equal(await outcome(later[1]!), 'unanswered');
});

test('a round that is not answered in time: what the mark covers is not sent again', () => {
  const world = new World().attach();
  many(world, 2);
  many(world, 2);
  answers(world, { refused: [2], mark: 1 });
  world.clear();
  world.pass(20_000);
  assert.deepEqual(seqs(world), [2, 3, 4], 'the answer to 1 is on its way');
});

test('a new socket: what is told there counts', () => {
  const world = new World().attach({ credit: { ...wide, appends: 2 } });
  many(world, 4);
  world.core.cut(world.now);
  world.settle();
  world.again({ credit: { ...wide, appends: 3 }, writers: [{ writer: WRITER, mark: 1 }] });
  assert.deepEqual(seqs(world), [2, 3, 4]);
  world.core.cut(world.now);
  world.settle();
  many(world, 3);
  world.again({ writers: [{ writer: WRITER, mark: 1 }] });
  assert.deepEqual(seqs(world), [2, 3, 4, 5, 6, 7], 'a server that tells none takes all');
});
