/**
 * Several waiting actions of one writer in one row, where rows are dear: a browser writes a row of
 * a thousand actions twenty times, and reads it five times, as fast as a thousand rows.
 *
 * Promise: an action stands in one row at a time, alone or in one pack. What is written together
 * becomes a pack where nothing of it stands yet; whoever changes, or takes away, one that stands in
 * a pack changes that row in the same transaction. None of this is seen above the store.
 *
 * A pack's key ends in the first number and the last, and it has few: the row of an action begins
 * at most so many before it. (What begins before that is not looked at: a browser walks over all
 * that was deleted there.) A client that knows no packs finds an action there that it cannot send:
 * it leaves its writer to others, and the server forgets nothing from there on.
 */

import { digits, packKey } from './rows.js';
import type { Change, Row } from './store.js';

/** The row `a/<writer>/<first>/<last>`. */
export interface PackRow {
  /** Of the first, by which clients put rows in order. */
  readonly at: number;
  /** From the first to the last; those that are gone from it are undefined. */
  readonly pack: unknown[];
}

/** What a key says: which numbers of a writer its row may have. */
interface Place {
  readonly key: string;
  readonly room: string;
  readonly first: number;
  readonly last: number;
}

/**
 * What a pack has at most: it is written anew when a part of it is answered. `MOST` is part of the
 * format: a client looks no further back for a pack.
 */
const MOST = 64;
const MOST_BYTES = 64 << 10;

const placeOf = (key: string): Place | undefined => {
  const [, room, first, last = first] = /^(a\/[^/]+\/)(\d{16})(?:\/(\d{16}))?$/.exec(key) ?? [];
  return room ? { key, room, first: +first!, last: +last! } : undefined;
};

/** About as many bytes. */
const bytesOf = (value: any): number => (Object(value) === value
  ? value.byteLength ?? Object.values(value).reduce<number>((sum, one) => sum + bytesOf(one), 0)
  : `${value}`.length);

/** Parts it where one does not follow the one before of its writer, or is too much for its line. */
const lines = <T extends Place>(
  all: Iterable<T>, fits: (line: T[], one: T) => boolean = () => true,
): T[][] => {
  const found: T[][] = [];
  const newest = new Map<string, T[]>();
  for (const one of all) {
    const { room, last } = one;
    const line = newest.get(room);
    if (line && line.at(-1)!.last === last - 1 && fits(line, one)) line.push(one);
    else {
      const next = [one];
      newest.set(room, next);
      found.push(next);
    }
  }
  return found;
};

/** Parts it, so that each has about so many actions at most. */
export const parts = <T extends readonly [key: string, ...unknown[]]>(
  all: readonly T[], most: number,
): T[][] => {
  const found: T[][] = [];
  let size = most;
  for (const one of all) {
    if (size >= most) size = 0 * found.push([]);
    found.at(-1)!.push(one);
    const { first = 0, last = 0 } = placeOf(one[0]) ?? {};
    size += last - first + 1;
  }
  return found;
};

/** Of rows as they stand: each action for itself, of those whose keys begin so. */
export const unpacked = (rows: Row[], prefix: string): Row[] =>
  rows.flatMap(([key, value]): Row[] => {
    const { room, first } = placeOf(key) ?? {};
    if (!room || !value?.pack) return [[key, value]];
    const each = (value as PackRow).pack.map((one, at): Row => [room + digits(first! + at), one]);
    return each.filter(([, one]) => one !== undefined);
  }).filter(([key]) => key.startsWith(prefix));

/**
 * Between which keys rows may stand that have what is to be changed. One action that is new is not
 * looked for, unless `all` are: nobody else has put it in a pack.
 */
export const looks = (
  changes: readonly Change[], all: boolean,
): (readonly [from: string, to: string])[] => {
  const places = new Map<string, Place>();
  const known = new Set<string>();
  for (const [key, value] of changes) {
    const place = placeOf(key);
    if (place) places.set(key, place);
    if (all || Object(value) !== value || typeof value === 'function') known.add(key);
  }
  return lines(places.values()).flatMap((line) => {
    const [{ key, room, first }] = line as [Place, ...Place[]];
    const from = room + digits(Math.max(0, first - MOST + 1));
    return line.length > 1 || known.has(key) ? [[from, `${line.at(-1)!.key}:`]] : [];
  });
};

/** The same changes where actions stand in packs, by the keys that were found. */
export const within = (changes: readonly Change[], found: readonly string[]): Change[] => {
  const packs = found.map(placeOf) as (Place & { row?: PackRow })[];
  return changes.map(([key, value]): Change => {
    const { room, last } = placeOf(key) ?? {};
    const owner = packs.find((one) =>
      one.room === room && one.first <= last! && last! <= one.last && one.first < one.last);
    return !owner ? [key, value] : [owner.key, (row: PackRow) => {
      // It is given to nobody else; and one that is empty may be filled once more.
      const { pack } = (owner.row ??= row);
      const at = last! - owner.first;
      pack[at] = typeof value === 'function' ? value(pack[at]) : value;
      return pack.some((one) => one !== undefined) ? owner.row : undefined;
    }];
  });
};

/** The same rows, those that are new together: none of those that were found. */
export const together = (
  rows: ReadonlyMap<string, unknown>, found: readonly string[],
): Map<string, unknown> => {
  const now = new Map<string, any>(rows);
  const stands = new Set(found);
  const fresh = [...rows].flatMap(([key, value]: Row) => {
    const place = value?.at >= 0 && !stands.has(key) && placeOf(key);
    return place ? { ...place, value, bytes: bytesOf(value) } : [];
  });
  // The last of a line has the bytes of all.
  const packs = lines(fresh, (line, one) => {
    const bytes = line.at(-1)!.bytes + one.bytes;
    const fits = line.length < MOST && bytes <= MOST_BYTES;
    if (fits) one.bytes = bytes;
    return fits;
  });
  for (const line of packs) {
    if (line.length < 2) continue;
    const [{ room, first, value: { at } }] = line as [(typeof line)[0]];
    for (const { key } of line) now.delete(key);
    const pack = line.map(({ value }) => value);
    now.set(packKey(room, first, first + pack.length - 1), { at, pack });
  }
  return now;
};
