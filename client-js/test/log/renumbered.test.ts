/** Writers of a history that is over: what they had done, and what they had left. */

import assert from 'node:assert/strict';
import type { HistoryRow } from '../../src/log/rows.js';
import type { Books } from './books.js';
import { settled, type Page } from './page.js';
import { all, play } from './steps.js';

/** All that one page has to do, and its timers. */
const alone = async (page: Page): Promise<void> => {
  for (let rings = 0; rings < 50; ) {
    await settled();
    if ([page.disk(), page.up(), page.down(), page.hears()].some(Boolean)) continue;
    if (!page.device.ring(3000)) return;
    rings++;
  }
};

/**
 * Page one has two actions: the server has lost the first, and the device has kept that it was
 * stored only after page two asked what was lost; the second waits.
 */
const torn = async (books: Books): Promise<{ one: Page; two: Page }> => {
  const { device, server } = books;
  const [one, two] = [books.open(), books.open()];
  await books.quiet();
  server.save();
  books.do(one, 'lists/a', 0);
  await all(() => one.disk());
  await all(() => one.up());
  await all(() => one.down());
  await all(() => two.down());
  assert.ok(one.jobs.length, 'that it was stored is not on disk yet');
  books.do(one, 'lists/a', 0);
  await settled();
  one.frozen = true;
  books.restore();
  await alone(two);
  assert.equal((device.disk.all.get('h') as HistoryRow).history, 1);
  await all(() => one.disk());
  return { one, two };
};

const refused = ({ client }: Page): number[] =>
  client.refused.value.map(({ after }) => (after as { n: number }).n);

play('a writer of a former history goes on when it is known what was lost of it', async (books) => {
  const { one, two } = await torn(books);
  one.kill();
  await books.quiet();
  books.settle();
  assert.deepEqual(refused(two), [1]);
});

play('so does one that another page sends for', async (books) => {
  const { one, two } = await torn(books);
  books.do(two, 'lists/a', 0);
  await alone(two);
  const stored = books.server.log('lists/a').records.length;
  assert.equal(stored, 2, 'what waited, and what was made on top of it');
  one.kill();
  await books.quiet();
  books.settle();
  assert.deepEqual(refused(two), [1]);
});

/** Pages that died before they heard that the server had stored what they did; and one that lives. */
const crowd = async (books: Books, count: number): Promise<Page> => {
  const { device, server } = books;
  const last = books.open();
  const pages = Array.from({ length: count }, () => books.open());
  await books.quiet();
  for (const page of pages) {
    books.do(page, 'lists/a', 0);
    await all(() => page.disk());
    await all(() => page.up());
  }
  server.save();
  server.append('lists/a', { kind: 'put', payload: JSON.stringify({ n: -1 }) });
  await all(() => last.down() || last.disk() || last.hears());
  for (const page of pages) page.kill();
  // It takes over what they left: no socket is told of that before the restore.
  while (last.client.plain.core.writers.length <= count && device.ring(3000)) {
    await all(() => last.disk());
  }
  assert.ok(last.client.plain.core.writers.length > count);
  return last;
};

play('what a restored server still has of many writers is stored once', async (books) => {
  const count = 20;
  const last = await crowd(books, count);
  books.restore();
  await books.quiet();
  books.settle();
  assert.equal(books.server.log('lists/a').records.length, count);
  assert.deepEqual(refused(last), []);
});

play('what is lost of many writers costs no socket', async (books) => {
  const { server } = books;
  const last = await crowd(books, 0);
  server.save();
  for (let n = 0; n < 30; n++) {
    const page = books.open();
    await alone(page);
    books.do(page, 'lists/a', 0);
    await alone(page);
    books.close(page);
    await alone(page);
  }
  await alone(last);
  const { hellos } = server;
  books.restore();
  await books.quiet();
  assert.equal(refused(last).length, 30);
  assert.equal(server.hellos, hellos + 1);
  books.settle();
});
