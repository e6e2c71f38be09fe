/** What is kept of a log's views: all that was shown, and only what is whole. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { file } from '../../src/log/file.js';
import {
  connect, memory, type LogClient, type LogClientOptions, type OpenStore, type Store,
} from '../../src/log/index.js';
import { Server, token } from '../server.js';
import { when } from '../when.js';
import { todos } from './todos.js';

const server = new Server();
before(() => server.start());
after(() => server.remove());

const open = (context: TestContext, name: string, options: LogClientOptions = {}): LogClient => {
  const client = connect(server.url, { token: token(name), store: memory, ...options });
  context.after(() => client.close());
  return client;
};
const device = (context: TestContext): OpenStore => {
  const folder = mkdtempSync(join(tmpdir(), 'highwater-kept-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return file(folder);
};

test('what was shown is kept as soon as the connection is lost', async (context) => {
  let store: Store | undefined;
  const opens: OpenStore = (name, options) => (store = memory(name, options));
  const other = open(context, 'cut-other').open(todos, { list: 'cut' });
  const client = open(context, 'cut', { store: opens });
  const list = client.open(todos, { list: 'cut' });
  await when(list.status, ({ phase }) => phase === 'live');
  await other.do.add({ id: 'a', text: 'a' }).accepted;
  await when(list.view.count, (count) => count === 1);
  client.disconnect();
  await when(list.status, ({ phase }) => phase === 'offline');
  // It is read behind all writes that were asked for.
  const [[, row] = []] = await store!.read('c/lists/cut/todos');
  assert.equal(row?.next, 1);
});

test('a window on a log is not kept as its state', async (context) => {
  const store = device(context);
  const other = open(context, 'window-other').open(todos, { list: 'window' });
  for (const id of ['a', 'b']) other.do.add({ id, text: id });
  await other.do.add({ id: 'c', text: 'c' }).accepted;
  const client = open(context, 'window', { store });
  const last = client.open(todos, { list: 'window' }, { start: { last: 1 } });
  await when(last.status, ({ phase }) => phase === 'live');
  assert.equal(last.view.count.value, 1);
  last.release();
  await client.close();
  const whole = open(context, 'window', { store }).open(todos, { list: 'window' });
  await when(whole.status, ({ phase }) => phase === 'live');
  assert.equal(whole.view.count.value, 3);
});
