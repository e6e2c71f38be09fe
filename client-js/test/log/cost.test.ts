/**
 * What much of something costs, counted and not timed: many logs that are open, many refused at
 * once, many pending under keys. Each is to cost its own work, whatever else there is.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Folded, type Pending } from '../../src/log/fold.js';
import { Inbox } from '../../src/log/inbox.js';
import { connect, memory } from '../../src/log/index.js';
import { Keeper } from '../../src/log/keeper.js';
import type { Ledger } from '../../src/log/ledger.js';
import { Rows } from '../../src/log/memory.js';
import type { Logged, Told } from '../../src/log/run.js';
import type { Change, Store } from '../../src/log/store.js';
import { Undo } from '../../src/log/undo.js';
import { board, todos } from './todos.js';

const MANY = 1000;
const seqs = Array.from({ length: MANY }, (_, at) => at + 1);

test('what is done in a log is told to that log alone, however many are open', async (context) => {
  const client = connect('http://127.0.0.1:9', { user: 'ana', store: memory, autoConnect: false });
  context.after(() => client.close());
  const { ledger } = (client as unknown as { _room: { ledger: Ledger } })._room;
  const on = ledger.on.bind(ledger);
  let told = 0;
  const counted = (name: string, listener: (what: Told) => void) => on(name, (what) => {
    told++;
    listener(what);
  });
  Object.assign(ledger, { on: counted });
  const lists = seqs.map((seq) => client.open(todos, { list: `${seq}` }));
  const handle = client.open(todos, { list: '1' });
  await lists[0]!.do.add({ id: 'a', text: 'a' }).saved;
  assert.deepEqual(handle.view.byId.value?.get('a')?.text, 'a');
  // The log under its handles, and each of those two.
  assert.equal(told, 3);
});

test('what stands under a key is found without a walk over what is pending', () => {
  const folded = new Folded(board.actions, board.shape);
  let looked = 0;
  const pending = (seq: number): Pending => ({
    id: `w/${seq}`, at: seq,
    get record() {
      looked++;
      return { kind: 'card', key: `card/${seq}`, payload: `{"text":"${seq}"}` };
    },
  });
  for (const seq of seqs) folded.add(pending(seq));
  for (const seq of seqs) {
    assert.equal(folded.writerOf(`card/${seq}`), `w/${seq}`);
    folded.drop(`w/${seq}`);
    assert.equal(folded.under(1, `card/${seq}`), undefined);
  }
  assert.ok(looked < 10 * MANY, `${looked} looks at ${MANY}`);
});

test('of a key the newest counts, wherever another came between, or it says something else', () => {
  const folded = new Folded(board.actions, board.shape);
  const one = (seq: number, text: string, key = 'card/a') => ({
    id: `w/${seq}`, at: seq, record: { kind: 'card', key, payload: JSON.stringify({ text }) },
  });
  const behind = (at: number) => (other: Pending): boolean => other.at > at;
  const third = one(3, 'three');
  folded.add(third);
  const shown = (key = 'card/a'): unknown =>
    [folded.writerOf(key), (folded.under(1, key) as { text: string } | undefined)?.text];
  assert.deepEqual(shown(), ['w/3', 'three']);
  folded.add(one(1, 'one'), behind(1));
  folded.add(one(2, 'two'), behind(2));
  assert.deepEqual(shown(), ['w/3', 'three']);
  third.record = one(3, 'other', 'card/b').record;
  folded.replaced(third);
  assert.deepEqual([shown(), shown('card/b')], [['w/2', 'two'], ['w/3', 'other']]);
  folded.drop('w/2');
  assert.deepEqual(shown(), ['w/1', 'one']);
  folded.drop('w/1');
  assert.deepEqual(shown(), [undefined, undefined]);
});

test('what is refused of a large group is let go without a walk over the group', () => {
  const watched = new Map<string, number>();
  const undo = new Undo({
    act: () => assert.fail('nothing is taken back'), stands: () => true, changed: () => {},
    watch: (key, on) => watched.set(key, (watched.get(key) ?? 0) + (on ? 1 : -1)),
  });
  let looked = 0;
  undo.group(() => {
    for (const seq of seqs) undo.did({
      get key() {
        looked++;
        return `card/${seq >> 1}`;
      },
      id: `w/${seq}`, over: undefined, inverse: () => undefined, again: ['=card', {}],
    });
  });
  assert.equal(Math.min(...watched.values()), 1);
  for (const seq of seqs) undo.refused(`w/${seq}`);
  assert.ok(looked < 10 * MANY, `${looked} looks at ${MANY}`);
  assert.deepEqual([undo.can, [...new Set(watched.values())]], [false, [0]]);
});

const inbox = (store: Store, came: (id: string) => void) => new Inbox({
  store, again: () => {}, shown: () => undefined, changed: () => {}, look: () => {},
  came: ({ id }) => came(id),
  history: () => ({ history: 0, positions: [] }),
});

test('each that is refused is told once, and made for whoever looks', async () => {
  const told: string[] = [];
  let made = 0;
  const refused = inbox(memory('cost', { rows: () => [] }), (id) => told.push(id));
  for (const seq of seqs) {
    const record = {
      kind: 'add',
      get payload() {
        made++;
        return '"text"';
      },
    };
    const one = { run: { id: 'w' }, seq, log: 'lists/home', at: seq, record };
    refused.refused(one as unknown as Logged, { code: 'denied', message: 'no' });
    await Promise.resolve();
  }
  assert.deepEqual(told, seqs.map((seq) => `w/${seq}`));
  assert.deepEqual([refused.size, made], [MANY, 0]);
  assert.equal(refused.list.value.length, MANY);
  assert.equal(made, MANY);
});

test('what is done because of an answer is written with what waits, not behind it', async () => {
  const keys: string[][] = [];
  const disk = new Rows();
  const write = disk.write.bind(disk);
  const slow = Object.assign(disk, {
    write: async (changes: Change[]) => {
      keys.push(changes.map(([key]) => key));
      await new Promise(setImmediate);
      write(changes);
    },
  });
  const store = new Keeper('disk', { rows: () => [] }, () => slow, Rows);
  const first = store.write([['first', 1]]);
  while (!keys.length) await Promise.resolve();
  const waits = store.write([['waits', 1]]);
  // A promise to whoever did it, who does another thing: as the log makes them.
  const next = (async () => {
    for (let turn = 0; turn < 12; turn++) await first;
    await store.write([['next', 1]]);
  })();
  await Promise.all([waits, next]);
  assert.deepEqual(keys, [['first'], ['waits', 'next']]);
});

test('what was stored is read once, however much more is stored', async () => {
  const store = memory('cost', { rows: () => [] });
  let reads = 0;
  const read: Store['read'] = (prefix, ...more) => {
    if (prefix === 'd/') reads++;
    return store.read(prefix, ...more);
  };
  const kept = inbox(Object.assign(Object.create(store), { read }), () => {});
  const stored = { log: 1, place: { batch: 0, index: 0 }, level: 'disk' };
  const record = { kind: 'add', payload: 'x'.repeat(100_000) };
  for (let seq = 1; seq <= 200; seq++) {
    const one = { run: { id: 'w' }, seq, log: 'lists/home', at: Date.now(), record };
    const changes = kept.stored(one as unknown as Logged, { ...stored, offset: seq } as never);
    await store.write(changes);
    kept.kept(changes);
  }
  // Behind all that was asked for.
  const rows = await store.read('d/');
  assert.ok(rows.length < 70, `${rows.length} of 100 kB each`);
  assert.equal(reads, 1);
});

test('the refused ones are read once more, however often another page says so', async () => {
  const store = memory('cost', { rows: () => [] });
  let reads = 0;
  const read = (prefix: string) => {
    reads++;
    return store.read(prefix);
  };
  const rows = { log: 'lists/home', at: 1, to: { name: 'lists/home' }, record: { kind: 'add' } };
  const refused = inbox(Object.assign(Object.create(store), { read }), () => {});
  const first = refused.read();
  while (!reads) await Promise.resolve();
  const later = seqs.map(() => refused.read());
  await store.write([['r/1/w/1', { item: rows, code: 'denied', message: 'no' }]]);
  await first;
  // Whoever asked after the first had begun is answered by one that began after that.
  await Promise.all(later);
  assert.deepEqual([reads, refused.size], [2, 1]);
});
