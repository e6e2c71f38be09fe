// Builds dist/: the types; the package, in modules that an app's bundler takes or leaves one by
// one; and `highwater.js`, all of it in one file, for a page without a bundler. Their sizes are
// held to the promises of the design, measured as an app bundles what it imports.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { mangleCache, mangleProps, published } from './internal.mjs';

/** Each of these is a module of its own, with what it alone needs; what several need is another. */
const PARTS = [
  'client', 'debug', 'emitter', 'errors', 'hydrate', 'json-wire', 'latest', 'past', 'payload',
  'snapshot', 'view',
];
/** Most bytes min+gz of what an app imports, by itself; the plain layer is the first. */
const LIMITS = {
  '{ connect, HighwaterError }': 16_050,
  '{ connect, HighwaterError, json, latest }': 17_150,
  '{ view }': 1_400,
  '{ latest }': 1_600,
  '{ json }': 200,
  '{ HighwaterError }': 200,
  '{ jsonWire }': 1_550,
  '{ history }': 1_500,
  '{ putSnapshot }': 1_000,
  '{ hydrate }': 400,
  '{ debug }': 250,
};

/** The same of `highwater/log`, with the plain layer under it and the signals that it stands on. */
const LOG = {
  '{ connect, log, action, lww, keyed }': 40_050,
};

/** The same for what it imports from `highwater/react`; the first is all of it. */
const REACT = {
  '*': 1_000,
  '{ useRead }': 450,
  '{ useConnection }': 500,
};

/** Of `highwater/react/log`, with what it uses of the hooks. */
const REACT_LOG = {
  '*': 2_550,
  '{ useOpenLog }': 1_200,
  '{ WorkStatus }': 900,
};

const bundle = (options) =>
  build({ bundle: true, format: 'esm', target: 'es2022', logLevel: 'error', ...options });
/** Minified as an app's bundler would: what it does not import is not in it, nor is React. */
const measure = async (names, from = 'highwater') => {
  const stdin = { contents: `export ${names} from '${from}'`, resolveDir: '.' };
  const define = { 'process.env.NODE_ENV': '"production"' };
  const options = { stdin, define, minify: true, write: false, external: ['react'] };
  const { outputFiles } = await bundle(options);
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
};
const fail = (why) => {
  console.error(why);
  process.exitCode = 1;
};

rmSync('dist', { recursive: true, force: true });
execFileSync(
  process.execPath,
  ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'],
  { stdio: 'inherit' },
);
// `server` and `file` are for Node. They have the errors and codecs of the others: one class
// wherever it is thrown.
const entryPoints = [
  ...['index', 'server', ...PARTS].map((name) => ({ in: `src/${name}.ts`, out: name })),
  { in: 'src/log/index.ts', out: 'log' },
  { in: 'src/log/file.ts', out: 'file' },
];
// Neutral, so that `process.env.NODE_ENV` is left to the app's bundler.
const shipped = {
  mangleCache, mangleProps, minifySyntax: true, sourcemap: true, platform: 'neutral',
  external: ['node:*', '@preact/signals-core'],
};
await bundle({ ...shipped, entryPoints, outdir: 'dist', splitting: true });
const whole = { entryPoints: ['src/index.ts'], outfile: 'dist/highwater.js', minify: true };
await bundle({ ...shipped, ...whole });
// Of the client it takes only types. The directive says that its hooks are for the page, where
// components of a server import them.
await bundle({
  entryPoints: [
    { in: 'src/react/index.ts', out: 'react' }, { in: 'src/react/log/index.ts', out: 'react-log' },
  ],
  outdir: 'dist', splitting: true, external: ['react'],
  mangleProps: /^_[a-z]/, minifySyntax: true, sourcemap: true, platform: 'neutral',
  banner: { js: "'use client';" },
});
const wrong = published('dist');
if (wrong.length) fail(`scripts/internal.mjs names what apps use: ${wrong}`);
console.log(`dist/highwater.js, all in one: ${readFileSync('dist/highwater.js').length} B`);
for (const [from, limits] of [
  ['highwater', LIMITS], ['highwater/log', LOG], ['highwater/react', REACT],
  ['highwater/react/log', REACT_LOG],
]) {
  for (const [names, limit] of Object.entries(limits)) {
    const size = await measure(names, from);
    console.log(`min+gz ${names} from ${from}: ${size} B`);
    if (size > limit) fail(`more than ${limit} B`);
  }
}
