// The server takes a channel away; its owner comes back and is overwritten by a clone of another.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Server } from './server.mjs';
import { converge, DEADLINE, launch, picture, Window } from './world.mjs';

let server, browser, a, b, c;

before(async () => {
  server = await new Server({ detached_limit_seconds: 1 }).start();
  browser = await launch();
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  a = await (await Window.open(context, server.url, 'anna')).state('live');
  b = await (await Window.open(context, server.url, 'berta')).state('live');
  const other = await browser.newContext();
  c = await (await Window.open(other, server.url, 'cleo')).state('live');
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Waits until the server's row says so. */
const row = async (id, wanted, of = server) => {
  const deadline = Date.now() + DEADLINE;
  for (;;) {
    const row = await of.connection(id);
    if (wanted(row)) return row;
    assert.ok(Date.now() < deadline, `the row stays ${JSON.stringify(row)}`);
  }
};

const met = async (window, source) => {
  await window.state('live');
  await window.page.waitForFunction(() => demo.log.status.value.phase === 'live');
  const info = await window.info();
  assert.equal(info.met, 'cloned');
  assert.equal(info.source, source);
};

test('asked for: it loses its channel, may write, comes back as a clone', async () => {
  await Promise.all([a, b, c].map((window) => window.write()));
  const { connection: source } = await b.info();
  for (let round = 0; round < 3; round++) {
    await a.written(10);
    const before = (await a.states()).length;
    await a.page.click('.downgrade');
    await a.was('inactive', before);
    if (!round) await picture(a.page, 'downgraded');
    await a.written(5);
    await met(a, source);
    const states = (await a.states()).slice(before).map(({ state }) => state);
    assert.deepEqual(states, ['inactive', 'live'], 'on the same socket');
  }
  assert.ok((await a.states()).some(({ reason }) => reason === 'asked'));
  await converge(server, [a, b, c]);
});

test('asleep for too long: the server downgrades it, and it returns as a clone', async () => {
  const { connection } = await a.info();
  const { connection: source } = await b.info();
  await Promise.all([a, b, c].map((window) => window.write()));
  await a.written(5);
  await a.page.click('.offline');
  await a.state('offline');
  const { reason } = await row(connection, ({ active }) => !active);
  assert.equal(reason, 'detached');
  await c.written(20);
  await a.page.click('.offline');
  await met(a, source);
  await a.written(5);
  await converge(server, [a, b, c]);
});

test('after more than a delta is worth it is overwritten by a base, which is shown when whole', async () => {
  const { connection } = await a.info();
  const { connection: source } = await b.info();
  await b.add('before');
  await converge(server, [a, b, c]);
  await a.page.click('.offline');
  await a.state('offline');
  await row(connection, ({ active }) => !active);
  await c.burst(1500, 150);
  const key = await a.add('meanwhile');
  await a.page.click('.offline');
  await met(a, source);
  await converge(server, [a, b, c]);
  assert.equal(await c.find('meanwhile'), key);
  const bases = await a.page.evaluate(() => seen.delivered.filter(({ reset }) => reset === 'cloned').length);
  assert.equal(bases, 1);
});

test('a sleeping window is downgraded from another one of its user', async () => {
  // A server that leaves this to its user for a day.
  const patient = await new Server().start();
  try {
    const context = await browser.newContext();
    const open = async (name) => (await Window.open(context, patient.url, name)).state('live');
    const [asleep, awake] = [await open('dora'), await open('emil')];
    const { connection } = await asleep.info();
    const { connection: source } = await awake.info();
    await awake.write();
    await asleep.page.click('.offline');
    await asleep.state('offline');
    await row(connection, ({ attached }) => !attached, patient);
    await awake.page.click('#look');
    await awake.page.click(`#mine [data-connection="${connection}"] button:enabled`);
    const { reason } = await row(connection, ({ active }) => !active, patient);
    assert.equal(reason, 'asked');
    await picture(awake.page, 'mine');
    await awake.written(20);
    await asleep.page.click('.offline');
    await met(asleep, source);
    await converge(patient, [asleep, awake]);
  } finally {
    await patient.stop();
  }
});
