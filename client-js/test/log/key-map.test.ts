/** A `KeyMap` against a `Map`, also where hashes collide; what was, stays. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KeyMap } from '../../src/log/key-map.js';
import { property } from './random.js';

/** Their hashes are all the same. */
const COLLIDING = ['7yzx', 'e6ad'].flatMap((one) =>
  ['33zx', 'epad'].flatMap((two) => ['33zx', 'epad'].map((three) => one + two + three)));
const KEYS = [...COLLIDING, ...'abcdefghijklmnopqrstuvwxyz', ...Array.from({ length: 70 }, (_, at) => `key ${at}`), ''];

type Step = readonly [what: 'set' | 'delete' | 'update' | 'own' | 'share', key: number, value: number];

const steps = fc.array(
  fc.tuple(
    fc.constantFrom<Step[0]>('set', 'set', 'set', 'delete', 'delete', 'update', 'own', 'share'),
    fc.oneof(fc.nat(COLLIDING.length - 1), fc.nat(KEYS.length - 1)),
    fc.nat(5),
  ),
  { maxLength: 150, size: 'max' },
);

const same = (map: KeyMap<number>, model: ReadonlyMap<string, number>): void => {
  assert.equal(map.size, model.size);
  assert.deepEqual([...map].sort(), [...model].sort());
  for (const key of KEYS) {
    assert.equal(map.get(key), model.get(key));
    assert.equal(map.has(key), model.has(key));
  }
};

const change = (map: KeyMap<number>, model: Map<string, number>, [what, at, value]: Step): KeyMap<number> => {
  const key = KEYS[at]!;
  if (what === 'set') {
    model.set(key, value);
    return map.set(key, value);
  }
  if (what === 'delete') {
    model.delete(key);
    return map.delete(key);
  }
  if (what === 'own') return map.owned({});
  if (what === 'share') return map.owned(undefined);
  const old = model.get(key);
  if (value) model.set(key, (old ?? 0) + value);
  else model.delete(key);
  return map.update(key, (now) => {
    assert.equal(now, old);
    return value ? (now ?? 0) + value : undefined;
  });
};

test('it says what a Map says, and what was, stays', () =>
  property(steps, (list) => {
    const model = new Map<string, number>();
    let map = KeyMap.of<number>();
    let owned = false;
    const before: [KeyMap<number>, Map<string, number>][] = [];
    for (const step of list) {
      map = change(map, model, step);
      if (step[0] === 'own') owned = true;
      if (step[0] === 'share') owned = false;
      // In the middle of a fold its own nodes may change.
      if (!owned) before.push([map, new Map(model)]);
    }
    same(map, model);
    for (const one of before) same(...one);
    same(KeyMap.of(map), model);
    assert.deepEqual(map.toJSON(), Object.fromEntries(model));
  }, 150));

test('what says nothing new is the same map', () => {
  const map = KeyMap.of([['a', 1]]);
  assert.equal(map.set('a', 1), map);
  assert.equal(map.delete('b'), map);
  assert.equal(map.update('a', (value) => value), map);
  assert.equal(map.owned(undefined), map);
});
