// What the log costs in Chromium, each figure of `PARTS` below. What is printed is kept in
// bench/runs. Words pick parts: `npm run bench:log -- view drain`.
// Settings: SAVE (name of the file; `no`: none), ROUNDS, PROFILE (a file for the CPU profile of the
// page in the last round of `view` or `drain`), and AGAINST: another client's log as a script
// (`KEEP=file` writes the present one), which takes turns with this one.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import {
  kept, library, pageOf, serveLogs, servePages, settled, token, until,
} from './log-world.mjs';
import { Profile } from './profile.mjs';

const { SAVE = 'log-browser', ROUNDS = '5', AGAINST, KEEP, PROFILE } = process.env;
const PENDING = 20_000;
/** A foreign record comes between so many of those that are drained. */
const BETWEEN = 100;
const which = AGAINST ? ['new', 'old'] : ['new'];
const rounds = Array.from({ length: +ROUNDS }, (_, round) => round);
const lines = [];
const say = (line = '') => {
  lines.push(line);
  console.log(line);
};
const at = (list, part) => list.toSorted((a, b) => a - b)[Math.floor(list.length * part)];

const LEAST = 'what there is';
/** A figure: how it came out, by variants, and what is to be reached. */
class Figure {
  #of = {};

  constructor(name, unit, digits, wanted) {
    Object.assign(this, { name, unit, digits, wanted });
  }

  add(variant, ...values) {
    (this.#of[variant] ??= []).push(...values);
  }

  tell() {
    const { name, unit, digits, wanted } = this;
    for (const variant of which) {
      const all = this.#of[variant];
      if (!all) continue;
      const [least, half, most] = [0, 0.5, 0.99].map((part) => at(all, part).toFixed(digits));
      const who = AGAINST && wanted !== LEAST ? `${variant} ` : '';
      say(`${who}${name}: median ${half} ${unit}, least ${least}, p99 ${most}, ` +
        `of ${all.length}; wanted ${wanted}`);
    }
  }
}

const head = (profile) => {
  const describe = ['describe', '--always', '--dirty'];
  const beside = AGAINST ? ', beside another client in turn' : '';
  say(`bench      log on the device, in a browser${beside}`);
  say(`date       ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`);
  say(`commit     ${execFileSync('git', describe, { encoding: 'utf8' }).trim()}`);
  say(`cpu        ${cpus().length} cores of ${cpus()[0].model}; shared by all that runs here`);
  say(`memory     ${Math.round(totalmem() / 1024)} kB`);
  say(`kernel     ${release()}, Node.js ${process.version}, Chromium ${profile.version}`);
  say(`busy       load average before the run ${loadavg().map((n) => n.toFixed(2)).join(' ')}`);
};

if (KEEP) {
  writeFileSync(KEEP, await library());
  process.exit();
}
const server = await serveLogs();
const pages = await servePages('', undefined, AGAINST);
const profile = await new Profile().start();
let users = 0;
/** The address of a page of a user that has nothing yet. */
const fresh = (variant) => {
  const user = `${variant}-${users++}`;
  return { user, url: pageOf(pages, server, { user, list: user, old: variant === 'old' }) };
};

// In pages.

/** One after another; each is waited for. */
const alone = async (count) => {
  const times = [];
  for (let n = 0; n < count; n++) {
    const start = performance.now();
    await app.list.do.add({ id: `alone-${n}`, text: 'milk' }).saved;
    times.push(performance.now() - start);
  }
  return times;
};

/** A thousand in a tick; answers how many a second were saved. */
const together = async ([from, count]) => {
  const start = performance.now();
  let last;
  for (let n = from; n < from + count; n++) {
    last = app.list.do.add({ id: `pending-${n}`, text: `thing ${n} to do` }).saved;
    if (n % 1000 === 999 || n === from + count - 1) await last;
  }
  return (count / (performance.now() - start)) * 1000;
};

/** Some in a tick, each looked at; answers how long each took, in µs. */
const looked = async ([from, count]) => {
  let last;
  const start = performance.now();
  for (let n = from; n < from + count; n++) {
    last = app.list.do.add({ id: `pending-${n}`, text: `thing ${n} to do` });
    if (!app.list.view.byId.value.get(`pending-${n}`)) throw new Error('it is not shown');
  }
  const took = performance.now() - start;
  await last.saved;
  return (took / count) * 1000;
};

/** From now on: tasks over 50 ms, and the longest time in which the page did nothing else. */
const watch = () => {
  globalThis.seen = { longs: [], gap: 0 };
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) seen.longs.push(Math.round(duration));
  }).observe({ entryTypes: ['longtask'] });
  const { port1, port2 } = new MessageChannel();
  let before = performance.now();
  port1.onmessage = () => {
    const now = performance.now();
    seen.gap = Math.max(seen.gap, now - before);
    before = now;
    setTimeout(() => port2.postMessage(0), 1);
  };
  port2.postMessage(0);
};

/** What IndexedDB alone does with rows like those of the log; `packed`: a thousand to a row. */
const bare = async (count) => {
  const name = `bare ${Math.random()}`;
  const done = (request, on = 'onsuccess') => new Promise((settle, fail) => {
    request[on] = () => settle(request.result);
    request.onerror = () => fail(request.error);
  });
  const opening = indexedDB.open(name, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore('rows');
  const db = await done(opening);
  const all = () => db.transaction('rows').objectStore('rows');
  const write = (rows) => {
    const writes = db.transaction('rows', 'readwrite', { durability: 'strict' });
    for (const [key, value] of rows) writes.objectStore('rows').put(value, key);
    writes.commit();
    return done(writes, 'oncomplete');
  };
  const keyOf = (kind, n) => `${kind}/8a82637cbd734965358fbb4b688e7bf6/${`${n}`.padStart(16, '0')}`;
  const row = (n) => ({
    log: 'lists/many/todos', to: { log: 7 },
    made: { log: 7, position: 'abcdef0123456789abcdef0123456789.1.0123456789abcdef' },
    ifHead: undefined, at: 1.764e12 + n, until: undefined,
    record: { kind: 'add', payload: `{"id":"pending-${n}","text":"thing ${n} to do"}` },
  });
  const took = async (work) => {
    const start = performance.now();
    await work();
    return performance.now() - start;
  };
  const read = (kind) => took(async () => {
    const range = IDBKeyRange.bound(`${kind}/`, `${kind}0`);
    const [keys, values] = await Promise.all([
      done(all().getAllKeys(range)), done(all().getAll(range)),
    ]);
    return keys.map((key, n) => [key, values[n]]);
  });
  const times = { alone: [], rows: [], packed: [], read: [], readPacked: [] };
  for (let n = 0; n < 100; n++) {
    times.alone.push(await took(() => write([[keyOf('x', n), row(n)]])));
  }
  for (let from = 0; from < count; from += 1000) {
    const rows = Array.from({ length: 1000 }, (_, n) => [keyOf('a', from + n), row(from + n)]);
    times.rows.push(1e6 / await took(() => write(rows)));
    const packed = [[keyOf('b', from), rows.map(([, value]) => value)]];
    times.packed.push(1e6 / await took(() => write(packed)));
  }
  for (let n = 0; n < 5; n++) {
    times.read.push(await read('a'));
    times.readPacked.push(await read('b'));
  }
  db.close();
  indexedDB.deleteDatabase(name);
  return times;
};

const offline = async (page) => {
  await until(page, ({ phase }) => phase === 'live');
  await page.evaluate(() => app.client.disconnect());
  await until(page, ({ phase }) => phase === 'offline');
};

/** Begins to look where the page's time goes; answers how to write that down. */
const profiled = async (page) => {
  if (!PROFILE) return () => {};
  const session = await page.context().newCDPSession(page);
  await session.send('Profiler.enable');
  await session.send('Profiler.setSamplingInterval', { interval: 200 });
  await session.send('Profiler.start');
  return async () => {
    const { profile } = await session.send('Profiler.stop');
    writeFileSync(PROFILE, JSON.stringify(profile));
  };
};

/** Where `traced` finds the page's thread. */
const mark = () => void performance.mark('bench');

/**
 * From now on: what each task of the page took of its thread, in ms. Unlike how long it took, that
 * says little of what else the machine does. Answers how to stop.
 */
const traced = async (page) => {
  const session = await page.context().newCDPSession(page);
  const events = [];
  session.on('Tracing.dataCollected', ({ value }) => events.push(...value));
  const traceConfig = { includedCategories: ['toplevel', 'blink.user_timing'] };
  await session.send('Tracing.start', { transferMode: 'ReportEvents', traceConfig });
  return async () => {
    const done = new Promise((settle) => session.once('Tracing.tracingComplete', settle));
    await session.send('Tracing.end');
    await done;
    const { pid, tid } = events.find(({ name }) => name === 'bench');
    const task = (event) =>
      event.pid === pid && event.tid === tid && event.name === 'ThreadControllerImpl::RunTask';
    return events.filter(task).map(({ tdur = 0 }) => tdur / 1000);
  };
};

/** A user with so many pending on the device, and one record that is kept. */
const filled = async (variant) => {
  const { user, url } = fresh(variant);
  const page = await profile.page(url);
  await page.evaluate(() => app.add('kept').accepted);
  await kept(page, user, `lists/${user}/todos`, 1);
  await offline(page);
  await page.evaluate(together, [0, PENDING]);
  await page.close();
  return { user, url };
};

// The figures.

const saved = async () => {
  const [on, off] = ['online', 'offline'].map((how) =>
    new Figure(`do to saved, ${how}`, 'ms', 2, '0.5 at the median'));
  for (const _ of rounds) for (const variant of which) {
    const page = await profile.page(fresh(variant).url);
    await until(page, ({ phase }) => phase === 'live');
    await page.evaluate(alone, 50);
    on.add(variant, ...await page.evaluate(alone, 200));
    await settled(page);
    await offline(page);
    off.add(variant, ...await page.evaluate(alone, 300));
    await page.close();
  }
  on.tell();
  off.tell();
};

const shown = async () => {
  const figures = [1000, PENDING].map((count) =>
    [count, new Figure(`do to view at ${count} pending`, 'µs', 1, '50')]);
  for (const _ of rounds) for (const variant of which) {
    const page = await profile.page(fresh(variant).url);
    await offline(page);
    let from = 0;
    for (const [count, figure] of figures) {
      await page.evaluate(together, [from, count - from]);
      from = count;
      for (let turn = 0; turn < 20; turn++, from += 50) {
        figure.add(variant, await page.evaluate(looked, [from, 50]));
      }
    }
    await page.close();
  }
  for (const [, figure] of figures) figure.tell();
};

const view = async () => {
  const first = new Figure(`first view with ${PENDING} pending, from navigation`, 'ms', 0, '500');
  const script = new Figure('the same, from where its script ran', 'ms', 0, 'less');
  const longest = new Figure('longest task until then', 'ms', 0, '50');
  const own = new Figure('the same, of its thread', 'ms', 0, 'less');
  const of = {};
  for (const variant of which) of[variant] = await filled(variant);
  await server.kill();
  for (const _ of rounds) for (const variant of which) {
    let write;
    let tasks;
    const page = await profile.page(of[variant].url, async (page) => {
      await page.addInitScript(watch);
      await page.addInitScript(mark);
      write = await profiled(page);
      tasks = await traced(page);
    });
    // Nothing else is asked of the page meanwhile: what looks at a view has it folded.
    await page.waitForFunction(() => app.shown, undefined, { polling: 50 });
    await write();
    own.add(variant, Math.max(...await tasks()));
    const { ran, shown, seen, count } = await page.evaluate(() =>
      ({ ran: app.ran, shown: app.shown, seen, count: app.list.view.count.value }));
    assert.equal(count, PENDING + 1);
    first.add(variant, ran + shown);
    script.add(variant, shown);
    longest.add(variant, Math.max(0, ...seen.longs));
    await page.close();
  }
  await server.start();
  for (const figure of [first, script, longest, own]) figure.tell();
};

const append = async () => {
  const figure = new Figure('saved, 1,000 in a tick', '/s', 0, '10000');
  for (const _ of rounds) for (const variant of which) {
    const page = await profile.page(fresh(variant).url);
    await offline(page);
    for (let from = 0; from < PENDING; from += 4000) {
      figure.add(variant, await page.evaluate(together, [from, 4000]));
    }
    await page.close();
  }
  figure.tell();
};

/** A client of Node that appends a record whenever so many more of others are in the log. */
const foreign = async (name) => {
  const outfile = fileURLToPath(new URL('../build/bench/plain.mjs', import.meta.url));
  const form = { bundle: true, platform: 'node', format: 'esm', packages: 'external' };
  await build({ entryPoints: ['src/index.ts'], outfile, ...form });
  const { connect } = await import(pathToFileURL(outfile).href);
  const client = connect(server.url, { token: token(server, 'foreign') });
  const log = client.log(name, { start: 'end' });
  let others = 0;
  let made = 0;
  log.on('records', ({ records }) => {
    for (const { origin } of records) if (origin.user !== 'foreign') others++;
    for (; made < Math.floor(others / BETWEEN); made++) {
      const payload = JSON.stringify({ id: `foreign-${made}`, text: 'milk' });
      void log.append({ kind: 'add', payload });
    }
  });
  await new Promise((live) => log.status.subscribe(({ phase }) => phase === 'live' && live()));
  return { made: () => made, close: () => client.close() };
};

const drain = async () => {
  const what = `${PENDING} drained, a record of another between ${BETWEEN}`;
  const drained = new Figure(what, 's', 2, 10);
  const longest = new Figure('longest task meanwhile', 'ms', 0, '50');
  const tasks = new Figure('tasks over 50 ms meanwhile', '', 0, '0');
  const gaps = new Figure('longest time without a turn meanwhile', 'ms', 0, '50');
  const own = new Figure('longest task meanwhile, of its thread', 'ms', 0, '50');
  const some = new Figure('tasks over 50 ms of their thread meanwhile', '', 0, '0');
  const all = new Figure('all of the thread meanwhile', 's', 2, 'less');
  for (const _ of rounds) for (const variant of which) {
    const { user, url } = await filled(variant);
    const page = await profile.page(`${url}&offline`, (page) => page.addInitScript(watch));
    await page.waitForFunction(() => app.shown);
    const other = await foreign(`lists/${user}/todos`);
    // What it still does after the first view is not what is measured.
    await page.waitForTimeout(1000);
    const write = await profiled(page);
    const traces = await traced(page);
    await page.evaluate(mark);
    const took = await page.evaluate(async () => {
      Object.assign(seen, { longs: [], gap: 0 });
      const start = performance.now();
      app.client.connect();
      await new Promise((done) => {
        const look = () => {
          const { waiting, unsaved } = app.client.work.value;
          return app.list.pending.value + waiting + unsaved ? setTimeout(look, 5) : done();
        };
        look();
      });
      return performance.now() - start;
    });
    await write();
    const of = await traces();
    own.add(variant, Math.max(...of));
    some.add(variant, of.filter((ms) => ms > 50).length);
    all.add(variant, of.reduce((sum, ms) => sum + ms) / 1000);
    await until(page, ({ count }, all) => count === all, PENDING + 1 + other.made());
    const { longs, gap } = await page.evaluate(() => seen);
    drained.add(variant, took / 1000);
    longest.add(variant, Math.max(0, ...longs));
    tasks.add(variant, longs.length);
    gaps.add(variant, gap);
    assert.equal(other.made(), PENDING / BETWEEN);
    other.close();
    await page.close();
  }
  for (const figure of [drained, longest, tasks, gaps, own, some, all]) figure.tell();
};

/** Nothing of the client: what the browser itself takes. */
const floor = async () => {
  const figures = {
    alone: new Figure('bare IndexedDB, a row alone', 'ms', 2, LEAST),
    rows: new Figure('bare, 1,000 rows in a transaction', 'rows/s', 0, LEAST),
    packed: new Figure('bare, the same as one row', 'actions/s', 0, LEAST),
    read: new Figure(`bare, ${PENDING} rows read`, 'ms', 0, LEAST),
    readPacked: new Figure('bare, the same of a thousand each', 'ms', 0, LEAST),
  };
  for (const _ of rounds) {
    const page = await profile.page(`${pages.url}/blank`);
    const times = await page.evaluate(bare, PENDING);
    for (const [name, list] of Object.entries(times)) figures[name].add('new', ...list);
    await page.close();
  }
  for (const figure of Object.values(figures)) figure.tell();
};

const PARTS = { floor, saved, append, shown, view, drain };
const wanted = process.argv.slice(2);
try {
  head(profile);
  for (const [name, part] of Object.entries(PARTS)) {
    if (wanted.length && !wanted.includes(name)) continue;
    say();
    await part();
  }
} finally {
  await profile.close();
  pages.close();
  await server.stop();
}
if (SAVE !== 'no') {
  const path = `bench/runs/${new Date().toISOString().slice(0, 10)}-${SAVE}.txt`;
  writeFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), `${lines.join('\n')}\n`);
  console.log(`kept in ${path}`);
}
