/**
 * A back end that appends the numbers 1 to N to a log, each once, whenever it is killed: it goes on
 * with the number that its writer says. `writer.child.mjs URL TOKEN FILE LOG N WIDTH`
 */

import { fileStorage, highwater } from '../../src/server.js';

const [url = '', token = '', file = '', log = '', last = '', width = ''] = process.argv.slice(2);
const server = highwater({ url, token, giveUpAfter: Infinity });
const writer = await server.writer({ storage: fileStorage(file) });
console.log(`begins ${writer.next}`);
const pending = new Set<Promise<unknown>>();
for (let n = writer.next; n <= +last; n++) {
  const one: Promise<unknown> = server.append(log, { payload: `${n}` }, { writer }).then(() => {
    console.log(`stored ${n}`);
    pending.delete(one);
  });
  pending.add(one);
  if (pending.size >= +width) await Promise.race(pending);
}
await Promise.all(pending);
await writer.flush();
await writer.close();
