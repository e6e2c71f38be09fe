/**
 * NATS with JetStream: a stream on disk, publishes that are sent again under their `msgID` until
 * they are acknowledged, one by one, and an ordered consumer for each reader.
 */

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const program = process.env.NATS_BIN ?? join(root, 'target/lost/nats-server');
/** Between tries of what the library gave up, ms. */
const AGAIN = 300;
const pause = () => new Promise((resolve) => setTimeout(resolve, AGAIN));

export const name = 'NATS JetStream';
export const keeps = 'all';
export const acks = true;

export const missing = () =>
  (existsSync(program) ? undefined : 'no server: make lost builds it where Go is installed');
export const packages = ['@nats-io/transport-node', '@nats-io/jetstream'];
export const version = () => ({ program: 'go', args: ['version', '-m', program] });

export const server = ({ port, folder }) => {
  const config = join(folder, 'nats.conf');
  // Its document on disks: without replicas, an acknowledgement means synced only with `always`.
  writeFileSync(config, `listen: "127.0.0.1:${port}"
jetstream { store_dir: ${JSON.stringify(join(folder, 'data'))}, sync_interval: always }
`);
  return { command: program, args: ['--config', config], env: process.env };
};

/** A connection that comes back for ever, and the stream, made by whoever comes first. */
const start = async ({ port, room }) => {
  const [{ connect }, { jetstream, jetstreamManager }] = await Promise.all([
    import('@nats-io/transport-node'), import('@nats-io/jetstream'),
  ]);
  const servers = `127.0.0.1:${port}`;
  const connection = await connect({ servers, maxReconnectAttempts: -1, waitOnFirstConnect: true });
  const streams = (await jetstreamManager(connection)).streams;
  await streams.add({ name: room, subjects: [room], storage: 'file' });
  return { connection, streams, js: jetstream(connection) };
};

export const open = async ({ told, ...given }) => {
  const { connection, js } = await start(given);
  let last = 0;
  const read = async () => {
    while (!connection.isClosed()) {
      try {
        // The library makes it anew by itself after a restart; only what it gave up comes here.
        const consumer = await js.consumers.get(given.room, { opt_start_seq: last + 1 });
        for await (const message of await consumer.consume()) {
          last = message.seq;
          told('shown', message.string());
        }
      } catch {
        await pause();
      }
    }
  };
  read();
  return { write: writer(js, given.room, told), close: () => connection.close() };
};

const writer = (js, room, told) => {
  let before = Promise.resolve();
  const send = async (id) => {
    for (;;) {
      try {
        await js.publish(room, id, { msgID: id });
        return told('acked', id);
      } catch {
        await pause();
      }
    }
  };
  return (id) => {
    before = before.then(() => send(id));
  };
};

/** One who comes new reads on until nothing is pending. */
export const read = async (given) => {
  const { connection, streams, js } = await start(given);
  const held = [];
  const { state } = await streams.info(given.room);
  if (state.messages > 0) {
    const consumer = await js.consumers.get(given.room);
    for await (const message of await consumer.consume()) {
      held.push(message.string());
      if (message.info.pending === 0) break;
    }
  }
  await connection.close();
  return held;
};
