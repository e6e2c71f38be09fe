/**
 * Promise 15 at the client's end: after a server was restored from a backup, what people typed
 * survives it: what the server has lost stands among the refused ones, and nothing else does.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { file } from '../../src/log/file.js';
import {
  connect, type Change, type Kind, type OpenStore, type Row, type Store,
} from '../../src/log/index.js';
import { Server, token } from '../server.js';
import { when } from '../when.js';
import { todos } from './todos.js';

const server = new Server('[limits]\ncommit_interval_ms = 50\n');
before(() => server.start());
after(() => server.remove());

const device = (context: TestContext): OpenStore => {
  const folder = mkdtempSync(join(tmpdir(), 'highwater-device-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return file(folder);
};

const texts = (map: Iterable<[string, { text: string }]> | undefined): string[] =>
  [...map ?? []].map(([, { text }]) => text).sort();

test('what a restored server has lost is offered again, what it has is not', async (context) => {
  const store = device(context);
  const first = connect(server.url, { token: token('ana'), store });
  const list = first.open(todos, { list: 'home' });
  await list.do.add({ id: 'a', text: 'before' }).accepted;
  await first.close();
  const copy = await server.backup();
  // A page of its own, so that another writer has what is lost, and this one has nothing.
  const second = connect(server.url, { token: token('ana'), store });
  const more = second.open(todos, { list: 'home' });
  await more.do.add({ id: 'b', text: 'after' }).accepted;
  await when(more.pending, (count) => count === 0);
  await second.close();
  await server.restore(copy);
  const third = connect(server.url, { token: token('ana'), store });
  context.after(() => third.close());
  const now = third.open(todos, { list: 'home' });
  const [lost] = await when(third.refused, ({ length }) => length > 0);
  assert.equal(third.refused.value.length, 1);
  assert.equal(lost!.reason.code, 'restored');
  assert.deepEqual(lost!.after, { id: 'b', text: 'after' });
  await when(now.view.byId, (map) => texts(map).join() === 'before');
  lost!.retry();
  await when(now.view.byId, (map) => texts(map).join() === 'after,before');
  await when(now.pending, (count) => count === 0);
  assert.deepEqual(third.refused.value, []);
});

/** That device, with reads and writes that the test sees first. */
const watched = (
  open: OpenStore,
  { reads, wrote }: {
    readonly reads?: (prefix: string) => Promise<void>;
    readonly wrote?: (changes: readonly Change[]) => void;
  },
): OpenStore => (name, options) => {
  const under = open(name, options);
  const read = async (prefix: string): Promise<Row[]> => {
    await reads?.(prefix);
    return under.read(prefix);
  };
  const write = async (changes: readonly Change[]): Promise<Kind> => {
    const kind = await under.write(changes);
    wrote?.(changes);
    return kind;
  };
  return Object.create(under, { read: { value: read }, write: { value: write } }) as Store;
};

test('what is lost of a writer is known before it goes on', async (context) => {
  const store = device(context);
  await server.append('lists/late/todos', JSON.stringify({ id: 'before' }));
  const copy = await server.backup();
  const first = connect(server.url, { token: token('may'), store });
  const list = first.open(todos, { list: 'late' });
  await list.do.add({ id: 'lost', text: 'lost' }).accepted;
  await when(list.pending, (count) => count === 0);
  first.disconnect();
  await list.do.add({ id: 'left', text: 'left' }).saved;
  await first.close();
  await server.restore(copy);
  // One that meets the other history, and dies before it takes up what others have left.
  const never = async (prefix: string): Promise<void> => {
    if (/^[aw]\/./.test(prefix)) await new Promise(() => {});
  };
  const slow = watched(store, { reads: never });
  const short = connect(server.url, { token: token('may'), store: slow });
  await when(short.status, ({ phase }) => phase === 'live');
  await short.close();
  // The next one reads late what had been stored.
  let free = (): void => {};
  const freed = new Promise<void>((resolve) => (free = resolve));
  let judged = (): void => {};
  const over = new Promise<void>((resolve) => (judged = resolve));
  let asked = 0;
  const last = connect(server.url, {
    token: token('may'),
    store: watched(store, {
      reads: async (prefix) => {
        if (prefix === 'd/' && !asked++) await freed;
      },
      wrote: (changes) => changes.some(([key]) => /^d.*\/0+1$/.test(key)) && judged(),
    }),
  });
  context.after(() => last.close());
  await when(last.work, ({ waiting }) => waiting === 1);
  await Promise.race([
    when(last.work, ({ waiting }) => waiting === 0), when(last.refused, ({ length }) => length > 0),
  ]);
  free();
  await over;
  assert.deepEqual(last.refused.value.map(({ after }) => (after as { id: string }).id), ['lost']);
  await when(last.work, ({ waiting }) => waiting === 0);
  const payloads = await server.payloads('lists/late/todos');
  assert.deepEqual(
    payloads.map((text) => (JSON.parse(text) as { id: string }).id), ['before', 'left'],
  );
});

test('what is pending goes on in the other history, once', async (context) => {
  const store = device(context);
  const client = connect(server.url, { token: token('bob'), store });
  context.after(() => client.close());
  const list = client.open(todos, { list: 'work' });
  await list.do.add({ id: 'a', text: 'a' }).accepted;
  const copy = await server.backup();
  await list.do.add({ id: 'b', text: 'lost' }).accepted;
  await when(list.pending, (count) => count === 0);
  await server.kill();
  const did = list.do.add({ id: 'c', text: 'pending' });
  await did.saved;
  await server.start();
  await server.restore(copy);
  await did.accepted;
  await when(client.refused, ({ length }) => length === 1);
  assert.deepEqual(client.refused.value[0]!.after, { id: 'b', text: 'lost' });
  await when(list.view.byId, (map) => texts(map).join() === 'a,pending');
  const payloads = await server.payloads('lists/work/todos');
  assert.deepEqual(payloads.map((text) => (JSON.parse(text) as { id: string }).id), ['a', 'c']);
});

test('what was pending in a log that was made anew is refused, never merged', async (context) => {
  const store = device(context);
  const client = connect(server.url, { token: token('eve'), store });
  context.after(() => client.close());
  const list = client.open(todos, { list: 'gone' });
  await list.do.add({ id: 'a', text: 'a' }).accepted;
  await when(list.pending, (count) => count === 0);
  client.disconnect();
  await when(client.status, ({ phase }) => phase === 'offline');
  const did = list.do.add({ id: 'b', text: 'of the former' });
  await did.saved;
  await server.ask('DELETE', '/v1/logs/lists/gone/todos');
  await server.append('lists/gone/todos', 'other');
  client.connect();
  await assert.rejects(did.accepted, { code: 'epoch' });
  await when(client.refused, ({ length }) => length === 1);
  await when(list.view.count, (count) => count === 0);
  assert.deepEqual(await server.payloads('lists/gone/todos'), ['other']);
});

test('what is done in a log that was deleted makes no other log', async (context) => {
  const client = connect(server.url, { token: token('lea'), store: device(context) });
  context.after(() => client.close());
  const list = client.open(todos, { list: 'over' });
  await list.do.add({ id: 'a', text: 'a' }).accepted;
  await when(list.pending, (count) => count === 0);
  await server.ask('DELETE', '/v1/logs/lists/over/todos');
  await when(list.status, ({ phase }) => phase === 'closed');
  await server.append('lists/over/todos', 'of the other');
  await assert.rejects(list.do.add({ id: 'b', text: 'of the former' }).accepted, { code: 'epoch' });
  assert.deepEqual(await server.payloads('lists/over/todos'), ['of the other']);
  const [one] = await when(client.refused, ({ length }) => length === 1);
  assert.equal(list.view.byId.value!.has('b'), false);
  // Its user may say that it belongs there all the same.
  one!.retry();
  await when(client.work, ({ waiting, refused }) => !waiting && !refused);
  assert.equal((await server.payloads('lists/over/todos')).length, 2);
});
