/** What becomes of the promises of a client that is closed: each of them settles. */

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { connect, memory, type OpenStore, type Receipt } from '../../src/log/index.js';
import { token } from '../server.js';
import { todos } from './todos.js';

const NOWHERE = 'http://127.0.0.1:9';

const begin = (store: OpenStore = memory) => {
  const client = connect(NOWHERE, { token: token('ana'), store, autoConnect: false });
  return { client, home: client.open(todos, { list: 'home' }) };
};

const closed = async (did: Receipt): Promise<string> => {
  const error = await did.accepted.then(() => assert.fail('it was accepted'), (error) => error);
  assert.equal(error.code, 'closed');
  return error.message;
};

test('who closes is told that what waits stays on the device', async () => {
  const { client, home } = begin();
  const early = home.do.add({ id: 'a', text: 'a' });
  const asked = closed(early);
  await early.saved;
  const late = home.do.add({ id: 'b', text: 'b' });
  await client.close();
  assert.equal(await late.saved, 'memory');
  for (const message of [await asked, await closed(early), await closed(late)]) {
    assert.match(message, /stays on the device/);
  }
  assert.deepEqual([early.state.value, late.state.value], ['device', 'device']);
  assert.throws(() => client.open(todos, { list: 'home' }), { code: 'closed' });
});

test('of what was wiped nobody says that it stays', async () => {
  const { client, home } = begin();
  const did = home.do.add({ id: 'a', text: 'a' });
  await did.saved;
  await client.logout('wipe');
  assert.doesNotMatch(await closed(did), /stays/);
});

test('what the device refuses as its client closes was not saved', async (context) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  context.after(() => mock.timers.reset());
  let tries = 0;
  const full: OpenStore = (name, options) => {
    const under = memory(name, options);
    const write = async (): Promise<never> => {
      tries++;
      throw new Error('the disk is full');
    };
    return Object.create(under, { write: { value: write } }) as typeof under;
  };
  const { client, home } = begin(full);
  const did = home.do.add({ id: 'a', text: 'a' });
  const over = client.close();
  await assert.rejects(did.saved, { code: 'not_saved' });
  await assert.rejects(did.accepted, { code: 'not_saved' });
  await over;
  const before = tries;
  for (let turn = 0; turn < 5; turn++) {
    mock.timers.tick(1000);
    await new Promise((done) => setImmediate(done));
  }
  assert.equal(tries, before, 'one that is closed tries nothing more');
});
