/**
 * A product that fails on purpose, to see that the whole harness finds it: Highwater's client, of
 * which every fiftieth update is acknowledged and never sent, and others are hidden from readers,
 * shown twice or held back behind the next. It runs only when `ONLY` names it.
 */

import * as highwater from './highwater.mjs';

export const { acks, keeps, missing, read, server, version } = highwater;
export const name = 'canary';

const EVERY = 50;
/** What is done to an update, by its number's place in fifty. */
const [UNSENT, HIDDEN, TWICE, LATE] = [10, 20, 30, 40];

const placeOf = (id) => Number(id.split(':')[1]) % EVERY;

export const open = async ({ told, ...given }) => {
  let late;
  const bent = (kind, id, why) => {
    const place = kind === 'shown' ? placeOf(id) : undefined;
    if (place === HIDDEN) return;
    if (place === LATE) {
      late = id;
      return;
    }
    told(kind, id, why);
    if (place === TWICE) told(kind, id, why);
    // Only behind a later one of the same writer is it out of order.
    if (place !== undefined && late && late.split(':')[0] === id.split(':')[0]) {
      told('shown', late);
      late = undefined;
    }
  };
  const client = await highwater.open({ ...given, told: bent });
  const write = (id) => (placeOf(id) === UNSENT ? told('acked', id) : client.write(id));
  return { ...client, write };
};
