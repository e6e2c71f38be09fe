/**
 * The app's server for Socket.IO: hands each update on to all, and acknowledges it to its writer.
 *
 * Always with connection state recovery. With DATA, a folder, also with a database of the app's, in
 * the way of the tutorial: an update is stored under its unique name before it goes out, and who
 * comes back without recovery is sent what lies after the offset that it names. The database is a
 * file of lines, each synced, so that no native module is needed.
 */

import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync }
  from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { Server } from 'socket.io';

const { PORT, DATA } = process.env;

/** The updates that are stored, in order; what is in the array is on disk. */
const database = (folder) => {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'updates');
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  const rows = whole.split('\n').filter(Boolean);
  const names = new Set(rows);
  const handle = openSync(file, 'a');
  process.on('exit', () => closeSync(handle));
  return {
    rows,
    /** Its offset, counted from 1; undefined where it was stored before. */
    store: (id) => {
      if (names.has(id)) return undefined;
      writeSync(handle, `${id}\n`);
      fsyncSync(handle);
      names.add(id);
      return rows.push(id);
    },
  };
};

const http = createServer();
const io = new Server(http, { connectionStateRecovery: {} });
const kept = DATA ? database(DATA) : undefined;

io.on('connection', (socket) => {
  socket.on('update', (id, done) => {
    const offset = kept?.store(id);
    if (!kept || offset !== undefined) io.emit('update', id, offset);
    done();
  });
  if (!kept || socket.recovered) return;
  const { offset = 0 } = socket.handshake.auth;
  for (let at = offset; at < kept.rows.length; at++) socket.emit('update', kept.rows[at], at + 1);
});

http.listen(Number(PORT), '127.0.0.1');
