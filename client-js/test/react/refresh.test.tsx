/** Fast refresh: a module changes while the app runs, and one subscription stays, of the newest. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Suspense } from 'react';
import { refresh } from './refresh.js';
import { connect, json, latest, type Client, type Latest, type Log } from '../../src/index.js';
import { useOpen, useRead } from '../../src/react/index.js';
import { Server, token } from '../server.js';
import { Page } from './page.js';

const server = new Server();
before(() => server.start());
after(() => server.remove());

let opened = 0;
/** What a module has each time that it is evaluated. */
const evaluate = () => (client: Client): { log: Log<string>; words: Latest<string> } => {
  opened++;
  const log = client.log<string>('words', { codec: json, grace: 0 });
  return { log, words: latest(log) };
};
/** The component of that module, with the text that was changed. */
const component = (definition: ReturnType<typeof evaluate>, text: string) => {
  const Words = () => <>{`${text} ${useRead(useOpen(definition).words, ({ size }) => size)}`}</>;
  return Words;
};
const names = async ({ connection }: Client): Promise<string> => {
  const answer = await server.ask('GET', `/v1/connections/${connection}`);
  const { subscriptions } = await answer.json() as { subscriptions: { name: string }[] };
  return subscriptions.map(({ name }) => name).join();
};

test('refreshed and remounted it has one subscription, and none when it went', async (context) => {
  const client = connect(server.url, { token: token('ada') });
  context.after(() => client.close());
  await client.append('words', { key: 'a', payload: '"a"' });
  const definition = evaluate();
  const First = component(definition, 'first');
  refresh('Words', First, 'one');
  const page = new Page().strict(client, <Suspense fallback="loading"><First /></Suspense>);
  await page.shows('first 1');
  const holders = (): number => client.core.followed.named.get('words')?.holders.size ?? 0;

  refresh('Words', component(definition, 'second'), 'one');
  await page.shows('second 1');
  refresh('Words', component(definition, 'remounted'), 'another');
  await page.shows('remounted 1');
  assert.deepEqual([opened, holders(), await names(client)], [1, 1, 'words']);

  // The module of the definition changed too: it is opened anew, and the former is let go.
  refresh('Words', component(evaluate(), 'anew'), 'another');
  await page.shows('anew 1');
  assert.equal(opened, 2);
  while (holders() > 1) await names(client);
  assert.equal(await names(client), 'words');
  await client.append('words', { key: 'b', payload: '"b"' });
  await page.shows('anew 2');
  page.unmount();
  while (await names(client)) assert.ok(holders() <= 1);
  assert.equal(holders(), 0);
});
