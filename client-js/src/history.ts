/**
 * Which history this client has been part of: the highest position it was told or has seen, of each
 * shard, by which a server finds out whether what is held here is its own.
 */

import { Most } from './bounds.js';

export class History {
  /** As it was told, with its chain, or as it was seen. */
  private _at = new Map<number, { era: string; batch: number; text: string | undefined }>();

  /** What is stated to the server. */
  get positions(): string[] {
    return [...this._at.values()].map(({ era, batch, text }) => text ?? `${era}.${batch}`);
  }

  /** The server stands there; `anew`: what was seen of another history counts no more. */
  told(positions: readonly string[], anew = false): void {
    if (anew) this._at.clear();
    for (const text of positions) {
      const [era, batch] = text.split('.');
      this.saw(+batch!, era, text);
    }
  }

  /** A place was seen, also of each record; without an era in that where the socket stands. */
  saw(batch: number, era?: string, text?: string): void {
    const shard = Math.floor(batch / Most.BATCHES);
    const held = this._at.get(shard);
    if (!era || held?.era === era) {
      // An answer may be behind the record that it speaks of; one that is not has the chain.
      if (!held || batch < held.batch + (era ? 0 : 1)) return;
    }
    this._at.set(shard, { era: era ?? held!.era, batch, text });
  }
}
