/**
 * The client against the real server: the states of a connection, appends, views, tokens, refusals
 * and crashes, over real sockets. The laws in detail are tested elsewhere; here both sides meet.
 */

import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import {
  connect, debug, HighwaterError, latest, type Client, type ClientOptions, type Log,
} from '../src/index.js';
import { newId } from '../src/identity.js';
import { locksOf, memory, moment } from './page.js';
import { Server, token } from './server.js';
import { event, reached, until } from './when.js';
import { forms, type Form } from './world.js';

const CONFIG = `
[[rules]]
pattern = "boards/**"
snapshot = "latest"

[limits]
activate_after_ms = 100
commit_interval_ms = 50
active_per_user = 3
active_per_device = 3
`;

const server = new Server(CONFIG);
before(() => server.start());
after(() => server.remove());

let users = 0;
/** Each test has users of its own. */
const user = (): string => `user-${++users}`;

const open = (context: TestContext, name: string, options: ClientOptions = {}): Client => {
  const client = connect(server.url, { token: token(name), ...options });
  context.after(() => client.close());
  return client;
};

/** The offsets and payloads that come, in order. */
const follow = (log: Log): { offsets: number[]; payloads: unknown[] } => {
  const seen: { offsets: number[]; payloads: unknown[] } = { offsets: [], payloads: [] };
  log.on('records', ({ records }) => {
    seen.offsets.push(...records.map(({ offset }) => offset!));
    seen.payloads.push(...records.map(({ payload }) => payload));
  });
  return seen;
};

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const downgrade = (client: Client): Promise<Response> =>
  server.ask('POST', `/v1/connections/${client.connection}/downgrade`);

for (const encoding of ['bincode', 'json'] satisfies Form[]) {
  test(`append, follow, cut, resume: ${encoding}`, async (context) => {
    const name = user();
    const client = open(context, name, { encoding: forms[encoding] });
    const log = client.log(`logs/${name}`);
    const seen = follow(log);
    assert.equal((await until(client, 'live')).reason, 'fresh');
    const headers: [string, string][] = [['trace', 'ä']];
    const more = { kind: 'word', eventTime: 1_600_000_000_000, headers };
    const payloads = [...upTo(300).map((at) => `naïve ${at}`), new Uint8Array([0, 255, 10])];
    const answers = payloads.map((payload) => log.append({ payload, ...more }));
    debug(client).cut();
    const stored = await Promise.all(answers);
    assert.deepEqual(stored.map(({ offset }) => offset), upTo(301));
    assert.ok(stored.every(({ level, log: id }) => level === 'synced' && id === log.id));
    await reached(log, 301);
    assert.deepEqual([seen.offsets, seen.payloads], [upTo(301), payloads]);
    assert.equal(debug(client).info().met, 'resumed');
    assert.deepEqual([log.head, log.pending.value, log.status.value.phase], [301, [], 'live']);
    const reader = open(context, name, { encoding: forms[encoding] });
    const again = reader.log(`logs/${name}`, { start: { offset: 300 } });
    const [entry] = (await event(again, 'records')).records;
    const { payload, kind, eventTime, headers: told } = entry!;
    assert.deepEqual({ payload, kind, eventTime, headers: told }, { payload: payloads[300], ...more });
    assert.deepEqual([entry!.origin.user, entry!.origin.writer], [name, client.writer]);
  });
}

test('work offline, work while the server is killed: all is there once', async (context) => {
  const name = user();
  const [a, b] = [open(context, name), open(context, name)];
  const [mine, theirs] = [a.log(`logs/${name}`), b.log(`logs/${name}`)];
  const [one, two] = [follow(mine), follow(theirs)];
  await Promise.all([until(a, 'live'), until(b, 'live')]);
  a.disconnect();
  const answers = upTo(50).map((at) => mine.append({ payload: `offline ${at}` }));
  assert.equal(mine.pending.value.length, 50);
  await server.kill();
  const others = upTo(50).map((at) => theirs.append({ payload: `alone ${at}` }));
  await server.start();
  a.connect();
  for (const client of [a, b]) {
    client.connect();
    await until(client, 'live');
  }
  const offsets = (await Promise.all([...answers, ...others])).map(({ offset }) => offset);
  assert.deepEqual(offsets.sort((x, y) => x - y), upTo(100));
  await Promise.all([reached(mine, 100), reached(theirs, 100)]);
  assert.deepEqual([one.offsets, two.offsets], [upTo(100), upTo(100)]);
  assert.deepEqual(one.payloads, two.payloads);
  assert.deepEqual(
    one.payloads.filter((payload) => `${payload}`.startsWith('offline')),
    upTo(50).map((at) => `offline ${at}`),
  );
});

test('a board: base, tombstones, a clone; a view never loses what it showed', async (context) => {
  const name = user();
  const [a, b] = [open(context, name), open(context, name)];
  const log = a.log(`boards/${name}`);
  const board = latest(log);
  for (let at = 0; at < 30; at++) void log.append({ key: `k${at % 7}`, payload: `${at}` });
  await log.append({ key: 'k3' });
  const expected = ['k0 28', 'k1 29', 'k2 23', 'k4 25', 'k5 26', 'k6 27'];
  const shown = (view: typeof board): string[] =>
    [...(view.value ?? [])].map(([key, { payload }]) => `${key} ${payload}`).sort();
  const wait = (view: typeof board, wanted: string[]): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (shown(view).join() !== wanted.join()) return;
        queueMicrotask(() => off());
        resolve();
      };
      let off = (): void => {};
      off = view.subscribe(look);
    });
  await wait(board, expected);
  const other = b.log(`boards/${name}`);
  const theirs = latest(other);
  await wait(theirs, expected);

  const states: string[] = [];
  a.status.subscribe(({ phase, reason }) => states.push(`${phase} ${reason}`));
  states.length = 0;
  let emptied = false;
  board.subscribe(() => (emptied ||= shown(board).length < 6));
  await downgrade(a);
  await until(a, 'inactive');
  const late = log.append({ key: 'k0', payload: 'from the inactive one' });
  await other.append({ key: 'k1', payload: 'while it was away' });
  await late;
  const wanted = ['k0 from the inactive one', 'k1 while it was away', ...expected.slice(2)];
  await Promise.all([wait(board, wanted), wait(theirs, wanted)]);
  assert.deepEqual(states, ['inactive asked', 'live cloned']);
  assert.equal(debug(a).info().source, b.connection);
  assert.equal(emptied, false, 'what was shown stayed until the new state was whole');
});

test('a downgraded client that does not ask stays inactive, and may append', async (context) => {
  const name = user();
  const client = open(context, name, { activate: false });
  const log = client.log(`logs/${name}`);
  await until(client, 'live');
  await log.append({ payload: '0' });
  await reached(log, 1);
  await downgrade(client);
  assert.equal((await until(client, 'inactive')).reason, 'asked');
  assert.equal((await log.append({ payload: '1' })).offset, 1);
  assert.equal(log.cursor, 1);
  client.activate();
  assert.equal((await until(client, 'live')).reason, 'restored');
  await reached(log, 2);
});

test('more clients than slots: the last waits until another leaves', async (context) => {
  const name = user();
  const clients = upTo(3).map(() => open(context, name));
  await Promise.all(clients.map((client) => until(client, 'live')));
  const late = open(context, name);
  const log = late.log(`logs/${name}`);
  const waiting = await until(late, 'inactive');
  assert.ok(waiting.reason === 'no_slot');
  clients[0]!.close();
  await until(late, 'live');
  await log.append({ payload: 'here' });
  await reached(log, 1);
});

test('refusals have their codes, and none is in the way of others', async (context) => {
  const name = user();
  const narrow = token(name, [{ logs: `logs/${name}/**`, can: ['read', 'append'] }]);
  const client = open(context, name, { token: narrow });
  const log = client.log(`logs/${name}/a`);
  const foreign = client.log('logs/of/others');
  assert.throws(() => client.log('logs//b'), { code: 'bad_name' });
  const codes = await Promise.all([
    event(foreign, 'refused').then(({ code }) => code),
    client.append('logs/of/others', { payload: 'x' }).catch(({ code }: HighwaterError) => code),
    client.append('logs/../b', { payload: 'x' }).catch(({ code }: HighwaterError) => code),
    log.append({ payload: 'x'.repeat(1 << 20) }).catch(({ code }: HighwaterError) => code),
    log.append({ payload: 'first' }, { ifHead: 0 }).then(({ offset }) => offset),
    log.append({ payload: 'second' }, { ifHead: 0 }).catch(({ code }: HighwaterError) => code),
    log.append({}).catch(({ code }: HighwaterError) => code),
    log.append({ payload: 'last' }, { ifHead: 1 }).then(({ offset }) => offset),
  ]);
  assert.deepEqual(codes, [
    'denied', 'denied', 'bad_name', 'too_large', 0, 'conflict', 'bad_record', 1,
  ]);
  assert.equal(debug(client).info().pending, 0);
  assert.equal(client.status.value.phase, 'live');
});

test('a token that ends is refreshed in band', async (context) => {
  const name = user();
  let given = 0;
  const client = open(context, name, {
    token: () => {
      given++;
      return token(name, undefined, given < 3 ? 2 : 3600);
    },
  });
  const log = client.log(`logs/${name}`);
  const states: string[] = [];
  await until(client, 'live');
  client.status.subscribe(({ phase }) => states.push(phase));
  states.length = 0;
  for (let at = 0; given < 3; at++) await log.append({ payload: `${at}` });
  await log.append({ payload: 'after' });
  await reached(log, log.head);
  assert.deepEqual(states, [], 'the socket stayed');
});

test('the same connection twice: the first is fenced, and may come back', async (context) => {
  const name = user();
  const connection = newId();
  const first = open(context, name, { connection });
  await until(first, 'live');
  const second = open(context, name, { connection });
  assert.equal((await until(second, 'live')).reason, 'resumed');
  assert.equal((await until(first, 'closed')).error.code, 'fenced');
  first.connect();
  await until(first, 'live');
  assert.equal((await until(second, 'closed')).error.code, 'fenced');
  const thief = open(context, user(), { connection });
  assert.equal((await until(thief, 'closed')).error.code, 'unknown_connection');
});

test('a service with manual commits goes on where it had worked off', async (context) => {
  const name = user();
  const writer = open(context, name);
  await Promise.all(upTo(20).map((at) => writer.append(`logs/${name}`, { payload: `${at}` })));
  const options: ClientOptions = { connection: newId(), cloning: 'none' };
  const service = open(context, name, options);
  const log = service.log(`logs/${name}`, { start: 'committed', commit: 'manual' });
  await reached(log, 20);
  await log.commit(12);
  debug(service).cut();
  await until(service, 'offline');
  await until(service, 'live');
  service.close({ leave: false });
  const next = open(context, name, options);
  const again = next.log(`logs/${name}`, { start: 'committed', commit: 'manual' });
  const seen = follow(again);
  await reached(again, 20);
  assert.deepEqual(seen.offsets, upTo(20).slice(12), 'what was not worked off comes again');
});

test('begin with the last so many records, or at a time; seek there', async (context) => {
  const name = user();
  const client = open(context, name);
  const path = `logs/${name}`;
  const times: number[] = [];
  for (const at of upTo(10)) {
    await client.append(path, { payload: `${at}` });
    // The next is taken in another millisecond.
    for (const now = Date.now(); Date.now() < now + 2; ) await moment();
  }
  const all = client.log(path);
  all.on('records', ({ records }) => times.push(...records.map(({ time }) => time!)));
  await reached(all, 10);
  for (const [start, first] of [
    [{ last: 3 }, 7], [{ last: 99 }, 0], [{ last: 0 }, 10], [{ time: times[6]! }, 6],
    [{ time: times[6]! + 1 }, 7], [{ time: 0 }, 0], [{ time: times[9]! + 60_000 }, 10],
  ] as const) {
    const reader = open(context, name, { cloning: 'none' });
    const log = reader.log(path, { start });
    const seen = follow(log);
    await event(log, 'complete');
    assert.deepEqual(seen.offsets, upTo(10).slice(first), JSON.stringify(start));
    all.seek(start);
    assert.equal((await event(all, 'reset')).cursor, first, JSON.stringify(start));
    reader.close();
  }
});

test('seek: back to the start and to the end, after what was on its way', async (context) => {
  const name = user();
  const client = open(context, name);
  const log = client.log(`logs/${name}`);
  const seen = follow(log);
  await Promise.all(upTo(10).map((at) => log.append({ payload: `${at}` })));
  await reached(log, 10);
  log.seek('earliest');
  assert.equal((await event(log, 'reset')).cursor, 0);
  await reached(log, 10);
  assert.deepEqual(seen.offsets, [...upTo(10), ...upTo(10)]);
  log.seek('end');
  assert.equal((await event(log, 'reset')).cursor, 10);
  await log.append({ payload: '10' });
  await reached(log, 11);
  assert.equal(seen.offsets.length, 21);
});

// Promise 7, with a client that holds nothing: what retention took is told before anything else.
test('what is no longer kept is told as a gap: to a service, to newcomers, after a seek', async (context) => {
  const rule = '[[rules]]\npattern = "short/**"\nretain_records = 10\n';
  const short = new Server(`${rule}\n[limits]\ndetached_limit_seconds = 1\ncommit_interval_ms = 50\n`);
  context.after(() => short.remove());
  await short.start();
  const join = (name: string, options: ClientOptions = {}): Client => {
    const client = connect(short.url, { token: token(name), ...options });
    context.after(() => client.close());
    return client;
  };
  const options: ClientOptions = { connection: newId(), cloning: 'none' };
  const committed = { start: 'committed', commit: 'manual' } as const;
  const writer = join('writer');
  const append = (count: number): Promise<unknown> =>
    Promise.all(upTo(count).map((at) => writer.append('short/log', { payload: `${at}` })));

  const service = join('service', options);
  const worked = service.log('short/log', committed);
  await append(5);
  await reached(worked, 5);
  await worked.commit(5);
  service.close({ leave: false });
  await append(195);
  const start = async (): Promise<number> =>
    Number((await short.ask('HEAD', '/v1/logs/short/log')).headers.get('highwater-start'));
  let kept = 0;
  while ((kept = await start()) < 100) await moment();

  const state = join('reader').log('short/log');
  const opened = [
    { from: 5, log: join('service', options).log('short/log', committed) },
    { from: 0, log: state },
    { from: 3, log: join('other').log('short/log', { start: { offset: 3 } }) },
  ].map(({ from, log }) => {
    const told: string[] = [];
    log.on('gap', ({ from, to, reason }) => told.push(`${from} to ${to}: ${reason}`));
    log.on('records', ({ records }) => told.push(...records.map(({ offset }) => `${offset}`)));
    return { from, log, told };
  });
  for (const { from, log, told } of opened) {
    await reached(log, 200);
    const records = upTo(200).slice(kept).map((offset) => `${offset}`);
    assert.deepEqual(told, [`${from} to ${kept}: trimmed`, ...records]);
  }
  state.seek({ offset: 7 });
  const [reset, gap] = await Promise.all([event(state, 'reset'), event(state, 'gap')]);
  assert.deepEqual([reset.reason, gap.from, gap.to], ['asked', 7, kept]);
  await reached(state, 200);
});

test('a refused seek is told, and nothing is lost by it', async (context) => {
  const name = user();
  const client = open(context, name);
  const log = client.log(`logs/${name}`);
  const seen = follow(log);
  await log.append({ payload: '0' });
  await reached(log, 1);
  log.seek({ offset: 5 });
  assert.equal((await event(log, 'refused')).code, 'bad_offset');
  await log.append({ payload: '1' });
  await reached(log, 2);
  debug(client).cut();
  await until(client, 'offline');
  await log.append({ payload: '2' });
  await reached(log, 3);
  assert.deepEqual(seen.offsets, upTo(3));
});

/** Pages of one browser. */
const browser = (context: TestContext): ((options: ClientOptions) => Client) => {
  const locks = locksOf();
  const had = Object.getOwnPropertyDescriptor(globalThis, 'navigator');
  Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true });
  context.after(() => {
    if (had) Object.defineProperty(globalThis, 'navigator', had);
    else Reflect.deleteProperty(globalThis, 'navigator');
  });
  const storage = memory();
  return (options) => {
    const client = connect(server.url, { storage, ...options });
    context.after(() => client.close());
    return client;
  };
};

test('another user of the browser begins at once; who comes back finds their connection', async (context) => {
  const page = browser(context);
  const [ada, bob] = [user(), user()];
  const visit = async (options: ClientOptions, tabs: number): Promise<{ ids: string[]; waits: string[] }> => {
    const [ids, waits]: [string[], string[]] = [[], []];
    const clients = upTo(tabs).map(() => page(options));
    for (const client of clients) {
      client.status.subscribe(({ phase, ...more }) => {
        if (phase !== 'closed' && 'error' in more) waits.push(more.error!.code);
      });
      await until(client, 'live');
      ids.push(client.connection);
    }
    for (const client of clients) client.close();
    await moment();
    return { ids: ids.sort(), waits };
  };
  const by = (name: string): ClientOptions => ({ token: async () => token(name) });
  const first = await visit(by(ada), 3);
  const second = await visit(by(bob), 3);
  assert.deepEqual([first.waits, second.waits], [[], []], 'the token says whose ids they are');
  assert.deepEqual((await visit(by(ada), 3)).ids, first.ids);

  // Where the app names one user for two, the ids of the first are found out, all at once.
  const same = (name: string): ClientOptions => ({ ...by(name), user: 'somebody' });
  await visit(same(ada), 3);
  const third = await visit(same(bob), 1);
  assert.deepEqual(third.waits, ['unknown_connection']);
  assert.deepEqual((await visit(same(bob), 1)), { ids: third.ids, waits: [] });
});

test('a window of the least size lets a long log through', async (context) => {
  const name = user();
  const writer = open(context, name);
  const payload = 'x'.repeat(2000);
  await Promise.all(upTo(500).map(() => writer.append(`logs/${name}`, { payload })));
  const reader = open(context, name, { window: 1 });
  const log = reader.log(`logs/${name}`);
  const seen = follow(log);
  await reached(log, 500);
  assert.deepEqual(seen.offsets, upTo(500));
  assert.ok(debug(reader).info().limits!.window < 100_000);
});

test('many logs, opened and let go at once', async (context) => {
  const name = user();
  const client = open(context, name);
  const logs = upTo(300).map((at) => client.log(`logs/${name}/${at}`, { grace: 0 }));
  await Promise.all(logs.map((log) => log.append({ payload: log.name })));
  await Promise.all(logs.map((log) => reached(log, 1)));
  for (const log of logs.slice(0, 200)) log.release();
  await logs[299]!.append({ payload: 'more' });
  await reached(logs[299]!, 2);
  const told = await (await server.ask('GET', `/v1/connections/${client.connection}`)).json() as {
    subscriptions: unknown;
  };
  const { subscriptions } = told;
  assert.equal(Array.isArray(subscriptions) ? subscriptions.length : subscriptions, 100);
});

test('drain: clients are told when to come back, and come back', async (context) => {
  const name = user();
  const client = open(context, name);
  const log = client.log(`logs/${name}`);
  await until(client, 'live');
  await log.append({ payload: '0' });
  const waiting = until(client, 'offline');
  assert.equal(await server.stop(), 0);
  assert.equal((await waiting).error!.code, 'shutting_down');
  await server.start();
  assert.equal((await until(client, 'live')).reason, 'resumed');
  assert.equal((await log.append({ payload: '1' })).offset, 1);
});
