/**
 * Highwater: this repository's server and JavaScript client. All use of the client is in here.
 */

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocket } from 'ws';
import { jwt, SECRET } from './jwt.mjs';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const library = join(root, 'client-js/dist/highwater.js');
const places = [
  process.env.HIGHWATER_BIN,
  join(root, 'target/release/highwater'),
  join(root, 'target/debug/highwater'),
].filter(Boolean);

export const name = 'Highwater';
export const keeps = 'all';
export const acks = true;

export const missing = () => {
  if (!places.some(existsSync)) return 'no server: cargo build --release, or HIGHWATER_BIN';
  return existsSync(library) ? undefined : 'no client: npm run build in client-js';
};

export const version = () => ({ program: places.find(existsSync), args: ['--version'] });

export const server = ({ port, folder }) => {
  const config = join(folder, 'highwater.toml');
  writeFileSync(config, `[[auth.keys]]\nalg = "HS256"\nsecret = "${SECRET}"\n`);
  const listen = `127.0.0.1:${port}`;
  const data = join(folder, 'data');
  // HIGHWATER_* would be taken for the server's configuration.
  const own = Object.entries(process.env).filter(([key]) => !key.startsWith('HIGHWATER_'));
  return {
    command: places.find(existsSync),
    args: ['serve', '--config', config, '--listen', listen, '--data', data],
    env: Object.fromEntries(own),
  };
};

const start = async ({ port, room, who, told }) => {
  const { connect } = await import(library);
  const grants = [{ logs: '**', can: ['read', 'append'] }];
  const token = () => jwt({ sub: who, grants });
  const client = connect(`http://127.0.0.1:${port}`, { token, WebSocket });
  const log = client.log(room, { start: 'earliest' });
  const show = (records) => {
    for (const { payload } of records) told('shown', String(payload));
  };
  log.on('records', ({ records }) => show(records));
  log.on('base', ({ records }) => show(records ?? []));
  // At the beginning it says that there is nothing to keep; later, to drop what was shown.
  let begun = false;
  log.on('reset', ({ reason }) => {
    if (begun) told('anew', reason);
    begun = true;
  });
  log.on('gap', ({ from, to, reason }) => told('told', `gap ${from} to ${to}: ${reason}`));
  log.on('complete', () => {
    begun = true;
    told('complete');
  });
  return { client, log };
};

export const open = async (given) => {
  const { client, log } = await start(given);
  return {
    write: (id) => log.append({ payload: id }).then(
      () => given.told('acked', id),
      (error) => given.told('refused', id, error.code),
    ),
    close: () => client.close(),
  };
};

/** What the server holds, as one who comes new is shown it. */
export const read = async ({ port, room }) => {
  const held = [];
  let done;
  const complete = new Promise((resolve) => (done = resolve));
  const told = (kind, id) => {
    if (kind === 'shown') held.push(id);
    if (kind === 'complete') done();
  };
  const { client } = await start({ port, room, who: 'judge', told });
  await complete;
  client.close();
  return held;
};
