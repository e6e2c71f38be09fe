// Builds dist/: the types, and one ESM bundle whose size is held to the promise of the design.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const LIMIT = 12_000;
const bundle = (options) =>
  build({
    entryPoints: ['src/index.ts'], bundle: true, format: 'esm', target: 'es2022', logLevel: 'error',
    ...options,
  });

rmSync('dist', { recursive: true, force: true });
execFileSync(
  process.execPath,
  ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'],
  { stdio: 'inherit' },
);
await bundle({ outfile: 'dist/highwater.js', sourcemap: true });
const { outputFiles } = await bundle({ minify: true, write: false });
const min = outputFiles[0].contents;
const gz = gzipSync(min, { level: 9 }).length;
console.log(`dist/highwater.js: ${readFileSync('dist/highwater.js').length} B, ${min.length} B min, ${gz} B min+gz`);
if (gz > LIMIT) {
  console.error(`the bundle is larger than ${LIMIT} B min+gz`);
  process.exit(1);
}
