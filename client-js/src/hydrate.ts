/**
 * From what a server rendered to what is live, without a step back.
 *
 * Promise: the server and the first render of the page show the same; from then on it shows what
 * the server read, until the log is complete, and never nothing in between.
 */

import type { Entry } from './delivery.js';
import type { Read } from './emitter.js';
import type { Latest } from './latest.js';
import type { View } from './view.js';

/** What a server read of a log; it crosses to the page as JSON. */
export interface Reading<S> {
  /** The log's id. */
  readonly log: number;
  /** The state includes all records below it. */
  readonly offset: number;
  /** In which history that was. */
  readonly position: string;
  /** For `latest` the newest record of each key, as a list; for `view` what it folded. */
  readonly state: S;
}

/** A read that knows what a server showed of it. @internal */
export interface Served<T> extends Read<T> {
  readonly server?: T;
}

/** `read`, which is `view` or a key of it, with the server's value until the view is `known`. */
const over = <T>(read: Read<T>, view: Read<any>, known: () => boolean, server: T): Served<T> => {
  const now = (): T => (known() ? read.value : server);
  return {
    server,
    get value() {
      return now();
    },
    subscribe: (watcher) => {
      const tell = (): void => watcher(now());
      const off = read.subscribe(tell);
      if (read === view || known()) return off;
      // A key that has gone since the server read it is none that the view tells as changed.
      const first = view.subscribe(() => {
        if (!known()) return;
        first();
        tell();
      });
      return () => {
        first();
        off();
      };
    },
  };
};

/** A view that shows what the server read until it shows something itself; without it, as it is. */
export function hydrate<T>(
  view: Latest<T>,
  reading: Reading<readonly Entry<T>[]> | undefined,
): Latest<T>;
export function hydrate<S>(view: View<S>, reading: Reading<S> | undefined): View<S>;
export function hydrate(live: any, reading?: Reading<any>): any {
  if (!reading) return live;
  const { get } = live as Partial<Latest<unknown>>;
  const { state } = reading;
  const server = get ? new Map((state as Entry[]).map((entry) => [entry.key, entry])) : state;
  let shown = false;
  const known = (): boolean => (shown ||= live.value !== undefined);
  const { incomplete, reload, close, changes } = live;
  return Object.assign(over(live, live, known, server), {
    incomplete, reload, close,
    ...(get && { changes, get: (key: string) => over(get(key), live, known, server.get(key)) }),
  });
}
