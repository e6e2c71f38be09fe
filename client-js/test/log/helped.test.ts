/** A page that is frozen, and is sent for: when it thaws it knows what became of its work. */

import assert from 'node:assert/strict';
import type { Books } from './books.js';
import { settled, type Page } from './page.js';
import { all, play } from './steps.js';

const stored = ({ server }: Books): number[] => server.log('lists/a').records
  .map(({ record }) => (JSON.parse(record.payload as string) as { n: number }).n);

/** All that one page has to do, and its timers, until that is so. */
const until = async (page: Page, so: () => boolean): Promise<void> => {
  for (let steps = 0; steps < 5000 && !so(); steps++) {
    await settled();
    if ([page.disk(), page.up(), page.down(), page.hears()].some(Boolean)) continue;
    const [next] = [...page.device.timers].filter((one) => one.page === page)
      .sort((one, two) => one.at - two.at);
    if (next) page.device.ring(Math.max(0, next.at - page.device.now));
  }
  assert.ok(so(), 'it never came');
};

/**
 * Page one does something without a socket and is frozen; page two does something on top of it, and
 * so sends both. Then page two is closed, and one thaws a minute later.
 */
const helped = async (books: Books, how: number): Promise<Page> => {
  const [one, two] = [books.open(), books.open()];
  await books.quiet();
  one.does(() => one.client.disconnect());
  books.do(one, 'lists/a', how);
  await all(() => one.disk());
  await all(() => two.hears());
  one.frozen = true;
  books.do(two, 'lists/a', 0);
  await until(two, () => stored(books).length === 2);
  return one;
};

const goesOn = async (books: Books, one: Page): Promise<void> => {
  one.does(() => one.client.connect());
  await books.quiet();
  books.settle();
};

play('what is typed over text that another page has sent is sent, too', async (books) => {
  const one = await helped(books, 4);
  one.thaw();
  books.do(one, 'lists/a', 4);
  assert.deepEqual([...books.deeds.values()].at(-1)!.all, [1, 3], 'it gave way');
  await goesOn(books, one);
  assert.deepEqual(stored(books), [1, 2, 3]);
  assert.deepEqual(books.logs.get(one)!['lists/a'].view.list.value, [1, 2, 3]);
});

play('what another page has sent in time is not told as expired', async (books) => {
  const one = await helped(books, 3);
  books.device.now += 60_000;
  one.thaw();
  await goesOn(books, one);
  assert.deepEqual(stored(books), [1, 2]);
  assert.deepEqual(one.client.refused.value, []);
  assert.equal(books.deeds.get(1)!.rejected, undefined);
});

play('what is too old is not sent for another page either', async (books) => {
  const [one, two] = [books.open(), books.open()];
  await books.quiet();
  one.does(() => one.client.disconnect());
  books.do(one, 'lists/a', 3);
  await all(() => one.disk());
  await all(() => two.hears());
  one.frozen = true;
  books.device.now += 60_000;
  books.do(two, 'lists/a', 0);
  await until(two, () => stored(books).length === 1);
  assert.deepEqual(stored(books), [2]);
  one.thaw();
  await goesOn(books, one);
  assert.deepEqual(one.client.refused.value.map(({ reason: { code } }) => code), ['expired']);
});
