/** The file that Node keeps: what a crash, a full disk, damage and another process leave of it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync,
  unlinkSync, writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { file } from '../../src/log/file.js';
import type { Health, Store } from '../../src/log/store.js';
import { when } from '../when.js';
import { contract, NONE } from './contract.js';

const folders: string[] = [];
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'highwater-store-'));
  folders.push(made);
  return made;
};
after(() => folders.forEach((made) => rmSync(made, { recursive: true })));

contract({ open: file(folder()), kind: 'disk' });

const lost = (store: Store): Promise<Health> =>
  when(store.health, (health): health is Health => health.state === 'lost');
/** The only file of rows there. */
const path = (where: string): string =>
  join(where, readdirSync(where).find((name) => name.endsWith('.rows'))!);
const left = async (where: string, name = 'one'): Promise<unknown> => {
  const store = file(where)(name, NONE);
  const rows = await store.read('');
  assert.deepEqual(store.health.value, { kind: 'disk', state: 'open' });
  await store.close();
  return rows;
};
const written = async (where: string, ...texts: string[]): Promise<number[]> => {
  const store = file(where)('one', NONE);
  const ends = [];
  for (const [n, text] of texts.entries()) {
    await store.write([[`${n}`, text], ['last', n]]);
    ends.push(statSync(path(where)).size);
  }
  await store.close();
  return ends;
};

test('a transaction that was cut short is not there, and what comes later is', async () => {
  const where = folder();
  const [before = 0, end = 0] = await written(where, 'first', 'second');
  const bytes = readFileSync(path(where));
  for (let cut = before; cut < end; cut++) {
    // Cut off, or with zeros in the place of what was not written yet.
    const zeros = Buffer.alloc(cut % 2 ? end - cut : 0);
    writeFileSync(path(where), Buffer.concat([bytes.subarray(0, cut), zeros]));
    assert.deepEqual(await left(where), [['0', 'first'], ['last', 0]], `cut at ${cut} of ${end}`);
    assert.equal(statSync(path(where)).size, before);
  }
  await written(where, 'anew');
  assert.deepEqual(await left(where), [['0', 'anew'], ['last', 0]]);
});

test('a file that is damaged before its end is said, and left as it is', async () => {
  const where = folder();
  const [before = 0] = await written(where, 'first', 'second', 'third');
  for (const at of [before + 1, before + 5, before + 9, before + 20, 2, 30]) {
    const bytes = readFileSync(path(where));
    bytes[at]! ^= 1;
    writeFileSync(path(where), bytes);
    const store = file(where)('one', NONE);
    const { error } = await lost(store);
    assert.match(error!.message, /is left as it is/);
    assert.equal(await store.write([['a', 1]]), 'memory');
    await store.close();
    assert.deepEqual(readFileSync(path(where)), bytes);
    bytes[at]! ^= 1;
    writeFileSync(path(where), bytes);
  }
  assert.equal((await left(where) as unknown[]).length, 4);
});

test('a file of rows that were changed often is written anew, and stays small', async () => {
  const where = folder();
  const store = file(where)('one', NONE);
  let most = 0;
  for (let n = 0; n < 300; n++) {
    await store.write([[`${n % 3}`, `${n}`.repeat(1000)]]);
    most = Math.max(most, statSync(path(where)).size);
  }
  assert.ok(most > 100_000 && most < 140_000, `${most} B`);
  await store.close();
  const rows = [297, 298, 299].map((n) => [`${n % 3}`, `${n}`.repeat(1000)]);
  assert.deepEqual(await left(where), rows);
  assert.equal(readdirSync(where).length, 1, 'no lock and no half of a file is left');
});

test('bytes are as many as were written, however they lie in the file', async () => {
  const where = folder();
  const store = file(where)('one', NONE);
  await store.write([['pad', 'x'.repeat(5000)], ['bytes', new Uint8Array([1, 2, 3])]]);
  await store.close();
  const next = file(where)('one', NONE);
  const [[, bytes]] = await next.read('bytes') as [[string, Uint8Array]];
  assert.deepEqual([...bytes], [1, 2, 3]);
  assert.equal(bytes.buffer.byteLength, 3);
  await next.close();
});

test('a second store of one file is told so, with what to do, and harms nothing', async () => {
  const where = folder();
  const one = file(where)('one', NONE);
  await one.write([['a', 1]]);
  const two = file(where)('one', NONE);
  const { kind, error } = await lost(two);
  assert.equal(kind, 'memory');
  assert.match(error!.message, /in use by this process.*close that one first/);
  await assert.rejects(two.wipe(), /in use/);
  await two.close();
  assert.equal(await one.write([['b', 2]]), 'disk');
  await one.close();
  assert.deepEqual(await left(where), [['a', 1], ['b', 2]]);
});

test('a lock of a process that is gone keeps nobody out, whoever has its number', async () => {
  const where = folder();
  await written(where, 'first');
  const locked = `${path(where)}.lock`;
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  const reused = process.platform === 'linux' ? `${process.pid} 1` : '';
  for (const text of [`${child.pid} 1`, '', reused]) {
    writeFileSync(locked, text);
    assert.equal((await left(where) as unknown[]).length, 2);
  }
});

test('of many that find a dead lock at once, one has it', async () => {
  const where = folder();
  await written(where, 'first');
  for (let round = 0; round < 20; round++) {
    writeFileSync(`${path(where)}.lock`, '');
    const stores = Array.from({ length: 6 }, () => file(where)('one', NONE));
    const kinds = await Promise.all(stores.map((store, n) => store.write([[`${n}`, round]])));
    assert.equal(kinds.filter((kind) => kind === 'disk').length, 1, kinds.join());
    await Promise.all(stores.map((store) => store.close()));
  }
});

test('a file that is taken away, or replaced, is made anew of what the app holds', async () => {
  const where = folder();
  const store = file(where)('one', { rows: () => [['held', 1]] });
  await store.write([['held', 1], ['a', 1]]);
  unlinkSync(path(where));
  assert.equal(await store.write([['b', 2]]), 'disk');
  assert.deepEqual(await store.read(''), [['b', 2], ['held', 1]]);
  const copy = readFileSync(path(where));
  writeFileSync(`${path(where)}.copy`, copy);
  renameSync(`${path(where)}.copy`, path(where));
  assert.equal(await store.write([['c', 3]]), 'disk');
  assert.deepEqual(store.health.value, { kind: 'disk', state: 'open' });
  await store.close();
  assert.deepEqual(await left(where), [['b', 2], ['c', 3], ['held', 1]]);
});

test('who lost its lock to another writes no more', async () => {
  const where = folder();
  const one = file(where)('one', NONE);
  await one.write([['a', 1]]);
  unlinkSync(`${path(where)}.lock`);
  const two = file(where)('one', NONE);
  assert.equal(await two.write([['b', 2]]), 'disk');
  assert.equal(await one.write([['a', 2]]), 'memory');
  assert.match(one.health.value.error!.message, /in use/);
  await one.close();
  await two.close();
  assert.deepEqual(await left(where), [['a', 1], ['b', 2]]);
});

/** While `work` goes on, each `method` of a handle does this first. */
const failing = async (
  method: 'write' | 'datasync',
  first: () => void,
  work: () => Promise<void>,
): Promise<void> => {
  const handle = await open(process.execPath, 'r');
  const methods = Object.getPrototypeOf(handle);
  await handle.close();
  const real = methods[method];
  methods[method] = async function (...given: any[]) {
    if (method === 'write') await real.call(this, given[0], given[1], 7, given[3]);
    first();
    return real.apply(this, given);
  };
  await work().finally(() => (methods[method] = real));
};

test('a disk that is full refuses a write, takes its half back, and goes on', async () => {
  const where = folder();
  const store = file(where)('one', NONE);
  await store.write([['a', 1]]);
  const { size } = statSync(path(where));
  let full = true;
  const room = (): void => {
    if (full) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
  };
  await failing('write', room, async () => {
    await assert.rejects(store.write([['b', 2]]), { code: 'ENOSPC' });
    assert.equal(statSync(path(where)).size, size);
    await assert.rejects(store.wipe(), { code: 'ENOSPC' });
    full = false;
    assert.equal(await store.write([['c', 3]]), 'disk');
  });
  assert.deepEqual(store.health.value, { kind: 'disk', state: 'open' });
  await store.close();
  assert.deepEqual(await left(where), [['a', 1], ['c', 3]]);
});

test('an fsync that failed once is not believed: the file is written anew', async () => {
  const where = folder();
  const store = file(where)('one', NONE);
  await store.write([['a', 1]]);
  const { ino } = statSync(path(where));
  let fails = 1;
  const broken = (): void => {
    if (fails-- > 0) throw Object.assign(new Error('i/o error'), { code: 'EIO' });
  };
  await failing('datasync', broken, async () => {
    assert.equal(await store.write([['b', 2]]), 'disk');
    assert.notEqual(statSync(path(where)).ino, ino);
    fails = 2;
    assert.equal(await store.write([['c', 3]]), 'memory');
  });
  assert.equal(store.health.value.error?.message, 'i/o error');
  await store.close();
});

/** Starts the writer, kills it after so many writes; answers what it said. */
const killed = async (where: string, first: number, writes: number): Promise<number[]> => {
  const program = fileURLToPath(new URL('./store-file.child.mjs', import.meta.url));
  const child = spawn(process.execPath, [program, where, `${first}`]);
  let said = '';
  let errors = '';
  child.stderr.on('data', (text) => (errors += text));
  child.stdout.on('data', (text) => {
    said += text;
    if (said.split('\n').length > writes) child.kill('SIGKILL');
  });
  const [, signal] = await once(child, 'close');
  assert.equal(signal, 'SIGKILL', errors);
  return said.split('\n').slice(0, -1).map(Number);
};

test('kill -9 while it writes: all that resolved is there, and nothing is half', async () => {
  const where = folder();
  const seed = +(process.env['SEED'] ?? Date.now() % 100_000);
  console.log(`SEED=${seed}`);
  const there = new Set<number>();
  for (let round = 0; round < 8; round++) {
    const first = round * 10_000;
    for (const n of await killed(where, first, 20 + ((seed * (round + 1)) % 400))) {
      if (n > 0 || Object.is(n, 0)) there.add(n);
      // Of those that were taken away, or about to be, nobody knows.
      else for (let k = 0; k < 5; k++) there.delete(-n + k);
    }
    const most = Math.max(...there);
    for (const n of there) if (n >= first && n < most - 190) there.delete(n);
    const rows = new Map((await left(where, 'killed')) as [string, string][]);
    for (const n of there) {
      const text = `${n} `.repeat((n * 7919) % 3000);
      assert.equal(rows.get(`a/${n}`), text, `SEED=${seed}: ${n} had resolved`);
    }
    for (const [key, text] of rows) {
      const [, n] = key.split('/');
      assert.equal(rows.get(`a/${n}`), text);
      assert.equal(rows.get(`b/${n}`), text, `SEED=${seed}: ${key} is half`);
    }
  }
  assert.ok(there.size > 100, `${there.size} were there`);
  appendFileSync(path(where), 'torn');
  await left(where, 'killed');
});
