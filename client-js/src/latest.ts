/**
 * The newest record of each key, own pending actions on top: a change costs its own key, however
 * many there are; the whole map is made for whoever asks for it.
 */

import type { Entry } from './delivery.js';
import { call, Source, type Read } from './emitter.js';
import type { Log } from './handle.js';
import { Follower, type View } from './view.js';
import type { Action } from './writer.js';

/** What is shown of a log by key. Its `value` is the whole map: asked for, it costs all keys. */
export interface Latest<T> extends View<ReadonlyMap<string, Entry<T>>> {
  /** The newest record of that key; undefined: there is none, or nothing was complete yet. */
  get(key: string): Read<Entry<T> | undefined>;
  /** Calls `watcher` with the keys that have changed, once for a turn; answers how to stop. */
  changes(watcher: (keys: ReadonlySet<string>) => void): () => void;
}

/** A read that says when the first watcher came and the last one went. */
class Watched<T> extends Source<T> {
  constructor(get: () => T, watch: (on: boolean) => void) {
    super(get);
    const { subscribe } = this;
    Object.assign(this, {
      subscribe: (watcher: (value: T) => void) => {
        const off = subscribe(watcher);
        watch(true);
        return () => {
          off();
          if (!this.watched) watch(false);
        };
      },
    });
  }
}

interface Aside<T> {
  readonly all: boolean;
  readonly map: Map<string, Entry<T>>;
}

class Keyed<T> extends Source<ReadonlyMap<string, Entry<T>> | undefined> implements Latest<T> {
  private _shown = new Map<string, Entry<T>>();
  /** What goes on aside: all anew, or what has changed since. */
  private _aside: Aside<T> | undefined = { all: true, map: new Map() };
  /** Own actions of each key, the newest last. */
  private readonly _top = new Map<string, Set<Action>>();
  private _whole: ReadonlyMap<string, Entry<T>> | undefined;
  private _changed = new Set<string>();
  private readonly _reads = new Map<string, Set<Source<Entry<T> | undefined>>>();
  private readonly _hearers = new Set<(keys: ReadonlySet<string>) => void>();
  private readonly _follower: Follower<T>;
  readonly incomplete;
  readonly reload: () => void;
  readonly close: () => void;

  constructor(log: Log<T>) {
    super(() => this._map());
    this._follower = new Follower<T>(log, {
      begin: () => {
        this._aside = { all: true, map: new Map() };
      },
      base: () => {
        throw new Error(`${log.name} has bases of clients: use view with a base rule`);
      },
      fold: (entry) => this._put(entry),
      behind: () => {
        this._aside ??= { all: false, map: new Map() };
      },
      show: () => this._show(),
      top: (actions) => this._lay(actions),
      tell: () => this._tell(),
    });
    const { handle, incomplete, reload, close } = this._follower;
    this.incomplete = incomplete;
    this.reload = reload;
    this.close = close;
    this._lay([...handle.shared.mine]);
  }

  readonly get = (key: string): Read<Entry<T> | undefined> => {
    const read: Watched<Entry<T> | undefined> = new Watched(
      () => this._one(key),
      (on) => {
        const reads = this._reads.get(key) ?? new Set();
        if (on) this._reads.set(key, reads.add(read));
        else if (reads.delete(read) && !reads.size) this._reads.delete(key);
      },
    );
    return read;
  };

  readonly changes = (watcher: (keys: ReadonlySet<string>) => void): (() => void) => {
    const one = (keys: ReadonlySet<string>): void => watcher(keys);
    this._hearers.add(one);
    return () => void this._hearers.delete(one);
  };

  private _put(entry: Entry<T>): void {
    const { key } = entry;
    if (key === undefined) return;
    if (this._aside) return void this._aside.map.set(key, entry);
    if (entry.tombstone) this._shown.delete(key);
    else this._shown.set(key, entry);
    this._changed.add(key);
  }

  private _show(): void {
    const aside = this._aside;
    this._aside = undefined;
    this._whole = undefined;
    if (!aside) return;
    const old = this._shown;
    if (aside.all) this._shown = new Map();
    for (const entry of aside.map.values()) this._put(entry);
    if (!aside.all) return;
    for (const [key, { offset }] of old) {
      if (this._shown.get(key)?.offset === offset) this._changed.delete(key);
      else this._changed.add(key);
    }
  }

  /** Own actions came, or went. */
  private _lay(actions: readonly Action[]): void {
    const { mine } = this._follower.handle.shared;
    for (const action of actions) {
      const { key } = action.record;
      if (key === undefined) continue;
      const own = this._top.get(key) ?? new Set();
      if (mine.has(action)) own.add(action);
      else own.delete(action);
      if (own.size) this._top.set(key, own);
      else this._top.delete(key);
      this._changed.add(key);
    }
    this._whole = undefined;
  }

  private _one(key: string): Entry<T> | undefined {
    if (!this._follower.shown) return undefined;
    const own = this._top.get(key);
    const entry = own ? this._follower.handle.own([...own].at(-1)!) : this._shown.get(key);
    return entry?.tombstone ? undefined : entry;
  }

  private _map(): ReadonlyMap<string, Entry<T>> | undefined {
    if (!this._follower.shown) return undefined;
    if (!this._whole) {
      const map = new Map(this._shown);
      for (const key of this._top.keys()) {
        const entry = this._one(key);
        if (entry) map.set(key, entry);
        else map.delete(key);
      }
      this._whole = map;
    }
    return this._whole;
  }

  private _tell(): void {
    const keys = this._changed;
    if (!keys.size && !this.watched) return;
    this._changed = new Set();
    for (const key of this._reads.size ? keys : []) {
      for (const read of [...(this._reads.get(key) ?? [])]) read.changed();
    }
    for (const watcher of [...this._hearers]) if (this._hearers.has(watcher)) call(watcher, keys);
    this.changed();
  }
}

/** The newest record of each key; a record without payload takes its key away. */
export const latest = <T>(log: Log<T>): Latest<T> => new Keyed(log);
