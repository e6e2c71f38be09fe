/** What an app gets of the React part, and that what is written of it is true: it compiles. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';

const folder = mkdtempSync(join(tmpdir(), 'highwater-react-'));
const here = process.cwd();

before(() => {
  // As an app that has installed them.
  mkdirSync(join(folder, 'node_modules', '@types'), { recursive: true });
  for (const name of ['react', 'react-dom', '@types/react', '@types/react-dom']) {
    symlinkSync(join(here, 'node_modules', name), join(folder, 'node_modules', name));
  }
  symlinkSync(here, join(folder, 'node_modules', 'highwater'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module","private":true}');
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Compiles those files in a strict app; `lib` without the DOM where they need none. */
const compile = (files: string[], lib: string[]): void => {
  for (const [module, moduleResolution] of [['node16', 'node16'], ['esnext', 'bundler']]) {
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({
      compilerOptions: {
        strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true,
        skipLibCheck: false, noEmit: true, lib, types: [], jsx: 'react-jsx',
        module, moduleResolution, target: 'es2022',
      },
      files,
    }));
    try {
      const tsc = join(here, 'node_modules/.bin/tsc');
      execFileSync(tsc, ['-p', '.'], { cwd: folder, stdio: 'pipe' });
    } catch (error) {
      throw new Error(`${(error as { stdout: Buffer }).stdout}`);
    }
  }
};

test('the blocks of docs/react.md are one program', () => {
  const blocks = readFileSync('../docs/react.md', 'utf8').matchAll(/^```tsx\n([^]*?)^```/gm);
  const program = [...blocks].map(([, code]) => code);
  assert.ok(program.length >= 6, `${program.length} blocks`);
  writeFileSync(join(folder, 'docs.tsx'), program.join('\n'));
  compile(['docs.tsx'], ['es2022', 'dom', 'dom.iterable']);
});

test('the example compiles as an app would', () => {
  cpSync('examples/react/app.tsx', join(folder, 'app.tsx'));
  compile(['app.tsx'], ['es2022', 'dom', 'dom.iterable']);
});

test('the example of a log on the device compiles as an app would', () => {
  const names = ['app.tsx', 'list.ts', 'meet.tsx', 'parts.tsx'];
  for (const name of names) cpSync(`examples/todo/${name}`, join(folder, name));
  compile(names, ['es2022', 'dom', 'dom.iterable']);
});

test('its types need no DOM, say what is ready, and refuse what is wrong', () => {
  writeFileSync(join(folder, 'types.tsx'), `
import { connect, json, latest, view, type Client, type Log, type View } from 'highwater';
import { HighwaterProvider, useClient, useConnection } from 'highwater/react';
import { useOpen, useRead, type Held } from 'highwater/react';

const one = (client: Client, { id }: { id: string }) => {
  const log = client.log<number>(id, { codec: json });
  return { log, sum: view(log, (sum, { payload }) => sum + (payload ?? 0), 0), keys: latest(log) };
};
interface Props { readonly id: string }
export const Shown = (props: Props) => {
  const { log, sum, keys } = useOpen(one, props);
  const ready: number = useRead(sum);
  const size: number = useRead(keys, (all) => all.size);
  const key: number | undefined = useRead(keys.get('a'))?.payload;
  const phase: 'live' | string = useConnection(log).phase;
  keys.reload();
  const text: string = useConnection().text;
  const client: Client = useClient();
  return <HighwaterProvider client={client}>{[ready, size, key, phase, text]}</HighwaterProvider>;
};
declare const unready: View<number>;
export const Unready = () => {
  // @ts-expect-error: it may not be known yet.
  const known: number = useRead(unready);
  const maybe: string | undefined = useRead(unready, (value) => value.toFixed());
  // @ts-expect-error: it has an id.
  useOpen(one, { name: 'a' });
  // @ts-expect-error: it takes parameters.
  useOpen(one);
  // @ts-expect-error: nothing that could be let go.
  useOpen(() => ({ a: 1 }));
  return <>{known}{maybe}</>;
};
export const held: Held = null! as Log;
export const bare: Log = useOpen((client) => client.log('a'));
export default connect;
`);
  compile(['types.tsx'], ['es2022']);
});

test('what is built begins with its directive, and has these exports', async () => {
  assert.match(readFileSync('dist/react.js', 'utf8'), /^'use client';\n/);
  assert.match(readFileSync('dist/react-log.js', 'utf8'), /^'use client';\n/);
  const parts = 'highwater/react/log';
  assert.deepEqual(Object.keys(await import(parts)).sort(), ['ReceiptStatus', 'Refused', 'WorkStatus', 'useOpenLog']);
  const name = 'highwater/react';
  const all = Object.keys(await import(name)).sort();
  assert.deepEqual(all, ['HighwaterProvider', 'useClient', 'useConnection', 'useOpen', 'useRead']);
});

test('a page in development, which has no `process`, refuses definitions inside', async () => {
  const contents = `
    import { createElement as h } from 'react';
    import { renderToString } from 'react-dom/server';
    import { connect } from 'highwater';
    import { HighwaterProvider, useOpen } from 'highwater/react';
    const client = connect('http://localhost', { autoConnect: false });
    const Inside = () => void useOpen((client) => client.log('inside'), {}, {});
    const app = h(HighwaterProvider, { client }, ...Array.from({ length: 12 }, () => h(Inside)));
    try {
      console.log(typeof process, renderToString(app) || 'rendered');
    } catch ({ message }) {
      console.log(typeof process, message);
    }
    exit(); // React holds a port open.`;
  const said = async (mode: string): Promise<string> => {
    const outfile = join(folder, `${mode}.mjs`);
    await build({
      stdin: { contents, resolveDir: folder }, outfile, bundle: true, format: 'esm',
      platform: 'browser', define: { 'process.env.NODE_ENV': `"${mode}"` },
      banner: { js: 'const { exit } = process; delete globalThis.process;' }, logLevel: 'error',
    });
    return execFileSync(process.execPath, [outfile], { encoding: 'utf8', timeout: 20_000 });
  };
  assert.match(await said('development'), /^undefined useOpen: .*inside belongs outside/);
  assert.equal(await said('production'), 'undefined rendered\n');
});
