/** Actions with a `maxAge`: what was never sent goes when its time is over, server or not. */

import assert from 'node:assert/strict';
import type { Books } from './books.js';
import { settled, type Page } from './page.js';
import { all, play } from './steps.js';

const BRIEF = 3;
const PUT = 0;

const refused = ({ client }: Page): unknown[] =>
  client.refused.value.map(({ action, reason: { code } }) => [action, code]);
const list = (books: Books, page: Page): readonly number[] =>
  books.logs.get(page)!['lists/a'].view.list.value ?? [];

/** So many ms pass, in which no page reaches the server. */
const pass = async (books: Books, ms: number): Promise<void> => {
  const { device } = books;
  const end = device.now + ms;
  for (;;) {
    await settled();
    if (books.pages.some((page) => page.disk() || page.hears())) continue;
    if (!device.ring(end - device.now)) break;
  }
  device.now = end;
};

play('one that is too old goes without a server, and only that one', async (books) => {
  const page = books.open();
  books.do(page, 'lists/a', PUT);
  books.do(page, 'lists/a', BRIEF);
  await pass(books, 1500);
  books.do(page, 'lists/a', BRIEF);
  await pass(books, 1499);
  assert.deepEqual([list(books, page), refused(page)], [[1, 2, 3], []]);
  await pass(books, 10);
  assert.deepEqual([list(books, page), refused(page)], [[1, 3], [['brief', 'expired']]]);
  assert.equal(books.deeds.get(2)!.rejected, 'expired');
  await pass(books, 1500);
  assert.deepEqual(list(books, page), [1]);
  await books.quiet();
  books.settle();
});

play('the next page finds what has become too old meanwhile', async (books) => {
  const one = books.open();
  books.do(one, 'lists/a', BRIEF);
  books.do(one, 'lists/a', PUT);
  await pass(books, 100);
  one.kill();
  books.device.now += 2000;
  const two = books.open();
  await pass(books, 500);
  assert.deepEqual([list(books, two), refused(two)], [[1, 2], []]);
  await pass(books, 1000);
  assert.deepEqual([list(books, two), refused(two)], [[2], [['brief', 'expired']]]);
  await books.quiet();
  books.settle();
});

play('what may have been sent is never too old', async (books) => {
  const page = books.open();
  await books.quiet();
  books.do(page, 'lists/a', BRIEF);
  await all(() => page.disk());
  page.cut();
  await pass(books, 10_000);
  assert.deepEqual([list(books, page), refused(page)], [[1], []]);
  await books.quiet();
  books.settle();
});
