/**
 * The main job on real input: two writers, one log of Yjs updates, and all that goes wrong between.
 *
 * Both of them, and a second connection of one, end with the text that was written; each update is
 * in the log exactly once, in its writer's order, and the order of the log is causal.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as Y from 'yjs';
import { connect, type Entry } from '../src/index.js';
import { operator } from '../test/server.js';
import { bytesOf, USERS } from './author.js';
import { LOG, plan, Run } from './run.js';
import { generated, session, textOf, type Session } from './session.js';

const RECORDING = '../../shared/data/editing-traces/friendsforever.json.gz';
const SEEDS = process.env['SEED'] ? [Number(process.env['SEED'])] : [1, 2, 3];

/** All of the log, as one who comes by reads it from the earliest. */
const readAll = async (url: string, count: number): Promise<Entry[]> => {
  const client = connect(url, { token: operator(), cloning: 'none' });
  const log = client.log(LOG, { start: 'earliest' });
  const entries: Entry[] = [];
  await new Promise<void>((resolve, reject) => {
    log.on('records', ({ records }) => entries.push(...records));
    log.on('refused', reject);
    log.on('gap', (gap) => reject(new Error(JSON.stringify(gap))));
    log.on('records', () => log.cursor >= count && resolve());
  });
  client.close({ forget: true });
  return entries;
};

/** A record as HTTP writes it. */
interface Line {
  offset: number;
  seq: number;
  payload: { b64: string };
}

/** The same over HTTP, an object per line. */
const readByHttp = async (run: Run): Promise<Line[]> => {
  const answer = await run.server.ask('GET', `/v1/logs/${LOG}?from=0`);
  return (await answer.text()).trimEnd().split('\n').map((line) => JSON.parse(line) as Line);
};

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');

const check = async (run: Run): Promise<void> => {
  const { authors, sibling, session } = run;
  const count = session.scripts[0].length + session.scripts[1].length;
  const entries = await readAll(run.server.url, count);
  assert.equal(entries.length, count, 'as many records as transactions');
  const fresh = new Y.Doc();
  const next = [0, 0];
  const seqs = new Map<string, number>();
  for (const [index, entry] of entries.entries()) {
    const { offset, origin, seq } = entry;
    assert.equal(offset, index);
    const user = USERS.indexOf(origin.user as 'ada');
    const author = authors[user]!;
    const at = next[user]!++;
    const what = `update ${at} of ${origin.user} stands at ${offset}`;
    assert.deepEqual(bytesOf(entry), author.updates[at], what);
    assert.equal(author.offsets[at], offset, 'the answer named this offset');
    assert.ok(author.script[at]!.needs <= next[1 - user]!, 'it stands behind what it knew');
    assert.ok(seq > (seqs.get(origin.writer) ?? 0), 'a sequence of a writer comes once, rising');
    seqs.set(origin.writer, seq);
    Y.applyUpdate(fresh, bytesOf(entry));
  }
  const lines = await readByHttp(run);
  assert.deepEqual(
    lines.map(({ offset, seq, payload }) => [offset, seq, payload.b64]),
    entries.map((entry) => [entry.offset, entry.seq, base64(bytesOf(entry))]),
    'HTTP reads the same',
  );
  assert.equal(textOf(fresh), session.end, 'a newcomer');
  for (const reader of [...authors, sibling]) assert.equal(reader.text, session.end);
};

const play = async (seed: number, given: Session): Promise<void> => {
  const count = given.scripts[0].length + given.scripts[1].length;
  const run = new Run(given, plan(seed, count));
  const began = performance.now();
  console.log(`${given.what}; seed ${seed}; again: SEED=${seed} npm run test:trace`);
  try {
    await run.play();
    await check(run);
    assert.deepEqual([run.kills, run.clones, run.cuts], [2, 5, 12], 'all faults came');
  } finally {
    await run.end();
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const { caught, plan: { encodings } } = run;
  const told = `${count} updates, ${encodings}, ${caught} caught in flight, ${seconds} s`;
  console.log(`seed ${seed}: ${told}`);
};

for (const seed of SEEDS) {
  test(`two writers, seed ${seed}`, () => play(seed, session(RECORDING, seed)));
}

test('a made session has the same shape, and runs through the same', async () => {
  const [seed] = SEEDS;
  await play(seed!, generated(seed!, 3000));
});
