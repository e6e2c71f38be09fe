/**
 * Several pages of one device: what one has logged another shows, and sends when it is dead, or
 * when it does not send what others stand on.
 */

import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { LogClient } from '../../src/log/client.js';
import { Rows } from '../../src/log/memory.js';
import { Keeper, Lost, type Disk } from '../../src/log/keeper.js';
import { memory, type OpenStore } from '../../src/log/index.js';
import { holdHere, tabs, type Hold } from '../../src/log/tabs.js';
import { Server, token } from '../server.js';
import { when } from '../when.js';
import { todos } from './todos.js';

const server = new Server('[limits]\ncommit_interval_ms = 50\n');
before(() => server.start());
after(() => server.remove());

type Begin = (context: TestContext, name: string, online?: boolean, more?: More) => Page;

/**
 * What a page does late: it takes its locks so many ms after it asked; it never writes; what it
 * keeps stands in memory of its own. `reads` is told what it reads.
 */
interface More {
  readonly late?: number;
  readonly dumb?: boolean;
  readonly alone?: boolean;
  readonly reads?: (prefix: string) => void;
}

/** Else it waits for ever. */
const SOON = { timeout: 30_000 };

/** As a browser's locks: a request takes its time until it stands in the line. */
const delayed = (hold: Hold, lock: string, late: number): ReturnType<Hold> => {
  const one = new Promise<ReturnType<Hold>>((asked) => {
    setTimeout(() => asked(hold(lock)), late);
  });
  return {
    had: one.then(({ had }) => had),
    release: () => void one.then(({ release }) => release()),
  };
};

/** A device: rows that outlive its pages, and locks that end with them. */
const device = (): { store: OpenStore; page: Begin } => {
  const rows = new Rows();
  const hold = holdHere();
  const store: OpenStore = (_name, options) => new Keeper('disk', options, () => rows, Rows);
  return {
    store,
    page: (context, name, online = true, { late, dumb, alone, reads } = {}) => {
      const held = new Set<() => void>();
      const mine: Hold = (lock) => {
        const one = late ? delayed(hold, lock, late) : hold(lock);
        held.add(one.release);
        return one;
      };
      const mute: OpenStore = (...given) =>
        Object.assign(store(...given), { write: () => new Promise(() => {}) });
      const told: OpenStore = (...given) => {
        const made = store(...given);
        const read = made.read.bind(made);
        return Object.assign(made, { read: (prefix: string) => (reads?.(prefix), read(prefix)) });
      };
      const around = { open: dumb ? mute : alone ? memory : told, lock: mine, tabs };
      const client = new LogClient(
        server.url, { token: token(name), autoConnect: online }, around,
      );
      if (!dumb) context.after(() => client.close());
      return { client, die: () => {
        client.plain.close({ leave: false });
        for (const release of held) release();
      } };
    },
  };
};


interface Page {
  readonly client: LogClient;
  /** Its page is gone at once: nothing more is written, its locks are free. */
  readonly die: () => void;
}

test('another page shows what one has pending, and sends it when that is dead', async (context) => {
  const { page } = device();
  const one = page(context, 'ana', false);
  const two = page(context, 'ana', false);
  const first = one.client.open(todos, { list: 'a' });
  const second = two.client.open(todos, { list: 'a' });
  await first.do.add({ id: 'x', text: 'x' }).saved;
  await when(second.view.count, (count) => count === 1);
  assert.equal(second.pending.value, 1);
  one.die();
  two.client.connect();
  await when(second.pending, (count) => count === 0);
  assert.equal(second.view.count.value, 1);
  await when(two.client.work, ({ waiting }) => waiting === 0);
  assert.equal((await server.payloads('lists/a/todos')).length, 1);
});

test('a page whose lock comes late is taken for dead by nobody', SOON, async (context) => {
  const { page } = device();
  const one = page(context, 'eve', false, { late: 20 });
  const two = page(context, 'eve', false);
  const first = one.client.open(todos, { list: 'e' });
  const second = two.client.open(todos, { list: 'e' });
  const added = first.do.add({ id: 'x', text: 'x' });
  await added.saved;
  await when(second.view.count, (count) => count === 1);
  assert.equal(two.client.work.value.waiting, 1);
  one.client.connect();
  two.client.connect();
  await added.accepted;
  await when(second.pending, (count) => count === 0);
  await when(two.client.work, ({ waiting }) => waiting === 0);
  assert.equal((await server.payloads('lists/e/todos')).length, 1);
});

test('what a page never saved goes with it, also where it is shown', SOON, async (context) => {
  const { page } = device();
  const one = page(context, 'fay', false, { dumb: true });
  const two = page(context, 'fay', false);
  const first = one.client.open(todos, { list: 'f' });
  const second = two.client.open(todos, { list: 'f' });
  first.do.add({ id: 'x', text: 'x' });
  await when(second.view.count, (count) => count === 1);
  one.die();
  await when(second.pending, (count) => count === 0);
  assert.equal(two.client.work.value.waiting, 0);
});

test('what stands on the work of another page goes out after it', async (context) => {
  const { page } = device();
  const one = page(context, 'bob', false);
  const two = page(context, 'bob', true);
  const first = one.client.open(todos, { list: 'b' });
  const second = two.client.open(todos, { list: 'b' });
  const made = first.do.add({ id: 'x', text: 'made by a page that is frozen' });
  await made.saved;
  await when(second.view.count, (count) => count === 1);
  // It is made on top of the other page's, which lives and does not send.
  await second.do.toggle({ id: 'x' }).accepted;
  const payloads = (await server.payloads('lists/b/todos')).map((text) => JSON.parse(text));
  assert.deepEqual(payloads, [{ id: 'x', text: 'made by a page that is frozen' }, { id: 'x' }]);
  await when(second.pending, (count) => count === 0);
  assert.equal(second.view.byId.value!.get('x')!.done, true);
  // Thawed, it has its outcome, and nothing is stored twice.
  one.client.connect();
  await when(first.pending, (count) => count === 0);
  await when(first.view.byId, (map) => map?.get('x')?.done === true);
  assert.equal((await server.payloads('lists/b/todos')).length, 2);
  assert.equal((await made.accepted).offset, 0);
});

test('what stands in no store is left to the page that has it', SOON, async (context) => {
  const { page } = device();
  const one = page(context, 'hal', false, { alone: true });
  let looks = 0;
  let twice = (): void => {};
  const looked = new Promise<void>((done) => (twice = done));
  const two = page(context, 'hal', true, {
    reads: (prefix) => prefix.startsWith('a/') && prefix.length > 2 && ++looks === 3 && twice(),
  });
  const first = one.client.open(todos, { list: 'h' });
  const second = two.client.open(todos, { list: 'h' });
  await when(two.client.status, ({ phase }) => phase === 'live');
  const made = first.do.add({ id: 'x', text: 'in the memory of a page that lives' });
  assert.equal(await made.saved, 'memory');
  await when(second.view.count, (count) => count === 1);
  const on = second.do.toggle({ id: 'x' });
  // It looked for what that page has, to send it, and found none: again and again.
  await looked;
  assert.deepEqual([first.pending.value, second.pending.value], [2, 2]);
  one.client.connect();
  await Promise.all([made.accepted, on.accepted]);
  const payloads = (await server.payloads('lists/h/todos')).map((text) => JSON.parse(text).text);
  assert.deepEqual(payloads, ['in the memory of a page that lives', undefined]);
});

test('outcomes of another page hold up nothing here', SOON, async (context) => {
  const { page } = device();
  const one = page(context, 'gus');
  const two = page(context, 'gus');
  const first = one.client.open(todos, { list: 'g' });
  const second = two.client.open(todos, { list: 'g' });
  await first.do.add({ id: 'x', text: 'x' }).accepted;
  await second.do.add({ id: 'y', text: 'y' }).accepted;
  await when(one.client.work, ({ waiting }) => waiting === 0);
  await when(first.view.count, (count) => count === 2);
  await first.do.add({ id: 'z', text: 'z' }).accepted;
});

test('what was stored after the disk was lost is not refused later', SOON, async (context) => {
  const rows = new Rows();
  const hold = holdHere();
  const held = new Set<() => void>();
  let lost = false;
  const good = (): void => {
    if (lost) throw new Lost(new Error('the disk is gone'));
  };
  const disk: Disk = {
    read: (prefix) => (good(), rows.read(prefix)),
    write: (changes) => (good(), rows.write(changes)),
    wipe: () => rows.wipe(),
    close: () => {},
  };
  const open: OpenStore = (_name, options) =>
    new Keeper('disk', options, () => (good(), disk), Rows);
  const lock: Hold = (name) => {
    const one = hold(name);
    held.add(one.release);
    return one;
  };
  const given = { token: token('ivy'), autoConnect: false };
  const one = new LogClient(server.url, given, { open, lock });
  const list = one.open(todos, { list: 'i' });
  const did = ['1', '2', '3'].map((id) => list.do.add({ id, text: id }));
  assert.equal(await did[2]!.saved, 'disk');
  lost = true;
  one.connect();
  await Promise.all(did.map(({ accepted }) => accepted));
  await when(one.work, ({ store }) => store.state === 'lost');
  const more = list.do.add({ id: '4', text: '4' });
  assert.equal(await more.saved, 'memory');
  await more.accepted;
  await when(one.work, ({ waiting }) => waiting === 0);
  // What comes behind is known to have been read by the server.
  await list.do.add({ id: '5', text: '5' }).accepted;
  one.plain.close({ leave: false });
  for (const release of held) release();
  lost = false;
  const two = new LogClient(server.url, given, { open, lock: hold });
  context.after(() => two.close());
  const again = two.open(todos, { list: 'i' });
  await when(two.work, ({ waiting }) => waiting === 3);
  two.connect();
  await when(two.work, ({ waiting }) => waiting === 0);
  assert.deepEqual(two.refused.value.map(({ reason }) => reason.code), []);
  await when(again.view.count, (count) => count === 5);
  assert.equal((await server.payloads('lists/i/todos')).length, 5);
});
