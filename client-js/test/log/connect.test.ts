/** When a client with a log connects: by itself once its device was read, or as the app says. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, memory } from '../../src/log/index.js';
import { serve, store } from '../stub.js';
import { when } from '../when.js';

test('one that is disconnected before its device was read stays so', async (context) => {
  const { hook, seen } = store();
  const url = await serve(context, hook);
  const open = (user: string) => {
    const client = connect(url, { token: 'secret', user, store: memory });
    context.after(() => client.close());
    return client;
  };
  const first = open('first');
  first.disconnect();
  // It begins later, and is met: the first would have been before it.
  const second = open('second');
  await when(second.status, ({ phase }) => phase === 'live');
  assert.equal(seen.filter(({ name }) => name === 'hello').length, 1);
  assert.equal(first.status.value.phase, 'offline');
  first.connect();
  await when(first.status, ({ phase }) => phase === 'live');
});
