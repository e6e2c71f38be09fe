/** The programs of the document: each is run as it stands there, and prints what it says. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { SECRET, Server } from '../server.js';

const document = readFileSync('../docs/server-sdk.md', 'utf8');
const blocks = [...document.matchAll(/^## (.*)\n[^]*?^```js\n([^]*?)^```$/gm)];
const [, , prelude = ''] = blocks[0] ?? [];

// Inside the package its own name leads to what was built.
mkdirSync('build', { recursive: true });
const folder = mkdtempSync(resolve('build/docs-'));
const server = new Server(`
[[rules]]
pattern = "demo/**"
snapshot = "latest"
[[rules]]
pattern = "docs/**"
snapshot = "client"
`);
before(() => server.start());
after(async () => {
  await server.remove();
  rmSync(folder, { recursive: true });
});

test('the programs were found', () => {
  assert.equal(blocks.length, 11);
  assert.match(prelude, /from 'highwater\/server'/);
  assert.equal(blocks.length, document.match(/^```js$/gm)!.length, 'one under each heading');
});

for (const [at, [, title, code]] of blocks.entries()) {
  test(title!, async () => {
    const program = join(folder, `${at}.mjs`);
    writeFileSync(program, at ? `${prelude}\n${code}` : code!);
    const wanted = [...code!.matchAll(/\/\/ → (.*)$/gm)].map(([, line]) => line);
    assert.ok(code!.trim().split('\n').length <= 13, 'ten lines, more or less');
    const env = { ...process.env, HIGHWATER_URL: server.url, HIGHWATER_SECRET: SECRET };
    const child = spawn(process.execPath, [program], { cwd: folder, env });
    const ended = once(child, 'exit');
    const printed: string[] = [];
    let errors = '';
    child.stderr.on('data', (part) => (errors += part));
    let last = Date.now();
    createInterface(child.stdout).on('line', (line) => {
      printed.push(line);
      last = Date.now();
      // What runs for ever is asked to end, and ends by itself then.
      if (code!.includes('SIGTERM') && printed.length === wanted.length) child.kill('SIGTERM');
    });
    const [status] = await ended;
    assert.equal(status, 0, errors);
    assert.deepEqual(printed, wanted);
    // A socket that is kept for later, or a timer, would hold it for five seconds and more.
    assert.ok(!wanted.length || Date.now() - last < 4_000, 'it ends when it has no more to do');
  });
}
