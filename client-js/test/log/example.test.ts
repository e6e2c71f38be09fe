/** The to-do list is one command: where its port is taken, it says what to do. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';

for (const name of ['todo', 'react']) {
  test(`examples/${name}: a port that is taken is said, with what to do`, async (context) => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    context.after(() => taken.close());
    const { port } = taken.address() as AddressInfo;
    for (const [given, said] of [[`${port}`, `port ${port} is taken: `], ['x', /"port"|NaN/]]) {
      const env = { ...process.env, PORT: given as string };
      const program = [`examples/${name}/serve.mjs`];
      const { status, stderr } = spawnSync(process.execPath, program, { env, encoding: 'utf8' });
      assert.equal(status, 1, stderr);
      assert.match(stderr, RegExp(said!));
      assert.match(stderr, /choose one with PORT=/);
      assert.doesNotMatch(stderr, /node:net/);
    }
  });
}
