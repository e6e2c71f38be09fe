/** What handles of one log share: what one of them asks for takes nothing from another. */

import assert from 'node:assert/strict';
import type { Opened, OpenOptions } from '../../src/log/index.js';
import type { Open } from '../../src/frames.js';
import { lists, type Books } from './books.js';
import { Page, settled } from './page.js';
import { all, play } from './steps.js';

const open = (page: Page, options: OpenOptions) => {
  const { actions, shape } = lists;
  let opened: Opened<typeof actions, typeof shape>;
  page.does(() => (opened = page.client.open(lists, { id: 'b' }, options)));
  return opened!;
};

/** All that page has to do; with its clock, where it waits for a socket. */
const run = async (page: Page): Promise<void> => {
  do await all(() => page.disk() || page.up() || page.down());
  while (page.client.status.value.phase !== 'live' && page.device.ring(60_000));
};

/** What becomes of an action that was never sent, where its log is made anew. */
const anew = async (
  books: Books, options: readonly OpenOptions[], soon = false,
): Promise<readonly string[]> => {
  const { server, device } = books;
  const page = new Page(device);
  const [first] = options.map((one) => open(page, one));
  await run(page);
  page.cut();
  server.remove('lists/b');
  page.does(() => first!.do.put({ n: 1 }));
  // It is on disk, and marked as one that may go out, before the reset or after it.
  if (soon) await run(page);
  while (page.client.status.value.phase !== 'live') {
    await all(() => page.up() || page.down());
    device.ring(60_000);
  }
  await all(() => page.up() || page.down());
  await run(page);
  assert.deepEqual([first!.view.list.value, server.log('lists/b').records], [[], []]);
  return page.client.refused.value.map(({ reason: { code } }) => code);
};

play('what waits is not sent where all that have the log open say so', async (books) => {
  assert.deepEqual(await anew(books, [{ onReset: 'discard' }, { onReset: 'discard' }]), ['stale']);
});

play('nor is it where the disk is sooner than the server', async (books) => {
  assert.deepEqual(await anew(books, [{ onReset: 'discard' }], true), ['stale']);
});

for (const last of [{ onReset: 'rebase' as const }, { start: { last: 5 } }]) {
  play(`it is sent where another has it open with ${JSON.stringify(last)}`, async (books) => {
    // The server is asked, and says that this log is another.
    assert.deepEqual(await anew(books, [{ onReset: 'discard' }, last]), ['epoch']);
  });
}

play('the most urgent of those that have it open counts', async (books) => {
  const told: number[] = [];
  const server = books.server as unknown as { subscribe: (...given: unknown[]) => void };
  const subscribe = server.subscribe.bind(server);
  server.subscribe = (...given) => {
    const { name, priority } = given[1] as Open;
    if (name === 'lists/b') told.push(priority);
    subscribe(...given);
  };
  const page = new Page(books.device);
  const first = open(page, { priority: 200 });
  open(page, { priority: 100 });
  await run(page);
  assert.deepEqual(told, [100]);
  page.does(() => first.do.put({ n: 1 }));
  await run(page);
  const phases: string[] = [];
  const off = first.status.subscribe(({ phase }) => phases.push(phase));
  const urgent = open(page, { priority: 5 });
  await settled();
  assert.deepEqual([urgent.status.value.phase, urgent.view.list.value], ['live', [1]]);
  open(page, { priority: 50 });
  await run(page);
  assert.deepEqual(told, [100, 5]);
  books.server.append('lists/b', { kind: 'put', payload: JSON.stringify({ n: -1 }) });
  await run(page);
  assert.deepEqual([first.view.list.value, phases], [[1, -1], ['live']]);
  off();
});
