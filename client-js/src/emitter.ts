/**
 * Events with listeners, and values that can be read and watched.
 *
 * Promise: a listener that throws is reported and harms no other; one that was stopped is not
 * called any more, not even for what happened before.
 */

/**
 * A value that changes. `subscribe` calls the watcher at once with the value, then after each
 * change; it answers how to stop. Both are bound: they may be handed on by themselves.
 */
export interface Read<T> {
  readonly value: T;
  readonly subscribe: (watcher: (value: T) => void) => () => void;
}

/** Reports what somebody else's function threw, without ending what goes on here. */
export const report = (error: unknown): void =>
  queueMicrotask(() => {
    throw error;
  });

export const call = <T>(work: (event: T) => void, event: T): void => {
  try {
    work(event);
  } catch (error) {
    report(error);
  }
};

export class Emitter<Events> {
  private readonly _listeners = new Set<readonly [keyof Events, (event: any) => void]>();

  /** Calls `listener` at each such event; answers how to stop that. */
  readonly on = <K extends keyof Events>(
    name: K,
    listener: (event: Events[K]) => void,
  ): (() => void) => {
    const one = [name, listener] as const;
    this._listeners.add(one);
    return () => void this._listeners.delete(one);
  };

  /** @internal */
  emit<K extends keyof Events>(name: K, event: Events[K]): void {
    for (const one of [...this._listeners]) {
      if (one[0] === name && this._listeners.has(one)) call(one[1], event);
    }
  }

  /** Nothing is told any more. @internal */
  silence(): void {
    this._listeners.clear();
  }
}

/** A value to read, by what gives it, and those who watch it. */
export class Source<T> implements Read<T> {
  private readonly _watchers = new Set<{ watcher: (value: T) => void }>();
  private readonly _get: () => T;

  constructor(get: () => T) {
    this._get = get;
  }

  get value(): T {
    return this._get();
  }

  readonly subscribe = (watcher: (value: T) => void): (() => void) => {
    const one = { watcher };
    this._watchers.add(one);
    call(watcher, this.value);
    return () => void this._watchers.delete(one);
  };

  /** Whether anybody watches. @internal */
  get watched(): boolean {
    return this._watchers.size > 0;
  }

  /** It has changed. @internal */
  changed(): void {
    for (const one of [...this._watchers]) {
      if (this._watchers.has(one)) call(one.watcher, this.value);
    }
  }
}
