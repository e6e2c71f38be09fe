/** In Node against a server in `--dev`: the user that it makes up is the same at the next start. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { file } from '../../src/log/file.js';
import { connect } from '../../src/log/index.js';
import { PROGRAM } from '../server.js';
import { when } from '../when.js';
import { todos } from './todos.js';

test('a second start with the same file is the same user', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'highwater-dev-'));
  const given = ['serve', '--dev', '--listen', '127.0.0.1:0', '--data', join(folder, 'data')];
  const child = spawn(PROGRAM, given, { stdio: ['ignore', 'pipe', 'ignore'] });
  context.after(async () => {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
    rmSync(folder, { recursive: true });
  });
  const url = await new Promise<string>((found) => {
    createInterface(child.stdout!).on('line', (line) => {
      const [, where] = /(http:\/\/127\.0\.0\.1:\d+)/.exec(line) ?? [];
      if (where) found(where);
    });
  });
  const store = file(join(folder, 'device'));
  const first = connect(url, { store });
  const list = first.open(todos, { list: 'dev' });
  await list.do.add({ id: 'a', text: 'a' }).accepted;
  first.disconnect();
  await list.do.add({ id: 'b', text: 'b' }).saved;
  await first.close();
  const second = connect(url, { store });
  context.after(() => second.close());
  const again = second.open(todos, { list: 'dev' });
  await when(second.status, ({ phase }) => phase === 'live');
  await when(again.view.count, (count) => count === 2);
  await when(again.pending, (count) => count === 0);
  assert.deepEqual(second.refused.value, []);
});
