/** The demo that the server embeds is the one that these sources make. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { files, FOLDER } from '../scripts/demo-files.mjs';

test('the embedded demo is built from these sources', async () => {
  const built = await files();
  assert.deepEqual(Object.keys(built).sort(), ['app.js', 'highwater.js', 'icon.svg', 'index.html', 'style.css']);
  for (const [name, text] of Object.entries(built)) {
    const embedded = readFileSync(`${FOLDER}/${name}`, 'utf8');
    assert.ok(embedded === text, `${FOLDER}/${name} is stale: run "npm run build:demo"`);
  }
});

test('the demo stays small', async () => {
  const { 'highwater.js': client, ...demo } = await files();
  const sizes = Object.values(demo).map((text) => Buffer.byteLength(text));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  assert.ok(total <= 74_000, `${total} bytes`);
  assert.ok(Buffer.byteLength(client!) <= 52_000, 'the client alone, for a page without a build');
});
