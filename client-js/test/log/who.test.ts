/** Whose log it is, where a function gives the token: who is remembered, and what is none. */

import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { connect, log, lww, memory } from '../../src/log/index.js';
import { token } from '../server.js';

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
