/** Bad calls harm only themselves: each is told where it is made, with the field's name. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HighwaterError } from '../src/errors.js';
import { json } from '../src/payload.js';
import { outcome, text, World } from './world.js';

const half = 'a\ud83d';

test('a record that cannot be carried is rejected by its field, and nothing else is harmed', async () => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7);
  const pairs = Array.from({ length: 33 }, () => ['a', 'b']);
  const bad: [any, RegExp, any?][] = [
    [undefined, /object/], [null, /object/], [5, /object/], ['text', /object/],
    [{ payload: 5 }, /^payload: /], [{ payload: {} }, /^payload: /], [{ payload: half }, /^payload: .*half/],
    [{ key: half, payload: '' }, /^key: .*half/], [{ key: 5, payload: '' }, /^key: /],
    [{ key: '', payload: '' }, /^key: 1 to 255/], [{ key: 'é'.repeat(128), payload: '' }, /^key: 1 to 255/],
    [{ kind: 'k'.repeat(65), payload: '' }, /^kind: 1 to 64/], [{ kind: half, payload: '' }, /^kind: /],
    [{ eventTime: -1, payload: '' }, /^eventTime: /], [{ eventTime: 1.5, payload: '' }, /^eventTime: /],
    [{ eventTime: 2 ** 53, payload: '' }, /^eventTime: /], [{ eventTime: '1', payload: '' }, /^eventTime: /],
    [{ headers: { a: 1 }, payload: '' }, /^headers: /], [{ headers: [['a']], payload: '' }, /^headers: /],
    [{ headers: [['a', half]], payload: '' }, /^headers: /], [{ headers: pairs, payload: '' }, /^headers: .*32/],
    [{ headers: [['a', 'x'.repeat(5000)]], payload: '' }, /^headers: .*4096/],
    [{ extensions: [{ tag: -1, data: '' }], payload: '' }, /^tag: /],
    [{}, /^payload: .*key/], [{ payload: '' }, /^ifHead: /, -1], [{ payload: '' }, /^ifHead: /, 'x'],
  ];
  for (const [record, field, ifHead] of bad) {
    const told = await outcome(log.append(record, { ifHead }));
    assert.ok(told instanceof HighwaterError && told.code === 'bad_record', `${JSON.stringify(record)}: ${told}`);
    assert.match(told.message, field);
  }
  for (const name of [undefined, null, 5, {}, '', '/', 'a/', '/a', 'a//b', '.', 'a/..', 'ä', 'a b', half, 'x'.repeat(256)]) {
    const told = await outcome(world.core.append(name as never, text('x')));
    assert.deepEqual([told.code, /^name: /.test(told.message)], ['bad_name', true], `${name}`);
    assert.throws(() => world.open(name as never), { name: 'HighwaterError', code: 'bad_name' });
  }
  const good = log.append(text('good'));
  world.settle();
  assert.deepEqual(world.got('append').flatMap(({ items }) => items.map(({ seq }) => seq)), [1]);
  world.stored(1, 7, 0);
  assert.equal((await outcome(good)).offset, 0);
  assert.equal(world.status.phase, 'live');
});

test('options of a log are checked where they are given', () => {
  const world = new World().attach();
  for (const [options, field] of [
    [{ start: 'latest' }, 'start'], [{ start: { last: -1 } }, 'start'], [{ start: { offset: 2 ** 53 } }, 'start'],
    [{ start: {} }, 'start'], [{ start: null }, 'start'], [{ start: { last: 1, offset: 2 } }, 'start'],
    [{ priority: 256 }, 'priority'], [{ priority: 'first' }, 'priority'], [{ grace: -1 }, 'grace'],
    [{ grace: 'long' }, 'grace'], [{ commit: 'never' }, 'commit'], [{ codec: 'json' }, 'codec'],
    [{ codec: { decode: JSON.parse } }, 'codec'], [{ codec: { encode: JSON.stringify } }, 'codec'],
  ] as [any, string][]) {
    assert.throws(() => world.open('a', options), (error: any) => {
      assert.deepEqual([error.name, error.code], ['HighwaterError', 'bad_request'], JSON.stringify(options));
      assert.match(error.message, new RegExp(`^${field}: `));
      return true;
    });
  }
  const log = world.subscribe('a');
  for (const to of ['latest', undefined, { offset: -1 }] as any[]) {
    assert.throws(() => log.seek(to), { code: 'bad_request', message: /^to: / });
  }
  for (const next of [undefined, -1, Number.NaN, '5'] as any[]) {
    assert.throws(() => log.commit(next), { code: 'bad_request', message: /^next: / });
  }
  assert.equal(world.core.followed.named.size, 1, 'what was refused left nothing behind');
});

test('a codec that cannot write a payload refuses that one; one that cannot read it says so', async () => {
  const world = new World().attach();
  const log = world.subscribe('a', { codec: json });
  world.begin('a', 7);
  const cycle: any = {};
  cycle.cycle = cycle;
  for (const payload of [cycle, () => 1, 10n]) {
    assert.equal((await outcome(log.append({ payload }))).code, 'bad_payload');
  }
  const told: unknown[] = [];
  log.on('records', ({ records }) => told.push(...records.map(({ payload, fault, tombstone }) => [payload, fault?.code, tombstone])));
  world.records(7, 0, [text('{"a":1}', 'k'), text('{', 'k'), { key: 'k' }, { payload: new Uint8Array([0x5b, 0x5d]) }, text('null')]);
  assert.deepEqual(told, [
    [{ a: 1 }, undefined, false], [undefined, 'bad_payload', false], [undefined, undefined, true],
    [[], undefined, false], [null, undefined, false],
  ]);
  assert.equal(world.status.phase, 'live');
});

test('a rejection that nobody looks at is none of the process', async (context) => {
  const unhandled: unknown[] = [];
  const hear = (error: unknown): void => void unhandled.push(error);
  process.on('unhandledRejection', hear);
  context.after(() => process.off('unhandledRejection', hear));
  const world = new World().attach();
  const log = world.open('a', { codec: json });
  void log.append({ payload: () => 1 });
  void log.append({});
  void log.append({ payload: 1 });
  void log.commit(0);
  world.settle();
  world.refuse([1], 'denied', 1);
  world.core.close(world.now, true, false);
  void log.append({ payload: 2 });
  void log.commit(1);
  for (let turn = 0; turn < 3; turn++) await new Promise((done) => setImmediate(done));
  assert.deepEqual(unhandled, []);
});

test('what an app changes after its append is not what is sent', () => {
  const world = new World().attach();
  const payload = new Uint8Array([1, 2]);
  const headers: [string, string][] = [['a', 'b']];
  void world.core.append('a', { payload, headers });
  payload[0] = 9;
  headers[0]![1] = 'c';
  world.settle();
  const { record } = world.last('append').items[0]!;
  assert.deepEqual([[...record.payload as Uint8Array], record.headers], [[1, 2], [['a', 'b']]]);
});

test('20,000 appends and their answers cost their own work', () => {
  const world = new World({ maxPending: 20_000 }).attach();
  const log = world.open('a');
  world.settle();
  world.begin('a', 7);
  const count = (many: number, first: number): number => {
    const from = performance.now();
    for (let at = 0; at < many; at++) {
      log.append(text('x', `k${at}`)).catch(() => {});
    }
    world.settle();
    for (let seq = first; seq < first + many; seq++) world.stored(seq, 7, seq - 1);
    return performance.now() - from;
  };
  count(2000, 1);
  const few = count(2000, 2001);
  const many = count(20_000, 4001);
  // Ten times as much costs about ten times as much: a search of all for each would be a hundred.
  assert.ok(many < 40 * few + 200, `2,000 in ${few} ms, 20,000 in ${many} ms`);
});
