/**
 * What a read shows, in a component, which is rendered anew when that changes and only then.
 *
 * Where a page takes over what a server rendered, the first render sees what the server saw,
 * however much has come since; so the two are equal, and the next render is the newest.
 */

import type { Read } from '../emitter.js';
import type { Served } from '../hydrate.js';
import { useRef, useSyncExternalStore } from './hooks.js';
import { alike } from './same.js';

/** What it showed when the server rendered: where nothing tells, a view showed nothing yet. */
const served = <T>(read: Served<T>): T | undefined =>
  'server' in read || 'incomplete' in read ? read.server : read.value;

/** What `read` shows: a view, a key of one, a status, or anything of that shape. */
export function useRead<T>(read: Read<T>): T;
/**
 * What `select` makes of it. The component is rendered anew when that is another; arrays and plain
 * objects are compared by their parts. While nothing is known yet (undefined), `select` is not
 * asked.
 */
export function useRead<T, S>(
  read: Read<T>,
  select: (value: Exclude<T, undefined>) => S,
): S | Extract<T, undefined>;
export function useRead(read: Read<any>, select?: (value: any) => unknown): unknown {
  const kept = useRef<unknown>(undefined);
  // A new object that says the same is the one that is shown, so that React sees no change.
  const made = (value: unknown): unknown => {
    if (!select || value === undefined) return value;
    const next = select(value);
    return alike(kept.current, next) ? kept.current : (kept.current = next);
  };
  return useSyncExternalStore(
    read.subscribe,
    () => made(read.value),
    () => made(served(read)),
  );
}
