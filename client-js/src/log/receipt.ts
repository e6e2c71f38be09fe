/**
 * What whoever does something holds of it: whether it is kept, whether the server has it, and to
 * whom it was delivered.
 *
 * A promise that nobody asks for is not made, and one that nobody awaits ends no process.
 */

import type { Connection } from '../connection.js';
import { quiet, type Read } from '../emitter.js';
import type { Stored } from '../writer.js';
import { Delivered } from './delivered.js';
import { Signal } from './signals.js';
import type { Kind } from './store.js';

class Later<T> {
  result: T | Promise<never> | undefined;
  private _promise: Promise<T> | undefined;
  private _resolve: ((result: T | Promise<never>) => void) | undefined;

  settle(result: T | Promise<never>): void {
    if (this.result !== undefined) return;
    this.result = result;
    if (result instanceof Promise) quiet(result);
    this._resolve?.(result);
  }

  get promise(): Promise<T> {
    return (this._promise ??= quiet(new Promise<T>((resolve) => {
      if (this.result === undefined) this._resolve = resolve;
      else resolve(this.result);
    })));
  }
}

/**
 * Where an action is: `unsaved` in this page alone, kept on the `device`, on the `server`; or
 * `refused`, by the server or the device.
 */
export type ReceiptState = 'unsaved' | 'device' | 'server' | 'refused';

export class Receipt {
  private readonly _saved = new Later<Kind>();
  private readonly _accepted = new Later<Stored>();
  private readonly _core: Connection;
  private _delivered: Delivered | undefined;
  private _now: Signal<ReceiptState> | undefined;
  private _closed: boolean | undefined;

  /** @internal */
  constructor(core: Connection) {
    this._core = core;
  }

  /** Where it is. */
  get state(): Read<ReceiptState> {
    return (this._now ??= new Signal(() => this._state()));
  }

  private _state(): ReceiptState {
    const ends = [!this._closed && this._accepted.result, this._saved.result];
    if (ends.some((result) => result instanceof Promise)) return 'refused';
    return ends[0] ? 'server' : ends[1] ? 'device' : 'unsaved';
  }

  /**
   * Resolves when it is kept: on `disk`, or in `memory` where there is no disk. Rejects with
   * `not_saved`, its views already without it; it stands among the refused ones then.
   */
  get saved(): Promise<Kind> {
    return this._saved.promise;
  }

  /**
   * Resolves when the server has stored it, at its offset; it may be days. Rejects with the
   * server's reason, its views already without it; or with `closed`, where this client is closed
   * before: what it logged is on the device, and the next one sends it; or with `lost`, where another
   * page has the reason: it stands among the refused ones.
   */
  get accepted(): Promise<Stored> {
    return this._accepted.promise;
  }

  /**
   * The other users with a device that has it, as the server knows by their cursors: delivered, not
   * read. Asked for while somebody watches; true, and up to some seconds late. It takes the right
   * `delivered` on the log; without that it stays empty.
   */
  get deliveredTo(): Read<readonly string[]> {
    if (!this._delivered) {
      this._delivered = new Delivered(this._core);
      const { result } = this._accepted;
      if (result && !(result instanceof Promise)) this._delivered.stored(result);
    }
    return this._delivered;
  }

  /** @internal */
  readonly kept = (result: Kind | Promise<never>): void => {
    this._saved.settle(result);
    this._now?.changed();
  };

  /** @internal */
  readonly ended = (result: Stored | Promise<never>, closed?: boolean): void => {
    this._closed = closed;
    this._accepted.settle(result);
    if (!(result instanceof Promise)) this._delivered?.stored(result);
    this._now?.changed();
  };
}
