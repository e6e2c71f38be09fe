/** Writes until it is killed; says of each write, on a line, that it resolved. */
import { writeSync } from 'node:fs';
import { file } from '../../src/log/file.js';

const [folder = '', first = '0'] = process.argv.slice(2);
const store = file(folder)('killed', { rows: () => [] });
const state = store.health.value;
if (state.kind !== 'disk') throw new Error('no disk');

/** Two rows that belong together, of a size that is written in more than one piece at times. */
const one = async (n: number): Promise<void> => {
  const text = `${n} `.repeat((n * 7919) % 3000);
  if ((await store.write([[`a/${n}`, text], [`b/${n}`, text]])) === 'disk') writeSync(1, `${n}\n`);
};

for (let n = +first; ; n += 5) {
  // Some together, some alone; old ones go, so that it is written anew at times.
  await Promise.all([n, n + 1, n + 2, n + 3].map(one));
  await one(n + 4);
  const old = n - 200;
  if (old >= 0) {
    await store.write([0, 1, 2, 3, 4].flatMap((k) => [
      [`a/${old + k}`, undefined], [`b/${old + k}`, undefined],
    ]));
    writeSync(1, `-${old}\n`);
  }
}
