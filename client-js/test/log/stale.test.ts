/**
 * What a page reads from the device may be older than what it has heard meanwhile: an action that
 * ended while it read does not wait once more.
 */

import assert from 'node:assert/strict';
import type { Books } from './books.js';
import { settled, type Page } from './page.js';
import { all, play } from './steps.js';

const asks = (page: Page): string | undefined => page.jobs[0]?.prefix;

/** Its disk answers until that is what it is asked for next. */
const until = async (page: Page, prefix: string): Promise<void> => {
  await all(() => asks(page) !== prefix && page.disk());
  assert.equal(asks(page), prefix);
};

/** That page does all that it has to do, but for its timers. */
const works = (page: Page): Promise<void> =>
  all(() => [page.disk(), page.up(), page.down(), page.hears()].some(Boolean));

/** One does so many, without a socket. */
const does = async (books: Books, page: Page, count: number): Promise<void> => {
  page.does(() => page.client.disconnect());
  for (let at = 0; at < count; at++) books.do(page, 'lists/a', 0);
  await all(() => page.disk());
};

const rests = async (books: Books, { client }: Page): Promise<void> => {
  assert.equal(client.work.value.waiting, 0);
  await books.quiet();
  books.settle();
};

/** Page two reads two actions of page one, which end when it has been given the first. */
const half = async (books: Books, one: Page, two: Page): Promise<void> => {
  two.disk();
  one.does(() => one.client.connect());
  await works(one);
  await all(() => two.hears());
  assert.equal(books.server.log('lists/a').records.length, 2);
  await works(two);
};

play('what ends while a page that has heard of it reads it waits no more', async (books) => {
  const one = books.open();
  await books.quiet();
  const two = books.open();
  await until(two, 'a/');
  await does(books, one, 2);
  await all(() => two.hears());
  assert.equal(two.client.work.value.waiting, 2);
  await half(books, one, two);
  await rests(books, two);
});

play('nor does what ends while a page that is shown again reads it', async (books) => {
  const [one, two] = [books.open(), books.open()];
  await books.quiet();
  books.hide(two);
  await does(books, one, 2);
  // Nobody tells a page that its browser has kept for later.
  two.heard.length = 0;
  books.show(two);
  await until(two, 'a/');
  await half(books, one, two);
  await rests(books, two);
});

play('nor what its page has sent while another looks whether to send it', async (books) => {
  const [one, two] = [books.open(), books.open()];
  await books.quiet();
  const did = async (page: Page): Promise<void> => {
    books.do(page, 'lists/a', 0);
    await all(() => page.disk());
    await all(() => two.hears());
  };
  await did(one);
  // It is made on top of the first alone.
  await did(two);
  await did(one);
  assert.equal(two.client.work.value.waiting, 3);
  one.up();
  one.down();
  await all(() => one.disk());
  assert.equal(books.server.log('lists/a').records.length, 1);
  one.frozen = true;
  const { id } = [...(two.client as any)._room.ledger.runs.all.values()].find(({ own }) => !own);
  while (asks(two) !== `a/${id}/`) {
    assert.ok(two.disk() || books.device.ring(3000));
    await settled();
  }
  two.disk();
  await settled();
  assert.equal(asks(two), 'd/', 'the first is on disk no more');
  one.thaw();
  await works(one);
  await all(() => two.hears());
  assert.equal(two.client.work.value.waiting, 1);
  await works(two);
  await rests(books, two);
});
