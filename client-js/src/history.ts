/**
 * Which history this client has been part of: the highest position it was told or has seen, of each
 * shard, by which a server finds out whether what is held here is its own.
 */

import { Most } from './bounds.js';

export class History {
  private _at = new Map<number, string>();

  /** What is stated to the server. */
  get positions(): string[] {
    return [...this._at.values()];
  }

  /** The server stands there; `anew`: what was seen of another history counts no more. */
  told(positions: readonly string[], anew = false): void {
    if (anew) this._at.clear();
    for (const text of positions) {
      const [era, batch] = text.split('.');
      this.saw(+batch!, era, text);
    }
  }

  /** A place was seen; without an era in that where the socket stands. */
  saw(batch: number, era?: string, text?: string): void {
    const shard = Math.floor(batch / Most.BATCHES);
    const [held, highest] = this._at.get(shard)?.split('.') ?? [];
    if (!era || held === era) {
      // An answer may be behind the record that it speaks of; one that is not has the chain.
      if (!highest || batch < +highest + (era ? 0 : 1)) return;
    }
    this._at.set(shard, text ?? `${era ?? held}.${batch}`);
  }
}
