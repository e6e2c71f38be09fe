// Builds dist/: the types, and one ESM bundle, whose parts are held to the promise of the design:
// the core, as an app bundles it that makes no view, and what views add to it.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { mangleCache, mangleProps, published } from './internal.mjs';

/** Bytes min+gz. */
const LIMITS = { core: 12_000, views: 600 };
const bundle = (options) =>
  build({ bundle: true, format: 'esm', target: 'es2022', logLevel: 'error', ...options });
/** Minified as an app's bundler would: what it does not import is not in it. */
const measure = async (names) => {
  const stdin = { contents: `export ${names} from './dist/highwater.js'`, resolveDir: '.' };
  const { outputFiles } = await bundle({ stdin, minify: true, write: false });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
};

rmSync('dist', { recursive: true, force: true });
execFileSync(
  process.execPath,
  ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'],
  { stdio: 'inherit' },
);
const entry = { entryPoints: ['src/index.ts'], outfile: 'dist/highwater.js', sourcemap: true };
await bundle({ ...entry, mangleCache, mangleProps, minifySyntax: true });
const wrong = published('dist');
if (wrong.length) {
  console.error(`scripts/internal.mjs names what apps use: ${wrong}`);
  process.exitCode = 1;
}
const core = await measure('{ connect, HighwaterError }');
const views = (await measure('*')) - core;
console.log(`dist/highwater.js: ${readFileSync('dist/highwater.js').length} B; min+gz: core ${core} B, views ${views} B more`);
for (const [part, size] of Object.entries({ core, views })) {
  if (size <= LIMITS[part]) continue;
  console.error(`${part}: more than ${LIMITS[part]} B min+gz`);
  process.exitCode = 1;
}
