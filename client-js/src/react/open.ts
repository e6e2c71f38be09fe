/**
 * Logs that are open as long as a component shows them.
 *
 * Promise: for one client, definition and content of parameters there is one opening, whoever and
 * however many show it; the server sees one subscription. It is let go soon after the last
 * component has gone, and where none ever came to be mounted. What was whole once never suspends
 * again.
 *
 * Cause and effect: a component that suspends runs no effect, and nothing tells when React throws
 * it away. So a render takes a lease by time. Where it ends while components may still wait, their
 * promise resolves: who is there renders again and takes the next lease; who is not does nothing,
 * and the second end lets go.
 */

import type { Client } from '../client.js';
import type { Read } from '../emitter.js';
import type { View } from '../view.js';
import { useClient } from './context.js';
import { useEffect, useState, useSyncExternalStore } from './hooks.js';
import { same } from './same.js';

/** What can be let go, and says how it stands: a `Log`, for instance. */
export interface Held {
  readonly status: Read<{
    readonly phase: string;
    readonly reason: string;
    readonly error?: Error | undefined;
  }>;
  release(): void;
}

/** What a definition answers: a log, or its views together with it. */
export type Opened = Held | { readonly log: Held };

/** The same, with views that show something: what suspends is not rendered before they do. */
export type Ready<O> = {
  [K in keyof O]: O[K] extends View<infer V> ? Omit<O[K], keyof Read<V>> & Read<V> : O[K];
};

const enum Ms {
  /** How long a render, or the last component that went, keeps it open. */
  LEASE = 5000,
}

/** Where a client has its openings, so that they go with it. */
const OPENINGS = /* @__PURE__ */ Symbol();

/** Something open, by what it was opened. */
export interface Opening {
  readonly _definition: unknown;
  readonly _params: unknown;
  /** What was opened, kept for a while; throws what to wait for, or why it is not there. */
  _read(serving: boolean): unknown;
  /** A component is mounted with it; answers how that ends. `again` renders it anew. */
  _mount(again: (cause: object) => void): (() => void) | void;
}

/** So many definitions that are alike are one, which each render makes anew. */
const LOOP = 9;
const names = /* @__PURE__ */ new WeakMap<Opening, unknown>();

/**
 * While an app is developed: throws where a definition stands inside of a component. Each render
 * would open its own, wait for it, and render again, for ever.
 */
const refuseLoop = (all: Set<Opening>, opening: Opening, { name }: Held & { name?: unknown }): void => {
  names.set(opening, name);
  const alike = [...all].filter((one) =>
    names.get(one) === name && same(one._params, opening._params) &&
    `${one._definition}` === `${opening._definition}`);
  if (alike.length < LOOP) return;
  throw Error(`useOpen: the definition that opens ${name} belongs outside of the component`);
};

/** The opening of these, made where there is none. */
export const find = (client: any, definition: any, params: unknown, options: unknown): Opening => {
  const all: Set<Opening> = (client[OPENINGS] ??= new Set());
  for (const one of all) {
    if (one._definition === definition && same(one._params, params)) return one;
  }

  const opened = definition(client, params, options);
  const held: Held = opened.log ?? opened;
  let ready = options;
  let error: unknown;
  let mounted = 0;
  let promise: Promise<void> | undefined;
  let wake = (): void => {};
  let timer: ReturnType<typeof setTimeout>;
  const lease = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (promise) {
        wake();
        return lease();
      }
      all.delete(opening);
      held.release();
    }, Ms.LEASE);
  };
  const opening: Opening = {
    _definition: definition,
    _params: params,
    _read: (serving) => {
      // A refusal is told for a while; who tries again later is answered anew.
      if (!mounted && !error) lease();
      if (ready) return opened;
      // Nobody connects there, so that it would wait for ever.
      if (serving && !globalThis.document) throw Error('not read on the server');
      throw error || (promise ??= new Promise((resolve) => {
        wake = () => resolve((promise = undefined));
      }));
    },
    _mount: (again) => {
      // It was mounted so late, or shown again, that its lease had ended.
      if (!all.has(opening)) return again({});
      clearTimeout(timer);
      mounted++;
      return () => {
        if (!--mounted) lease();
      };
    },
  };
  all.add(opening);
  lease();
  held.status.subscribe(({ phase, reason, error: why }) => {
    ready ||= phase === 'live';
    // Closed before it was whole, nothing will come of it any more.
    error ||= phase === 'closed' && (why ?? Error(reason));
    if (ready || error) wake();
  });
  try {
    if (process.env.NODE_ENV !== 'production') refuseLoop(all, opening, held);
  } catch (loop) {
    // A page without a bundler has no `process`: nothing says that it is being developed.
    if (!(loop instanceof ReferenceError)) throw loop;
  }
  return opening;
};

export const never = () => () => {};

/**
 * What `definition` opens, open as long as the component is mounted. Suspends until it is whole for
 * the first time; throws the server's reason where it is refused.
 *
 * `definition` stands outside of the component; it opens a log by `client.log`, and answers that,
 * or an object with it as `log` beside the views made of it. `params` are plain data, compared by
 * content. `reading` is what a server read, for `hydrate`. Nobody but this hook releases the log.
 */
export function useOpen<O extends Opened>(definition: (client: Client) => O): Ready<O>;
export function useOpen<O extends Opened, P, G>(
  definition: (client: Client, params: P, reading?: G) => O,
  params: P,
  reading?: G,
): Ready<O>;
export function useOpen(definition: any, params?: unknown, reading?: unknown): unknown {
  const [, again] = useState({});
  const serving = useSyncExternalStore(never, () => false, () => true);
  const opening = find(useClient(), definition, params, reading);
  useEffect(() => opening._mount(again), [opening]);
  return opening._read(serving);
}
