/** Reads and states, over answers that break off, gaps, deletions and another history. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect, hydrate, latest, putSnapshot, json as payloads } from '../../src/index.js';
import {
  highwater,
  HighwaterError,
  json,
  type Entry,
  type Gap,
  type State,
} from '../../src/server.js';
import { operator, Server, token } from '../server.js';
import { reached } from '../when.js';
import { Chance, Proxy, upTo } from './support.js';

const server = new Server(`
[[rules]]
pattern = "board/**"
snapshot = "latest"
[[rules]]
pattern = "docs/**"
snapshot = "client"
`);
before(() => server.start());
after(() => server.remove());

const backend = (url = server.url) => highwater({ url, token: operator() });
const all = async <T>(entries: AsyncIterable<T>): Promise<T[]> => {
  const found: T[] = [];
  for await (const entry of entries) found.push(entry);
  return found;
};
const fill = async (log: string, many: number, size = 0): Promise<void> => {
  const records = upTo(0, many).map((n) => ({ payload: `${n} ${'é'.repeat(size)}` }));
  for (let at = 0; at < many; at += 1000) await backend().append(log, records.slice(at, at + 1000));
};
const numbers = (entries: readonly Entry[]): number[] =>
  entries.map(({ payload }) => Number.parseInt(payload as string, 10));

test('entries are those of the client, and of a range', async () => {
  const record = {
    key: 'k',
    kind: 'note',
    eventTime: 5,
    headers: [
      ['a', 'b'],
      ['a', 'c'],
    ] as const,
    payload: Uint8Array.of(0, 255),
  };
  const own = backend();
  const { log, offset, place } = await own.append('one', record);
  await own.append('one', { key: 'k' });
  const [first, gone] = await all(own.read('one'));
  const { origin, time, ...rest } = first!;
  assert.deepEqual(
    { ...rest, payload: [...(rest.payload as Uint8Array)] },
    {
      ...record,
      payload: [0, 255],
      offset,
      place,
      seq: 1,
      tombstone: false,
      pending: false,
    },
  );
  assert.equal(origin.user, 'operator');
  assert.ok(Math.abs(time - Date.now()) < 60_000);
  assert.equal(gone!.tombstone, true);
  assert.deepEqual(await all(own.read('one', { from: 2 })), []);
  assert.equal((await all(own.read('one', { limit: 1 })))[0]!.offset, 0);
  assert.deepEqual(await all(own.read('one', { limit: 0 })), []);
  assert.equal((await all(own.read('one', { from: 1, logId: log }))).length, 1);
  await assert.rejects(all(own.read('one', { from: 9 })), { code: 'bad_offset' });
  await assert.rejects(all(own.read('none')), { code: 'unknown_log' });
  const [faulty] = await all(own.read('one', { codec: json, limit: 1 }));
  assert.equal(faulty!.fault?.code, 'bad_payload');
});

test('answers that break off are noticed, also where no length is told', async (context) => {
  const chance = new Chance(context, 'server/read');
  await fill('cut', 700, 30);
  const whole = Number((await server.ask('GET', '/v1/logs/cut')).headers.get('content-length'));
  let broken = 0;
  const proxy = await new Proxy(
    () => server.url,
    () => {
      const cut = chance.below(whole / 3);
      const fault = chance.pick([{ cut }, { old: cut }, { status: 502 }, 'lose'] as const);
      broken++;
      return fault;
    },
  ).start(context);
  const got = await all(backend(proxy.url).read('cut'));
  assert.deepEqual(numbers(got), upTo(0, 700));
  assert.deepEqual(
    got.map(({ offset }) => offset),
    upTo(0, 700),
  );
  assert.ok(broken > 3, `${broken} answers broke off`);
  // The end of a page with nothing behind it is no cut.
  const asked = proxy.asked;
  proxy.fault = () => ({ old: 1e9 });
  assert.equal((await all(backend(proxy.url).read('cut', { from: 1 }))).length, 699);
  assert.equal(proxy.asked, asked + 1);
});

test('an answer to another question is not taken for this one', async (context) => {
  await fill('stale', 9);
  const wrong = await server.ask('GET', '/v1/logs/stale?from=0&limit=4');
  const headers = Object.fromEntries(wrong.headers);
  const answer = { status: 200, headers, body: await wrong.text() };
  const proxy = await new Proxy(
    () => server.url,
    (_, asked) => (asked < 2 ? answer : 'pass'),
  ).start(context);
  const got = await all(backend(proxy.url).read('stale', { from: 2 }));
  assert.deepEqual(numbers(got), upTo(2, 9));
  assert.equal(proxy.asked, 3);
});

test('it ends at the head as it stood, whatever is written meanwhile', async () => {
  await fill('moving', 100);
  const own = backend();
  let seen = 0;
  for await (const { offset } of own.read('moving')) {
    assert.equal(offset, seen++);
    if (seen % 10 === 0) await own.append('moving', { payload: 'more' });
  }
  assert.equal(seen, 100);
  const large = own.read('large');
  await fill('large', 3000, 500);
  assert.deepEqual(numbers(await all(large)), upTo(0, 3000), 'many answers');
});

test('a gap is told: by an error, or before the records behind it', async () => {
  await fill('trimmed', 20);
  await server.ask('POST', '/v1/logs/trimmed?trim=7');
  const own = backend();
  await assert.rejects(all(own.read('trimmed', { from: 2 })), (error: HighwaterError) => {
    assert.equal(error.message, 'records 2 to 6 of trimmed are no longer kept (trimmed)');
    return error.code === 'bad_offset';
  });
  const told: (Gap | number)[] = [];
  const onGap = async (gap: Gap): Promise<void> => void told.push(gap);
  for await (const { offset } of own.read('trimmed', { from: 2, limit: 2, onGap }))
    told.push(offset);
  assert.deepEqual(told, [{ log: 'trimmed', from: 2, to: 7, reason: 'trimmed' }, 7, 8]);
  assert.equal((await all(own.read('trimmed')))[0]!.offset, 7);
});

test('a log that is deleted and made anew in the middle is told', async (context) => {
  await fill('anew', 60, 30);
  const proxy = await new Proxy(
    () => server.url,
    () => ({ old: 2000 }),
  ).start(context);
  const got: number[] = [];
  const reading = async (): Promise<void> => {
    for await (const { offset } of backend(proxy.url).read('anew')) {
      got.push(offset);
      if (got.length > 1) continue;
      await server.ask('DELETE', '/v1/logs/anew');
      await fill('anew', 60, 30);
    }
  };
  await assert.rejects(reading(), { code: 'epoch' });
  assert.ok(got.length > 0 && got.length < 60);
});

test('another history is told', async (context) => {
  const own = new Server();
  context.after(() => own.remove());
  await own.start();
  const api = highwater({ url: own.url, token: operator() });
  const { log: logId } = await api.append('here', { payload: 'x' });
  const position = (await own.ask('HEAD', '/v1/logs/here')).headers.get('highwater-position')!;
  await own.kill();
  await own.start();
  assert.equal((await all(api.read('here', { position, logId }))).length, 1, 'a restart is none');
  await own.restore();
  await api.append('here', { payload: 'y' });
  await assert.rejects(all(api.read('here', { position, logId })), { code: 'other_history' });
});

test('what one may not read is told, as it begins', async () => {
  const grants = [{ logs: 'mine', can: ['read' as const] }];
  const own = highwater({ url: server.url, token: token('dee', grants) });
  await fill('mine', 3);
  assert.equal((await all(own.read('mine'))).length, 3);
  await assert.rejects(all(own.read('cut')), { code: 'denied' });
});

test('a signal ends the loop', async () => {
  await fill('ended', 3000, 500);
  const stop = new AbortController();
  const reading = async (): Promise<void> => {
    for await (const { offset } of backend().read('ended', { signal: stop.signal })) {
      if (offset === 10) stop.abort();
    }
  };
  await assert.rejects(reading(), { code: 'closed' });
});

test('the state under latest, with what was written meanwhile', async (context) => {
  const own = backend();
  for (const [key, payload] of [
    ['b', 1],
    ['a', 2],
    ['c', 3],
    ['b', 4],
  ] as const) {
    await own.append('board/1', { key, payload }, { codec: json });
  }
  await own.append('board/1', { key: 'c' });
  const state = await own.state<number>('board/1', { codec: json });
  assert.equal(state.rule, 'latest');
  assert.equal(state.offset, 5);
  const shown = (of: State<number>): unknown[] =>
    of.rule === 'latest' ? of.state.map(({ key, payload }) => [key, payload]) : [];
  assert.deepEqual(shown(state), [
    ['a', 2],
    ['b', 4],
  ]);
  assert.deepEqual(JSON.parse(JSON.stringify(state)), state, 'a page can carry it');
  // And begins with it, before it has connected.
  assert.equal(state.rule, 'latest');
  const page = connect(server.url, { autoConnect: false });
  const board = hydrate(latest(page.log<number>('board/1', { codec: payloads })), state);
  assert.deepEqual([...board.value!].map(([key, { payload }]) => [key, payload]), shown(state));
  page.close();
  // While it is read others write: what is told is the state at the offset that is told.
  let n = 0;
  const proxy = await new Proxy(
    () => server.url,
    (path, asked) => {
      if (asked === 0) return { cut: 30 };
      if (asked === 1) return { old: 100 };
      if (path.includes('/snapshots/') || path.includes('/logs/')) n++;
      return 'pass';
    },
  ).start(context);
  let going = true;
  const writing = (async () => {
    for (let at = 0; going; at++) {
      await own.append('board/1', { key: `k${at % 7}`, payload: at }, { codec: json });
    }
  })();
  try {
    for (let round = 0; round < 20; round++) {
      const state = await backend(proxy.url).state<number>('board/1', { codec: json });
      const folded = new Map<string, unknown>();
      const below = own.read<number>('board/1', { codec: json, limit: state.offset });
      for (const { key, payload, tombstone } of await all(below)) {
        if (tombstone) folded.delete(key!);
        else folded.set(key!, payload);
      }
      assert.deepEqual(
        shown(state),
        [...folded].sort(([a], [b]) => (a < b ? -1 : 1)),
      );
    }
  } finally {
    going = false;
    await writing;
  }
  assert.ok(n >= 40);
});

test('a state that a client made; and where there is none', async () => {
  const client = connect(server.url, { token: operator() });
  const log = client.log('docs/1');
  await log.append({ payload: 'x' });
  await reached(log, 1);
  client.close();
  const own = backend();
  await assert.rejects(own.state('docs/1'), { code: 'not_found' });
  const maker = connect(server.url, { token: token('eve') });
  const opened = maker.log('docs/1');
  await reached(opened, 1);
  await putSnapshot(opened, { offset: 1, version: 3, data: Uint8Array.of(1, 2, 3) });
  maker.close();
  const state = await own.state('docs/1');
  assert.equal(state.rule, 'client');
  assert.deepEqual(
    [state.offset, 'version' in state && state.version, [...(state.state as Uint8Array)]],
    [1, 3, [1, 2, 3]],
  );
  await assert.rejects(own.state('cut'), { code: 'not_found' });
});
