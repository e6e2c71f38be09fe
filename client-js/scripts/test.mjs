// Bundles <folder>/**/*.test.ts(x) to build/<folder>/ and runs them with Node's own test runner.
// The folder is `test` or what follows `--in`; other words pick files by a part of their name.
// Beside them <folder>/*.child.ts: programs that a test starts and kills.
// A file that has not ended after ten minutes fails: what waits for a lost record waits for ever.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { build } from 'esbuild';
import { mangleCache, mangleProps } from './internal.mjs';

const only = process.argv.slice(2);
const [, folder = 'test'] = only.includes('--in') ? only.splice(only.indexOf('--in'), 2) : [];
const wanted = (name) => !only.length || only.some((part) => name.includes(part));
const sources = readdirSync(folder, { recursive: true });
const tests = sources.filter((name) => /\.test\.tsx?$/.test(name) && wanted(name));
const children = sources.filter((name) => name.endsWith('.child.ts'));
const out = `build/${folder}`;
rmSync(out, { recursive: true, force: true });
await build({
  entryPoints: [...tests, ...children].map((name) => `${folder}/${name}`),
  outdir: out, outbase: folder, outExtension: { '.js': '.mjs' },
  bundle: true, format: 'esm', platform: 'node', target: 'node20', packages: 'external',
  sourcemap: 'inline', logLevel: 'error', mangleCache, mangleProps,
});
const files = tests.map((name) => `${out}/${name.replace(/\.tsx?$/, '.mjs')}`);
// Most of a test's time is waiting, for a server or for a time that is to pass: two at least at once.
const many = `--test-concurrency=${Math.max(2, availableParallelism() - 1)}`;
const options = ['--enable-source-maps', '--test', '--test-timeout=600000', many];
const { status } = spawnSync(process.execPath, [...options, ...files], { stdio: 'inherit' });
process.exit(status ?? 1);
