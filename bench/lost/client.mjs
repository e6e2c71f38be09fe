/**
 * A process with clients of one product: writes what it is told to, and notes what happens.
 *
 * Promise: each note has the time at which it happened here, and notes go out in that order.
 * `node client.mjs FILE ROOM WHO:PORT...`; the parent sends `{ who, id }` for each update.
 */

import { setTimeout as wait } from 'node:timers/promises';

const [file, room, ...wanted] = process.argv.slice(2);
const product = await import(file);
const clients = new Map();

const note = (kind, who, id, why) => {
  if (process.connected) process.send({ kind, who, id, why, at: Date.now() });
};

for (const one of wanted) {
  const [who, port] = one.split(':');
  const told = (kind, id, why) => note(kind, who, id, why);
  clients.set(who, await product.open({ port: Number(port), room, who, told }));
}

process.on('message', ({ who, id }) => {
  note('sent', undefined, id);
  clients.get(who).write(id);
});
process.on('disconnect', () => process.exit());

await wait(0);
note('ready');
