/** A server on loopback whose answers are hooks of the test. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { WebSocketServer, type WebSocket } from 'ws';
import { clientFrames, serverFrames, type ClientFrame, type ServerFrame } from '../src/frames.js';
import { decode, delivered, encode, OTHER, type Form } from './world.js';

export type Reply = (...frames: ServerFrame[]) => void;
export type Hook = (frame: ClientFrame, reply: Reply, socket: WebSocket) => void;

const limits = { frameBytes: 65_536, recordBytes: 16_384, window: 4000, inFlight: 1024, subscriptions: 1000 };

export const welcome = (hello: ClientFrame, mark = 0, more: object = {}): ServerFrame => {
  assert.ok(hello.name === 'hello');
  return {
    name: 'welcome',
    body: {
      version: 1, capabilities: [], connection: hello.body.connection, user: 'ada', met: 'fresh',
      source: undefined, place: { batch: 1, index: 0 }, generation: 1, time: 1, expires: 0,
      pingInterval: 25_000, token: undefined, limits,
      writers: [{ writer: hello.body.writers[0]!.writer, mark }], ...more,
    },
  };
};

/** A server on loopback; every frame of every socket goes to `hook`. */
export const serve = async (context: TestContext, hook: Hook): Promise<string> => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', path: '/v1/connect' });
  context.after(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  server.on('connection', (socket) => {
    const encoding = socket.protocol.split('.').at(-1) as Form;
    const reply: Reply = (...frames) => {
      for (const frame of frames) socket.send(encode(serverFrames, frame, encoding));
    };
    socket.on('message', (data: Buffer, binary) => {
      assert.equal(binary, encoding === 'bincode');
      const message = binary ? new Uint8Array(data) : data.toString();
      for (const { frame } of decode(clientFrames, message)) hook(frame, reply, socket);
    });
  });
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};

/** A log that takes everything, kept over sockets. */
export const store = (): { hook: Hook; records: ReturnType<typeof delivered>[]; seen: ClientFrame[] } => {
  const records: ReturnType<typeof delivered>[] = [];
  const seen: ClientFrame[] = [];
  let mark = 0;
  const hook: Hook = (frame, reply) => {
    seen.push(frame);
    const origins = [OTHER];
    if (frame.name === 'hello') reply(welcome(frame, mark));
    if (frame.name === 'hello' || frame.name === 'subscribe') {
      const request = frame.name === 'hello' ? 0 : frame.body.request;
      for (const { name, have } of frame.body.open) {
        const [next, head] = [have?.next ?? 0, records.length];
        reply({ name: 'subscribed', body: { request, name, log: 7, priority: 0, rule: 'none', start: 0, head, cursor: next, complete: head, reset: !have } });
        if (!have) reply({ name: 'reset', body: { log: 7, reason: 'new', base: undefined, cursor: 0, complete: head } });
        if (head > next) reply({ name: 'records', body: { log: 7, base: next, origins, records: records.slice(next) } });
      }
    }
    if (frame.name === 'append') {
      for (const { seq, record } of frame.body.items) {
        if (seq <= mark) continue;
        mark = seq;
        const [offset, stored] = [records.length, delivered(seq, record)];
        records.push(stored);
        reply(
          { name: 'answers', body: { writer: frame.body.writer, mark, answers: [{ seq, outcome: { stored: { log: 7, offset, place: stored.place, level: 'synced' } } }] } },
          { name: 'records', body: { log: 7, base: offset, origins: [{ ...OTHER, writer: frame.body.writer }], records: [stored] } },
        );
      }
    }
  };
  return { hook, records, seen };
};
