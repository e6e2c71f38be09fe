/** The inbox with much in it: what it costs, and how much of what was stored is kept. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Inbox } from '../../src/log/inbox.js';
import { memory } from '../../src/log/memory.js';
import type { Logged } from '../../src/log/run.js';
import type { Change } from '../../src/log/store.js';

const open = () => {
  const store = memory('inbox', { rows: () => [] });
  const inbox = new Inbox({
    store, again: () => {}, shown: () => undefined, came: () => {}, changed: () => {},
    look: () => {},
    history: () => ({ history: 0, positions: [] }),
  });
  return { store, inbox };
};

const one = (seq: number, text: string, at = Date.now()): Logged => ({
  run: { id: 'w' }, seq, id: `w/${seq}`, log: 'lists/home', to: { name: 'lists/home' }, at,
  record: { kind: 'add', payload: JSON.stringify(text) },
}) as unknown as Logged;

test('many that are refused in one turn are told once, and each is made once', async () => {
  const { inbox } = open();
  const told: number[] = [];
  inbox.list.subscribe((list) => told.push(list.length));
  for (let seq = 1; seq <= 500; seq++) {
    inbox.refused(one(seq, 'text'), { code: 'denied', message: 'no' });
  }
  assert.equal(inbox.list.value.length, 500);
  const [first] = inbox.list.value;
  await Promise.resolve();
  assert.deepEqual(told, [0, 500]);
  inbox.refused(one(501, 'text'), { code: 'denied', message: 'no' });
  assert.equal(inbox.list.value[0], first);
});

test('a page that stays open keeps no more than 5 MB of what was stored', async () => {
  const { store, inbox } = open();
  const stored = { log: 1, place: { batch: 0, index: 0 }, level: 'disk' };
  for (let seq = 1; seq <= 90; seq++) {
    const at = { ...stored, offset: seq } as never;
    const changes: Change[] = inbox.stored(one(seq, 'x'.repeat(100_000), seq + Date.now()), at);
    await store.write(changes);
    inbox.kept(changes);
  }
  // A read is answered after what was asked for before it: of a sweep that goes on, twice.
  for (let times = 0; times < 3; times++) await store.read('d/');
  const rows = await store.read('d/');
  assert.ok(rows.length <= 63, `${rows.length} of 100 kB each`);
  assert.equal(rows.at(-1)![1].seq, 90);
});

test('short ones count with all that is kept of them', async () => {
  const { store, inbox } = open();
  const stored = { log: 1, place: { batch: 0, index: 0 }, level: 'disk' };
  const changes = Array.from({ length: 30_000 }, (_, seq) =>
    inbox.stored(one(seq, 'x', Date.now() + seq), { ...stored, offset: seq } as never)).flat();
  await store.write(changes);
  await inbox.sweep(Date.now());
  const rows = await store.read('d/');
  const bytes = rows.reduce((sum, row) => sum + JSON.stringify(row).length, 0);
  assert.ok(bytes > 4 << 20 && bytes < 6 << 20, `${bytes} B of ${rows.length}`);
});
