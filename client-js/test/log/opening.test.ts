/** What goes wrong before a log is open: it is said, ends no process, and nothing is just gone. */

import assert from 'node:assert/strict';
import { mock, test, type TestContext } from 'node:test';
import {
  connect, log, lww, memory, type LogClientOptions, type OpenStore, type Store,
} from '../../src/log/index.js';
import { token } from '../server.js';
import { when } from '../when.js';

const board = log('boards/:board').views(() => ({ title: lww<string>('title') }));
const NOWHERE = 'http://127.0.0.1:9';

const open = (context: TestContext, options: LogClientOptions) => {
  const client = connect(NOWHERE, { token: token('ana'), autoConnect: false, ...options });
  context.after(() => client.close());
  return client;
};

const broken = (): never => {
  throw new Error('no disk here');
};
const rejected = (async () => broken()) as unknown as OpenStore;

for (const [how, store] of [['throws', broken as OpenStore], ['rejects', rejected]] as const) {
  test(`a store that ${how} as it opens is memory, and said to be lost`, async (context) => {
    const client = open(context, { store });
    const { view, pending } = client.open(board, { board: 'a' });
    const did = view.title.set('x');
    assert.equal(await did.saved, 'memory');
    assert.equal(view.title.value, 'x');
    assert.equal(pending.value, 1);
    const { store: { kind, state, error } } = await when(
      client.work, ({ store }) => store.state === 'lost',
    );
    assert.deepEqual([kind, state, error?.message], ['memory', 'lost', 'no disk here']);
    client.connect();
    await client.close();
  });
}

test('one that is closed before its store could be opened ends', async () => {
  for (const store of [broken as OpenStore, rejected, memory]) {
    const client = connect(NOWHERE, { token: token('ana'), store });
    const did = client.open(board, { board: 'a' }).view.title.set('x');
    client.connect();
    await client.close();
    assert.equal(await did.saved, 'memory');
  }
});

test('a token function that fails at first keeps what is done', async (context) => {
  const ways = [broken, async () => broken(), async () => Promise.reject(undefined)];
  for (const give of ways as (() => Promise<string>)[]) {
    let asked = 0;
    const client = open(context, {
      token: () => (asked++ ? Promise.resolve(token('ana')) : give()), store: memory,
    });
    assert.equal(await client.open(board, { board: 'a' }).view.title.set('x').saved, 'memory');
    client.connect();
    await when(client.status, ({ phase }) => phase === 'needs-auth');
  }
});

test('a token function without an answer is waited for a while, and no longer', async (context) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
  const opened: string[] = [];
  const store: OpenStore = (name, options): Store => {
    opened.push(name);
    return memory(name, options);
  };
  const client = connect(NOWHERE, {
    token: () => new Promise<string>(() => {}), store, autoConnect: false,
  });
  const did = client.open(board, { board: 'a' }).view.title.set('x');
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(opened, []);
  const over = client.close();
  mock.timers.tick(15_000);
  await over;
  assert.equal(opened.length, 1);
  assert.equal(await did.saved, 'memory');
});

test('a page without room to remember its user by keeps what is done', async (context) => {
  const localStorage = { getItem: () => null, setItem: broken, removeItem: () => {} };
  const given = { window: new EventTarget(), document: new EventTarget(), localStorage };
  for (const [name, value] of Object.entries(given)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    context.after(() => {
      if (before) Object.defineProperty(globalThis, name, before);
      else Reflect.deleteProperty(globalThis, name);
    });
  }
  const give = async (): Promise<string> => token('ana');
  const client = connect(NOWHERE, { token: give, store: memory, autoConnect: false });
  assert.equal(await client.open(board, { board: 'a' }).view.title.set('x').saved, 'memory');
  await client.close();
});
