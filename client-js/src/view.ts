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
  private _shown: S | undefined;
  private _work: S;
  private _live = false;
  private _cached: V | undefined;
  private _dirty = false;
  private _queued = false;
  private readonly _watchers = new Emitter<{ change: void }>();
  private readonly _rules: Rules<S, V>;
  private readonly _offs: (() => void)[];

  constructor(
    readonly log: Log,
    rules: Rules<S, V>,
  ) {
    this._rules = rules;
    this._work = rules.initial();
    // What went by before this view came is asked for once more; until then all is half of it.
    let deaf = log.touched;
    const on = <K extends keyof LogEvents>(name: K, work: (event: LogEvents[K]) => void) =>
      log.on(name, (event) => deaf || work(event));
    this._offs = [
      log.on('reset', () => {
        deaf = this._live = false;
        this._work = rules.initial();
      }),
      on('base', ({ records, data, version }) => {
        if (records) return this._take(records);
        if (!rules.base) throw new Error(`${log.name} has bases of clients: give a "base" rule`);
        this._work = rules.base(data!, version);
      }),
      on('records', ({ records }) => this._take(records)),
      on('behind', () => {
        this._live = false;
        if (rules.fork) this._work = rules.fork(this._work);
      }),
      on('complete', () => {
        this._live = true;
        this._show();
      }),
      log.on('pending', () => this._change()),
    ];
    if (deaf) log.seek('state');
  }

  /** What is to be shown; undefined until the log was complete for the first time. */
  get value(): V | undefined {
    if (this._dirty && this._shown !== undefined) {
      this._dirty = false;
      this._cached = this._rules.project(this._shown, this.log.pending);
    }
    return this._cached;
  }

  /** Calls `watcher` after the value has changed, once for many changes; answers how to stop. */
  subscribe(watcher: () => void): () => void {
    return this._watchers.on('change', watcher);
  }

  /** Follows the log no longer: what is shown stays. The log stays subscribed. */
  close(): void {
    for (const off of this._offs.splice(0)) off();
  }

  private _take(records: readonly Entry[]): void {
    for (const entry of records) this._work = this._rules.fold(this._work, entry);
    if (this._live) this._show();
  }

  private _show(): void {
    this._shown = this._work;
    this._change();
  }

  private _change(): void {
    this._dirty = true;
    if (this._queued || this._shown === undefined) return;
    this._queued = true;
    queueMicrotask(() => {
      this._queued = false;
      this._watchers.emit('change', undefined);
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
