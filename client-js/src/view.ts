/**
 * Views: `fold(base) + fold(pending)` of one log, shown only when the log is complete.
 *
 * A reset makes a new state aside; what was shown stays until the new one is complete, with the
 * client's own pending actions on top throughout. So nothing that was shown goes away and comes
 * back.
 */

import type { Entry, Log, LogEvents } from './delivery.js';
import { Emitter } from './emitter.js';

/** How a view is made. */
export interface Rules<S, V> {
  /** The state before any record. */
  initial(): S;
  /** The state after this record. */
  fold(state: S, entry: Entry): S;
  /** A state of its own, where `fold` changes the one it is given. */
  fork?(state: S): S;
  /** The state of a base that a client made (`SnapshotRule` `client`). */
  base?(data: Uint8Array, version: number): S;
  /** What is shown: the state with the client's own pending actions on top. */
  project(state: S, pending: readonly Entry[]): V;
}

export class View<S, V> {
  #shown: S | undefined;
  #work: S;
  #live = false;
  #cached: V | undefined;
  #dirty = false;
  #queued = false;
  readonly #watchers = new Emitter<{ change: void }>();
  readonly #rules: Rules<S, V>;
  readonly #offs: (() => void)[];

  constructor(
    readonly log: Log,
    rules: Rules<S, V>,
  ) {
    this.#rules = rules;
    this.#work = rules.initial();
    // What went by before this view came is asked for once more; until then all is half of it.
    let deaf = log.touched;
    const on = <K extends keyof LogEvents>(name: K, work: (event: LogEvents[K]) => void) =>
      log.on(name, (event) => deaf || work(event));
    this.#offs = [
      log.on('reset', () => {
        deaf = this.#live = false;
        this.#work = rules.initial();
      }),
      on('base', ({ records, data, version }) => {
        if (records) return this.#take(records);
        if (!rules.base) throw new Error(`${log.name} has bases of clients: give a "base" rule`);
        this.#work = rules.base(data!, version);
      }),
      on('records', ({ records }) => this.#take(records)),
      on('behind', () => {
        this.#live = false;
        if (rules.fork) this.#work = rules.fork(this.#work);
      }),
      on('complete', () => {
        this.#live = true;
        this.#show();
      }),
      log.on('pending', () => this.#change()),
    ];
    if (deaf) log.seek('state');
  }

  /** What is to be shown; undefined until the log was complete for the first time. */
  get value(): V | undefined {
    if (this.#dirty && this.#shown !== undefined) {
      this.#dirty = false;
      this.#cached = this.#rules.project(this.#shown, this.log.pending);
    }
    return this.#cached;
  }

  /** Calls `watcher` after the value has changed, once for many changes; answers how to stop. */
  subscribe(watcher: () => void): () => void {
    return this.#watchers.on('change', watcher);
  }

  /** Follows the log no longer: what is shown stays. The log stays subscribed. */
  close(): void {
    for (const off of this.#offs.splice(0)) off();
  }

  #take(records: readonly Entry[]): void {
    for (const entry of records) this.#work = this.#rules.fold(this.#work, entry);
    if (this.#live) this.#show();
  }

  #show(): void {
    this.#shown = this.#work;
    this.#change();
  }

  #change(): void {
    this.#dirty = true;
    if (this.#queued || this.#shown === undefined) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      this.#watchers.emit('change', undefined);
    });
  }
}

/**
 * A view by a reducer, which answers a new state and leaves the old one as it is. It gets the
 * records in order, then the client's own pending ones.
 */
export const view = <S>(
  log: Log,
  reducer: (state: S, entry: Entry) => S,
  initial: S,
  base?: (data: Uint8Array, version: number) => S,
): View<S, S> =>
  new View<S, S>(log, {
    initial: () => initial,
    fold: reducer,
    project: (state, pending) => pending.reduce(reducer, state),
    ...(base && { base }),
  });

type Keyed = Map<string, Entry>;

const put = (map: Keyed, entry: Entry): Keyed => {
  const { key, payload } = entry.record;
  if (key === undefined) return map;
  if (payload === undefined) map.delete(key);
  else map.set(key, entry);
  return map;
};

/** The newest record of each key; a record without payload takes its key away. */
export const latestView = (log: Log): View<Keyed, ReadonlyMap<string, Entry>> =>
  new View<Keyed, ReadonlyMap<string, Entry>>(log, {
    initial: () => new Map(),
    fold: put,
    fork: (map) => new Map(map),
    project: (map, pending) => pending.reduce(put, new Map(map)),
  });
