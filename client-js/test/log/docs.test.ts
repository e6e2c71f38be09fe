/** The guides on the log: each is one program, which compiles strictly and prints what it says. */

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { Server, token } from '../server.js';

const GUIDES = ['offline', 'conflicts', 'changing-a-schema', 'actions', 'client-log-api'];
const blocks = (name: string, kind: string): string[] => {
  const text = readFileSync(`../docs/${name}.md`, 'utf8');
  return [...text.matchAll(new RegExp(`^\`\`\`${kind}\\n([^]*?)^\`\`\`$`, 'gm'))].map(
    ([, code]) => code!,
  );
};

// Inside the package its own name leads to what was built.
mkdirSync('build', { recursive: true });
const folder = mkdtempSync(resolve('build/guides-'));
const server = new Server();
before(() => server.start());
after(async () => {
  await server.remove();
  rmSync(folder, { recursive: true });
});

const program = (name: string): string =>
  blocks(name, 'ts').join('\n').replaceAll('https://push.example.org', server.url);

test('they compile, as an app would', () => {
  const files = GUIDES.map((name) => `${name}.ts`);
  for (const name of GUIDES) writeFileSync(join(folder, `${name}.ts`), program(name));
  writeFileSync(join(folder, 'app.d.ts'), `declare const getToken: () => Promise<string>;
declare const process: { on(event: string, listener: (error: Error) => void): void };`);
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({
    compilerOptions: {
      strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true,
      skipLibCheck: false, noEmit: true, lib: ['es2022', 'dom'], types: [],
      module: 'esnext', moduleResolution: 'bundler', target: 'es2022', moduleDetection: 'force',
    },
    files: [...files, 'app.d.ts'],
  }));
  try {
    execFileSync(resolve('node_modules/.bin/tsc'), ['-p', '.'], { cwd: folder, stdio: 'pipe' });
  } catch (error) {
    throw new Error(`${(error as { stdout: Buffer }).stdout}`);
  }
});

test('the page of all names has all of them', () => {
  const page = readFileSync('../docs/client-log-api.md', 'utf8');
  const source = (name: string): string => readFileSync(`src/${name}.ts`, 'utf8');
  const exported = [...source('log/index').matchAll(/export (?:type )?\{([^}]*)\}/g)].flatMap(
    ([, names]) => names!.replace(/type /g, '').split(',').map((name) => name.trim()),
  ).filter(Boolean);
  const members = (file: string, of: string): string[] => {
    const whole = RegExp(`export interface ${of}\\b[^{]*\\{\\n([^]*?)\\n\\}`);
    const [, body] = whole.exec(source(file))!;
    return [...body!.matchAll(/^  readonly (\w+)/gm)].map(([, name]) => name!);
  };
  const phases = [...source('states').matchAll(/readonly phase: '([\w-]+)'/g)].map(
    ([, phase]) => phase!,
  );
  const names = [
    ...exported, ...phases, ...members('client', 'ClientOptions'),
    ...members('log/client', 'LogClientOptions'), ...members('log/client', 'OpenOptions'),
    ...members('log/client', 'Work'), ...members('log/define', 'ActionOptions'),
    ...members('log/define', 'Meta'), ...members('log/inbox', 'RefusedAction'),
    ...members('log/opened', 'Opened'), ...members('log/store', 'Health'),
  ];
  assert.ok(names.length > 90, names.join());
  assert.deepEqual(names.filter((name) => !RegExp(`\`[^\`]*\\b${name}\\b`).test(page)), []);
});

for (const name of GUIDES) {
  test(`docs/${name}.md prints what it says`, async () => {
    const code = program(name);
    const wanted = [...code.matchAll(/^\/\/ → (.*)$/gm)].map(([, line]) => line);
    assert.ok(wanted.length, 'it says something');
    const contents = `const getToken = async () => ${JSON.stringify(token(name))};\n${code}`;
    await build({
      stdin: { contents, loader: 'ts', resolveDir: folder }, outfile: join(folder, `${name}.mjs`),
      bundle: true, format: 'esm', platform: 'node', target: 'node20', logLevel: 'error',
    });
    const child = spawn(process.execPath, [join(folder, `${name}.mjs`)], { cwd: folder });
    let printed = '';
    let errors = '';
    child.stdout.on('data', (part) => (printed += part));
    child.stderr.on('data', (part) => (errors += part));
    const [status] = await once(child, 'close');
    assert.equal(status, 0, errors);
    assert.deepEqual(printed.trimEnd().split('\n'), wanted);
  });
}
