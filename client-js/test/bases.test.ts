/** A base that is cut goes on where it was, as long as what came of it is in memory. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { latest } from '../src/index.js';
import type { BaseHeld } from '../src/frames.js';
import { collect, delivered, OTHER, text, World } from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};
/** A log whose base is on its way. */
const begun = (rule: 'client' | 'latest') => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.announce('a', 7, { cursor: 5, head: 6, rule, reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: { rule, offset: 5, version: 1 }, cursor: 5, complete: 6 });
  return { world, log, resets: collect(log, 'reset') };
};
const keys = (world: World, last: boolean, ...names: string[]): void => {
  const records = names.map((name, index) => ({ offset: index, record: delivered(index + 1, text(name, name)) }));
  world.tell('baseRecords', { log: 7, offset: 5, last, complete: 6, origins: [OTHER], records });
};
const goesOn = (world: World, base: BaseHeld): void =>
  world.announce('a', 7, { cursor: 5, head: 6, base });

test('a base of a client: its parts are kept over a cut, and only the rest comes', () => {
  const { world, log, resets } = begun('client');
  const bases = collect(log, 'base');
  world.tell('base', { log: 7, offset: 5, part: 0, last: false, data: 'on' });
  world.tell('base', { log: 7, offset: 5, part: 1, last: false, data: 'e ' });
  for (const parts of [2, 3]) {
    lose(world);
    const hello = world.again();
    const held = { log: 7, offset: 5, upto: { parts } };
    assert.deepEqual([hello.open[0]!.have, hello.open[0]!.start], [undefined, 'state']);
    assert.deepEqual(hello.bases, [held]);
    goesOn(world, held);
    world.tell('base', { log: 7, offset: 5, part: parts, last: parts === 3, data: 'two'.slice(parts - 2, parts === 3 ? 3 : 1) });
  }
  assert.deepEqual([bases.map(({ data }) => Buffer.from(data!).toString()), resets.length], [['one two'], 0]);
  world.records(7, 5, [text('5')]);
  assert.equal(log.complete, true);
  lose(world);
  assert.deepEqual(world.again().bases, [], 'it is whole');
});

test('a base of the server: what was folded of it stays, by its last key', () => {
  const { world, log, resets } = begun('latest');
  const board = latest(log);
  world.settle();
  world.tell('reset', { log: 7, reason: 'asked', base: { rule: 'latest', offset: 5, version: 1 }, cursor: 5, complete: 6 });
  keys(world, false, 'a', 'b');
  keys(world, false);
  lose(world);
  const held = { log: 7, offset: 5, upto: { key: 'b' } };
  assert.deepEqual(world.again().bases, []);
  assert.equal(resets.length, 1, 'a view that came later had it begin anew');
  world.announce('a', 7, { cursor: 5, head: 6, rule: 'latest', reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: { rule: 'latest', offset: 5, version: 1 }, cursor: 5, complete: 6 });
  keys(world, false, 'a', 'b');
  lose(world);
  assert.deepEqual(world.again().bases, [held]);
  goesOn(world, held);
  keys(world, true, 'c');
  world.records(7, 5, [text('a2', 'a')]);
  assert.deepEqual([...board.value!].map(([key, { payload }]) => [key, payload]), [
    ['a', 'a2'], ['b', 'b'], ['c', 'c'],
  ]);
  assert.equal(log.complete, true);
});

test('subscribe and activate state it too; a reset drops it, and so do a seek and another history', () => {
  const { world, log } = begun('client');
  const part = (): void => world.tell('base', { log: 7, offset: 5, part: 0, last: false, data: 'x' });
  const held = [{ log: 7, offset: 5, upto: { parts: 1 } }];
  part();
  const state = { met: undefined, reason: undefined, activateAfter: 0, generation: 2, source: undefined };
  world.tell('state', { ...state, active: false, reason: 'slots' });
  world.pass(1000);
  assert.deepEqual(world.last('activate').bases, held);
  world.tell('state', { ...state, active: true, met: 'restored' });
  world.tell('refused', { request: 0, name: 'a', refusal: { code: 'overloaded', message: '', retryAfter: 0 } });
  world.pass(1001);
  assert.deepEqual(world.last('subscribe').bases, held);
  world.announce('a', 7, { cursor: 6, head: 6, rule: 'client', reset: true });
  world.tell('reset', { log: 7, reason: 'new', base: { rule: 'client', offset: 6, version: 1 }, cursor: 6, complete: 6 });
  lose(world);
  assert.deepEqual(world.again().bases, []);
  goesOn(world, held[0]!);
  lose(world);
  assert.equal(log.complete, false, 'what was not stated does not go on');

  const sought = begun('client');
  sought.world.tell('base', { log: 7, offset: 5, part: 0, last: false, data: 'x' });
  lose(sought.world);
  sought.log.seek('end');
  assert.deepEqual(sought.world.again().bases, []);

  const other = begun('client');
  other.world.tell('base', { log: 7, offset: 5, part: 0, last: false, data: 'x' });
  lose(other.world);
  other.world.again({ otherHistory: true });
  lose(other.world);
  assert.deepEqual(other.world.again().bases, []);
});

test('a base that goes on elsewhere than it was left is a jump', () => {
  const { world, log } = begun('client');
  world.tell('base', { log: 7, offset: 5, part: 0, last: false, data: 'x' });
  lose(world);
  world.again();
  goesOn(world, { log: 7, offset: 5, upto: { parts: 2 } });
  world.tell('base', { log: 7, offset: 5, part: 2, last: true, data: 'z' });
  assert.equal(world.is, 'offline lost');
  assert.equal(log.complete, false);
  assert.deepEqual(world.again().bases, [], 'and is not tried again');
});
