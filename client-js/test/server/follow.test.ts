/** Followers that are killed, whose server is killed, deleted and replaced. */

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  fileStorage,
  highwater,
  HighwaterError,
  memoryStorage,
  type Cursor,
  type Entry,
  type FollowOptions,
  type Gap,
  type Reset,
} from '../../src/server.js';
import { operator, Server } from '../server.js';
import { Chance, Child, folder, Proxy, upTo } from './support.js';

const server = new Server();
before(() => server.start());
after(() => server.remove());

const backend = (url = server.url) => highwater({ url, token: operator() });
const payloads = (records: readonly Entry[]): string[] =>
  records.map(({ payload }) => payload as string);

/** A follower of this process: what it got, and what ends it. */
const following = (log: string, options: Partial<FollowOptions> = {}, api = backend()) => {
  const stop = new AbortController();
  const got: string[] = [];
  let look = (): void => {};
  const done = api.follow(log, {
    cursor: memoryStorage<Cursor>(),
    signal: stop.signal,
    onRecords: (records) => {
      got.push(...payloads(records));
      look();
    },
    ...options,
  });
  const reached = async (many: number): Promise<void> => {
    while (got.length < many) {
      await Promise.race([done, new Promise<void>((found) => (look = found))]);
    }
  };
  return { got, done, reached, stop: () => stop.abort() };
};

for (const once of [false, true]) {
  const how = once ? 'exactly once with the cursor beside the work' : 'at least once with a file';
  test(`killed at random moments, and its server too: ${how}`, async (context) => {
    const chance = new Chance(context, 'server/follow');
    const own = new Server();
    context.after(() => own.remove());
    await own.start();
    const proxy = await new Proxy(
      () => own.url,
      () => chance.pick(['pass', 'pass', 'lose', { status: 503 }, { cut: 700 }, { old: 700 }]),
    ).start(context);
    const api = highwater({ url: own.url, token: operator() });
    const [out, file] = ['out', 'cursor'].map((name) => join(folder(context), name)) as [
      string,
      string,
    ];
    const last = 90;
    /** Where the next one would go on. */
    const keptAt = async (): Promise<number | undefined> => {
      if (!once) return (await fileStorage<Cursor>(file).load())?.offset;
      const lines = existsSync(out) ? readFileSync(out, 'utf8').split('\n').slice(0, -1) : [];
      return lines.length ? JSON.parse(lines.at(-1)!).cursor.offset : undefined;
    };
    let written = 0;
    let kills = 0;
    for (let done = false; !done;) {
      if (written < last) {
        await api.append(
          'feed',
          upTo(written, written + 30).map((n) => ({ payload: `${n}` })),
        );
        written += 30;
      }
      const child = new Child(
        context,
        'follow',
        proxy.url,
        operator(),
        once ? '-' : file,
        out,
        'feed',
        `${last - 1}`,
      );
      await child.printed(1 + chance.below(4));
      if (chance.below(3) === 0) {
        await own.kill();
        await own.start();
      }
      const ended = await child.kill();
      if (!ended) kills++;
      // Killed when all was done and kept, but before it ended: for the next one nothing is left.
      done = ended || (await keptAt()) === last;
      assert.ok(kills < 60, 'it does not get on');
    }
    const lines = readFileSync(out, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line));
    const got = lines.flatMap(({ payloads: some }) => some.map(Number)) as number[];
    assert.ok(kills > 1, `killed ${kills} times`);
    if (once) return assert.deepEqual(got, upTo(0, last));
    // A repeat begins where a cursor was kept, and goes on from there: nothing is passed over.
    let next = 0;
    for (const n of got) {
      assert.ok(n <= next, `${n} came when ${next} was due`);
      next = Math.max(next, n + 1);
    }
    assert.equal(next, last);
    assert.equal(existsSync(file), true);
  });
}

test('it waits for a log that is not there yet, and gets what comes', async () => {
  const one = following('later');
  const own = backend();
  for (const [at, payload] of ['a', 'b', 'c'].entries()) {
    await own.append('later', { payload });
    await one.reached(at + 1);
  }
  one.stop();
  await one.done;
  assert.deepEqual(one.got, ['a', 'b', 'c']);
});

test('from the end: kept at once, so that a restart loses nothing', async () => {
  const own = backend();
  await own.append('end', { payload: 'old' });
  const memory = memoryStorage<Cursor>();
  let kept = (): void => {};
  const saved = new Promise<void>((done) => (kept = done));
  const cursor = {
    load: () => memory.load(),
    save: (value: Cursor) => {
      memory.save(value);
      kept();
    },
  };
  const one = following('end', { cursor, from: 'end' });
  await saved;
  one.stop();
  await one.done;
  await own.append('end', { payload: 'new' });
  const two = following('end', { cursor, from: 'end' });
  await two.reached(1);
  two.stop();
  await two.done;
  assert.deepEqual([one.got, two.got], [[], ['new']]);
});

test('a handler that throws: the cursor stays before its records', async () => {
  const own = backend();
  await own.append('throws', [{ payload: '1' }, { payload: '2' }, { payload: '3' }]);
  const cursor = memoryStorage<Cursor>();
  const onRecords = (records: readonly Entry[]): void => {
    if (payloads(records).includes('2')) throw new TypeError('mine');
  };
  await assert.rejects(own.follow('throws', { cursor, onRecords, most: 1 }), new TypeError('mine'));
  assert.equal((await cursor.load())!.offset, 1);
  const one = following('throws', { cursor });
  await one.reached(2);
  one.stop();
  await one.done;
  assert.deepEqual(one.got, ['2', '3']);
  const closed = { load: () => undefined, save: () => Promise.reject(new Error('no room')) };
  await assert.rejects(
    own.follow('throws', { cursor: closed, onRecords: () => {} }),
    new Error('no room'),
  );
});

test('a log that is deleted: it ends with epoch, or tells so and begins anew', async () => {
  const own = backend();
  await own.append('gone', [{ payload: '1' }, { payload: '2' }]);
  const cursor = memoryStorage<Cursor>();
  const one = following('gone', { cursor });
  await one.reached(2);
  await server.ask('DELETE', '/v1/logs/gone');
  await assert.rejects(one.done, { code: 'epoch' });
  await own.append('gone', { payload: 'anew' });
  // The same after a restart, until someone says what to do.
  await assert.rejects(following('gone', { cursor }).done, { code: 'epoch' });
  const resets: Reset[] = [];
  const two = following('gone', { cursor, onReset: (reset) => void resets.push(reset) });
  await two.reached(1);
  two.stop();
  await two.done;
  assert.deepEqual(two.got, ['anew']);
  assert.deepEqual(
    resets.map(({ log, reason, cursor: { offset } }) => [log, reason, offset]),
    [['gone', 'epoch', 2]],
  );
  assert.notEqual((await cursor.load())!.logId, resets[0]!.cursor.logId);
});

test('another history: it ends with that, or tells so and begins anew', async (context) => {
  const own = new Server();
  context.after(() => own.remove());
  await own.start();
  const api = highwater({ url: own.url, token: operator() });
  await api.append('feed', [{ payload: '1' }, { payload: '2' }]);
  const cursor = memoryStorage<Cursor>();
  const one = following('feed', { cursor }, api);
  await one.reached(2);
  await own.restore();
  await api.append('feed', [{ payload: 'a' }, { payload: 'b' }, { payload: 'c' }]);
  await assert.rejects(one.done, { code: 'other_history' });
  const resets: Reset[] = [];
  const two = following('feed', { cursor, onReset: (reset) => void resets.push(reset) }, api);
  await two.reached(3);
  two.stop();
  await two.done;
  assert.deepEqual(two.got, ['a', 'b', 'c'], 'not from offset 2 on');
  assert.equal(resets[0]!.reason, 'other_history');
});

test('records that are no longer kept are told', async () => {
  const own = backend();
  await own.append(
    'trim',
    upTo(0, 9).map((n) => ({ payload: `${n}` })),
  );
  const cursor = memoryStorage<Cursor>();
  const one = following('trim', { cursor, most: 2, onRecords: () => one.stop() });
  await one.done;
  await server.ask('POST', '/v1/logs/trim?trim=6');
  await assert.rejects(following('trim', { cursor }).done, { code: 'bad_offset' });
  const gaps: Gap[] = [];
  const two = following('trim', { cursor, onGap: (gap) => void gaps.push(gap) });
  await two.reached(3);
  two.stop();
  await two.done;
  assert.deepEqual(gaps, [{ log: 'trim', from: 2, to: 6, reason: 'trimmed' }]);
  assert.deepEqual(two.got, ['6', '7', '8']);
});

test('a proxy without patience: it waits less long, and misses nothing', async (context) => {
  const waits: number[] = [];
  const proxy = await new Proxy(
    () => server.url,
    (path) => {
      const wait = Number(new URL(path, 'http://x').searchParams.get('wait'));
      waits.push(wait);
      return wait > 2_000 ? { status: 504 } : 'pass';
    },
  ).start(context);
  const own = backend();
  await own.append('patient', { payload: '1' });
  const one = following('patient', {}, backend(proxy.url));
  await one.reached(1);
  await own.append('patient', { payload: '2' });
  await one.reached(2);
  one.stop();
  await one.done;
  assert.deepEqual(waits.slice(0, 5), [25_000, 12_500, 6_250, 3_125, 1_562]);
});

test('what was kept by something else is refused by its field', async () => {
  for (const [kept, field] of [
    [{ offset: 1 }, 'cursor.logId'],
    [{ logId: 1, offset: 'x' }, 'cursor.offset'],
    [[], 'cursor'],
    [{ logId: 1, offset: 1, position: 'x' }, 'cursor.position'],
  ] as const) {
    const call = backend().follow('a', {
      cursor: { load: () => kept as never },
      onRecords: () => {},
    });
    await assert.rejects(call, (error: HighwaterError) => error.message.startsWith(`${field}: `));
  }
});
