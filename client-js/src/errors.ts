/**
 * The one error type of this client, and what its codes mean for coming back.
 *
 * The server's codes keep their names and numbers; the client's own are never on the wire.
 */

import type { Refusal } from './frames.js';

/** What a refusal or an end of this client carries. */
export class HighwaterError extends Error {
  override readonly name = 'HighwaterError';

  constructor(
    /** The server's code by its name, or one of the client's own. */
    readonly code: Code,
    message: string,
    /** Milliseconds to wait before the same may be tried again; 0: no need to wait, or no use. */
    readonly retryAfter = 0,
    /** For appends: it was sent and nobody answered, so it may have been stored. */
    readonly maybeStored = false,
  ) {
    super(message);
  }
}

/** A server's word as an error. */
export const refusalOf = ({ code, message, retryAfter }: Refusal): HighwaterError =>
  new HighwaterError(code as Code, message, retryAfter);

/** Anything thrown, as an error of that code; one that has its code already keeps it. */
export const asError = (code: Code, error: unknown): HighwaterError =>
  error instanceof HighwaterError
    ? error
    : new HighwaterError(code, (error as Error | undefined)?.message ?? `${error}`);

// Names in the order of their numbers; a number says where the next name stands.
const WORDS = `1 rate overloaded token_expired not_ready draining slots in_flight sequence_gap
storage_full unknown_outcome other_history 32 conflict denied too_large epoch
bad_name log_full no_log sequence_reused sequence_old bad_record 64 bad_frame
frame_too_large hello_expected hello_late hello_twice version unauthorized
unknown_connection unknown_writer fenced origin wrong_encoding silent revoked
shutting_down sockets failed 96 subscriptions unknown_log unsupported
snapshot_behind snapshot_beyond snapshot_rule snapshot_parts bad_offset bad_request
inactive connections trim_rule not_found timeout stale superseded` as const;

type Words<S> = S extends `${infer W} ${infer R}` ? W | Words<R> : S;
type Lines<S> = S extends `${infer L}\n${infer R}` ? Words<L> | Lines<R> : Words<S>;
type Named = Exclude<Lines<typeof WORDS>, `${number}`>;

/**
 * Why something was refused or ended. The server's codes have its names; `code_N` is one that this
 * version does not know. The client's own are `closed` (the app closed it), `lost` (the socket
 * broke), `queue_full` (too many actions wait), `other_user` (a token of another user came) and
 * `bad_payload` (the log's codec cannot read or write it). Of a log on disk: `not_saved` (the device
 * did not take it), `expired` (it waited too long), `offline` (it does not wait for a
 * server), `restored` (the server has lost it) and `wrong_rule` (the log's rule cannot carry its
 * views).
 */
export type Code =
  | Named | `code_${number}` | 'closed' | 'lost' | 'queue_full' | 'other_user' | 'bad_payload'
  | 'not_saved' | 'expired' | 'offline' | 'restored' | 'wrong_rule';

const NAMES: readonly Named[] = /* @__PURE__ */ (() => {
  const names: string[] = [];
  for (const word of WORDS.split(/\s/)) {
    if (+word) names.length = +word;
    else names.push(word);
  }
  return names as Named[];
})();

/** The name of a code; a number that this version does not know is kept as `code_<number>`. */
export const codeName = (number: number): Code => NAMES[number] ?? `code_${number}`;

/** The number of a code by its name; -1 where it is not known. */
export const codeNumber = (name: string): number =>
  +name.split('code_')[1]! || NAMES.indexOf(name as Named);

/** Given before the fold: the same may be sent again, after the time told. */
export const isTransient = (code: string): boolean => {
  const number = codeNumber(code);
  return number > 0 && number < 32;
};

/** The same may be asked for again: it was too soon, or something moved under it. */
export const passes = (code: string): boolean =>
  isTransient(code) || ['inactive', 'stale', 'superseded'].includes(code);

/** A close that another token may heal. */
export const wantsToken = (code: string): boolean =>
  code === 'unauthorized' || code === 'revoked' || code === 'token_expired';
