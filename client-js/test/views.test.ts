/** Views: holes that are told, reducers that are caught, reads that cost their own work. */

import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { latest } from '../src/latest.js';
import { json } from '../src/payload.js';
import { view } from '../src/view.js';
import { text, World, type TestLog } from './world.js';

const begun = (head = 0): { world: World; log: TestLog } => {
  const world = new World().attach();
  const log = world.subscribe('a');
  world.begin('a', 7, 0, head);
  return { world, log };
};
const turn = (): Promise<void> => new Promise((done) => setImmediate(done));
/** What is reported of what others' functions threw, instead of ending the test. */
const reported = (context: TestContext): string[] => {
  const thrown: string[] = [];
  const real = queueMicrotask;
  context.mock.method(globalThis, 'queueMicrotask', (work: () => void) => real(() => {
    try {
      work();
    } catch (error) {
      thrown.push((error as Error).message);
    }
  }));
  return thrown;
};
const answer = (world: World, gap?: number): void => {
  const { request } = world.last('seek');
  const cursor = gap ?? 0;
  world.announce('a', 7, { request, cursor, head: 5, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor, complete: 5 });
  if (gap) world.tell('gap', { log: 7, from: 0, to: gap, reason: 'trimmed' });
  world.records(7, cursor, ['0', '1', '2', '3', '4'].slice(cursor).map((key) => text(key, key)));
};

test('a hole is told with its range, by both kinds; the state delivered anew has none', async () => {
  for (const make of [latest, (log: TestLog) => view(log, (all: number, _) => all + 1, 0)]) {
    const world = new World().attach();
    const log = world.subscribe('a');
    const board = make(log);
    const told: unknown[] = [];
    board.incomplete.subscribe((ranges) => told.push(ranges));
    world.begin('a', 7);
    world.records(7, 0, [text('0', 'k')]);
    assert.deepEqual(board.incomplete.value, []);
    world.tell('gap', { log: 7, from: 1, to: 4, reason: 'trimmed' });
    world.records(7, 4, [text('4', 'l')]);
    assert.deepEqual(board.incomplete.value, [{ from: 1, to: 4 }]);
    board.reload();
    world.settle();
    assert.deepEqual(world.last('seek').to, 'state');
    assert.deepEqual(board.incomplete.value, [{ from: 1, to: 4 }], 'of what is shown meanwhile');
    answer(world);
    assert.deepEqual(told, [[], [{ from: 1, to: 4 }], []]);
    board.reload();
    world.settle();
    answer(world, 3);
    assert.deepEqual(board.incomplete.value, [{ from: 0, to: 3 }], 'the server has no more itself');
    await turn();
  }
});

test('a window that the app asked for is no hole', () => {
  const world = new World().attach();
  const board = latest(world.subscribe('a', { start: { last: 2 } }));
  world.announce('a', 7, { cursor: 8, head: 10 });
  world.records(7, 8, [text('8', 'x'), text('9', 'y')]);
  assert.deepEqual([[...board.value!.keys()], board.incomplete.value], [['x', 'y'], []]);
});

test('a reducer that changes what it is given is caught, and what it failed at is told', async (context) => {
  const thrown = reported(context);
  type Fold = (state: any, entry: any) => unknown;
  const cases: [unknown, Fold][] = [
    [{ n: 0 }, (state) => (state.n++, state)],
    [[], (state, { payload }) => (state.push(payload), state)],
    [new Map(), (state, { key, payload }) => state.set(key, payload)],
    [new Set(), (state, { key }) => state.add(key)],
    [{ list: { deep: [] } }, (state, { payload }) => (state.list.deep.push(payload), state)],
    [0, (state, entry) => ((entry.payload.x = 1), state + 1)],
  ];
  for (const [initial, reducer] of cases) {
    const world = new World().attach();
    const shown = view(world.subscribe('a', { codec: json }), reducer, initial);
    world.begin('a', 7);
    world.records(7, 0, [text('{"a":[]}', 'k')]);
    assert.deepEqual(shown.incomplete.value, [{ from: 0, to: 1 }], `${reducer}`);
    assert.deepEqual(shown.value, initial);
    await turn();
    assert.equal(thrown.length, 1, `${reducer}: ${thrown}`);
    assert.match(thrown.pop()!, /read only|not extensible|may not change/);
  }
});

test('where an app is built for production nothing is frozen', () => {
  const had = process.env['NODE_ENV'];
  process.env['NODE_ENV'] = 'production';
  try {
    const { world, log } = begun();
    void log;
    const shown = view(world.open('a'), (state: any) => (state.n++, state), { n: 0 });
    world.settle();
    world.announce('a', 7, { request: world.last('seek').request, cursor: 0, reset: true });
    world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 0, complete: 0 });
    world.records(7, 0, [text('x')]);
    assert.deepEqual(shown.value, { n: 1 });
  } finally {
    process.env['NODE_ENV'] = had;
    if (had === undefined) delete process.env['NODE_ENV'];
  }
});

test('a view is a store: told at once, then of each change, and its functions stand alone', async () => {
  const { world, log } = begun();
  const board = latest(log);
  world.settle();
  answer(world);
  for (const { subscribe, value } of [board, log.status, log.pending, board.incomplete]) {
    const told: unknown[] = [];
    const stop = subscribe((given: unknown) => told.push(given));
    assert.deepEqual(told, [value]);
    stop();
    stop();
  }
  const sizes: (number | undefined)[] = [];
  board.subscribe((map) => sizes.push(map?.size));
  world.records(7, 5, [text('x', 'x')]);
  world.records(7, 6, [text('y', 'y')]);
  await turn();
  assert.deepEqual(sizes, [5, 7]);
  const { append, seek, release, on } = log;
  assert.equal(typeof on('records', () => {}), 'function');
  void append(text('z', 'z'));
  world.settle();
  assert.equal(board.get('z').value?.pending, true);
  seek('end');
  release();
});

test('one key of many: its reads are told, others are not, and no map is made for it', async () => {
  const { world, log } = begun();
  const board = latest(log);
  world.settle();
  answer(world);
  await turn();
  const seen: string[] = [];
  const stop = board.get('1').subscribe((entry) => seen.push(`1 ${entry?.payload} ${entry?.pending}`));
  board.get('2').subscribe((entry) => seen.push(`2 ${entry?.payload}`));
  const keys: string[][] = [];
  const deaf = board.changes((changed) => keys.push([...changed]));
  assert.deepEqual(seen.splice(0), ['1 1 false', '2 2']);
  world.records(7, 5, [text('new', '1'), text('n', 'n')]);
  await turn();
  assert.deepEqual([seen.splice(0), keys.pop()], [['1 new false'], ['1', 'n']]);
  void log.append(text('mine', '1'));
  void log.append(text('mine again', '1'));
  world.settle();
  await turn();
  assert.deepEqual([seen.splice(0), keys.pop()], [['1 mine again true'], ['1']]);
  world.refuse([2], 'conflict', 2);
  await turn();
  assert.deepEqual(seen.splice(0), ['1 mine true'], 'the one below it');
  world.stored(1, 7, 7);
  world.records(7, 7, [{ key: '1' }], { user: 'ada', writer: world.core.author.id, connection: '0'.repeat(32) }, 1);
  await turn();
  assert.deepEqual([seen.splice(0), board.value!.has('1')], [['1 undefined undefined'], false]);
  stop();
  deaf();
  world.records(7, 8, [text('back', '1')]);
  await turn();
  assert.deepEqual([seen, keys], [[], [['1'], ['1']].slice(0, keys.length)]);
});

test('after a reset only the keys that differ are told', async () => {
  const { world, log } = begun();
  const board = latest(log);
  world.settle();
  answer(world);
  await turn();
  const keys: string[][] = [];
  board.changes((changed) => keys.push([...changed].sort()));
  board.reload();
  world.settle();
  const { request } = world.last('seek');
  world.announce('a', 7, { request, cursor: 0, head: 6, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 0, complete: 6 });
  world.records(7, 0, ['0', '1', '2', '3', '4'].map((key) => text(key, key)));
  world.records(7, 5, [{ key: '3' }]);
  await turn();
  assert.deepEqual(keys, [['3']]);
});

/** What a change of one key costs where there are so many, ms. */
const change = async (count: number): Promise<number> => {
  const { world, log } = begun();
  const board = latest(log);
  world.settle();
  const { request } = world.last('seek');
  world.announce('a', 7, { request, cursor: 0, head: count, reset: true });
  world.tell('reset', { log: 7, reason: 'asked', base: undefined, cursor: 0, complete: count });
  world.records(7, 0, Array.from({ length: count }, (_, at) => text(`${at}`, `k${at}`)));
  await turn();
  let told = 0;
  board.get('k7').subscribe(() => told++);
  board.changes(() => told++);
  const from = performance.now();
  for (let round = 0; round < 300; round++) {
    world.records(7, count + round, [text(`${round}`, 'k7')]);
    await turn();
    assert.equal(board.get('k7').value?.payload, `${round}`);
  }
  assert.equal(told, 601);
  return (performance.now() - from) / 300;
};

test('with 20,000 keys a change costs its own work', async () => {
  await change(20);
  const [few, many] = [await change(20), await change(20_000)];
  // A copy of the map alone takes some milliseconds.
  assert.ok(many < 5 * few + 1, `${few} ms with 20 keys, ${many} ms with 20,000`);
});

test('a faulty payload takes no key away', () => {
  const world = new World().attach();
  const board = latest(world.subscribe('a', { codec: json }));
  world.begin('a', 7);
  world.records(7, 0, [text('1', 'k'), text('{', 'k')]);
  assert.equal(board.get('k').value?.fault?.code, 'bad_payload');
});
