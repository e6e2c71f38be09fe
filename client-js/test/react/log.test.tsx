/**
 * Logs on the device in React, in StrictMode, against a real server: one handle for all who show
 * it, shown without a server, and the two parts that say where the work is and what was refused.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { Suspense } from 'react';
import { HighwaterError } from '../../src/errors.js';
import { file } from '../../src/log/file.js';
import {
  connect, lww, memory, log, type LogClient, type LogClientOptions, type OpenStore,
  type Store,
} from '../../src/log/index.js';
import { useConnection, useRead } from '../../src/react/index.js';
import { Refused, useOpenLog, WorkStatus } from '../../src/react/log/index.js';
import { Server, token } from '../server.js';
import { Page } from './page.js';

const server = new Server();
before(() => server.start());
after(() => server.remove());

const board = log('boards/:board').views(() => ({ title: lww<string>('title') }));

let users = 0;
const user = (): string => `shown-${++users}`;
const open = (
  context: TestContext, name: string, options: LogClientOptions = {},
): LogClient => {
  const client = connect(server.url, { token: token(name), store: memory, ...options });
  context.after(() => client.close());
  return client;
};
const device = (context: TestContext): OpenStore => {
  const folder = mkdtempSync(join(tmpdir(), 'highwater-shown-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return file(folder);
};

const Title = ({ client, board: id }: { client: LogClient; board: string }) => {
  const { view, canUndo } = useOpenLog(client, board, { board: id });
  return <>{`[${useRead(view.title) ?? '-'}${useRead(canUndo) ? ' undo' : ''}]`}</>;
};
const Phase = ({ client }: { client: LogClient }) => <>{useConnection(client).phase} </>;
const show = (client: LogClient, node: React.ReactNode): Page =>
  new Page().strict(client.plain, <Suspense fallback="loading">{node}</Suspense>);
const press = (page: Page, name: string): void => {
  const found = [...page.element.querySelectorAll('button')].find(
    (button) => button.textContent === name,
  );
  assert.ok(found, `a button ${name} in ${page.element.innerHTML}`);
  found.click();
};
const output = (page: Page): HTMLElement => page.element.querySelector('output')!;

test('components share a handle and its undo, let go after the last', async (context) => {
  const client = open(context, user());
  let opened = 0;
  const real = client.open;
  Object.assign(client, { open: (...given: Parameters<typeof real>) => {
    opened++;
    return real(...given);
  } });
  const two = (
    <><Title client={client} board="shared" /><Title client={client} board="shared" /></>
  );
  const page = show(client, two);
  await page.shows('[-][-]');
  const mine = client.open(board, { board: 'shared' });
  mine.view.title.set('Plan');
  await page.shows('[Plan][Plan]');
  assert.deepEqual([opened, page.seen], [2, ['loading', '[-][-]', '[Plan][Plan]']]);
  mine.release();
  page.unmount();
  for (;;) {
    const answer = await server.ask('GET', `/v1/connections/${client.plain.connection}`);
    const { subscriptions } = await answer.json() as { subscriptions: unknown[] };
    if (!subscriptions.length) break;
  }
});

test('what is on the device is shown without a server', async (context) => {
  const [name, store] = [user(), device(context)];
  const first = connect(server.url, { token: token(name), store, autoConnect: false });
  await first.open(board, { board: name }).view.title.set('Kept').saved;
  await first.close();
  const next = open(context, name, { store, autoConnect: false });
  const page = show(next, <><Title client={next} board={name} /><WorkStatus client={next} /></>);
  await page.shows('[Kept]On this device: 1 change to send');
  assert.equal(output(page).dataset.state, 'device');
  next.connect();
  await page.shows('[Kept]On the server');
  assert.equal(output(page).dataset.state, 'server');
  page.unmount();
});

test('where nothing is known and no server is there, it does not wait', async (context) => {
  // Nobody listens at that port.
  const name = user();
  const away = connect('http://127.0.0.1:9', { token: token(name), store: memory });
  context.after(() => away.close());
  const page = show(away, <><Phase client={away} /><Title client={away} board="new" /></>);
  await page.shows('offline [-]');
  const mine = away.open(board, { board: 'new' });
  mine.view.title.set('Begun');
  await page.shows('offline [Begun]');
  page.unmount();
});

test('a device that does not answer: the work is unsaved, and it says so', async (context) => {
  let go = (): void => {};
  const closed = new Promise<void>((resolve) => (go = resolve));
  const slow: OpenStore = (name, options) => {
    const store = memory(name, options);
    return { ...store, health: store.health, close: () => store.close(), wipe: () => store.wipe(),
      persist: () => {}, read: (prefix) => store.read(prefix),
      write: (changes) => closed.then(() => store.write(changes)) };
  };
  const name = user();
  const client = open(context, name, { store: slow, autoConnect: false });
  const page = show(client, <WorkStatus client={client} />);
  await page.shows('Looking');
  client.open(board, { board: name }).view.title.set('Typed');
  await page.shows('Unsaved: 1 change');
  go();
  await page.shows('In this page: 1 change to send');
  client.connect();
  await page.shows('On the server');
  page.unmount();
});

test('a device that lost what it kept: it says so, once nothing waits', async (context) => {
  const error = new HighwaterError('lost', 'the device lost what it kept');
  const emptied: OpenStore = (name, options) => {
    const store = memory(name, options);
    const health = { value: { kind: 'disk', state: 'open', error }, subscribe: () => () => {} };
    return { ...store, health: health as Store['health'], close: () => store.close(),
      wipe: () => store.wipe(), persist: () => {}, read: (prefix) => store.read(prefix),
      write: (changes) => store.write(changes) };
  };
  const name = user();
  const client = open(context, name, { store: emptied, autoConnect: false });
  const page = show(client, <WorkStatus client={client} />);
  await page.shows('Looking');
  client.open(board, { board: name }).view.title.set('Typed');
  await page.shows('On this device: 1 change to send');
  client.connect();
  await page.shows('This device lost what was not sent: look whether your last changes are there');
  page.unmount();
});

test('what a full device refused is unsaved, and says so until there is room', async (context) => {
  let full = true;
  const small: OpenStore = (name, options) => {
    const store = memory(name, options);
    return { ...store, health: store.health, close: () => store.close(), wipe: () => store.wipe(),
      persist: () => {}, read: (prefix) => store.read(prefix),
      write: async (changes) => {
        if (full) throw new Error('no room');
        return store.write(changes);
      } };
  };
  const name = user();
  const client = open(context, name, { store: small });
  const page = show(client, <><WorkStatus client={client} /><Refused client={client} /></>);
  await assert.rejects(client.open(board, { board: name }).view.title.set('Typed').saved);
  while (!page.text.includes('In this page only')) await new Promise(setImmediate);
  assert.deepEqual([output(page).textContent, output(page).dataset.state], [
    'Unsaved: 1 change', 'unsaved',
  ]);
  full = false;
  while (page.text.includes('In this page only')) await new Promise(setImmediate);
  while (output(page).dataset.state !== 'server') await new Promise(setImmediate);
  assert.equal(output(page).textContent, 'On the server, 1 not taken');
  press(page, 'Drop');
  while (!page.text.includes('Drop for good?')) await new Promise(setImmediate);
  press(page, 'Drop for good?');
  while (output(page).textContent !== 'On the server') await new Promise(setImmediate);
  page.unmount();
});

test('a refused edit: its reason; it is copied, dropped, tried again', async (context) => {
  const [name, store] = [user(), device(context)];
  await open(context, name).open(board, { board: name }).view.title.set('There').accepted;
  const grants = [{ logs: 'boards/**', can: ['read' as const] }];
  const client = connect(server.url, { token: token(name, grants), store });
  const page = show(client, <><Title client={client} board={name} /><Refused client={client} /></>);
  await page.shows('[There]');
  const mine = client.open(board, { board: name });
  await assert.rejects(mine.view.title.set('Mine').accepted, { code: 'denied' });
  await assert.rejects(mine.view.title.set('More').accepted, { code: 'denied' });
  const items = (): Element[] => [...page.element.querySelectorAll('.hw-refused-item')];
  while (items().length < 2) await new Promise(setImmediate);
  const [first] = items() as [HTMLElement];
  assert.equal(first.dataset.code, 'denied');
  assert.deepEqual(
    [...first.querySelectorAll('dt, dd')].map(({ textContent }) => textContent),
    ['There', 'There', 'Yours', 'Mine'],
  );
  // No clipboard here: the text is shown instead.
  press(page, 'Copy');
  while (!first.querySelector('pre')) await new Promise(setImmediate);
  assert.match(first.querySelector('pre')!.textContent!, /"value": "Mine"/);
  press(page, 'Drop');
  while (!page.text.includes('Drop for good?')) await new Promise(setImmediate);
  assert.equal(items().length, 2);
  press(page, 'Drop for good?');
  while (items().length > 1) await new Promise(setImmediate);
  page.unmount();
  await client.close();
  // The next page load, with a right to write.
  const next = open(context, name, { store });
  const again = show(next, <><Refused client={next} /><Title client={next} board={name} /></>);
  while (!again.text.includes('Try again')) await new Promise(setImmediate);
  press(again, 'Try again');
  await again.shows('[More]');
  assert.equal(again.element.querySelector('section')!.hidden, true);
  again.unmount();
});
