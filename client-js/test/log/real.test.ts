/**
 * The log on the device against the real server: what is done shows at once, is kept, is sent when
 * it can be, once, and what the server refuses is rolled back and not gone.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { file } from '../../src/log/file.js';
import { connect, memory, type LogClient, type LogClientOptions } from '../../src/log/index.js';
import { Server, token } from '../server.js';
import { when } from '../when.js';
import { board, todos } from './todos.js';

const server = new Server(`
[[rules]]
pattern = "boards/**"
snapshot = "latest"

[limits]
commit_interval_ms = 50
`);
before(() => server.start());
after(() => server.remove());

let users = 0;
const user = (): string => `doer-${++users}`;

const open = (context: TestContext, name: string, options: LogClientOptions = {}): LogClient => {
  const client = connect(server.url, { token: token(name), store: memory, ...options });
  context.after(() => client.close());
  return client;
};

/** A folder for a client's log, as a store of a device that outlives its pages. */
const device = (context: TestContext): ReturnType<typeof file> => {
  const folder = mkdtempSync(join(tmpdir(), 'highwater-device-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return file(folder);
};

test('what is done shows at once, is saved, then accepted, and others see it', async (context) => {
  const name = user();
  const one = open(context, name).open(todos, { list: name });
  const did = one.do.add({ id: 'a', text: 'milk' });
  assert.deepEqual([...one.view.byId.value!], [['a', { id: 'a', text: 'milk', done: false }]]);
  assert.equal(await did.saved, 'memory');
  const { offset } = await did.accepted;
  assert.equal(offset, 0);
  await when(one.pending, (count) => count === 0);
  const two = open(context, name).open(todos, { list: name });
  await when(two.status, ({ phase }) => phase === 'live');
  assert.equal(two.view.count.value, 1);
  two.do.toggle({ id: 'a' });
  await when(one.view.byId, (map) => !!map?.get('a')?.done);
});

test('a board: one value, and one for each id, under `latest`', async (context) => {
  const name = user();
  const one = open(context, name).open(board, { board: name });
  one.view.title.set('Plan');
  await one.view.cards.set('x', { text: 'first' }).accepted;
  const two = open(context, name).open(board, { board: name });
  await when(two.view.title, (title) => title === 'Plan');
  assert.deepEqual(two.view.cards.get('x').value, { text: 'first' });
  await two.view.cards.delete('x').accepted;
  await when(one.view.cards.get('x'), (card) => card === undefined);
  assert.equal(one.view.cards.value!.size, 0);
});

test('a page that ends offline leaves its work to the next, once', async (context) => {
  const name = user();
  const store = device(context);
  const first = connect(server.url, { token: token(name), store, autoConnect: false });
  const before = first.open(todos, { list: name });
  const kept = ['a', 'b', 'c'].map((id) => before.do.add({ id, text: id }).saved);
  assert.deepEqual(await Promise.all(kept), ['disk', 'disk', 'disk']);
  await first.close();
  const next = open(context, name, { store, autoConnect: false });
  const list = next.open(todos, { list: name });
  await when(list.view.count, (count) => count === 3);
  assert.deepEqual(next.work.value.waiting, 3);
  next.connect();
  await when(list.pending, (count) => count === 0);
  await when(next.work, ({ waiting }) => waiting === 0);
  const third = open(context, name).open(todos, { list: name });
  await when(third.status, ({ phase }) => phase === 'live');
  assert.equal(third.view.count.value, 3);
});

test('a kept view is shown without a server, and goes on from there', async (context) => {
  const name = user();
  const store = device(context);
  const first = connect(server.url, { token: token(name), store });
  const list = first.open(todos, { list: name });
  await list.do.add({ id: 'a', text: 'a' }).accepted;
  await when(list.pending, (count) => count === 0);
  await first.close();
  const away = connect(server.url, { token: token(name), store, autoConnect: false });
  const shown = away.open(todos, { list: name });
  await when(shown.view.count, (count) => count === 1);
  assert.equal(shown.pending.value, 0);
  shown.do.add({ id: 'b', text: 'b' });
  assert.equal(shown.view.count.value, 2);
  const other = open(context, name).open(todos, { list: name });
  await other.do.add({ id: 'c', text: 'c' }).accepted;
  away.connect();
  await when(shown.view.count, (count) => count === 3);
  await when(shown.pending, (count) => count === 0);
  await away.close();
});

test('what the server refuses is rolled back, and is not gone', async (context) => {
  const name = user();
  const store = device(context);
  const grants = [{ logs: 'lists/**', can: ['read' as const] }];
  const client = connect(server.url, { token: token(name, grants), store });
  const list = client.open(todos, { list: name });
  const did = list.do.add({ id: 'a', text: 'mine' });
  assert.equal(list.view.count.value, 1);
  await assert.rejects(did.accepted, { code: 'denied' });
  assert.equal(list.view.count.value ?? 0, 0);
  const [refused] = client.refused.value;
  assert.equal(refused!.action, 'add');
  assert.deepEqual(refused!.after, { id: 'a', text: 'mine' });
  await client.close();
  // The next page load, with a right to append, tries it again.
  const next = open(context, name, { store });
  const again = next.open(todos, { list: name });
  const [kept] = await when(next.refused, (list) => list.length > 0);
  kept!.retry();
  await when(again.view.count, (count) => count === 1);
  await when(again.pending, (count) => count === 0);
  assert.equal(next.refused.value.length, 0);
});

test('undo and redo, and what another wrote since stays', async (context) => {
  const name = user();
  const one = open(context, name).open(board, { board: name });
  const two = open(context, name).open(board, { board: name });
  one.view.title.set('First');
  one.view.title.set('Second');
  assert.ok(one.undo());
  assert.equal(one.view.title.value, 'First');
  assert.ok(one.redo());
  assert.equal(one.view.title.value, 'Second');
  await when(two.view.title, (title) => title === 'Second');
  await two.view.title.set('Other').accepted;
  await when(one.view.title, (title) => title === 'Other');
  assert.equal(one.undo(), false);
  assert.equal(one.view.title.value, 'Other');
});

test('bad calls throw before anything is shown', async (context) => {
  const name = user();
  const client = open(context, name, { autoConnect: false });
  const list = client.open(todos, { list: name });
  assert.throws(() => list.do.add({ id: 1 } as never), { code: 'bad_payload' });
  assert.throws(() => list.do.now(), { code: 'offline' });
  assert.throws(() => client.open(todos, { list: 'a/b' }), { code: 'bad_name' });
  assert.throws(() => client.open(todos, {} as never), { code: 'bad_name' });
  assert.equal(list.pending.value, 0);
});

test('what was lost of many page loads is known over one socket', async (context) => {
  const store = device(context);
  const copy = await server.backup();
  const many = 40;
  for (let n = 0; n < many; n++) {
    const client = connect(server.url, { token: token('joe'), store });
    await client.open(todos, { list: 'many' }).do.add({ id: `${n}`, text: `${n}` }).accepted;
    await client.close();
  }
  await server.restore(copy);
  const client = connect(server.url, { token: token('joe'), store });
  context.after(() => client.close());
  const phases: string[] = [];
  client.status.subscribe(({ phase }) => phases.push(phase));
  await when(client.refused, ({ length }) => length === many);
  assert.deepEqual(phases, ['connecting', 'live']);
  assert.ok(client.refused.value.every(({ reason: { code } }) => code === 'restored'));
});
