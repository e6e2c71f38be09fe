/**
 * Undo and redo as an app uses them: step by step, in groups, over what was coalesced, by two
 * handles of one log, and where an inverse throws. No server is needed: all of it is pending.
 */

import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { action, connect, keyed, KeyMap, log, lww, memory } from '../../src/log/index.js';

const shop = log('shops/:shop', {
  actions: {
    move: action<{ id: string; x: number }>({
      coalesce: ({ id }) => id,
      inverse: ({ id }, { places }) => ['move', { id, x: places.get(id) ?? 0 }],
    }),
    more: action<{ by: number }>({
      coalesce: () => '', inverse: ({ by }) => ['more', { by: -by }],
    }),
    fails: action<{ now: () => void }>({ inverse: ({ now }) => void now() }),
    typo: action({ inverse: () => ['mvoe'] }),
  },
}).views((view) => ({
  places: view(KeyMap.of<number>(), { move: (map, { id, x }) => map.set(id, x) }),
  sum: view(0, { more: (sum, { by }) => sum + by }),
  title: lww<string>('title'),
  who: keyed<string>('who'),
}));

const open = (context: TestContext) => {
  const client = connect('http://127.0.0.1:9', { user: 'ana', store: memory, autoConnect: false });
  context.after(() => client.close());
  const handle = () => client.open(shop, { shop: 'corner' });
  return { client, handle, one: handle() };
};

test('values are taken back one after another, and done again', (context) => {
  const { one } = open(context);
  const { title } = one.view;
  for (const to of ['a', 'b', 'c']) title.set(to);
  const back = [one.undo(), title.value, one.undo(), title.value, one.undo(), title.value];
  assert.deepEqual(back, [true, 'b', true, 'a', true, null]);
  assert.equal(one.undo(), false);
  const again = [one.redo(), title.value, one.redo(), title.value, one.redo(), title.value];
  assert.deepEqual(again, [true, 'a', true, 'b', true, 'c']);
  assert.ok(one.undo() && one.undo());
  assert.equal(title.value, 'a');
});

test('what another has written between is not taken back with what lies on it', (context) => {
  const { one, handle } = open(context);
  const { title } = one.view;
  title.set('a');
  handle().view.title.set('other');
  title.set('b');
  assert.ok(one.undo());
  assert.equal(title.value, 'other');
  assert.equal(one.undo(), false);
  assert.equal(title.value, 'other');
});

test('a group that wrote a value twice takes back both', (context) => {
  const { client, one } = open(context);
  const { title } = one.view;
  title.set('before');
  client.batch(() => {
    title.set('a');
    title.set('b');
  });
  assert.ok(one.undo());
  assert.equal(title.value, 'before');
});

test('what was coalesced is taken back, and done again, as it was at last', (context) => {
  const { one } = open(context);
  const { sum, places } = one.view;
  one.do.more({ by: 1 });
  one.do.more({ by: 5 });
  assert.deepEqual([sum.value, one.undo(), sum.value], [5, true, 0]);
  assert.deepEqual([one.redo(), sum.value], [true, 5]);
  one.do.move({ id: 'a', x: 1 });
  one.do.move({ id: 'a', x: 2 });
  assert.ok(one.undo());
  assert.equal(places.value!.get('a'), 0);
  one.do.move({ id: 'a', x: 9 });
  assert.equal(one.canRedo.value, false);
  assert.ok(one.undo());
  assert.equal(places.value!.get('a'), 0);
});

test('two handles of one log do not forget for each other', (context) => {
  const { one, handle } = open(context);
  const two = handle();
  one.view.who.set('x', 'Ana');
  two.view.who.set('x', 'Ben');
  two.release();
  one.view.who.set('y', 'Ana');
  assert.ok(one.undo());
  assert.equal(one.undo(), false);
  assert.equal(one.view.who.value!.get('x'), 'Ben');
});

test('where an inverse throws, what was to be taken back can be still', (context) => {
  const { one } = open(context);
  one.do.more({ by: 3 });
  let fails = true;
  const now = (): void => {
    if (fails) throw new Error('not now');
  };
  one.do.fails({ now });
  assert.throws(() => one.undo(), /not now/);
  assert.ok(one.canUndo.value);
  fails = false;
  assert.equal(one.undo(), false);
  assert.ok(one.undo());
  assert.equal(one.view.sum.value, 0);
  one.do.typo();
  assert.throws(() => one.undo(), { code: 'bad_request' });
});
