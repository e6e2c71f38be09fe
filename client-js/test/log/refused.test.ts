/** What stands among the refused ones: what was there, and what was meant. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect, memory } from '../../src/log/index.js';
import { Server, token } from '../server.js';
import { when } from '../when.js';
import { board } from './todos.js';

const server = new Server('[[rules]]\npattern = "boards/**"\nsnapshot = "latest"\n');
before(() => server.start());
after(() => server.remove());

test('a refused value stands beside what is there, not beside itself', async (context) => {
  const back = connect(server.url, { token: token('before'), store: memory });
  context.after(() => back.close());
  const theirs = back.open(board, { board: 'shown' });
  theirs.view.title.set('There');
  await theirs.view.cards.set('a', { text: 'card' }).accepted;
  const grants = [{ logs: 'boards/**', can: ['read' as const] }];
  const client = connect(server.url, { token: token('before', grants), store: memory });
  context.after(() => client.close());
  const mine = client.open(board, { board: 'shown' });
  await when(mine.view.title, (title): title is string => title === 'There');
  await assert.rejects(mine.view.title.set('Mine').accepted, { code: 'denied' });
  await assert.rejects(mine.view.cards.delete('a').accepted, { code: 'denied' });
  await assert.rejects(mine.view.cards.set('b', { text: 'new' }).accepted, { code: 'denied' });
  const shown = client.refused.value.map(({ key, before, after }) => ({ key, before, after }));
  assert.deepEqual(shown, [
    { key: 'title', before: 'There', after: 'Mine' },
    { key: 'card/a', before: { text: 'card' }, after: undefined },
    { key: 'card/b', before: undefined, after: { text: 'new' } },
  ]);
});
