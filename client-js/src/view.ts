/**
 * Views: `fold(base) + fold(pending)` of one log, shown only when the log is complete.
 *
 * A reset makes a new state aside; what was shown stays until the new one is complete, with the
 * client's own pending actions on top throughout. So nothing that was shown goes away and comes
 * back. What a view could not fold it says in `incomplete`.
 */

import type { Entry } from './delivery.js';
import { report, Source, type Read } from './emitter.js';
import { HighwaterError } from './errors.js';
import type { Handle, Log } from './handle.js';
import type { Action } from './writer.js';

/** Offsets from `from` on, below `to`. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** What is shown of a log: undefined until the log was complete for the first time. */
export interface View<V> extends Read<V | undefined> {
  /**
   * What is missing in what is shown, because it is kept no more (a `gap`), or the reducer failed
   * at it: what was changed there is not shown, what was removed there is. Empty: nothing.
   */
  readonly incomplete: Read<readonly Range[]>;
  /** The way on from a hole: has the log's state delivered anew. */
  reload(): void;
  /** Follows the log no longer: what is shown stays. The log stays open. */
  close(): void;
}

/** What a kind of view does with what its log tells. @internal */
export interface Kind<T> {
  /** A new state begins aside. */
  begin(): void;
  /** A base that a client made. */
  base(data: Uint8Array, version: number): void;
  fold(entry: Entry<T>): void;
  /** It was whole, and now goes on aside. */
  behind(): void;
  /** All is folded: it is what is shown from now on. */
  show(): void;
  /** Own actions came to lie on top, or went. */
  top(actions: readonly Action[]): void;
  /** What has changed since is to be told: once for many changes of a turn. */
  tell(): void;
}

/** Follows a log for a view; both kinds share this. @internal */
export class Follower<T> {
  readonly incomplete: Source<readonly Range[]> = new Source(() => this._missing);
  /** Something is shown, and what it shows is whole. */
  live = false;
  shown = false;
  readonly handle: Handle<T>;
  private _missing: readonly Range[] = [];
  private _holes: Range[] = [];
  private _queued = false;
  private readonly _kind: Kind<T>;
  private readonly _offs: (() => void)[];

  constructor(log: Log<T>, kind: Kind<T>) {
    const handle = log as Handle<T>;
    this.handle = handle;
    this._kind = kind;
    // What went by before this view came is asked for once more; until then all is half of it.
    let deaf = handle.touched;
    const heard = <E>(work: (event: E) => void) => (event: E): void => {
      if (!deaf) work(event);
    };
    this._offs = [
      handle.on('reset', () => {
        deaf = this.live = false;
        this._holes = [];
        kind.begin();
      }),
      handle.on('base', heard(({ records, data, version, offset }) => {
        if (records) return this._take(records);
        this._try({ from: 0, to: offset }, () => kind.base(data!, version));
      })),
      handle.on('records', heard(({ records }) => this._take(records))),
      handle.on('gap', heard(({ from, to }) => this._lacks({ from, to }))),
      handle.on('behind', heard(() => {
        this.live = false;
        kind.behind();
      })),
      handle.on('complete', heard(() => {
        this.live = this.shown = true;
        this._show();
      })),
      handle.on('pending', ({ actions }) => {
        kind.top(actions);
        this.changed();
      }),
    ];
    if (deaf) this.reload();
  }

  readonly reload = (): void => this.handle.seek(this.handle.start);

  readonly close = (): void => {
    for (const off of this._offs.splice(0)) off();
  };

  private _take(records: readonly Entry<T>[]): void {
    for (const entry of records) {
      const at = entry.offset!;
      this._try({ from: at, to: at + 1 }, () => this._kind.fold(entry));
    }
    if (this.live) this._show();
  }

  private _try(range: Range, work: () => void): void {
    try {
      work();
    } catch (error) {
      report(error);
      this._lacks(range);
    }
  }

  private _lacks(range: Range): void {
    this._holes = [...this._holes, range];
    if (this.live) this._show();
  }

  private _show(): void {
    this._kind.show();
    this.changed();
    if (this._missing === this._holes || !(this._missing.length + this._holes.length)) return;
    this._missing = this._holes;
    this.incomplete.changed();
  }

  /** What is shown has changed. */
  changed(): void {
    if (this._queued || !this.shown) return;
    this._queued = true;
    queueMicrotask(() => {
      this._queued = false;
      this._kind.tell();
    });
  }
}

/** Whether an app is being developed: bundlers put a word in for the condition. */
const developing = (): boolean => {
  try {
    return process.env.NODE_ENV !== 'production';
  } catch {
    return true; // A page without a bundler.
  }
};

const refuse = (): never => {
  throw new TypeError('a reducer may not change what it is given: answer a new state');
};

/** Makes a change of this, or of what it is made of, throw. */
const freeze = (value: any): void => {
  if (Object(value) !== value || Object.isFrozen(value)) return;
  const kept = value instanceof Map || value instanceof Set;
  const plain = [Object.prototype, Array.prototype, null].includes(Object.getPrototypeOf(value));
  if (!kept && !plain) return;
  if (kept) for (const change of ['set', 'add', 'delete', 'clear']) {
    Object.defineProperty(value, change, { value: refuse });
  }
  Object.freeze(value);
  for (const part of kept ? value.values() : Object.values(value)) freeze(part);
};

/** While an app is developed: whoever changes it later fails. */
export const frozen = <T>(value: T): T => {
  if (developing()) freeze(value);
  return value;
};

/** Whether two results are the same; what they share is not looked into. */
const same = (one: any, two: any): boolean => {
  if (Object.is(one, two)) return true;
  if (Object(one) !== one || Object(two) !== two) return false;
  if (Object.getPrototypeOf(one) !== Object.getPrototypeOf(two)) return false;
  if (one instanceof Map || one instanceof Set) return same([...one], [...two]);
  const names = Object.keys(one);
  return names.length === Object.keys(two).length
    && names.every((name) => same(one[name], two[name]));
};

/**
 * While an app is developed: the reducer may not change what it is given, which throws, and must
 * answer the same twice, since it runs once for what is pending and again for what was stored.
 */
export const guarded = <A extends unknown[], S>(
  reducer: (state: S, ...args: A) => S,
): ((state: S, ...args: A) => S) => {
  if (!developing()) return reducer;
  return (state, ...args) => {
    for (const one of [state, ...args]) freeze(one);
    const result = reducer(state, ...args);
    if (!same(result, reducer(state, ...args))) {
      throw new TypeError('a reducer must answer the same for the same: it ran twice');
    }
    return result;
  };
};

/**
 * A view by a reducer, which answers a new state and leaves the old one as it is: one that does not
 * fails while an app is developed (`NODE_ENV` is not `production`), since what it is given is
 * frozen. It gets the records in order, then the client's own pending ones. One that throws is
 * reported, and what it threw at is missing (`incomplete`). `base` reads the state that a client
 * made.
 */
export const view = <S, T>(
  log: Log<T>,
  reducer: (state: S, entry: Entry<T>) => S,
  initial: S,
  base?: (data: Uint8Array, version: number) => S,
): View<S> => {
  const guarded = developing();
  const fold = (state: S, entry: Entry<T>): S => {
    if (guarded) [state, entry].forEach(freeze);
    return reducer(state, entry);
  };
  let work = initial;
  let shown: S;
  let cached: S | undefined;
  let dirty = false;
  const top = (state: S, entry: Entry<T>): S => {
    try {
      return fold(state, entry);
    } catch (error) {
      report(error);
      return state;
    }
  };
  const source = new Source<S | undefined>(() => {
    if (dirty && follower.shown) {
      dirty = false;
      cached = follower.handle.pending.value.reduce(top, shown);
    }
    return cached;
  });
  const follower: Follower<T> = new Follower<T>(log, {
    begin: () => {
      work = initial;
    },
    base: (data, version) => {
      if (!base) throw new HighwaterError('bad_payload', `${log.name}: give view a base rule`);
      work = base(data, version);
    },
    fold: (entry) => {
      work = fold(work, entry);
    },
    behind: () => {},
    show: () => {
      shown = work;
      dirty = true;
    },
    top: () => {
      dirty = true;
    },
    tell: () => source.changed(),
  });
  const { incomplete, reload, close } = follower;
  return Object.assign(source, { incomplete, reload, close });
};
