/** Active and inactive: downgrades, hidden pages, a connection met without a slot. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OTHER, text, World } from './world.js';

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
