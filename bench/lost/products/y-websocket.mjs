/**
 * y-websocket: the provider `y-websocket` and the server `@y/websocket-server`, which persists to
 * LevelDB by `YPERSISTENCE`, each as their own read-me has it. An update is an item of a `Y.Array`.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const modules = fileURLToPath(new URL('../node_modules/', import.meta.url));
const program = join(modules, '@y/websocket-server/src/server.js');

export const name = 'y-websocket';
export const keeps = 'all';
/** It tells a writer nothing of single updates. */
export const acks = false;

export const missing = () => (existsSync(program) ? undefined : 'run npm ci in bench/lost');
export const packages = ['y-websocket', '@y/websocket-server', 'yjs', 'y-leveldb'];

export const server = ({ port, folder }) => ({
  command: process.execPath,
  args: [program],
  env: {
    ...process.env, HOST: '127.0.0.1', PORT: String(port), YPERSISTENCE: join(folder, 'data'),
  },
});

const start = async ({ port, room }) => {
  const [Y, { WebsocketProvider }, { WebSocket }] =
    await Promise.all([import('yjs'), import('y-websocket'), import('ws')]);
  const doc = new Y.Doc();
  // Clients of one process stand for devices of their own: no channel between them but the server.
  const options = { WebSocketPolyfill: WebSocket, disableBc: true };
  const provider = new WebsocketProvider(`ws://127.0.0.1:${port}`, room, doc, options);
  return { doc, provider, updates: doc.getArray('updates') };
};

export const open = async ({ told, ...given }) => {
  const { provider, updates } = await start(given);
  updates.observe(({ changes }) => {
    for (const { insert = [] } of changes.delta) for (const id of insert) told('shown', id);
  });
  return { write: (id) => updates.push([id]), close: () => provider.destroy() };
};

export const read = async (given) => {
  const { doc, provider, updates } = await start(given);
  await new Promise((resolve) => provider.on('sync', (synced) => synced && resolve()));
  // Its server answers before it has read LevelDB, so what is there may come a moment later.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const held = updates.toArray();
  provider.destroy();
  doc.destroy();
  return held;
};
