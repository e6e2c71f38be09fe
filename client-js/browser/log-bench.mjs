// What the log costs in Chromium: from navigation to the first view with 20,000 pending actions on
// the device, without a server; and from `do` to `saved`. What is printed is kept in bench/runs.
// Settings: SAVE (name of the file; `no`: none).
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { kept, pageOf, serveLogs, servePages, settled, until } from './log-world.mjs';
import { Profile } from './profile.mjs';

const PENDING = 20_000;
const ROUNDS = 7;
const lines = [];
const say = (line = '') => {
  lines.push(line);
  console.log(line);
};
const at = (list, part) => list.toSorted((a, b) => a - b)[Math.floor(list.length * part)];
const told = (list) =>
  `p50 ${at(list, 0.5).toFixed(2)} ms, p99 ${at(list, 0.99).toFixed(2)} ms, of ${list.length}`;

const head = (profile) => {
  const describe = ['describe', '--always', '--dirty'];
  say('bench      log on the device, in a browser');
  say(`date       ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`);
  say(`commit     ${execFileSync('git', describe, { encoding: 'utf8' }).trim()}`);
  say(`cpu        ${cpus().length} cores of ${cpus()[0].model}; shared by all that runs here`);
  say(`memory     ${Math.round(totalmem() / 1024)} kB`);
  say(`kernel     ${release()}, Node.js ${process.version}, Chromium ${profile.version}`);
  say(`busy       load average before the run ${loadavg().map((n) => n.toFixed(2)).join(' ')}`);
  say();
};

/** In a page: one after another; each is waited for. */
const alone = async (count) => {
  const times = { shown: [], saved: [] };
  for (let n = 0; n < count; n++) {
    const start = performance.now();
    const { saved } = app.list.do.add({ id: `alone-${n}`, text: 'milk' });
    times.shown.push(performance.now() - start);
    await saved;
    times.saved.push(performance.now() - start);
  }
  return times;
};

const server = await serveLogs();
const pages = await servePages();
const profile = await new Profile().start();
try {
  head(profile);
  const page = await profile.page(pageOf(pages, server, { user: 'alone', list: 'alone' }));
  await until(page, ({ phase }) => phase === 'live');
  const live = await page.evaluate(alone, 500);
  say(`online,  do alone: returns in ${told(live.shown)}`);
  say(`online,  do -> saved:         ${told(live.saved)}`);
  await settled(page);
  await page.evaluate(() => app.client.disconnect());
  const off = await page.evaluate(alone, 500);
  say(`offline, do -> saved:         ${told(off.saved)}`);
  await page.close();

  const url = pageOf(pages, server, { user: 'many', list: 'many' });
  const first = await profile.page(url);
  await first.evaluate(() => app.add('kept').accepted);
  await kept(first, 'many', 'lists/many/todos', 1);
  await server.kill();
  await until(first, ({ phase }) => phase === 'offline');
  const batch = await first.evaluate(async (count) => {
    const start = performance.now();
    let last;
    for (let n = 0; n < count; n++) {
      last = app.list.do.add({ id: `pending-${n}`, text: `thing ${n} to do` }).saved;
      if (n % 1000 === 999) await last;
    }
    return (count / (performance.now() - start)) * 1000;
  }, PENDING);
  say(`offline, 1,000 in a tick:     ${batch.toFixed(0)} saved a second, up to ${PENDING} pending`);
  await first.close();
  say();
  const views = [];
  for (let round = 0; round < ROUNDS; round++) {
    const next = await profile.page(url);
    await until(next, ({ count }, all) => count === all, PENDING + 1);
    const { ran, shown } = await next.evaluate(() => ({ ran: app.ran, shown: app.shown }));
    assert.ok(shown > 0);
    views.push(ran + shown);
    const after = `${shown.toFixed(0)} ms after its script ran`;
    say(`${PENDING} pending: first view ${(ran + shown).toFixed(0)} ms after navigation, ${after}`);
    await next.close();
  }
  say(`first view: median ${at(views, 0.5).toFixed(0)} ms of ${ROUNDS}; to be reached: 500 ms`);
} finally {
  await profile.close();
  pages.close();
  await server.stop();
}
const { SAVE = 'log-browser' } = process.env;
if (SAVE !== 'no') {
  const path = `bench/runs/${new Date().toISOString().slice(0, 10)}-${SAVE}.txt`;
  writeFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), `${lines.join('\n')}\n`);
  console.log(`kept in ${path}`);
}
