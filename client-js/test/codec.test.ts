/** The codec against the golden vectors of the protocol, and against bad input. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { CodecError, Io, utf8Length, u64, type Table } from '../src/codec.js';
import { codeName, codeNumber, isTransient } from '../src/errors.js';
import { clientFrames, serverFrames } from '../src/frames.js';
import { toJson } from '../src/json-wire.js';
import { decode, encode } from './world.js';

/** In memory names are written in one word. */
const camel = (name: string): string =>
  name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

const tables: Record<string, Table> = { client: clientFrames, server: serverFrames };

interface Vector {
  name: string;
  table: 'client' | 'server';
  kind: number;
  frame: string;
  json: unknown;
  hex: string;
}
interface Odd {
  name: string;
  table: 'client' | 'server';
  encoding: 'bincode' | 'json';
  input: string;
  reads_as?: string[];
}

// Tests run in the folder of the package.
const folder = resolve('../tests/vectors');
const vectors = <T>(file: string): T[] => JSON.parse(readFileSync(join(folder, file), 'utf8')) as T[];
const bytes = (hex: string): Uint8Array => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex = (input: string | Uint8Array): string => Buffer.from(input as Uint8Array).toString('hex');

test('golden vectors: both encodings, both directions, byte for byte', () => {
  let checked = 0;
  for (const vector of [...vectors<Vector>('client.json'), ...vectors<Vector>('server.json')]) {
    const table = tables[vector.table]!;
    const name = `${vector.table} ${vector.name}`;
    const frame = camel(vector.frame);
    if (!table[frame]) continue; // Kinds 32 to 39 are numbered for later.
    assert.equal(table[frame]![0], vector.kind, name);
    const line = JSON.stringify({ [vector.frame]: vector.json }) + '\n';
    const [fromBinary, ...more] = decode(table, bytes(vector.hex));
    assert.equal(more.length, 0, name);
    assert.equal(fromBinary!.frame.name, frame, name);
    const [fromJson] = decode(table, line);
    assert.deepEqual(fromJson!.frame, fromBinary!.frame, name);
    assert.equal(fromJson!.size, utf8Length(line) - 1, name);
    assert.equal(hex(encode(table, fromBinary!.frame, 'bincode')), vector.hex, name);
    assert.equal(encode(table, fromBinary!.frame, 'json'), line, name);
    checked++;
  }
  assert.ok(checked > 30, `only ${checked} vectors`);
});

test('bodies from before they grew are read as the same frames, with what is said of no more', () => {
  const grown = { positions: [], made: [], otherHistory: false, bases: [], request: 0, held: false } as const;
  let checked = 0;
  for (const kind of ['client', 'server']) {
    const today = new Map(vectors<Vector>(`${kind}.json`).map((vector) => [vector.name, vector]));
    for (const { name, table, frame, json, hex: short } of vectors<Vector>(`short/${kind}.json`)) {
      const known = tables[table]!;
      if (!known[camel(frame)]) continue;
      const [fromBinary] = decode(known, bytes(short));
      const [fromJson] = decode(known, JSON.stringify({ [frame]: json }) + '\n');
      const [wanted] = decode(known, bytes(today.get(name)!.hex));
      assert.deepEqual([fromBinary!.frame, fromJson!.frame], [wanted!.frame, wanted!.frame], `${table} ${name}`);
      const body = wanted!.frame.body as Record<string, unknown>;
      for (const [field, value] of Object.entries(grown)) {
        if (field.replace(/[A-Z]/, (at) => `_${at.toLowerCase()}`) in (json as object) || body[field] === undefined) continue;
        assert.deepEqual(body[field], value, `${table} ${name}`);
      }
      checked++;
    }
  }
  assert.ok(checked > 100, `only ${checked} vectors`);
});

test('a body cut inside a grown field is no frame', () => {
  const [vector] = vectors<Vector>('server.json').filter(({ name }) => name === 'ping_history');
  const whole = bytes(vector!.hex);
  for (let length = 2; length < whole[1]!; length++) {
    const cut = Uint8Array.from([whole[0]!, length, ...whole.slice(2, 2 + length)]);
    assert.throws(() => decode(serverFrames, cut), CodecError, `${length} bytes`);
  }
});

test('positions: what is none is refused', () => {
  const era = 'e'.repeat(32);
  const read = (position: unknown): unknown =>
    decode(serverFrames, `{"ping":{"nonce":1,"positions":[${JSON.stringify(position)}]}}`)[0]!.frame.body;
  assert.deepEqual(read(`${era}.9007199254740991.00000000000000ff`), {
    nonce: 1, positions: [`${era}.9007199254740991.00000000000000ff`],
  });
  for (const bad of [
    '', era, `${era}.`, `${era}.x`, `${era}.-1`, `${era}.1.5`, `${era}.1.`, `${era}.9007199254740992`,
    `${era}.1.00000000000000FF`, `${era}.1.00000000000000`, `${era.toUpperCase()}.1`, 5, null, {},
  ]) {
    assert.throws(() => read(bad), CodecError, JSON.stringify(bad));
  }
});

/** What a server refuses and this client reads. */
const KINDER = [
  '64 bits where 32 are the most', // in a kind numbered for later, which is skipped here
  'code that does not exist', // kept as `code_<number>` and treated by its range
  'a member given twice', 'a fraction', 'an exponent', // as JSON.parse does
  'a place with a sign', // as a number is read
];

test('odd input: read as told, or refused', () => {
  const known = new Map(
    [...vectors<Vector>('client.json'), ...vectors<Vector>('server.json')].map((vector) => [`${vector.table} ${vector.name}`, vector]),
  );
  const kinder: string[] = [];
  for (const { name, table, encoding, input, reads_as } of vectors<Odd>('odd.json')) {
    const read = (): unknown[] =>
      decode(tables[table]!, encoding === 'json' ? input : bytes(input)).map(({ frame }) => frame);
    if (!reads_as) {
      try {
        read();
      } catch (error) {
        assert.ok(error instanceof CodecError, `${name}: ${error}`);
        continue;
      }
      kinder.push(name);
      continue;
    }
    const wanted = reads_as
      .map((of) => known.get(`${table} ${of}`)!)
      .filter(({ frame }) => tables[table]![camel(frame)])
      .map(({ hex }) => decode(tables[table]!, bytes(hex))[0]!.frame);
    // Members that a client may leave out are a server's to fill in.
    if (/^(defaults of (hello|ack|open)|options may be null)$/.test(name)) continue;
    assert.deepEqual(read(), wanted, name);
  }
  assert.deepEqual(kinder, KINDER);
});

test('integers: every width at its edges, and nothing past 2^53-1', () => {
  for (const value of [0, 1, 250, 251, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
    const out = new Io();
    u64(out, value);
    const raw = out.done();
    assert.equal(raw.length, value < 251 ? 1 : value < 65_536 ? 3 : value < 2 ** 32 ? 5 : 9);
    assert.equal(u64(new Io(raw)), value);
  }
  for (const value of [-1, 0.5, NaN, 2 ** 53, '1']) {
    assert.throws(() => u64(new Io(), value as number), CodecError);
  }
  assert.throws(() => u64(new Io(bytes('fd00000000000020ff'))), CodecError);
  assert.throws(() => u64(new Io(bytes('fe00000000000000000000000000000000'))), CodecError);
  assert.throws(() => decode(serverFrames, '{"pong":{"nonce":9007199254740992}}'), CodecError);
});

test('any bytes give frames or a typed error', () => {
  // A linear congruential generator: the same bytes in every run.
  let seed = 7;
  const random = (below: number): number => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) % below;
  const kinds = Object.values(serverFrames).map(([kind]) => kind as number);
  let read = 0;
  for (let run = 0; run < 50_000; run++) {
    const body = Array.from({ length: random(40) }, () => random(random(2) ? 256 : 4));
    const input = Uint8Array.from([kinds[random(kinds.length)]!, body.length, ...body]);
    try {
      read += decode(serverFrames, input).length;
    } catch (error) {
      assert.ok(error instanceof CodecError, `seed 7, run ${run}: ${error}`);
    }
  }
  assert.ok(read > 500, `${read} were frames`);
});

test('any JSON gives frames or a typed error', () => {
  for (const line of [
    '', '{', '[]', '5', 'null', '"records"', '{}', '{"a":1,"b":2}', '{"records":null}', '{"records":5}',
    '{"records":{"log":1,"base":0,"origins":[],"records":[{"record":{"payload":{"b64":"*"}}}]}}',
    '{"bye":{"code":5,"message":"","reconnect":true,"after":0}}',
    '{"welcome":{"place":"x"}}', '{"unsubscribed":{"request":0,"log":1,"reason":"__proto__"}}',
    '{"__proto__":{"x":1}}', '{"toString":{}}', '{"unknown":{"place":[1],"b64":5}}',
  ]) {
    try {
      assert.deepEqual(decode(serverFrames, line), [], line);
    } catch (error) {
      assert.ok(error instanceof CodecError, `${line}: ${error}`);
    }
  }
});

test('payloads: an empty one is not none, and bytes survive JSON', () => {
  const all = Uint8Array.from({ length: 256 }, (_, index) => index);
  for (const payload of ['', new Uint8Array(0), all, 'é😀\u2028', undefined]) {
    const record = { key: 'k', ...(payload !== undefined && { payload }) };
    const frame = {
      name: 'append' as const,
      body: { writer: '1'.repeat(32), oldest: 1, items: [{ seq: 1, prev: 0, to: { name: 'a' }, record }] },
    };
    for (const encoding of ['bincode', 'json'] as const) {
      const [read] = decode(clientFrames, encode(clientFrames, frame, encoding));
      assert.ok(read?.frame.name === 'append');
      assert.deepEqual(read.frame.body.items[0]!.record, record);
    }
  }
  assert.equal(toJson({ payload: new Uint8Array([0xff, 0]) }), '{"payload":{"b64":"_wA"}}');
});

test('the length of a text is that of its UTF-8', () => {
  for (const text of ['', 'a', 'é', '€', '😀', 'a\u0000é€😀']) {
    assert.equal(utf8Length(text), Buffer.byteLength(text));
  }
});

test('codes: names and numbers, and what an unknown one means', () => {
  for (const [number, name] of [
    [1, 'rate'], [8, 'sequence_gap'], [10, 'unknown_outcome'], [11, 'other_history'], [32, 'conflict'], [41, 'bad_record'],
    [64, 'bad_frame'], [73, 'fenced'], [80, 'failed'], [96, 'subscriptions'], [105, 'inactive'], [110, 'stale'],
  ] as const) {
    assert.equal(codeName(number), name);
    assert.equal(codeNumber(name), number);
  }
  assert.equal(codeName(42), 'code_42');
  assert.equal(isTransient('code_20'), true);
  assert.equal(isTransient('code_42'), false);
  assert.equal(isTransient('something'), false);
});
