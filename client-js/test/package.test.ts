/** What an app installs: `npm pack`, its types without DOM and Node, its exports one by one. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

const folder = mkdtempSync(join(tmpdir(), 'highwater-package-'));
const bin = (name: string): string => join(process.cwd(), 'node_modules', '.bin', name);
const run = (program: string, ...args: string[]): string => {
  try {
    return execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${program} ${args.join(' ')}\n${stdout}\n${stderr}`);
  }
};
let tarball = '';

before(() => {
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder];
  const [packed] = JSON.parse(execFileSync('npm', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  tarball = join(folder, packed.filename);
  const installed = join(folder, 'node_modules', 'highwater');
  mkdirSync(installed, { recursive: true });
  run('tar', '-xzf', tarball, '-C', installed, '--strip-components=1');
  writeFileSync(join(folder, 'package.json'), '{"type":"module","private":true}');
});
after(() => rmSync(folder, { recursive: true, force: true }));

test('an app runs with what is packed, without a build', () => {
  const script = `import * as all from 'highwater'; console.log(Object.keys(all).sort().join());`;
  writeFileSync(join(folder, 'app.mjs'), script);
  assert.equal(
    run(process.execPath, 'app.mjs').trim(),
    'HighwaterError,connect,debug,history,hydrate,json,jsonWire,latest,putSnapshot,view',
  );
  writeFileSync(join(folder, 'back.mjs'), `import * as all from 'highwater/server';
import { HighwaterError } from 'highwater';
console.log(all.HighwaterError === HighwaterError, Object.keys(all).sort().join());`);
  assert.equal(
    run(process.execPath, 'back.mjs').trim(),
    'true AppendError,HighwaterError,fileStorage,highwater,json,memoryStorage,signToken',
  );
  const files = readdirSync(join(folder, 'node_modules', 'highwater'));
  assert.deepEqual(files.sort(), ['LICENSE', 'README.md', 'dist', 'package.json']);
});

test('whether it is an app in development is asked of the app, not of how this was built', () => {
  const dist = join(folder, 'node_modules', 'highwater', 'dist');
  const asks = (name: string): boolean => readFileSync(join(dist, name), 'utf8').includes('process.env.NODE_ENV');
  const modules = readdirSync(dist).filter((name) => name.endsWith('.js'));
  assert.ok(asks('highwater.js') && modules.some((name) => name !== 'highwater.js' && asks(name)));
});

test('its types need neither DOM nor Node, in the strictest app', () => {
  const app = `import { connect, history, json, jsonWire, latest, putSnapshot, view, debug, HighwaterError } from 'highwater';
import type * as types from 'highwater';
const client = connect('http://localhost', { autoConnect: false, encoding: jsonWire });
const log = client.log<{ a: number }>('a', { codec: json });
export const all = [history(log), putSnapshot, latest(log).get('a').value?.payload?.a, view(log, (n: number) => n + 1, 0).value, debug(client).info().met, HighwaterError];
export type S = types.Status | types.LogStatus | types.Code | types.LogOptions | types.WebSocketLike | types.Storage;`;
  writeFileSync(join(folder, 'app.ts'), app);
  writeFileSync(join(folder, 'back.ts'), `import { fileStorage, highwater, json, memoryStorage, signToken } from 'highwater/server';
import type * as types from 'highwater/server';
const server = highwater({ url: 'http://localhost', token: async () => signToken({ secret: 'x', user: 'a', grants: [] }) });
export const all = async (signal: types.Signal) => {
  const writer = await server.writer({ storage: fileStorage<types.WriterState>('x') });
  const { offset } = await server.append('a', { payload: 'x' }, { writer, signal });
  const [one] = await server.append('a', [{ payload: { a: 1 } }], { codec: json });
  for await (const entry of server.read<{ a: number }>('a', { codec: json, from: offset })) entry.payload?.a.toFixed();
  await server.follow('a', { cursor: memoryStorage<types.Cursor>(), onRecords: (records) => void records[0]?.offset.toFixed() });
  return [one?.offset, (await server.state('a')).position, await server.notify({ user: 'a', record: { payload: '' } })];
};
export type S = types.Grant | types.Owed | types.Reset | types.Gap | types.State | types.Highwater | types.AppendOptions;`);
  for (const module of [['node16', 'node16'], ['esnext', 'bundler']] as const) {
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({
      compilerOptions: {
        strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true,
        skipLibCheck: false, noEmit: true, lib: ['es2022'], types: [],
        module: module[0], moduleResolution: module[1],
      },
      files: ['app.ts', 'back.ts'],
    }));
    run(bin('tsc'), '-p', '.');
  }
});

test('rows are kept in a file by `highwater/file`, whose types need neither DOM nor Node', () => {
  const script = `import { file } from 'highwater/file';
const rows = () => [];
const one = file('./rows')('one', { rows });
console.log(await one.write([['a', new Uint8Array([1, 2])], ['n', (old = 0) => old + 1]]));
await one.close();
const two = file('./rows')('one', { rows });
console.log(JSON.stringify((await two.read('')).map(([key, value]) => [key, ...[value].flat()])));
await two.close();`;
  writeFileSync(join(folder, 'file.mjs'), script);
  assert.equal(run(process.execPath, 'file.mjs'), 'disk\n[["a",{"0":1,"1":2}],["n",1]]\n');
  const typed = `import { file } from 'highwater/file';
const store = file('./rows')('one', { rows: () => [] });
export const kind: Promise<'disk' | 'memory'> = store.write([['a', 1]]);
export const state: 'open' | 'stuck' | 'lost' = store.health.value.state;`;
  writeFileSync(join(folder, 'file.ts'), typed);
  const options = ['--strict', '--noEmit', '--lib', 'es2022', '--module', 'node16'];
  run(bin('tsc'), ...options, '--ignoreConfig', 'file.ts');
});

test('publint and "are the types wrong" find nothing', () => {
  run(bin('publint'), 'run', tarball, '--strict');
  run(bin('attw'), tarball, '--profile', 'esm-only');
});
