/**
 * A back end that follows a log and writes what it gets into a file, a line for each record, until
 * it has the last one. `follow.child.mjs URL TOKEN CURSOR OUT LOG LAST`
 *
 * With CURSOR `-` the cursor is in the very line that is written: exactly once.
 */

import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { fileStorage, highwater, type Cursor } from '../../src/server.js';

const [url = '', token = '', keep = '', out = '', log = '', last = ''] = process.argv.slice(2);
const stop = new AbortController();
const own = {
  // A line is whole if its newline is there: what is behind the last one was never written.
  load: (): Cursor | undefined => {
    const lines = existsSync(out) ? readFileSync(out, 'utf8').split('\n').slice(0, -1) : [];
    return lines.length ? JSON.parse(lines.at(-1)!).cursor : undefined;
  },
};
await highwater({ url, token }).follow(log, {
  cursor: keep === '-' ? own : fileStorage<Cursor>(keep),
  most: 7,
  signal: stop.signal,
  onRecords: (records, { cursor }) => {
    const payloads = records.map(({ payload }) => payload);
    appendFileSync(out, `${JSON.stringify({ payloads, cursor })}\n`);
    console.log(`got ${cursor.offset}`);
    if (payloads.includes(last)) stop.abort();
  },
});
