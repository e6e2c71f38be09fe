/** Events with listeners; a listener that throws is reported and harms no other. */

export class Emitter<Events> {
  readonly #listeners = new Set<readonly [keyof Events, (event: never) => void]>();

  /** Whether anyone listens to anything. */
  get listening(): boolean {
    return this.#listeners.size > 0;
  }

  /** Calls `listener` at each such event; answers how to stop that. */
  on<K extends keyof Events>(name: K, listener: (event: Events[K]) => void): () => void {
    const one = [name, listener] as const;
    this.#listeners.add(one);
    return () => void this.#listeners.delete(one);
  }

  /** @internal */
  emit<K extends keyof Events>(name: K, event: Events[K]): void {
    for (const [on, listener] of [...this.#listeners]) {
      if (on !== name) continue;
      try {
        (listener as (event: Events[K]) => void)(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
