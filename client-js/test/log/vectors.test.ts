/** The vectors of docs/actions.md: what this client writes, and that it reads the same again. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { keyed, lww } from '../../src/log/define.js';
import { recordOf, stepOf, valueRecord } from '../../src/log/records.js';
import { doneKey, keyOf, packKey, refusedKey } from '../../src/log/rows.js';
import type { Draft } from '../../src/frames.js';

interface Vector {
  readonly name: string;
  readonly do: {
    readonly action?: string; readonly version?: number; readonly key?: string;
    readonly payload?: unknown;
    readonly lww?: string; readonly keyed?: string; readonly id?: string; readonly value?: unknown;
  };
  readonly record: Draft;
}
type Row =
  | { readonly row: 'action'; readonly writer: string; readonly seq: number; readonly key: string }
  | { readonly row: 'pack'; readonly writer: string; readonly first: number; readonly last: number;
      readonly key: string }
  | { readonly row: 'stored'; readonly log: string; readonly id: number; readonly offset: number;
      readonly writer: string; readonly seq: number; readonly key: string }
  | { readonly row: 'refused'; readonly at: number; readonly writer: string; readonly seq: number;
      readonly key: string };

const vectors = JSON.parse(readFileSync('../tests/vectors/actions.json', 'utf8')) as {
  records: Vector[]; rows: Row[];
};

for (const { name, do: did, record } of vectors.records) {
  test(`a record: ${name}`, () => {
    const { action, version = 1, key, payload, id, value } = did;
    const entry = { ...record, tombstone: record.payload === undefined } as any;
    if (action !== undefined) {
      const of = { version, ...(key !== undefined && { key: () => key }) };
      assert.deepEqual(recordOf(action, of, payload), record);
      const step = stepOf(entry, { [action]: of }, {});
      const wanted = { name: action, id: undefined, gone: false, payload: payload ?? null };
      assert.deepEqual(step, wanted);
      return;
    }
    const view = did.lww !== undefined ? lww(did.lww) : keyed(did.keyed!);
    assert.deepEqual(valueRecord(view, id, value), record);
    const step = stepOf(entry, {}, { view });
    const gone = !('value' in did);
    assert.deepEqual(step, { name: view.name, id, gone, payload: gone ? null : value });
  });
}

for (const row of vectors.rows) {
  test(`the key of a row: ${row.row}`, () => {
    const made = row.row === 'action' ? keyOf(row.writer, row.seq)
      : row.row === 'pack' ? packKey(`a/${row.writer}/`, row.first, row.last)
      : row.row === 'stored' ? doneKey(row.log, row.id, row.offset, row.writer, row.seq)
      : refusedKey(row.at, row.writer, row.seq);
    assert.equal(made, row.key);
  });
}
