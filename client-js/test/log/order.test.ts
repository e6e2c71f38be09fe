/** Pages of one device, step by step: what the disk has when two of them write. */

import assert from 'node:assert/strict';
import { keyOf, type CheckpointRow } from '../../src/log/rows.js';
import { settled, type Page } from './page.js';
import { all, play } from './steps.js';

play('a view that is kept is never older than one that was kept before', async (books) => {
  const { server, device } = books;
  const kept = (): number => (device.disk.all.get('c/lists/a') as CheckpointRow).next;
  const write = (page: Page): Promise<void> => all(() => page.disk());
  const [one, two] = [books.open(), books.open()];
  await books.quiet();
  for (const n of [-1, -2]) {
    server.append('lists/a', { kind: 'put', payload: JSON.stringify({ n }) });
  }
  one.down();
  await all(() => two.down());
  await all(() => device.ring(1500));
  assert.ok(one.jobs.length && two.jobs.length, 'both are to write');
  await write(two);
  assert.equal(kept(), 2);
  await write(one);
  assert.equal(kept(), 2);
});

play('who closes lets go its writer when what it did is on disk', async (books) => {
  const { device } = books;
  const [one, two] = [books.open(), books.open()];
  await books.quiet();
  books.do(one, 'lists/a', 0);
  await settled();
  await all(() => two.hears());
  const [name, line] = [...device.locks].find(([, [first]]) => first?.page === one)!;
  assert.deepEqual(line.map(({ page }) => page), [one, two], 'the other waits for it');
  books.close(one);
  const key = keyOf(name.split(':')[1]!, 1);
  const kept = (): boolean => device.disk.all.has(key);
  await all(() => {
    assert.ok(line[0]!.page === one || kept(), 'it was let go before');
    return one.disk();
  });
  assert.ok(line[0]!.page === two && kept());
});

play('nothing of a writer is written before its lock is had', async (books) => {
  const { device } = books;
  const one = books.open();
  await books.quiet();
  const hold = device.hold.bind(device);
  let give = (): void => {};
  device.hold = (page, name) => {
    const given = new Promise<void>((resolve) => (give = resolve));
    return { had: given.then(() => hold(page, name).had), release: () => {} };
  };
  const writes = (): boolean =>
    one.jobs.some(({ changes = [] }) => changes.some(([key]) => /^[aw]/.test(key)));
  books.do(one, 'lists/a', 0);
  await settled();
  assert.ok(!writes(), 'another page would take its writer for dead');
  give();
  await settled();
  assert.ok(writes());
});

play('what was stored is shown on top of a kept view that is without it', async (books) => {
  const { device } = books;
  const one = books.open();
  await books.quiet();
  books.do(one, 'lists/a', 0);
  await all(() => one.disk());
  await all(() => one.up());
  // The answer, and not the record that follows it.
  const stored = (): boolean => [...device.disk.all.keys()].some((key) => key.startsWith('d/'));
  await all(() => !stored() && (one.disk() || one.down()));
  assert.ok(stored());
  one.kill();
  assert.equal((device.disk.all.get('c/lists/a') as CheckpointRow).next, 0);
  const two = books.open();
  await all(() => two.disk());
  assert.deepEqual(books.logs.get(two)!['lists/a'].view.list.value, [1]);
});

play('a kept view is shown as none of a history that is met while it is read', async (books) => {
  const { server } = books;
  const append = (n: number): void =>
    server.append('lists/a', { kind: 'put', payload: JSON.stringify({ n }) });
  const one = books.open();
  await books.quiet();
  server.save();
  append(-1);
  await books.quiet();
  books.close(one);
  await all(() => one.disk());
  books.restore();
  append(-2);
  const two = books.open();
  await all(() => !two.jobs[0]?.prefix?.startsWith('d/lists/a/') && two.disk());
  assert.ok(two.jobs.length, 'it looks what was stored on top of it');
  await all(() => two.up() || two.down());
  assert.equal(two.client.status.value.phase, 'live');
  await books.quiet();
  books.settle();
});
