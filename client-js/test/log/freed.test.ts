/** What may go out goes out: also where nothing was left for a while. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect, memory } from '../../src/log/index.js';
import { Server, token } from '../server.js';
import { when } from '../when.js';
import { todos } from './todos.js';

const server = new Server();
before(() => server.start());
after(() => server.remove());

test('an action that expired is tried again, and what comes after it is sent', async (context) => {
  const { now } = Date;
  let later = 0;
  context.mock.method(Date, 'now', () => now() + later);
  const client = connect(server.url, { token: token('late'), store: memory });
  context.after(() => client.close());
  const mine = client.open(todos, { list: 'late' });
  await mine.do.add({ id: 'a', text: 'a' }).accepted;
  client.disconnect();
  await when(client.status, ({ phase }) => phase === 'offline');
  const did = mine.do.ping({ n: 1 });
  await did.saved;
  later = 5_000;
  client.connect();
  await assert.rejects(did.accepted, { code: 'expired' });
  client.refused.value[0]!.retry();
  await mine.do.add({ id: 'b', text: 'b' }).accepted;
  assert.deepEqual([client.work.value.waiting, client.refused.value.length], [0, 0]);
  const answer = await server.ask('GET', '/v1/logs/lists/late/todos?from=0');
  const stored = (await answer.text()).trim().split('\n').map((line) => JSON.parse(line).kind);
  assert.deepEqual(stored, ['add', 'ping', 'add']);
});

test('a page with nothing left goes on after another page was answered', async (context) => {
  const [one, two] = ['one', 'two'].map(() => {
    const client = connect(server.url, { token: token('pages'), store: memory });
    context.after(() => client.close());
    return { client, list: client.open(todos, { list: 'pages' }) };
  }) as [any, any];
  await two.list.do.add({ id: 'a', text: 'a' }).accepted;
  await one.list.do.add({ id: 'b', text: 'b' }).accepted;
  await when(two.list.view.count, (count) => count === 2);
  // It has heard that the other page's action was answered.
  await when(two.client.work, ({ waiting }: { waiting: number }) => waiting === 0);
  await two.list.do.add({ id: 'c', text: 'c' }).accepted;
});
