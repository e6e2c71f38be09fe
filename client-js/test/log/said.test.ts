/** What an app's developer is told: which log, view and action it is about, when, and once. */

import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Entry } from '../../src/delivery.js';
import { LogClient } from '../../src/log/client.js';
import { Folded } from '../../src/log/fold.js';
import { action, connect, log, lww, memory, type OpenOptions } from '../../src/log/index.js';
import { Keeper } from '../../src/log/keeper.js';
import { Rows } from '../../src/log/memory.js';
import { holdHere } from '../../src/log/tabs.js';
import { token } from '../server.js';
import { when } from '../when.js';
import { board, todos } from './todos.js';

const NOWHERE = 'http://127.0.0.1:9';
const offline = { token: token('ana'), store: memory, autoConnect: false };

const open = (context: TestContext, given = {}) => {
  const client = connect(NOWHERE, { ...offline, ...given });
  context.after(() => client.close());
  return client;
};

/** What is reported in there: each in a microtask of its own. */
const reports = (work: () => void): Error[] => {
  const told: Error[] = [];
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = (one) => {
    try {
      one();
    } catch (error) {
      told.push(error as Error);
    }
  };
  try {
    work();
  } finally {
    globalThis.queueMicrotask = queueMicrotask;
  }
  return told;
};

const words = { speak: action<string>(), shout: action<string>() };
const record = (offset: number, kind = 'speak'): Entry => ({
  kind, payload: '"x"', offset, seq: offset + 1, time: 1, tombstone: false,
  origin: { user: 'ben', writer: 'w', connection: '' },
}) as Entry;

for (const mode of ['development', 'production']) {
  for (const [what, answer] of [['undefined', undefined], ['a promise', Promise.resolve(1)]]) {
    test(`a reducer that answers ${what} is told of once, in ${mode}`, (context) => {
      const before = process.env['NODE_ENV'];
      context.after(() => (process.env['NODE_ENV'] = before ?? ''));
      process.env['NODE_ENV'] = mode;
      const { shape } = log('rooms/:room', { actions: words }).views((view) => ({
        count: view(0, { speak: () => answer as unknown as number, shout: (count) => count + 1 }),
      }));
      const folded = new Folded(words, shape, 'rooms/a');
      const told = reports(() => {
        folded.begin(0);
        folded.add({ id: 'me/1', record: { kind: 'speak', payload: '"x"' }, at: 1 });
        assert.deepEqual(folded.values, [0]);
        folded.records([record(0), record(1), record(2, 'shout')]);
        folded.show(7, undefined);
        assert.deepEqual(folded.values, [1]);
      });
      const text = 'rooms/a: view count, action speak is left out: ' +
        `a reducer is to answer a state, not ${what}`;
      assert.deepEqual(told.map(({ message }) => message), [text]);
      assert.ok(told[0]!.cause instanceof TypeError);
      assert.deepEqual(folded.missing, [{ from: 0, to: 2 }]);
    });
  }
}

test('a record that cannot be read says of which log and action it is', () => {
  const folded = new Folded(words, log('rooms/:room', { actions: words }).shape, 'rooms/a');
  const told = reports(() => {
    folded.begin(0);
    folded.records([{ ...record(0), headers: [['v', '2']] }]);
  });
  const text = 'rooms/a: action speak is left out: version 2 is newer than this app';
  assert.deepEqual(told.map(({ message }) => message), [text]);
});

test('what throws where it is called names the log and the action', async (context) => {
  const client = open(context, { maxPending: 2 });
  const list = client.open(todos, { list: 'home' });
  const { title } = client.open(board, { board: 'b' }).view;
  const named = (work: () => unknown, code: string, message: RegExp): void =>
    assert.throws(work, { code, message });
  const at = 'lists/home/todos: ';
  named(() => list.do.add({ id: 1 } as never), 'bad_payload', RegExp(`^${at}add: id and text: `));
  named(() => title.set(1n as never), 'bad_payload', /^boards\/b: title: .*BigInt/);
  named(() => list.do.now(), 'offline', RegExp(`^${at}now: it does not wait for a server`));
  named(() => client.open(todos, {} as never), 'bad_name', /^lists\/:list\/todos: list: /);
  list.do.add({ id: 'a', text: 'a' });
  const { accepted } = list.do.add({ id: 'b', text: 'b' });
  named(() => list.do.remove({ id: 'a' }), 'queue_full', RegExp(`^${at}2 actions wait already`));
  await client.close();
  await assert.rejects(accepted, { code: 'closed', message: RegExp(`^${at}add: the app closed`) });
});

test('a definition that is wrong says which', () => {
  const wrong = (work: () => unknown, message: string): void =>
    assert.throws(work, { code: 'bad_request', message });
  const actions = { speak: action<string>({ version: 0 }) };
  wrong(() => log('rooms/:room', { actions }), 'rooms/:room: version of speak: a number from 1');
  wrong(
    () => log('rooms/:room', { actions: words })
      .views((view) => ({ count: view(0, {}, { version: 1.5 }) })),
    'rooms/:room: count: version of view: a number from 1',
  );
  wrong(
    () => log('rooms/:room', { actions: words }).views(() => ({ said: lww('speak') })),
    "rooms/:room: lww('speak'): an action has that name",
  );
});

test('an option that is none is said as the log is opened', (context) => {
  const client = open(context);
  const wrong: [OpenOptions, string][] = [
    [{ priority: 256 }, 'priority: 0 to 255'],
    [{ priority: -1 }, 'priority: 0 to 255'],
    [{ priority: 0.5 }, 'priority: 0 to 255'],
    [{ start: { offset: 3 } as never }, 'start: { last: how many }'],
    [{ start: 'earliest' as never }, 'start: { last: how many }'],
    [{ start: { last: -1 } }, 'start: { last: how many }'],
    [{ onReset: 'drop' as never }, "onReset: 'rebase' or 'discard'"],
  ];
  for (const [options, message] of wrong) {
    const opens = (): unknown => client.open(todos, { list: 'home' }, options);
    assert.throws(opens, { code: 'bad_request', message: `lists/home/todos: ${message}` });
  }
  client.open(todos, { list: 'home' }, { priority: 255, start: { last: 5 }, onReset: 'discard' });
});

test('what a full disk refused counts as unsaved until there is room', async (context) => {
  const rows = new Rows();
  const write = rows.write.bind(rows);
  let full = true;
  rows.write = (changes) => {
    if (full) throw new DOMException('no room', 'QuotaExceededError');
    write(changes);
  };
  const client = new LogClient(NOWHERE, { token: token('ana'), autoConnect: false }, {
    open: (_name, options) => new Keeper('disk', options, () => rows, Rows), lock: holdHere(),
  });
  context.after(() => client.close());
  const { saved } = client.open(todos, { list: 'home' }).do.add({ id: 'a', text: 'typed' });
  const text = 'lists/home/todos: add: the device did not take it: no room';
  await assert.rejects(saved, { code: 'not_saved', message: text });
  const { unsaved, waiting, refused } = await when(client.work, ({ refused }) => refused > 0);
  assert.deepEqual({ unsaved, waiting, refused }, { unsaved: 1, waiting: 0, refused: 1 });
  assert.deepEqual(client.refused.value.map(({ saved }) => saved), [false]);
  full = false;
  await when(client.work, ({ unsaved }) => unsaved === 0);
  assert.deepEqual(client.refused.value.map(({ saved, after }) => [saved, after]), [
    [true, { id: 'a', text: 'typed' }],
  ]);
  assert.ok([...rows.all.keys()].some((key) => key.startsWith('r/')));
});
