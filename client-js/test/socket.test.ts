/** The socket around the frames: large ones in parts, and what has gone out. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Sized } from '../src/codec.js';
import { clientFrames, serverFrames, type ServerFrame } from '../src/frames.js';
import { openSocket, type WebSocketLike } from '../src/socket.js';
import { delivered, encode, forms, OTHER, text, World, type Form } from './world.js';

class Wire implements WebSocketLike {
  binaryType = '';
  bufferedAmount = 0;
  onopen: WebSocketLike['onopen'] = null;
  onmessage: WebSocketLike['onmessage'] = null;
  onclose: WebSocketLike['onclose'] = null;
  onerror: WebSocketLike['onerror'] = null;
  sent: (string | Uint8Array)[] = [];
  send(data: string | Uint8Array): void {
    this.sent.push(data);
    this.bufferedAmount += data.length;
  }
  close(): void {}
  hear(data: string | Uint8Array): void {
    this.onmessage?.({ data: typeof data === 'string' ? data : data.slice().buffer });
  }
}

const MOST = 5000;
const open = (encoding: Form) => {
  const wire = new Wire();
  const heard: Sized<ServerFrame>[][] = [];
  const ends: (string | undefined)[] = [];
  const socket = openSocket(
    class { constructor() { return wire; } } as never, 'ws://there', forms[encoding],
    (...event) => {
      if (event[0] === 'frames') heard.push(event[1]);
      if (event[0] === 'closed') ends.push(event[2]);
    },
    () => MOST,
  );
  const tell = (frame: ServerFrame): void => wire.hear(encode(serverFrames, frame, encoding));
  return { wire, socket, heard, ends, tell };
};

const large: ServerFrame = {
  name: 'records',
  body: { log: 7, base: 0, origins: [OTHER], records: [delivered(1, text('é'.repeat(800)))] },
};

for (const encoding of ['bincode', 'json'] as const) {
  test(`the parts of a frame are that frame, with its size; others come between: ${encoding}`, () => {
    const { tell, wire, heard, ends } = open(encoding);
    const whole = encode(serverFrames, large, encoding);
    wire.hear(whole);
    const [[wanted]] = heard.splice(0) as [[Sized<ServerFrame>]];
    for (let round = 0; round < 2; round++) {
      for (let at = 0; at < whole.length; at += 301) {
        tell({ name: 'part', body: { last: at + 301 >= whole.length, data: whole.slice(at, at + 301) } });
        tell({ name: 'pong', body: { nonce: at } });
      }
      const frames = heard.splice(0);
      assert.equal(frames.length, 2 * Math.ceil(whole.length / 301), 'each message is a sign of life');
      const others = frames.flat().filter(({ frame }) => frame.name !== 'pong');
      assert.deepEqual(others, [wanted]);
    }
    assert.deepEqual(ends, []);
  });

  test(`parts that never end, or hold no frame, are a lost socket: ${encoding}`, () => {
    const data = encoding === 'json' ? 'x'.repeat(1000) : new Uint8Array(1000);
    const endless = open(encoding);
    for (let count = 0; count < 20; count++) endless.tell({ name: 'part', body: { last: false, data } });
    assert.deepEqual(endless.ends, ['over the limit']);
    assert.equal(endless.heard.length, MOST / 1000);
    const rubbish = open(encoding);
    const bad = encoding === 'json' ? '{"records":' : Uint8Array.of(69, 200);
    rubbish.tell({ name: 'part', body: { last: true, data: bad } });
    assert.equal(rubbish.ends.length, 1);
  });
}

test('what has gone out is told as long as something waits', () => {
  const { socket, wire } = open('bincode');
  assert.equal(socket.flown(), 0);
  socket.send({ name: 'refresh', body: { token: 'x'.repeat(1000) } });
  const size = encode(clientFrames, { name: 'refresh', body: { token: 'x'.repeat(1000) } }, 'bincode').length;
  const before = socket.flown();
  assert.ok(before > 0, 'something waits');
  wire.bufferedAmount -= 100;
  assert.equal(socket.flown() - before, 100);
  socket.send({ name: 'leave', body: { forget: false } });
  assert.equal(socket.flown() - before, 100, 'more that waits is nothing that went out');
  wire.bufferedAmount = 0;
  assert.ok(size > 1000 && socket.flown() === 0);
});

test('a large upload is no silence while it moves', () => {
  let flown = 0;
  const world = new World({ flown: () => flown }).attach();
  world.pass(25_000);
  flown = 1; // A ping that nothing waited before is not waited for any longer than it was.
  world.pass(5000);
  const ends = (): number => world.states.filter(({ phase }) => phase === 'offline').length;
  assert.equal(ends(), 1);

  world.again();
  for (let round = 0; round < 20; round++) {
    flown += 1000;
    world.pass(5000);
  }
  assert.equal(ends(), 0, '100 s without a word');
  world.pass(10_000);
  assert.equal(ends(), 1, 'it moves no more');
});

test('while a frame comes in pieces the server hears of the client', () => {
  const world = new World().attach();
  for (let second = 0; second < 100; second++) {
    world.core.frames(world.now, []);
    world.settle();
    world.pass(1000);
  }
  const pings = world.got('ping').length;
  assert.ok(pings >= 4 && pings < 10, `${pings} in 100 s, of an interval of 25`);
  assert.equal(world.status.phase, 'live');
});

test('any message is a sign of life, whatever it holds', () => {
  const world = new World().attach();
  world.pass(25_000);
  assert.equal(world.got('ping').length, 1);
  world.core.frames(world.now, []);
  world.settle();
  world.pass(20_000);
  assert.deepEqual([world.status.phase, world.got('ping').length], ['live', 1]);
});
