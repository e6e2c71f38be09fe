/** What a connection says first: who it is, and what it holds, in frames within the limit. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientFrames, type ClientFrame } from '../src/frames.js';
import { encode, forms, hexId, ME, text, World, WRITER, type Form } from './world.js';

const lose = (world: World): void => {
  world.core.closed(world.now, 1006);
  world.settle();
};

test('Hello says who it is and what it holds', () => {
  const world = new World({ device: hexId('d'), cloning: 'own', window: 5000 });
  world.subscribe('b', { start: 'end', priority: 3 });
  assert.deepEqual(world.sent, [], 'nothing goes out before there is a socket');
  const hello = world.hello();
  assert.equal(hello.version, 1);
  assert.equal(hello.connection, ME);
  assert.equal(hello.device, hexId('d'));
  assert.equal(hello.token, 'token');
  assert.equal(hello.visible, true);
  assert.equal(hello.cloning, 'own');
  assert.equal(hello.window, 5000);
  assert.deepEqual(hello.writers, [{ writer: WRITER, oldest: 1 }]);
  assert.deepEqual(hello.open, [{ name: 'b', have: undefined, start: 'end', priority: 3 }]);
});

test('a resume lists what is held of every log; what the app let go is not listed', () => {
  const world = new World().attach();
  for (const [name, id] of [['a', 7], ['b', 8], ['c', 9]] as const) {
    world.subscribe(name);
    world.begin(name, id);
    world.records(id, 0, [text('x')]);
  }
  world.drop('b');
  world.settle();
  assert.deepEqual(world.last('unsubscribe').logs, [8]);
  lose(world);
  const hello = world.again();
  assert.deepEqual(hello.open.map(({ name, have }) => [name, have]), [
    ['a', { log: 7, next: 1 }], ['c', { log: 9, next: 1 }],
  ]);
});

/** A frame's size as its limit counts it, in that encoding. */
const sizeOf = (name: 'hello' | 'subscribe' | 'activate', body: object, encoding: Form): number => {
  const message = encode(clientFrames, { name, body } as ClientFrame, encoding);
  return typeof message === 'string' ? Buffer.byteLength(message) : message.length;
};
const LIMIT = 65_536;
const longName = (index: number): string => `${index}/`.padEnd(250, 'x');

test('many subscriptions of a turn go in few frames, in the order they were made', () => {
  const world = new World().attach();
  for (let index = 0; index < 900; index++) {
    world.open(`log/${index}`);
  }
  world.settle();
  const frames = world.got('subscribe');
  assert.ok(frames.length <= 3, `${frames.length} frames`);
  assert.deepEqual(frames.flatMap(({ open }) => open.map(({ name }) => name)), [...world.core.followed.named.keys()]);
  assert.equal(new Set(frames.map(({ request }) => request)).size, frames.length);
});

test('no frame is larger than the limit, however many logs are open', () => {
  const token = 'x'.repeat(3000);
  for (const encoding of ['bincode', 'json'] as const) {
    const world = new World({ encoding: forms[encoding], token });
    const names = Array.from({ length: 1000 }, (_, index) => longName(index));
    for (const name of names) world.open(name, { start: { offset: 2 ** 52 }, priority: 255 });
    const check = (hello: object, name: 'hello' | 'activate'): void => {
      const rest = world.got('subscribe');
      const asked = [hello as { open: { name: string }[] }, ...rest].flatMap(({ open }) => open.map(({ name }) => name));
      assert.deepEqual(asked.sort(), [...names].sort(), 'each is asked for once');
      assert.ok(rest.length > 0, 'it would not fit');
      for (const size of [sizeOf(name, hello, encoding), ...rest.map((body) => sizeOf('subscribe', body, encoding))]) {
        assert.ok(size <= LIMIT, `${size} bytes as ${encoding}`);
      }
    };
    const hello = world.hello();
    world.welcome();
    check(hello, 'hello');
    for (const [index, name] of names.entries()) world.announce(name, 2 ** 52 + index, { cursor: 2 ** 52 });
    world.clear();
    world.tell('state', { active: false, met: undefined, reason: 'slots', activateAfter: 0, generation: 2, source: undefined });
    world.pass(1000);
    assert.deepEqual(world.got('subscribe'), [], 'not while it is inactive');
    world.tell('state', { active: true, met: 'restored', reason: undefined, activateAfter: 0, generation: 3, source: undefined });
    check(world.last('activate'), 'activate');
    assert.ok(world.last('activate').open[0]!.have);
  }
});

test('a frame that has not room for all tells first what is held, and as much as this server takes', () => {
  const world = new World();
  const names = Array.from({ length: 1000 }, (_, index) => longName(index));
  for (const name of names.slice(0, 900)) world.open(name);
  world.attach();
  const held = names[899]!;
  world.announce(held, 7);
  lose(world);
  assert.equal(world.again().open[0]!.name, held);
  lose(world);
  const limits = { frameBytes: 1 << 20, recordBytes: 16_384, window: 4000, inFlight: 1024, subscriptions: 1000 };
  world.again({ limits });
  lose(world);
  assert.equal(world.again({ limits }).open.length, 900);
});
