/**
 * What several parts of the server's side name: types that need neither DOM nor Node.
 */

import type { Entry as Delivered } from '../delivery.js';
import type { HighwaterError } from '../errors.js';
import type { Place } from '../frames.js';
import type { Payload } from '../codec.js';

/** An `AbortSignal`, by what is used of it. */
export interface Signal {
  readonly aborted: boolean;
  readonly reason?: any;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/** What every call takes. */
export interface CallOptions {
  /** Ends the call: it rejects with `closed`, and `cause` is the signal's reason. */
  readonly signal?: Signal | undefined;
  /**
   * Milliseconds without anything getting through after which the call rejects with the last
   * reason; `Infinity`: never. Default: that of `highwater()`.
   */
  readonly giveUpAfter?: number | undefined;
}

/** A record of a log, as the client's entries are. */
export interface Entry<T = Payload> extends Delivered<T> {
  readonly offset: number;
  readonly place: Place;
  /** When the server took it, in milliseconds since 1970. */
  readonly time: number;
}

/** Records that are no longer kept. */
export interface Gap {
  /** The log's name. */
  readonly log: string;
  readonly from: number;
  /** The first offset that is kept. */
  readonly to: number;
  readonly reason: string;
}

/** What came of an append: where it is, and how durable. */
export interface Stored {
  /** The id of the log. */
  readonly log: number;
  readonly offset: number;
  readonly place: Place;
  /** Absent where the answer told of refusals beside. */
  readonly level?: 'synced' | 'replicated' | 'memory';
}

/** What came of one record of several. */
export type Outcome = Stored | HighwaterError;
