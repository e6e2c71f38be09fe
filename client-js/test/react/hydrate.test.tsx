/**
 * A page takes over what a server rendered: its first render is the same, whatever came since, and
 * from there it is live. Against a real server, of which the state is read by HTTP.
 */

import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { StrictMode, Suspense, type ReactNode } from 'react';
import { renderToString } from 'react-dom/server';
import {
  connect, hydrate, json, latest, view, type Client, type Entry, type Latest, type Log,
  type Reading, type View,
} from '../../src/index.js';
import { HighwaterProvider, useConnection, useOpen, useRead } from '../../src/react/index.js';
import { Server, token } from '../server.js';
import { event, until } from '../when.js';
import { Page } from './page.js';

const server = new Server('[[rules]]\npattern = "boards/**"\nsnapshot = "latest"\n');
before(() => server.start());
after(() => server.remove());

type Entries = readonly Entry<string>[];
interface Given { readonly notes: Reading<Entries>; readonly count: Reading<number> }
interface Board {
  readonly log: Log<string>;
  readonly notes: Latest<string>;
  readonly count: View<number>;
}

const board = (client: Client, { id }: { id: string }, given?: Given): Board => {
  const log = client.log<string>(`boards/${id}`, { codec: json });
  return {
    log,
    notes: hydrate(latest(log), given?.notes),
    count: hydrate(view(log, (count) => count + 1, 0), given?.count),
  };
};
const List = ({ id, given }: { id: string; given?: Given | undefined }) => {
  const { log, notes, count } = useOpen(board, { id }, given);
  const texts = useRead(notes, (all) => [...all.values()].map(({ payload }) => payload));
  const a = useRead(notes.get('a'))?.payload ?? 'none';
  return <p>{`${texts.join()}; a: ${a}; ${useRead(count)}; ${useConnection(log).phase}`}</p>;
};

/** As a server does it: the state of a log, with where that stands. */
const read = async (id: string): Promise<Given> => {
  const answer = await server.ask('GET', `/v1/logs/boards/${id}`);
  const header = (name: string): string => answer.headers.get(name)!;
  const at = {
    log: +header('highwater-log'), offset: +header('highwater-next'),
    position: header('highwater-position'),
  };
  const lines = (await answer.text()).split('\n').filter(Boolean).map((line) => JSON.parse(line));
  const state = lines.map((line) => ({ ...line, payload: JSON.parse(line.payload) }));
  // It crosses to the page as JSON.
  return JSON.parse(JSON.stringify({
    notes: { ...at, state }, count: { ...at, state: state.length },
  }));
};

const app = (client: Client, children: ReactNode): ReactNode => (
  <StrictMode>
    <HighwaterProvider client={client}>
      <Suspense fallback="loading">{children}</Suspense>
    </HighwaterProvider>
  </StrictMode>
);
let users = 0;
const client = (context: TestContext, autoConnect: boolean): Client => {
  const one = connect(server.url, { token: token(`user-${++users}`), autoConnect });
  context.after(() => one.close());
  return one;
};
const put = (one: Client, id: string, key: string, text?: string): Promise<unknown> =>
  one.append(`boards/${id}`, { key, ...(text && { payload: JSON.stringify(text) }) });

test('the first render is the server\'s, then it is live, and never empty', async (context) => {
  const back = client(context, true);
  await put(back, 'first', 'a', 'one');
  await put(back, 'first', 'b', 'two');
  const given = await read('first');
  const html = renderToString(app(client(context, false), <List id="first" given={given} />));
  // Changed since: a key is gone, which no record that comes now tells.
  await put(back, 'first', 'a');
  await put(back, 'first', 'c', 'three');

  const one = client(context, false);
  const page = new Page(html, app(one, <List id="first" given={given} />));
  const shown = 'one,two; a: one; 2; connecting';
  await page.shows(shown);
  one.connect();
  await page.shows('two,three; a: none; 2; live');
  assert.deepEqual(page.problems, []);
  const known = page.seen.filter((text) => !text.startsWith('one,two; a: one; 2; '));
  for (const text of known) assert.match(text, /^(one,two|two,three); a: (one|none); 2; live$/);
  await put(back, 'first', 'a', 'four');
  await page.shows('two,three,four; a: four; 3; live');
  page.unmount();
});

test('live before, the first render is the server\'s all the same', async (context) => {
  const back = client(context, true);
  await put(back, 'late', 'a', 'one');
  const given = await read('late');
  const html = renderToString(app(client(context, false), <List id="late" given={given} />));
  await put(back, 'late', 'a', 'two');

  const one = client(context, true);
  const Early = () => <List id="late" given={given} />;
  const first = new Page().render(app(one, <Early />));
  await first.shows('two; a: two; 1; live');
  assert.equal(one.status.value.phase, 'live');
  const page = new Page(html, app(one, <Early />));
  await page.shows('two; a: two; 1; live');
  assert.deepEqual(page.problems, [], 'React found no difference');
  first.unmount();
  page.unmount();
});

test('what the server did not read, the page opens by itself', async (context) => {
  const back = client(context, true);
  await put(back, 'page', 'a', 'one');
  const html = '<!--$!--><template></template>loading<!--/$-->';
  const one = client(context, true);
  const page = new Page(html, app(one, <List id="page" />));
  await page.shows('one; a: one; 1; live');
  page.unmount();
});

test('a hydrated view tells its value at once, and when it is known', async (context) => {
  const back = client(context, true);
  await put(back, 'plain', 'a', 'one');
  const given = await read('plain');
  await put(back, 'plain', 'a');
  const one = client(context, false);
  const { log, notes } = board(one, { id: 'plain' }, given);
  const told: unknown[] = [];
  const off = notes.get('a').subscribe((entry) => told.push(entry?.payload));
  notes.subscribe((all) => told.push(all?.size));
  assert.deepEqual(told, ['one', 1]);
  one.connect();
  await event(log, 'complete');
  await until(one, 'live');
  // `includes` finds what is undefined, too: the key that has gone.
  assert.ok((told as unknown[]).includes(undefined));
  assert.deepEqual([told.at(-1), notes.value!.size], [0, 0]);
  const before = told.length;
  off();
  await put(back, 'plain', 'a', 'two');
  await event(log, 'records');
  await Promise.resolve();
  assert.deepEqual(told.slice(before), [1]);
});
