/**
 * To whom an action was delivered, as the server knows by the cursors it holds.
 *
 * Promise: it is asked for only while somebody looks, and never says more than the server has
 * written down: that a device of that user has the record, not that anybody has read it. Where the
 * token has no right to know (`delivered`), it stays empty.
 */

import { signal } from '@preact/signals-core';
import type { Connection } from '../connection.js';
import { call, type Read } from '../emitter.js';
import { passes } from '../errors.js';
import type { Stored } from '../writer.js';
import { inTime } from './store.js';

/** Time from one question to the next, ms: it doubles as long as nothing changes. */
const SOON = 1000;
const LATE = 30_000;

/** Users that have the record, without whoever asks, in a fixed order. */
export class Delivered implements Read<readonly string[]> {
  private readonly _users = signal<readonly string[]>([], {
    // Quoted: the library's name, which is to stay as it is.
    'watched': () => this._begin(),
    'unwatched': () => this._end(),
  });
  private _at: Stored | undefined;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _wait = SOON;
  private _watched = false;
  private _denied = false;

  constructor(private readonly _core: Connection) {}

  get value(): readonly string[] {
    return this._users.value;
  }

  readonly subscribe = (watcher: (users: readonly string[]) => void): (() => void) =>
    this._users.subscribe((users) => call(watcher, users));

  /** It was stored there: from now on it can be asked for. */
  stored(at: Stored): void {
    this._at = at;
    if (this._watched) this._ask();
  }

  private _begin(): void {
    this._watched = true;
    this._wait = SOON;
    this._ask();
  }

  private _end(): void {
    this._watched = false;
    clearTimeout(this._timer);
  }

  private _ask(): void {
    const { _core: core, _at: at } = this;
    clearTimeout(this._timer);
    if (!at || this._denied || !this._watched) return;
    const { phase } = core.status;
    const able = core.greeting?.capabilities.includes('delivered');
    if (able && (phase === 'live' || phase === 'inactive')) {
      const request = core.ticket((_now, error, told) => {
        if (error) this._denied = error.code !== 'lost' && !passes(error.code);
        else this._told((told as { users: string[] }).users);
      });
      core.say('who', { request, log: at.log, offset: at.offset });
      core.wake();
    }
    this._timer = inTime(() => this._ask(), this._wait);
    this._wait = Math.min(LATE, this._wait * 2);
  }

  private _told(users: readonly string[]): void {
    const others = users.filter((user) => user !== this._core.greeting?.user);
    if (others.join('\n') === this._users.peek().join('\n')) return;
    this._users.value = others;
    // Where one has it, others may soon.
    this._wait = SOON;
  }
}
