/** What a server renders, in a process without a page: what was read for it, or the fallback. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Writable } from 'node:stream';
import { Suspense, type ReactNode } from 'react';
import { renderToPipeableStream, renderToString } from 'react-dom/server';
import {
  connect, hydrate, json, latest, type Client, type Entry, type Latest, type Log, type Reading,
} from '../../src/index.js';
import { HighwaterProvider, useConnection, useOpen, useRead } from '../../src/react/index.js';

type Given = Reading<readonly Entry<string>[]>;
const words = (
  client: Client,
  { name }: { name: string },
  given?: Given,
): { log: Log<string>; words: Latest<string> } => {
  const log = client.log<string>(name, { codec: json });
  return { log, words: hydrate(latest(log), given) };
};
const Words = ({ given }: { given?: Given }) => {
  const opened = useOpen(words, { name: 'words' }, given);
  const all = useRead(opened.words, (map) => [...map.values()].map(({ payload }) => payload));
  return <>{`${all} ${useRead(opened.words.get('b'))?.payload} ${useConnection().text}`}</>;
};
const entry = (offset: number, key: string, payload: string): Entry<string> => ({
  key, payload, offset, seq: 1, tombstone: false, pending: false,
  origin: { user: 'ada', writer: '', connection: '' },
});
const read = (...entries: Entry<string>[]): Given =>
  ({ log: 7, offset: entries.length, position: '1.1.1', state: entries });

/** A client of one request: it connects to nothing. */
const request = (): Client => connect('http://localhost:1', { autoConnect: false });
const app = (children: ReactNode, client = request()): ReactNode =>
  <HighwaterProvider client={client}>
    <Suspense fallback="loading">{children}</Suspense>
  </HighwaterProvider>;
const text = (html: string): string => html.replace(/<[^]*?>/g, '');

test('a server renders what was read for it, and that the page connects', () => {
  assert.equal(typeof document, 'undefined');
  const given = read(entry(0, 'a', 'one'), entry(1, 'b', 'two'));
  assert.equal(text(renderToString(app(<Words given={given} />))), 'one,two two connecting');
  assert.equal(text(renderToString(app(<Words given={read()} />))), ' undefined connecting');
});

test('what was not read for it is the fallback, at once, with the reason', async () => {
  const problems: unknown[] = [];
  let html = '';
  await new Promise<void>((resolve) => {
    const { pipe } = renderToPipeableStream(app(<Words />), {
      onError: (error) => void problems.push((error as Error).message),
      onAllReady: () => pipe(new Writable({
        write: (chunk, _, done) => {
          html += chunk;
          done();
        },
        final: (done) => {
          done();
          resolve();
        },
      })),
    });
  });
  assert.match(html, /<!--\$!-->/);
  assert.match(text(html), /^loading/);
  assert.deepEqual(problems, ['not read on the server']);
});

test('what a server opened for a render ends, so that nothing of a request stays', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const client = request();
  renderToString(app(<Words given={read()} />, client));
  assert.equal(client.core.followed.named.get('words')!.holders.size, 1);
  context.mock.timers.tick(5000);
  assert.equal(client.core.followed.named.has('words'), false);
});

test('outside of a provider it says so', () => {
  assert.throws(() => renderToString(<Words />), /no HighwaterProvider/);
});
