/** What is kept of a log with several views, and what is shown when: no view costs another. */

import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { LogClient } from '../../src/log/client.js';
import { action, log, type OpenStore } from '../../src/log/index.js';
import { Keeper } from '../../src/log/keeper.js';
import { Rows } from '../../src/log/memory.js';
import { holdHere } from '../../src/log/tabs.js';
import { Server, token } from '../server.js';
import { when } from '../when.js';

const server = new Server();
before(() => server.start());
after(() => server.remove());

interface Word {
  readonly text: string;
}
/** What the reducers of `all` were called with. */
let folded: string[] = [];
const words = log('rooms/:room', { actions: { speak: action<Word>() } });
const all = (): readonly string[] => [];
const rooms = (version: number) => words.views((view) => ({
  all: view(all(), {
    speak: (list, { text }, { pending }) => {
      if (!pending) folded.push(text);
      return [...list, text];
    },
  }),
  count: view(0, { speak: (count) => count + version }, { version }),
  who: view('', { speak: (_, __, { user }) => user }),
}));

/** A device, and pages that have their log on it. */
const device = (name: string, rows = new Rows()) => {
  const lock = holdHere();
  const disk: OpenStore = (_, options) => new Keeper('disk', options, () => rows, Rows);
  const page = (context: TestContext, autoConnect = false, open = disk, given = {}): LogClient => {
    const options = { token: token(name), autoConnect, ...given };
    const client = new LogClient(server.url, options, { open, lock });
    context.after(() => client.close());
    return client;
  };
  return { rows, disk, page };
};

/** A device that knows what these say, in that room. */
const said = async (context: TestContext, room: string, ...texts: string[]) => {
  const made = device(room);
  const client = made.page(context, true);
  const opened = client.open(rooms(1), { room });
  for (const text of texts) opened.do.speak({ text });
  await when(opened.view.count, (count) => count === texts.length);
  await when(opened.pending, (count) => count === 0);
  await when(opened.status, ({ phase }) => phase === 'live');
  await client.close();
  folded = [];
  return made;
};

test('a changed version of one view has no other folded from the start', async (context) => {
  const { page } = await said(context, 'bump', 'a', 'b', 'c');
  const other = device('bump').page(context, true).open(rooms(1), { room: 'bump' });
  await other.do.speak({ text: 'd' }).accepted;
  await when(other.view.count, (count) => count === 4);
  folded = [];
  const client = page(context);
  const { view, status } = client.open(rooms(10), { room: 'bump' });
  // Without a server, too: what is kept of the others is shown.
  await when(view.all, (list) => list?.length === 3);
  assert.equal(view.count.value, undefined);
  client.connect();
  await when(status, ({ phase }) => phase === 'live');
  assert.deepEqual([view.all.value, view.count.value], [['a', 'b', 'c', 'd'], 40]);
  assert.deepEqual([...new Set(folded)], ['d']);
  await client.close();
  // What is kept now is of the new version: nothing is folded any more.
  folded = [];
  const next = page(context, true).open(rooms(10), { room: 'bump' });
  await when(next.status, ({ phase }) => phase === 'live');
  assert.deepEqual([next.view.count.value, folded], [40, []]);
});

test('of a log that was made anew nothing kept is gone on from', async (context) => {
  const { page } = await said(context, 'anew', 'a', 'b');
  assert.equal((await server.ask('DELETE', '/v1/logs/rooms/anew')).status, 200);
  const other = device('anew').page(context, true).open(rooms(1), { room: 'anew' });
  await other.do.speak({ text: 'z' }).accepted;
  const { view, status } = page(context, true).open(rooms(10), { room: 'anew' });
  await when(status, ({ phase }) => phase === 'live');
  assert.deepEqual([view.all.value, view.count.value], [['z'], 10]);
});

test('a view that the device cannot keep is named', async (context) => {
  const odd = words.views((view) => ({
    all: view(all(), { speak: (list, { text }) => [...list, text] }),
    odd: view({ call: (): void => {} }, {}),
  }));
  const rows = new Rows();
  const write = rows.write.bind(rows);
  // As a browser does with what it cannot clone.
  rows.write = (changes) => write([...changes].map(([key, value]) => [
    key, structuredClone(typeof value === 'function' ? value(rows.all.get(key)) : value),
  ]));
  const client = device('odd', rows).page(context, true);
  const { do: does, view } = client.open(odd, { room: 'odd' });
  const { queueMicrotask } = globalThis;
  context.after(() => (globalThis.queueMicrotask = queueMicrotask));
  const told = new Promise<Error>((tell) => {
    globalThis.queueMicrotask = (work) => queueMicrotask(() => {
      try {
        work();
      } catch (error) {
        tell(error as Error);
      }
    });
  });
  await does.speak({ text: 'a' }).accepted;
  await when(view.all, (list) => list?.length === 1);
  assert.match((await told).message, /^rooms\/odd: view odd is no plain data: [^]*not be cloned/);
  await client.close();
});

test('two definitions of one log keep what they have beside each other', async (context) => {
  const { page } = await said(context, 'two', 'a', 'b');
  const size = words.views((view) => ({
    size: view(0, { speak: (size, { text }) => size + text.length }),
  }));
  const client = page(context, true);
  await when(client.open(size, { room: 'two' }).view.size, (size) => size === 2);
  await client.close();
  const back = page(context);
  const [one, two] = [back.open(rooms(1), { room: 'two' }), back.open(size, { room: 'two' })];
  await when(one.view.all, (list) => list?.length === 2);
  await when(two.view.size, (size) => size === 2);
});

test('what is pending is not shown before what was kept', async (context) => {
  const { page, disk } = await said(context, 'late', 'a');
  const writing = page(context);
  await writing.open(rooms(1), { room: 'late' }).do.speak({ text: 'b' }).saved;
  await writing.close();
  let read = (): void => {};
  const slow: OpenStore = (name, options) => {
    const store = disk(name, options);
    const real = store.read.bind(store);
    const gate = new Promise<void>((open) => (read = open));
    store.read = async (prefix, from) => {
      if (prefix.startsWith('c/')) await gate;
      return real(prefix, from);
    };
    return store;
  };
  const client = page(context, false, slow);
  const first = client.open(rooms(1), { room: 'late' });
  const shown: unknown[] = [];
  first.view.all.subscribe((list) => shown.push(list));
  await when(client.work, ({ waiting }) => waiting === 1);
  // Also in a part of the app that opens it now.
  const second = client.open(rooms(1), { room: 'late' });
  second.view.all.subscribe((list) => shown.push(list));
  assert.deepEqual([first.view.all.value, second.view.count.value], [undefined, undefined]);
  read();
  await when(second.view.all, (list) => list !== undefined);
  assert.deepEqual(second.view.all.value, ['a', 'b']);
  assert.deepEqual(shown.filter((list) => (list as string[] | undefined)?.length === 1), []);
});

test('whose a pending action is says the last session, before the server', async (context) => {
  const { rows, page } = await said(context, 'who', 'a');
  assert.equal(rows.all.get('u'), 'who');
  // Neither an option nor a token says it: the device does.
  const token = async (): Promise<string> => Promise.reject(new Error('no network'));
  const { view, do: does } = page(context, false, undefined, { token })
    .open(rooms(1), { room: 'who' });
  does.speak({ text: 'b' });
  await when(view.who, (user) => user === 'who');
  await when(view.all, (list) => list?.length === 2);
  assert.equal(view.who.value, 'who');
  // Where an option does, it is known at once.
  const known = page(context, false, undefined, { user: 'ana', token })
    .open(rooms(1), { room: 'x' });
  known.do.speak({ text: 'c' });
  assert.equal(known.view.who.value, 'ana');
});
