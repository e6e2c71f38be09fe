// Bundles every test/*.test.ts to build/ and runs them with Node's own test runner.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { build } from 'esbuild';

const only = process.argv.slice(2);
const tests = readdirSync('test')
  .filter((name) => name.endsWith('.test.ts') && (!only.length || only.some((part) => name.includes(part))));
rmSync('build', { recursive: true, force: true });
await build({
  entryPoints: tests.map((name) => `test/${name}`), outdir: 'build', outExtension: { '.js': '.mjs' },
  bundle: true, format: 'esm', platform: 'node', target: 'node20', packages: 'external',
  sourcemap: 'inline', logLevel: 'error',
});
const files = tests.map((name) => `build/${name.replace(/\.ts$/, '.mjs')}`);
const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', ...files], { stdio: 'inherit' });
process.exit(status ?? 1);
