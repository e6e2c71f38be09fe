/** Events with listeners; a listener that throws is reported and harms no other. */

export class Emitter<Events> {
  private readonly _listeners = new Set<readonly [keyof Events, (event: never) => void]>();

  /** Whether anyone listens to anything. */
  get listening(): boolean {
    return this._listeners.size > 0;
  }

  /** Calls `listener` at each such event; answers how to stop that. */
  on<K extends keyof Events>(name: K, listener: (event: Events[K]) => void): () => void {
    const one = [name, listener] as const;
    this._listeners.add(one);
    return () => void this._listeners.delete(one);
  }

  /** @internal */
  emit<K extends keyof Events>(name: K, event: Events[K]): void {
    for (const [on, listener] of [...this._listeners]) {
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
