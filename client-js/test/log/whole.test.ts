/**
 * The whole client without a network: pages that share a device, and a server that is cut off,
 * refuses, is restored; in random interleavings of all that can happen. `books.ts` has the laws.
 * By its seed an input is run on a disk that has waiting actions in packs, or writes together what
 * waits for it, or both. Its users do several things in one tick.
 */

import { test } from 'node:test';
import fc from 'fast-check';
import { Books, NAMES } from './books.js';
import { CASES } from './cases.js';
import { settled } from './page.js';
import { asyncProperty } from './random.js';

const WORDS = {
  do: 14, work: 30, disk: 6, up: 5, down: 5, hears: 3, ring: 4, foreign: 4, cut: 3, kill: 1, tab: 2,
  freeze: 1, thaw: 2, fail: 1, close: 1, hide: 1, show: 2, busy: 2, trim: 1, again: 1, drop: 1,
  save: 1, restore: 1, remove: 1,
};
type Word = keyof typeof WORDS;
type Step = readonly [what: Word, one: number, two: number];

/** Steps of all words but these. */
const inputs = (...but: Word[]): fc.Arbitrary<[number, Step[]]> => {
  const words = (Object.entries(WORDS) as [Word, number][]).filter(([word]) => !but.includes(word));
  const step = fc.tuple(
    fc.oneof(...words.map(([word, weight]) => ({ weight, arbitrary: fc.constant(word) }))),
    fc.nat(20), fc.nat(20),
  );
  return fc.tuple(fc.nat(1_000_000), fc.array(step, { maxLength: 70, size: 'max' }));
};

/** Whatever is due, in an order that the numbers give. */
const work = async (books: Books, one: number, two: number): Promise<void> => {
  for (let at = 0; at <= one; at++) {
    const { pages } = books;
    const page = pages[(at * 7 + two) % (pages.length || 1)];
    if (!page) return;
    const ways = [() => page.disk(), () => page.up(), () => page.down(), () => page.hears()];
    for (let way = 0; way < 4; way++) if (ways[(way + at * 3 + two) % 4]!()) break;
    await settled();
  }
};

const happen = async (books: Books, [what, one, two]: Step): Promise<void> => {
  const { pages, server, device } = books;
  const page = pages[one % (pages.length || 1)];
  const name = NAMES[one % 3]!;
  const words: Record<Word, () => unknown> = {
    work: () => work(books, one, two),
    do: () => page && books.do(page, NAMES[two % 3]!, two),
    disk: () => page?.disk(), up: () => page?.up(), down: () => page?.down(),
    hears: () => page?.hears(), fail: () => page?.disk(true), cut: () => page?.cut(),
    ring: () => device.ring(two * two * 20),
    foreign: () => server.append(name, {
      kind: one % 3 === 2 ? 'card' : 'put', payload: JSON.stringify({ n: -two - 1 }),
      ...(one % 3 === 2 && { key: `card/${two % 3}` }),
    }),
    kill: () => page?.kill(),
    tab: () => pages.length < 3 && books.open(),
    freeze: () => page && (page.frozen = true),
    thaw: () => page && !books.hidden.has(page) && page.thaw(),
    close: () => page && books.close(page),
    hide: () => page && books.hide(page), show: () => page && books.show(page),
    busy: () => (server.busy += two % 4),
    trim: () => one % 3 < 2 && books.trim(name, two % 4),
    again: () => page && books.decide(page, two, true), drop: () => page && books.decide(page, two, false),
    save: () => server.save(), restore: () => books.restore(), remove: () => books.remove(name),
  };
  await words[what]();
  await settled();
  books.check();
};

const waysOf = (seed: number) => ({ quick: true, packs: seed % 2 > 0, joins: seed % 4 > 1 });

const run = async (
  [seed, steps]: readonly [number, readonly Step[]], ways = waysOf(seed),
): Promise<void> => {
  const books = new Books(seed, ways);
  try {
    books.open();
    for (const one of steps) await happen(books, one);
    await books.quiet();
    books.settle();
  } finally {
    books.end();
    await settled();
  }
};

const { INPUT: given } = process.env;
if (given) test('that input', () => run(JSON.parse(given) as [number, Step[]]));
else {
  for (const { what, seed, steps } of CASES) {
    const parts = [...steps.matchAll(/(\w+)\s+(\d+)\s+(\d+)/g)];
    const all = parts.map(([, word, one, two]): Step => [word as Word, +one!, +two!]);
    test(what, () => run([seed, all], { quick: false, packs: false, joins: false }));
  }
  test('all that can happen in one history, in any order', () =>
    asyncProperty(inputs('restore', 'save', 'remove'), (input) => run(input), 100));
  test('the same with a server that is restored', () =>
    asyncProperty(inputs('remove'), (input) => run(input), 60));
  test('the same with logs that are deleted', () =>
    asyncProperty(inputs('restore', 'save'), (input) => run(input), 60));
}
