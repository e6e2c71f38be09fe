/**
 * Which token, when another is asked for, and whose it is.
 *
 * Promise: one call at a time, which has its time to answer; a token that is good is used again; a
 * token of another user is never used for this one.
 */

import { Ms } from './bounds.js';
import { HighwaterError } from './errors.js';
import { userOf } from './identity.js';
import type { Config, Timer } from './states.js';

/** What a machine of tokens asks of the connection. */
export interface Holds {
  readonly config: Config;
  /** When each of its timers rings. */
  readonly bells: { [T in Timer]?: number };
  out(what: 'token'): void;
  /** It is over. */
  stop(now: number, error: HighwaterError): void;
}

/** How long to wait before that try: a random part of a bound that doubles. */
export const backoff = (chance: () => number, tries: number): number =>
  chance() * Math.min(Ms.BACK_TO, Ms.BACK_FROM * 2 ** tries);

export class Tokens {
  private readonly _holds: Holds;
  private _user: string;
  private _asking = false;
  /** From then on another is asked for before a socket is opened. */
  private _renewAt = Infinity;
  private _refreshes = 0;

  constructor(holds: Holds) {
    this._holds = holds;
    this._user = userOf(holds.config.token);
  }

  /** Whose client this is, from another time. */
  whose(user: string): void {
    this._user ||= user;
  }

  /** Whether another has to be had before a socket is opened. */
  wanted(now: number): boolean {
    const { tokens, token } = this._holds.config;
    return tokens && (token === undefined || now >= this._renewAt);
  }

  ask(now: number): void {
    if (this._asking) return;
    this._asking = true;
    this._holds.bells._tokenless = now + Ms.WELCOME;
    this._holds.out('token');
  }

  /** The call is over, or of no more use: a later answer to it is taken all the same. */
  asked(): void {
    this._asking = false;
  }

  /** The server had made the user up, and knows of none by now: it makes another. */
  anybody(): void {
    this._user = '';
  }

  /** One came: whether it is taken. */
  took(now: number, token: string): boolean {
    if (!this.is(now, userOf(token))) return false;
    this._holds.config.token = token;
    this._renewAt = Infinity;
    return true;
  }

  /** Whether that is the user whose client this is; another one ends it. */
  is(now: number, user: string): boolean {
    const mine = this._user;
    this._user ||= user;
    if (!user || user === this._user) return true;
    // What it would say of the first user, and send for that one, is none of the other's.
    this._holds.config.token = undefined;
    const message = `a token of ${user}: this client is ${mine}'s, make another`;
    this._holds.stop(now, new HighwaterError('other_user', message));
    return false;
  }

  /** The token in force ended, or another could not be had: soon again, slower each time. */
  soon(now: number): void {
    const { tokens, chance } = this._holds.config;
    if (!tokens || this._asking) return;
    const { bells } = this._holds;
    bells._renew = Math.min(now + backoff(chance, this._refreshes++), bells._renew ?? Infinity);
  }

  /** The server took it. */
  good(): void {
    this._refreshes = 0;
  }

  /** It has so long: the next is got while it is good, 10 to 20 % before its end, at most 60 s. */
  lasts(now: number, left: number): void {
    const { tokens, chance } = this._holds.config;
    this._renewAt = Infinity;
    if (!tokens || left === Infinity) return;
    const lead = Math.min(30_000, left / 10) * (1 + chance());
    this._renewAt = now + Math.max(Ms.REFRESH, left - lead);
    this._holds.bells._renew = this._renewAt;
  }
}
