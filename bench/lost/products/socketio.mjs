/**
 * Socket.IO as its documents say for delivery: connection state recovery at the server, retries
 * until an acknowledgement at the client. What the server does is in `socketio-server.mjs`.
 */

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** The values of "Delivery guarantees", "From client to server". */
const RETRIES = { retries: 3, ackTimeout: 10000 };

export const name = 'Socket.IO';
/** It hands on, and stores nothing. */
export const keeps = 'nothing';
export const acks = true;

export const missing = () =>
  (existsSync(here('../node_modules/socket.io')) ? undefined : 'run npm ci in bench/lost');
export const packages = ['socket.io', 'socket.io-client'];

export const server = ({ port }) => ({
  command: process.execPath,
  args: [here('socketio-server.mjs')],
  env: { ...process.env, PORT: String(port), DATA: '' },
});

export const open = async ({ port, told }) => {
  const socket = await start(port);
  let first = true;
  // "Connection state recovery", "Usage": where it did not work, the app knows by this.
  socket.on('connect', () => {
    if (!first && !socket.recovered) told('told', 'not recovered');
    first = false;
  });
  socket.on('update', (id) => told('shown', id));
  return writer(socket, told);
};

/** With `retries` the callback has an error first, when all tries are spent. */
export const writer = (socket, told) => ({
  write: (id) => socket.emit('update', id, (error) => told(error ? 'refused' : 'acked', id)),
  close: () => socket.close(),
});

export const start = async (port, auth) => {
  const { io } = await import('socket.io-client');
  return io(`http://127.0.0.1:${port}`, { auth, ...RETRIES });
};
