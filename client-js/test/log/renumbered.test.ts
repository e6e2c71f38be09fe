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

play('what is stored while another page asks what was lost is not lost', async (books) => {
  const { server } = books;
  const [one, two] = [books.open(), books.open()];
  await books.quiet();
  server.save();
  server.append('lists/a', { kind: 'put', payload: JSON.stringify({ n: -1 }) });
  await all(() => two.down());
  books.restore();
  // Page one has seen nothing that is not there any more: for it all goes on.
  two.frozen = true;
  books.do(one, 'lists/a', 0);
  await alone(one);
  one.frozen = true;
  two.thaw();
  const { _room: { history } } = two.client as any;
  while (history().history < 1) {
    const busy = [two.disk(), two.up(), two.down(), two.hears()].some(Boolean);
    assert.ok(busy || books.device.ring(3000));
    await settled();
  }
  await all(() => two.disk());
  two.up();
  one.thaw();
  books.do(one, 'lists/a', 0);
  two.frozen = true;
  await alone(one);
  two.thaw();
  await books.quiet();
  assert.deepEqual(refused(two), []);
  books.settle();
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

play('what is numbered anew in the midst is stored once, and taken back', async (books) => {
  const { server } = books;
  const page = books.open();
  await books.quiet();
  const board = books.logs.get(page)!['boards/a'];
  const set = async (id: string): Promise<void> => {
    page.does(() => void board.view.cards.set(id, { n: +id }));
    await all(() => page.disk());
  };
  // One that the backup has, one that it lost; of neither the page has heard; one that waits.
  await set('1');
  await all(() => page.up());
  server.save();
  await set('2');
  await all(() => page.up());
  server.append('boards/a', { kind: 'card', key: 'card/x', payload: '{"n":-1}' });
  // It sees what another has written behind all that, and no answer.
  const wire = page.wires[0]!;
  wire.down.splice(0, wire.down.length - 1);
  page.client.plain.core.history.saw(server.state.batch);
  await set('3');
  books.restore();
  await books.quiet();
  const { records } = server.log('boards/a');
  assert.deepEqual(records.map(({ record }) => record.key), ['card/1', 'card/2', 'card/3']);
  assert.equal(new Set(records.map(({ origin }) => origin.writer)).size, 2);
  const left: string[][] = [];
  for (let n = 0; n < 3; n++) {
    page.does(() => assert.equal(board.undo(), true));
    left.push([...board.view.cards.value!.keys()].sort());
  }
  assert.deepEqual(left, [['1', '2'], ['1'], []]);
  await books.quiet();
  assert.deepEqual([...board.view.cards.value!], []);
});
