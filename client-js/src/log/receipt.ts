/**
 * What whoever does something holds of it: whether it is kept, and whether the server has it.
 *
 * A promise that nobody asks for is not made, and one that nobody awaits ends no process.
 */

import { quiet } from '../emitter.js';
import type { Stored } from '../writer.js';
import type { Kind } from './store.js';

class Later<T> {
  private _result: T | Promise<never> | undefined;
  private _promise: Promise<T> | undefined;
  private _resolve: ((result: T | Promise<never>) => void) | undefined;

  readonly settle = (result: T | Promise<never>): void => {
    if (this._result !== undefined) return;
    this._result = result;
    if (result instanceof Promise) quiet(result);
    this._resolve?.(result);
  };

  get promise(): Promise<T> {
    return (this._promise ??= quiet(new Promise<T>((resolve) => {
      if (this._result === undefined) this._resolve = resolve;
      else resolve(this._result);
    })));
  }
}

export class Receipt {
  private readonly _saved = new Later<Kind>();
  private readonly _accepted = new Later<Stored>();

  /**
   * Resolves when it is kept: on `disk`, or in `memory` where there is no disk. Rejects with
   * `not_saved`, its views already without it; it stands among the refused ones then.
   */
  get saved(): Promise<Kind> {
    return this._saved.promise;
  }

  /**
   * Resolves when the server has stored it, at its offset; it may be days. Rejects with the
   * server's reason, its views already without it.
   */
  get accepted(): Promise<Stored> {
    return this._accepted.promise;
  }

  /** @internal */
  readonly kept = (result: Kind | Promise<never>): void => this._saved.settle(result);
  /** @internal */
  readonly ended = (result: Stored | Promise<never>): void => this._accepted.settle(result);
}
