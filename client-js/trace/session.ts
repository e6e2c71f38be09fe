/**
 * Sessions of two people who write one text at once: a recorded one, or one made from a seed.
 *
 * Promise: `scripts` are the transactions of each writer in its order; each names how many of the
 * other's it has to know, which is exactly its parents and all before them. `end` is the text that
 * must come out, known without Highwater.
 */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import * as Y from 'yjs';

/** A position, how many characters go, what comes. */
export type Patch = readonly [number, number, string];

export interface Transaction {
  /** How many transactions of the other writer are in the text that the patches refer to. */
  readonly needs: number;
  readonly patches: readonly Patch[];
}

export interface Session {
  readonly what: string;
  readonly scripts: readonly [Transaction[], Transaction[]];
  readonly end: string;
}

/** Random numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export const randomOf = (seed: number): (() => number) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
};

/**
 * Yjs settles a tie between two who type at one place by their ids: the first writer's is to be the
 * smaller, as in the recording. A reloaded page has another id (`run`), as Yjs wants it.
 */
export const docOf = (writer: number, run = 0): Y.Doc => {
  const doc = new Y.Doc();
  doc.clientID = 1 + writer * 1000 + run;
  return doc;
};

export const textOf = (doc: Y.Doc): string => doc.getText('text').toString();

/** Carries a transaction out, and gives the one update that it makes. */
export const edit = (doc: Y.Doc, { patches }: Transaction): Uint8Array => {
  let made: Uint8Array | undefined;
  doc.once('update', (update: Uint8Array) => (made = update));
  doc.transact(() => {
    const text = doc.getText('text');
    for (const [at, gone, come] of patches) {
      if (gone) text.delete(at, gone);
      if (come) text.insert(at, come);
    }
  });
  assert.ok(made, 'a transaction changes something');
  return made;
};

/** The end of a session by Yjs alone: two documents that exchange updates as the scripts say. */
export const replay = (scripts: Session['scripts']): string => {
  const docs = [docOf(0), docOf(1)] as const;
  const updates: [Uint8Array[], Uint8Array[]] = [[], []];
  const known = [0, 0];
  const all = docOf(9);
  const take = (writer: 0 | 1, upTo: number): void => {
    const theirs = updates[1 - writer]!;
    while (known[writer]! < upTo) Y.applyUpdate(docs[writer], theirs[known[writer]!++]!);
  };
  const ready = (writer: 0 | 1): boolean => {
    const next = scripts[writer][updates[writer].length];
    return next !== undefined && next.needs <= updates[1 - writer]!.length;
  };
  for (let writer: 0 | 1 = 0; ready(0) || ready(1); writer = writer ? 0 : 1) {
    while (ready(writer)) {
      const next = scripts[writer][updates[writer].length]!;
      take(writer, next.needs);
      const update = edit(docs[writer], next);
      updates[writer].push(update);
      Y.applyUpdate(all, update);
    }
  }
  for (const writer of [0, 1] as const) {
    assert.equal(updates[writer].length, scripts[writer].length, 'the scripts wait for each other');
    take(writer, scripts[1 - writer]!.length);
    assert.equal(textOf(docs[writer]), textOf(all), 'all documents have the same text');
  }
  return textOf(all);
};

interface Recording {
  readonly endContent: string;
  readonly txns: { parents: number[]; agent: 0 | 1; patches: Patch[] }[];
}

/** Both recorded and made sessions say a transaction's parents; this counts what they stand for. */
const scriptsOf = ({ txns }: Recording): Session['scripts'] => {
  const scripts: [Transaction[], Transaction[]] = [[], []];
  const known: (readonly [number, number])[] = [];
  for (const { parents, agent, patches } of txns) {
    const at = (writer: 0 | 1): number =>
      Math.max(0, ...parents.map((parent) => known[parent]![writer]));
    const own = scripts[agent];
    assert.equal(at(agent), own.length, 'a writer goes on from its own last transaction');
    own.push({ needs: at(agent ? 0 : 1), patches });
    known.push(agent ? [at(0), own.length] : [own.length, at(1)]);
    // Recordings count code points, Yjs UTF-16 units: the same as long as nothing takes two.
    for (const [, , come] of patches) assert.doesNotMatch(come, /[\ud800-\udfff]/);
  }
  return scripts;
};

/** The story that two friends wrote (josephg/editing-traces, CC BY 4.0), if it is there. */
const recorded = (path: string): Session | undefined => {
  if (!existsSync(path)) return undefined;
  const recording = JSON.parse(gunzipSync(readFileSync(path)).toString()) as Recording;
  const scripts = scriptsOf(recording);
  assert.equal(replay(scripts), recording.endContent, 'Yjs alone comes to the recorded end');
  const what = `the recording friendsforever, ${recording.txns.length} transactions`;
  return { what, scripts, end: recording.endContent };
};

const WORDS = 'the wave comes höher and 水 goes back to sea while two of us write on'.split(' ');

/** Two who type words at their own places, go back, jump, and now and then hear of each other. */
export const generated = (seed: number, count: number): Session => {
  const random = randomOf(seed);
  const below = (bound: number): number => Math.floor(random() * bound);
  const txns: Recording['txns'] = [];
  const docs = [docOf(0), docOf(1)] as const;
  const updates: [Uint8Array[], Uint8Array[]] = [[], []];
  const known = [0, 0];
  const indices: [number[], number[]] = [[], []];
  const cursor = [0, 0];
  while (txns.length < count) {
    const agent = below(2) as 0 | 1;
    const other = agent ? 0 : 1;
    for (let burst = 1 + below(23); burst-- && txns.length < count; ) {
      const doc = docs[agent];
      const parents = indices[agent].slice(-1);
      const unknown = updates[other].length - known[agent]!;
      if (unknown && random() < 0.1) {
        for (let take = 1 + below(unknown); take--; ) {
          Y.applyUpdate(doc, updates[other][known[agent]!++]!);
        }
        parents.push(indices[other][known[agent]! - 1]!);
      }
      const { length } = doc.getText('text');
      if (random() < 0.03) cursor[agent] = below(length + 1);
      const at = Math.min(cursor[agent]!, length);
      const gone = at > 0 && random() < 0.2 ? Math.min(at, 1 + below(3)) : 0;
      const word = WORDS[below(WORDS.length)]!;
      const come = random() < 0.9 ? word[0]! : `${word} `;
      const patch: Patch = gone ? [at - gone, gone, ''] : [at, 0, come];
      cursor[agent] = patch[0] + patch[2].length;
      updates[agent].push(edit(doc, { needs: 0, patches: [patch] }));
      indices[agent].push(txns.length);
      txns.push({ parents, agent, patches: [patch] });
    }
  }
  const scripts = scriptsOf({ txns, endContent: '' });
  const what = `a session made from seed ${seed}, ${count} transactions`;
  return { what, scripts, end: replay(scripts) };
};

/** The recorded session, or a made one where it is absent. */
export const session = (path: string, seed: number): Session => {
  const found = recorded(path);
  if (!found) console.log(`there is no ${path}: a made session runs instead`);
  return found ?? generated(seed, 12_000);
};
