/**
 * Socket.IO with a database of the app's, as steps 7 and 8 of its tutorial have it: the client
 * remembers the offset of what it was sent last and names it when it comes back.
 */

import { join } from 'node:path';
import { server as plain, start, writer } from './socketio.mjs';

export { missing, packages } from './socketio.mjs';

export const name = 'Socket.IO + database';
export const keeps = 'all';
export const acks = true;

export const server = ({ folder, ...given }) => {
  const { env, ...rest } = plain(given);
  return { ...rest, env: { ...env, DATA: join(folder, 'data') } };
};

export const open = async ({ port, told }) => {
  const auth = { offset: 0 };
  const socket = await start(port, auth);
  socket.on('update', (id, offset) => {
    auth.offset = offset;
    told('shown', id);
  });
  return writer(socket, told);
};

/** One who comes new is sent all; it is all there when nothing came for a second. */
export const read = async ({ port }) => {
  const held = [];
  const socket = await start(port, { offset: 0 });
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, 3000);
    socket.on('connect', () => timer.refresh());
    socket.on('update', (id) => {
      held.push(id);
      timer.refresh();
    });
  });
  socket.close();
  return held;
};
