/**
 * Values of the log as signals: what reads one in an effect or a computed value follows it.
 *
 * `@preact/signals-core` does the following; outside it is a `Read`, like every value of the
 * client, so that no app has to know of it.
 */

import { computed, effect, signal, untracked } from '@preact/signals-core';
import { call, type Read } from '../emitter.js';

export class Signal<T> implements Read<T> {
  private readonly _turn = signal(0);
  private readonly _get: () => T;
  /** Watchers are told of another value alone. */
  private readonly _seen = computed(() => this.value);

  constructor(get: () => T) {
    this._get = get;
  }

  /** As it is now, also before those who watch are told. */
  get value(): T {
    this._turn.value;
    return this._get();
  }

  readonly subscribe = (watcher: (value: T) => void): (() => void) =>
    effect(() => {
      const { value } = this._seen;
      untracked(() => call(watcher, value));
    });

  changed(): void {
    this._turn.value = this._turn.peek() + 1;
  }
}
