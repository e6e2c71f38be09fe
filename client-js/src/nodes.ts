/**
 * Which node a client goes to.
 *
 * Promise: the address that the app gave comes first after each socket that was met, since a
 * balancer may stand there; where nobody answers, the nodes that the server named follow in turn. A
 * server that sends its client away says to whom. No secure address leads to one that is not.
 */

import { address } from './socket.js';

export class Nodes {
  private _named: string[] = [];
  /** The one to try; -1: the app's own. */
  private _at = -1;

  /** The address to try, or in use. */
  url: string;

  constructor(private readonly _own: string) {
    this.url = _own;
  }

  /**
   * The server named them, or sends its client to them, the first one first; whether there is one
   * that it may go to.
   */
  told(named: readonly string[] | undefined, sent = false): boolean {
    this._named = (named ?? []).flatMap((text) => {
      try {
        const url = address(text);
        return this._own.startsWith('wss') && !url.startsWith('wss') ? [] : url;
      } catch {
        return []; // It is no address.
      }
    });
    if (!sent || !this._named.length) return false;
    this._go(0);
    return true;
  }

  /** A socket ended; whether its client had been met. */
  lost(met: boolean): void {
    this._go(met || this._at + 1 >= this._named.length ? -1 : this._at + 1);
  }

  private _go(at: number): void {
    this._at = at;
    this.url = this._named[at] ?? this._own;
  }
}
