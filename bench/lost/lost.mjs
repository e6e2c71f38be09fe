/**
 * `make lost`: updates lost and repeated by servers that push, each with its own client.
 *
 * Promise: all products go through the same scenarios in the same run; one that cannot be had is
 * left out and said; what is printed is kept in `bench/runs`, with the seed and how to repeat it.
 * Settings: ROUNDS, SEED, ONLY (products), SCENARIO, SAVE (name of the file; `no`: none).
 */

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { setTimeout as wait } from 'node:timers/promises';
import { COUNTS } from './ledger.mjs';
import { Round } from './round.mjs';
import { SCENARIOS } from './scenarios.mjs';

const FILES =
  ['highwater', 'y-websocket', 'socketio', 'socketio-database', 'centrifugo', 'nats'];
/** Not measured unless it is named: it fails on purpose. */
const CANARY = 'canary';
/** Most examples of a kind that are named. */
const EXAMPLES = 4;
/** Between the starts of rounds, so that not all servers start in one moment, ms. */
const STAGGER = 250;

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const list = (text) => (text ? text.split(/[ ,]+/).filter(Boolean) : undefined);

const lines = [];
const say = (line = '') => {
  lines.push(line);
  console.log(line);
};

const run = (program, args) => {
  try {
    return execFileSync(program, args, { encoding: 'utf8', cwd: here('.') }).trim();
  } catch {
    return '?';
  }
};

const settings = () => {
  const { ROUNDS = '3', SEED, ONLY, SCENARIO } = process.env;
  const seed = SEED ? Number(SEED) : Math.floor(Math.random() * 2 ** 31);
  const products = list(ONLY) ?? FILES;
  const scenarios = list(SCENARIO) ?? Object.keys(SCENARIOS);
  const wrong = [
    ...products.filter((name) => ![...FILES, CANARY].includes(name))
      .map((name) => `no product ${name}`),
    ...scenarios.filter((name) => !SCENARIOS[name]).map((name) => `no scenario ${name}`),
    ...(Number(ROUNDS) > 0 && Number.isInteger(seed) ? [] : ['ROUNDS and SEED are numbers']),
  ];
  if (wrong.length > 0) throw new Error(wrong.join('; '));
  return { rounds: Number(ROUNDS), seed, products, scenarios };
};

const load = async (name) => {
  const file = new URL(`products/${name}.mjs`, import.meta.url).href;
  return { ...(await import(file)), file, id: name };
};

/** What was measured, as its packages and programs name themselves. */
const versionOf = (product) => {
  const of = (name) => {
    const file = here(`node_modules/${name}/package.json`);
    return `${name} ${JSON.parse(readFileSync(file, 'utf8')).version}`;
  };
  const parts = (product.packages ?? []).map(of);
  if (product.version) {
    const { program, args } = product.version();
    const told = run(program, args);
    parts.unshift(/^\s*mod\s+(\S+\s+\S+)/m.exec(told)?.[1].replace(/\s+/, ' ') ?? told);
  }
  return parts.join(', ');
};

const head = ({ seed, rounds, products, scenarios }) => {
  const cores = cpus();
  const now = new Date().toISOString();
  const busy = existsSync('/proc/loadavg') ? loadavg().map((one) => one.toFixed(2)).join(' ') : '?';
  const again = `SEED=${seed} ROUNDS=${rounds} ONLY="${products.join(' ')}" ` +
    `SCENARIO="${scenarios.join(' ')}" make lost`;
  say('bench      lost');
  say(`date       ${now.slice(0, 10)} ${now.slice(11, 16)} UTC`);
  say(`commit     ${run('git', ['describe', '--always', '--dirty', '--exclude', '*'])}`);
  say(`cpu        ${cores.length} cores of ${cores[0]?.model}; all on them, over loopback`);
  say(`memory     ${Math.round(totalmem() / 1024)} kB`);
  say(`kernel     ${release()}, Node.js ${process.version}`);
  say(`busy       load average before the run ${busy}`);
  say(`seed       ${seed}; the same faults again, as near as timing lets: ${again}`);
};

/** What came of a round in a few words, for the raw output. */
const tell = (product, scenario, at, { found, notes, storedTwice }) => {
  const odd = Object.entries(found).filter(([count, { length }]) =>
    length > 0 && !['written', 'acked'].includes(count));
  const words = odd.map(([count, ids]) => {
    const more = ids.length > EXAMPLES ? ' …' : '';
    return `${COUNTS[count]} ${ids.length} (${ids.slice(0, EXAMPLES).join(' ')}${more})`;
  });
  if (storedTwice > 0) words.push(`stored twice ${storedTwice}`);
  const told = new Map();
  for (const { kind, who, id, why } of notes) {
    const name = kind === 'refused' ? `refused ${why ?? ''}` : `${who} was told: ${id}`;
    told.set(name, (told.get(name) ?? 0) + 1);
  }
  for (const [name, times] of told) words.push(`${name}${times > 1 ? ` (${times})` : ''}`);
  say(`${scenario.padEnd(8)} ${String(at + 1).padStart(2)}  ${product.name.padEnd(20)} ` +
    `written ${found.written.length}, acknowledged ${found.acked.length}` +
    `${words.length > 0 ? `; ${words.join('; ')}` : ''}`);
};

/**
 * All rounds of one scenario, side by side: each product meets the same seeds, and none begins
 * before all are there, so that what starting costs falls on nobody.
 */
const runScenario = async (name, products, { rounds, seed }) => {
  const results = new Map(products.map((product) => [product.id, []]));
  const failures = [];
  const all = [];
  for (let at = 0; at < rounds; at++) {
    const of = seed + 10_000 * Object.keys(SCENARIOS).indexOf(name) + 100 * at;
    for (const product of products) {
      all.push({ product, at, round: new Round(product, SCENARIOS[name], of) });
    }
  }
  const each = (list, work) => Promise.all(list.map(async (one, nth) => {
    try {
      await work(one, nth);
    } catch (error) {
      one.failed = true;
      failures.push(`${name} ${one.at + 1} ${one.product.name}: ${error.message}`);
      say(`${name.padEnd(8)} ${one.at + 1}  ${one.product.name} FAILED: ${error.stack}`);
      await one.round.end();
    }
  }));
  await each(all, async ({ round }, nth) => {
    await wait(STAGGER * nth);
    await round.begin();
  });
  await each(all.filter(({ failed }) => !failed), async ({ product, at, round }) => {
    const result = await round.play();
    results.get(product.id).push(result);
    tell(product, name, at, result);
  });
  return { results, failures };
};

/** The sum of the rounds of each product, a line each. */
const table = (name, products, results) => {
  const columns = Object.entries(COUNTS);
  const rows = products.map((product) => {
    const rounds = results.get(product.id);
    const sum = (count) => rounds.reduce((all, { found }) => all + found[count].length, 0);
    const cell = (count) => {
      if (['acked', 'lostStored', 'refused'].includes(count) && !product.acks) return '–';
      if (count === 'lostStored' && product.keeps === 'nothing') return '–';
      return ['unkept', 'unkeptTold'].includes(count) && product.keeps !== 'all' ? '–'
        : String(sum(count));
    };
    return [product.name, ...columns.map(([count]) => cell(count))];
  });
  say();
  say(`| ${SCENARIOS[name].title} | ${columns.map(([, title]) => title).join(' | ')} |`);
  say(`|---|${columns.map(() => '---:').join('|')}|`);
  for (const row of rows) say(`| ${row.join(' | ')} |`);
  say();
};

const save = () => {
  const name = process.env.SAVE || 'lost';
  if (name === 'no') return;
  const date = new Date().toISOString().slice(0, 10);
  const file = here(`../runs/${date}-${name}.txt`);
  // A run of the same day stays: the newer comes after it.
  const before = existsSync(file) ? `${readFileSync(file, 'utf8')}\n\n` : '';
  writeFileSync(file, `${before}${lines.join('\n')}\n`);
  console.log(`kept in bench/runs/${date}-${name}.txt`);
};

const main = async () => {
  const given = settings();
  const started = Date.now();
  head(given);
  const products = [];
  for (const product of await Promise.all(given.products.map(load))) {
    const lacks = product.missing();
    say(`${lacks ? 'left out' : 'measured'}   ${product.name}: ${lacks ?? versionOf(product)}`);
    if (!lacks) products.push(product);
  }
  say();
  const tables = [];
  const failures = [];
  for (const name of given.scenarios) {
    const done = await runScenario(name, products, given);
    tables.push([name, done.results]);
    failures.push(...done.failures);
  }
  for (const [name, results] of tables) table(name, products, results);
  say(`${given.rounds} rounds of each, ${Math.round((Date.now() - started) / 1000)} s in all`);
  for (const failure of failures) say(`FAILED ${failure.split('\n')[0]}`);
  save();
  process.exit(failures.length > 0 || products.length === 0 ? 1 : 0);
};

await main();
