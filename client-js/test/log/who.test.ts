/** Whose log it is, where a function gives the token: who is remembered, and what is none. */

import assert from 'node:assert/strict';
import { mock, test, type TestContext } from 'node:test';
import { LogClient } from '../../src/log/client.js';
import { connect, log, lww, memory, type OpenStore } from '../../src/log/index.js';
import { Keeper } from '../../src/log/keeper.js';
import { Rows } from '../../src/log/memory.js';
import type { Message } from '../../src/log/run.js';
import { holdHere, tabs } from '../../src/log/tabs.js';
import { token } from '../server.js';
import { when } from '../when.js';
import { todos } from './todos.js';

const board = log('boards/:board').views(() => ({ title: lww<string>('title') }));
const NOWHERE = 'http://127.0.0.1:9';

/** A page's storage, where Node has none. */
const storage = (context: TestContext): Map<string, string> => {
  const all = new Map<string, string>();
  const localStorage = {
    getItem: (key: string) => all.get(key) ?? null,
    setItem: (key: string, value: string) => void all.set(key, value),
    removeItem: (key: string) => void all.delete(key),
  };
  const given = { window: new EventTarget(), document: new EventTarget(), localStorage };
  for (const [name, value] of Object.entries(given)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    context.after(() => {
      if (before) Object.defineProperty(globalThis, name, before);
      else Reflect.deleteProperty(globalThis, name);
    });
  }
  return all;
};

test('who was here is remembered until the log is wiped', async (context) => {
  const all = storage(context);
  const client = connect(NOWHERE, { token: async () => token('ana'), store: memory, autoConnect: false });
  await client.open(board, { board: 'a' }).view.title.set('x').saved;
  assert.ok([...all.values()].includes('ana'));
  await client.logout('wipe');
  assert.ok(![...all].flat().some((text) => text.includes('ana')), [...all].join());
});

test('a function that answers no token ends nothing: what is done is kept', async () => {
  for (const none of [undefined, 5, null]) {
    const give = (): never => none as never;
    const client = connect(NOWHERE, { token: give, store: memory, autoConnect: false });
    assert.equal(await client.open(board, { board: 'a' }).view.title.set('x').saved, 'memory');
    await client.close();
  }
});

/** Stores of one device, by their names. */
const device = (): OpenStore => {
  const all = new Map<string, Rows>();
  return (name, options) => {
    const rows = all.get(name) ?? new Rows();
    all.set(name, rows);
    return new Keeper('disk', options, () => rows, Rows);
  };
};

test('after a logout that keeps it, who comes without a token sees nothing', async (context) => {
  storage(context);
  const store = device();
  const ana = connect(NOWHERE, { token: async () => token('ana'), store, autoConnect: false });
  await ana.open(board, { board: 'a' }).view.title.set('private').saved;
  await ana.logout('keep');
  const none = async (): Promise<string> => Promise.reject(new Error('401'));
  const next = connect(NOWHERE, { token: none, store, autoConnect: false });
  const title = next.open(board, { board: 'a' }).view.title;
  assert.equal(await title.set('mine').saved, 'disk');
  await next.close();
  // Ana finds what she kept, and nothing else.
  const again = connect(NOWHERE, { token: async () => token('ana'), store, autoConnect: false });
  const hers = again.open(board, { board: 'a' });
  await when(hers.pending, (count) => count === 1);
  assert.equal(hers.view.title.value, 'private');
  await again.close();
});

test('a log that never met its server is its user’s all the same', async (context) => {
  storage(context);
  const store = device();
  const ana = connect(NOWHERE, { token: async () => token('ana'), store, autoConnect: false });
  await ana.open(board, { board: 'a' }).view.title.set('of Ana').saved;
  await ana.close();
  // Somebody else sits there now, whose token was late.
  let asked = 0;
  const late = async (): Promise<string> => {
    if (!asked++) throw new Error('no network');
    return token('ben');
  };
  const ben = connect(NOWHERE, { token: late, store });
  context.after(() => ben.close());
  await when(ben.status, ({ reason }) => reason === 'other_user');
  assert.equal(ben.status.value.phase, 'needs-auth');
  // What he types is not hers, and is not sent as hers: it is refused before it is shown.
  const { view, pending } = ben.open(board, { board: 'a' });
  await when(view.title, (text) => text === 'of Ana');
  assert.throws(() => view.title.set('of Ben'), { code: 'other_user' });
  assert.deepEqual([view.title.value, pending.value], ['of Ana', 1]);
  assert.equal(ben.work.value.waiting, 1);
});

test('nor is what another user types where text gives way to text', async (context) => {
  storage(context);
  const client = connect(NOWHERE, {
    token: async () => token('ana'), store: device(), autoConnect: false,
  });
  context.after(() => client.close());
  const list = client.open(todos, { list: 'a' });
  await list.do.rename({ id: 'a', text: 'of Ana' }).saved;
  const { core } = client.plain;
  client.connect();
  await when(client.status, ({ phase }) => phase === 'offline');
  core.gotToken(performance.now(), token('ben'));
  core.wake();
  await when(client.status, ({ reason }) => reason === 'other_user');
  assert.throws(() => list.do.rename({ id: 'a', text: 'of Ben' }), { code: 'other_user' });
  assert.equal(list.pending.value, 1);
});

test('a token function that hangs holds up what is sent, and no more', async (context) => {
  const all = storage(context);
  const store = device();
  const ana = connect(NOWHERE, { token: async () => token('ana'), store, autoConnect: false });
  await ana.open(board, { board: 'a' }).view.title.set('of Ana').saved;
  await ana.close();
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
  const hangs = (): Promise<string> => new Promise(() => {});
  const next = connect(NOWHERE, { token: hangs, store, autoConnect: false });
  const { view } = next.open(board, { board: 'a' });
  const shown = when(view.title, (title) => title === 'of Ana');
  // Another user's token would be had by then.
  await new Promise(setImmediate);
  mock.timers.tick(500);
  await shown;
  assert.equal(await view.title.set('more').saved, 'disk');
  await next.close();
  // Nor does it hold up the end, where nothing waits to be kept for whom it names.
  for (const what of ['keep', 'wipe'] as const) {
    for (const known of [true, false]) {
      if (!known) all.clear();
      const client = connect(NOWHERE, { token: hangs, store, autoConnect: false });
      client.open(board, { board: 'a' });
      await client.logout(what);
      assert.equal(client.status.value.phase, 'closed');
    }
  }
});

test('who listens is told of the end', async () => {
  for (const end of ['close', 'logout'] as const) {
    const client = connect(NOWHERE, { token: token('ana'), store: memory, autoConnect: false });
    const told: string[] = [];
    client.status.subscribe(({ phase }) => told.push(phase));
    await (end === 'close' ? client.close() : client.logout('wipe'));
    assert.equal(told.at(-1), 'closed', end);
  }
});

test('what is done comes behind what waits, also where the clock was put back', async (context) => {
  const store = device();
  const { now } = Date;
  const one = connect(NOWHERE, { token: token('ana'), store, autoConnect: false });
  await one.open(board, { board: 'a' }).view.title.set('first').saved;
  await one.close();
  context.mock.method(Date, 'now', () => now() - 3_600_000);
  const two = connect(NOWHERE, { token: token('ana'), store, autoConnect: false });
  const { title } = two.open(board, { board: 'a' }).view;
  await when(title, (text) => text === 'first');
  await title.set('second').saved;
  assert.equal(title.value, 'second');
  await two.close();
});

test('a store that is none is said where it is given', () => {
  for (const store of ['/tmp/x', {}, memory('x', { rows: () => [] })]) {
    const given = { token: token('ana'), store: store as never, autoConnect: false };
    assert.throws(() => connect(NOWHERE, given), { code: 'bad_request', message: /^store: / });
  }
});

test('a tab that hears late of a wipe takes nothing of the next session', async (context) => {
  const rows = new Rows();
  const open: OpenStore = (_name, options) => new Keeper('disk', options, () => rows, Rows);
  const lock = holdHere();
  // What a frozen tab is told it hears when it thaws, one after the other.
  const late: (() => void)[] = [];
  let frozen = false;
  const cold = (name: string, heard: (message: Message) => void) =>
    tabs<Message>(name, (message) => {
      if (frozen) late.push(() => heard(message));
      else heard(message);
    });
  const page = (around = tabs as typeof cold): LogClient => {
    const given = { token: token('zoe'), autoConnect: false };
    const client = new LogClient(NOWHERE, given, { open, lock, tabs: around });
    context.after(() => client.close());
    return client;
  };
  const tab = page(cold);
  const shown = tab.open(board, { board: 'z' });
  const one = page();
  await one.open(board, { board: 'z' }).view.title.set('old').saved;
  await when(shown.pending, (count) => count === 1);
  frozen = true;
  await one.logout('wipe');
  const next = page();
  await next.open(board, { board: 'z' }).view.title.set('new').saved;
  const ours = (): string[] => [...rows.all.keys()].filter((key) => /^[aw]/.test(key));
  const before = ours();
  // The wipe, and what the next session said of its writer.
  while (late.length < 2) await new Promise(setImmediate);
  const ended = new Promise<void>((done) => {
    tab.status.subscribe(({ phase }) => phase === 'closed' && done());
  });
  for (const hear of late) hear();
  await ended;
  assert.deepEqual(ours(), before);
  assert.equal(before.length, 2);
});

test('what is said to other tabs after the end is heard by none, and throws nothing', async () => {
  const heard: number[] = [];
  const [one, two] = [tabs<number>('said', () => {}), tabs<number>('said', (n) => heard.push(n))];
  one.say(1);
  one.close();
  one.say(2);
  const last = tabs<number>('said', () => {});
  last.say(3);
  while (heard.at(-1) !== 3) await new Promise(setImmediate);
  assert.deepEqual(heard, [1, 3]);
  for (const each of [two, last]) each.close();
});

test('a page that the browser kept brings back nothing of what was wiped', async (context) => {
  storage(context);
  const rows = new Rows();
  const open: OpenStore = (_name, options) => new Keeper('disk', options, () => rows, Rows);
  const lock = holdHere();
  const given = { token: token('amy'), autoConnect: false };
  const page = (): LogClient => {
    // What is said to a page in the cache it never hears.
    const client = new LogClient(NOWHERE, given, { open, lock });
    context.after(() => client.close());
    return client;
  };
  const turn = (name: string): void => {
    window.dispatchEvent(Object.assign(new Event(name), { persisted: true }));
  };
  const one = page();
  const { title } = one.open(board, { board: 'b' }).view;
  await title.set('private').saved;
  turn('pagehide');
  // Shown again with nothing changed, it goes on.
  turn('pageshow');
  assert.equal(await title.set('more').saved, 'disk');
  assert.deepEqual([...rows.all.keys()].filter((key) => key.startsWith('k/')), []);
  turn('pagehide');
  await when(one.work, ({ unsaved }) => unsaved === 0);
  const two = page();
  await when(two.work, ({ waiting }) => waiting === 2);
  await two.logout('wipe');
  assert.deepEqual([...rows.all.keys()], []);
  turn('pageshow');
  assert.equal(await title.set('again').saved, 'memory');
  await when(one.status, ({ phase }) => phase === 'closed');
  assert.deepEqual([...rows.all.keys()], []);
});
