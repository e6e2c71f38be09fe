/** States of views as a device keeps them, and what a reducer may not do to them. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KeyMap } from '../../src/log/key-map.js';
import { kept, revived } from '../../src/log/kept.js';
import type { Reduced } from '../../src/log/define.js';

const again = (initial: unknown, state: unknown): unknown => {
  const view: Reduced<unknown> = { kind: 'view', initial, reducers: {}, version: 1 };
  return revived(view, structuredClone(kept(1, state)));
};

test('a map within a state, and maps within maps, are maps again', () => {
  const state = {
    name: 'home', none: null, list: [1, KeyMap.of([['x', 2]])],
    maps: { of: KeyMap.of([['a', { deep: KeyMap.of([['b', 'c']]) }]]) },
  };
  const { list, maps, ...plain } = again(state, state) as typeof state;
  assert.deepEqual(plain, { name: 'home', none: null });
  assert.equal((list[1] as KeyMap<number>).get('x'), 2);
  const deep = maps.of.set('z', { deep: KeyMap.of() }).get('a')!;
  assert.equal(deep.deep.get('b'), 'c');
  const root = again(KeyMap.of(), KeyMap.of([['a', KeyMap.of([['b', 1]])]]));
  assert.equal((root as KeyMap<KeyMap<number>>).get('a')!.get('b'), 1);
});

test('a state without a map in it is kept as it is', () => {
  const state = { a: [1, { b: new Date(0) }], map: new Map([['k', { v: 1 }]]) };
  assert.equal(kept(2, state).state, state);
  const { state: map, ...more } = kept(2, KeyMap.of([['a', state]]));
  assert.deepEqual([map, more], [new Map([['a', state]]), { version: 2 }]);
  assert.deepEqual(again({}, state), state);
});

test('a value in a map is not changed in place', () => {
  const map = KeyMap.of([['a', { done: false, parts: [1] }]]);
  assert.throws(() => (map.get('a')!.done = true), TypeError);
  assert.throws(() => map.get('a')!.parts.push(2), TypeError);
});
