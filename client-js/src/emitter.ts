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

/** Whoever does not look at it is not to lose a process for it. */
export const quiet = <T>(promise: Promise<T>): Promise<T> => {
  promise.catch(() => {});
  return promise;
};

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

  /** Whether anybody listens. @internal */
  get heard(): boolean {
    return this._listeners.size > 0;
  }

  /** Nothing is told any more. @internal */
  silence(): void {
    this._listeners.clear();
  }
}

/** A value to read, by what gives it, and those who watch it. */
export class Source<T> implements Read<T> {
  private readonly _watchers = new Emitter<{ change: undefined }>();
  private readonly _get: () => T;

  constructor(get: () => T) {
    this._get = get;
  }

  get value(): T {
    return this._get();
  }

  readonly subscribe = (watcher: (value: T) => void): (() => void) => {
    // Each reads it anew: it may have changed again by one that was told before.
    const tell = (): void => watcher(this.value);
    const off = this._watchers.on('change', tell);
    call(tell, undefined);
    return off;
  };

  /** Whether anybody watches. @internal */
  get watched(): boolean {
    return this._watchers.heard;
  }

  /** It has changed. @internal */
  changed(): void {
    this._watchers.emit('change', undefined);
  }
}
