// How many writes a second the client's stores take, in Chromium and in Node; what is printed is
// kept in bench/runs. Settings: SAVE (name of the file; `no`: none).
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { mangleCache, mangleProps } from '../scripts/internal.mjs';
import { Profile, serve } from './profile.mjs';

const ROUNDS = 3;
const lines = [];
const say = (line = '') => {
  lines.push(line);
  console.log(line);
};
const run = (program, ...args) => execFileSync(program, args, { encoding: 'utf8' }).trim();

/** In a page or here: one after another for a while, then a thousand to a tick; each of 100 B. */
const measure = async (store, durability) => {
  const value = { log: 'lists/home/todos', kind: 'add', json: 'x'.repeat(60) };
  if (durability) {
    const { prototype } = IDBDatabase;
    const real = (prototype.real ??= prototype.transaction);
    prototype.transaction = function (names, mode) {
      return real.call(this, names, mode, { durability });
    };
  }
  const kinds = new Set();
  const times = [];
  let n = 0;
  const write = async () => kinds.add(await store.write([[`pending/${n++}`, value]]));
  const until = performance.now() + 4000;
  let now = performance.now();
  while (now < until) {
    await write();
    const then = performance.now();
    times.push(then - now);
    now = then;
  }
  const alone = times.length / (times.reduce((sum, time) => sum + time) / 1000);
  const together = [];
  for (let round = 0; round < 20; round++) {
    const start = performance.now();
    await Promise.all(Array.from({ length: 1000 }, write));
    together.push(1_000_000 / (performance.now() - start));
  }
  const start = performance.now();
  const rows = await store.read('pending/');
  const read = performance.now() - start;
  const sorted = (list) => list.sort((a, b) => a - b);
  const at = (list, part) => sorted(list)[Math.floor(list.length * part)];
  return {
    alone, p50: at(times, 0.5), p99: at(times, 0.99), together: at(together, 0.5), read,
    rows: rows.length, kinds: [...kinds].join(),
  };
};

const tell = (what, { alone, p50, p99, together, read, rows, kinds }) =>
  say(`${what.padEnd(17)} one by one ${alone.toFixed(0).padStart(5)}/s, p50 ${p50.toFixed(2)} ms, ` +
    `p99 ${p99.toFixed(2)} ms; 1,000 in a tick ${together.toFixed(0).padStart(6)}/s; ` +
    `${rows} rows read in ${read.toFixed(0)} ms; ${kinds}`);

const inNode = async () => {
  const folder = mkdtempSync(join(tmpdir(), 'highwater-store-bench-'));
  try {
    const outfile = join(folder, 'file.mjs');
    const names = { mangleCache, mangleProps };
    const entryPoints = ['src/log/file.ts'];
    await build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'esm', ...names });
    const { file } = await import(pathToFileURL(outfile).href);
    for (let round = 0; round < ROUNDS; round++) {
      const store = file(folder)(`${round}`, { rows: () => [] });
      tell('file, fsync', await measure(store));
      await store.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
};

const server = await serve();
const profile = await new Profile().start();
try {
  const [{ model }] = cpus();
  say('bench      store of the client log');
  say(`date       ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`);
  say(`commit     ${run('git', 'describe', '--always', '--dirty')}`);
  say(`cpu        ${cpus().length} cores of ${model}; shared by all that runs here`);
  say(`memory     ${Math.round(totalmem() / 1024)} kB`);
  say(`kernel     ${release()}, Node.js ${process.version}, Chromium ${profile.version}`);
  say(`busy       load average before the run ${loadavg().map((n) => n.toFixed(2)).join(' ')}`);
  say();
  // In turn, so that what else the machine does falls on both.
  for (let round = 0; round < ROUNDS; round++) {
    for (const durability of ['strict', 'relaxed']) {
      const page = await profile.page(server.url);
      const store = `globalThis.open('${durability} ${round}', { rows: () => [] })`;
      const result = await page.evaluate(`(${measure})(${store}, '${durability}')`);
      tell(`Chromium, ${durability}`, result);
      await page.close();
    }
  }
  await inNode();
} finally {
  await profile.close();
  server.close();
}
const { SAVE = 'store' } = process.env;
if (SAVE !== 'no') {
  const path = `bench/runs/${new Date().toISOString().slice(0, 10)}-${SAVE}.txt`;
  writeFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), `${lines.join('\n')}\n`);
  console.log(`kept in ${path}`);
}
