/** The demo: what the server embeds is what these sources make, and its notes lose no field. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { notesOf, recordsOf, written } from '../demo/notes.js';
import { files, FOLDER } from '../scripts/demo-files.mjs';
import type { Entry } from '../src/index.js';

test('the embedded demo is built from these sources', async () => {
  const built = await files();
  assert.deepEqual(Object.keys(built).sort(), ['app.js', 'highwater.js', 'icon.svg', 'index.html', 'style.css']);
  for (const [name, text] of Object.entries(built)) {
    const embedded = readFileSync(`${FOLDER}/${name}`, 'utf8');
    assert.ok(embedded === text, `${FOLDER}/${name} is stale: run "npm run build:demo"`);
  }
});

test('the demo stays small', async () => {
  const { 'highwater.js': client, ...demo } = await files();
  const sizes = Object.values(demo).map((text) => Buffer.byteLength(text));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  assert.ok(total <= 74_500, `${total} bytes`);
  assert.ok(Buffer.byteLength(client!) <= 52_000, 'the client alone, for a page without a build');
});

/** Records as a view has them; one without an offset waits. */
const entries = (...records: [key: string, payload: string, offset?: number][]) =>
  new Map(
    records.map(([key, payload, offset]) => {
      const entry = { key, payload, offset, pending: offset === undefined, tombstone: false };
      return [key, entry as unknown as Entry] as const;
    }),
  );

test('a note is made of its fields, and is there while its text is', () => {
  const all = recordsOf('a', { text: 'words', x: 30, y: 40, color: 2 });
  const [place, , text] = all;
  const kept = all.map(({ key, payload }, at): [string, string, number] =>
    [key!, payload as string, at]);
  const note = notesOf(entries(...kept)).get('a')!;
  const { x, y, color } = note;
  assert.deepEqual([x, y, color, note.text, note.pending], [30, 40, 2, 'words', false]);
  assert.deepEqual([...note.keys].sort(), all.map(({ key }) => key).sort());
  assert.deepEqual(recordsOf('a', { x: 1, y: 2 }).map(({ key }) => key), [place!.key]);
  assert.equal(notesOf(entries([place!.key!, '5,6', 9])).size, 0, 'a place alone is no note');
  assert.equal(notesOf(entries([text!.key!, '', 9])).size, 1, 'an empty text is one');
});

test('of an old whole note and a field the newer counts, and what waits is newest', () => {
  const old = JSON.stringify({ text: 'old', x: 10, y: 20, color: 1 });
  const one = (...records: [string, string, number?][]) => notesOf(entries(...records)).get('k')!;
  assert.deepEqual([one(['k', old, 3]).text, one(['k', old, 3]).x], ['old', 10]);
  const mixed = one(['k', old, 3], ['note/k/text', 'new', 4], ['note/k/at', '7,8', 2]);
  assert.deepEqual([mixed.text, mixed.x, mixed.y, mixed.entry.offset], ['new', 10, 20, 4]);
  const waits = one(['k', old, 3], ['note/k/at', '7,8']);
  assert.deepEqual([waits.x, waits.text, waits.pending], [7, 'old', true]);
});

test('payloads are data: bounded, whatever they hold', () => {
  const wild = notesOf(entries(
    ['note/a/text', 'x'.repeat(5000), 0], ['note/a/at', 'x,1e9', 1], ['note/a/color', '-4', 2],
    ['b', 'no JSON', 3], ['c', 'null', 4], ['note//text', 'by a key of no note', 5],
  ));
  const { text, x, y, color } = wild.get('a')!;
  assert.deepEqual([text.length, x, y, color], [1000, 0, 850, 0]);
  assert.equal(wild.get('b')!.text, '(not a note)');
  assert.equal(wild.get('c')!.text, '');
  assert.equal(wild.size, 4);
});

test('two notes on one spot lie below one another, the same way in each window', () => {
  const records: [string, string, number][] = [
    ['note/b/text', 'b', 0], ['note/b/at', '9,9', 1],
    ['note/a/text', 'a', 2], ['note/a/at', '9,9', 3],
  ];
  for (const some of [records, [...records].reverse()]) {
    const notes = notesOf(entries(...some));
    assert.deepEqual([notes.get('a')!.y, notes.get('b')!.y], [9, 171]);
  }
});

test('what waits is known by its text', () => {
  const entry = (key: string, payload?: string) => ({ key, payload }) as unknown as Entry;
  assert.deepEqual(written(entry('note/a/text', 'hello')), { id: 'a', text: 'hello' });
  for (const other of [entry('note/a/at', '1,2'), entry('note/a/text', ''), entry('note/a/text')]) {
    assert.equal(written(other), undefined);
  }
});
