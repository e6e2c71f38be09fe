/**
 * To whom an action was delivered, by the real server: true, asked for while somebody looks, and
 * told to those alone who may know.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect, memory } from '../../src/log/index.js';
import { Server, token, type Can } from '../server.js';
import { when } from '../when.js';
import { todos } from './todos.js';

const server = new Server('[limits]\ncommit_interval_ms = 50\n');
before(() => server.start());
after(() => server.remove());

const grants = (...more: string[]) =>
  [{ logs: '**', can: ['read', 'append', ...more] as Can[] }];

test('an action says who has it, without whoever did it, and where it is', async (context) => {
  const given = { store: memory };
  const ana = connect(server.url, { ...given, token: token('ana', grants('delivered')) });
  const bob = connect(server.url, { ...given, token: token('bob', grants()), autoConnect: false });
  context.after(() => Promise.all([ana.close(), bob.close()]));
  const list = ana.open(todos, { list: 'a' });
  const did = list.do.add({ id: 'x', text: 'x' });
  assert.equal(did.state.value, 'unsaved');
  await when(did.state, (state) => state === 'server');
  assert.deepEqual(did.deliveredTo.value, []);
  bob.open(todos, { list: 'a' });
  const told = when(did.deliveredTo, (users) => users.length > 0);
  bob.connect();
  assert.deepEqual(await told, ['bob']);
});

test('without the right nobody is told, and nobody is asked again', async (context) => {
  const ana = connect(server.url, { store: memory, token: token('eve', grants()) });
  context.after(() => ana.close());
  const list = ana.open(todos, { list: 'b' });
  const did = list.do.add({ id: 'x', text: 'x' });
  await did.accepted;
  let asked = 0;
  const { core } = ana.plain;
  const say = core.say.bind(core);
  core.say = ((name, body) => {
    if (name === 'who') asked++;
    say(name, body);
  }) as typeof core.say;
  const off = did.deliveredTo.subscribe(() => {});
  // The refusal comes before the answer to what is done after it.
  await list.do.add({ id: 'y', text: 'y' }).accepted;
  assert.equal(asked, 1);
  assert.deepEqual(did.deliveredTo.value, []);
  off();
});
