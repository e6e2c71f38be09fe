/**
 * Centrifugo with history and recovery: the client `centrifuge` reads, and what is written goes
 * over the server's API with an idempotency key, sent again until it is answered, one by one.
 */

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { jwt, SECRET } from './jwt.mjs';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const program = process.env.CENTRIFUGO_BIN ?? join(root, 'target/lost/centrifugo');
const KEY = 'a key for this benchmark alone';
/** After that an answer is not waited for, ms. */
const PATIENCE = 5000;

export const name = 'Centrifugo';
/** "Streams are ephemeral": its documents call it a cache beside the app's own database. */
export const keeps = 'cache';
export const acks = true;

export const missing = () =>
  (existsSync(program) ? undefined : 'no server: make lost builds it where Go is installed');
export const packages = ['centrifuge'];
export const version = () => ({ program: 'go', args: ['version', '-m', program] });

export const server = ({ port, folder }) => {
  const config = join(folder, 'centrifugo.json');
  const most = 100_000;
  writeFileSync(config, JSON.stringify({
    http_server: { address: '127.0.0.1', port: String(port) },
    http_api: { key: KEY },
    client: {
      token: { hmac_secret_key: SECRET },
      recovery_max_publication_limit: most,
    },
    channel: {
      without_namespace: {
        history_size: most, history_ttl: '1h', force_recovery: true,
        allow_subscribe_for_client: true,
      },
    },
  }));
  return { command: program, args: ['--config', config], env: process.env };
};

const ask = async (port, method, body) => {
  const answer = await fetch(`http://127.0.0.1:${port}/api/${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': KEY },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE),
  });
  const told = await answer.json();
  if (!answer.ok || told.error) throw new Error(JSON.stringify(told));
  return told.result;
};

export const open = async ({ port, room, who, told }) => {
  const [{ Centrifuge }, { WebSocket }] = await Promise.all([import('centrifuge'), import('ws')]);
  const token = jwt({ sub: who });
  const options = { websocket: WebSocket, token };
  const client = new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`, options);
  const subscription = client.newSubscription(room);
  subscription.on('publication', ({ data }) => told('shown', data.id));
  subscription.on('subscribed', ({ wasRecovering, recovered }) => {
    if (wasRecovering && !recovered) told('told', 'not recovered');
  });
  subscription.subscribe();
  client.connect();
  return { write: writer({ port, room, told }), close: () => client.disconnect() };
};

const writer = ({ port, room, told }) => {
  let before = Promise.resolve();
  const send = async (id) => {
    const body = { channel: room, data: { id }, idempotency_key: id };
    for (;;) {
      try {
        await ask(port, 'publish', body);
        return told('acked', id);
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
    }
  };
  return (id) => {
    before = before.then(() => send(id));
  };
};

export const read = async ({ port, room }) => {
  const { publications } = await ask(port, 'history', { channel: room, limit: -1 });
  return publications.map(({ data }) => data.id);
};
