/**
 * The one error type of this client, and what its codes mean for coming back.
 *
 * The server's codes keep their names and numbers. Three codes are the client's own and never on
 * the wire: `closed` (the app closed it), `lost` (the socket broke), `queue_full` (too many actions
 * wait).
 */

import type { Refusal } from './frames.js';

/** What a refusal or an end of this client carries. */
export class HighwaterError extends Error {
  override readonly name = 'HighwaterError';

  constructor(
    /** The server's code by its name, or one of the client's own. */
    readonly code: string,
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
export const refusalOf = ({ code, message, retry_after }: Refusal): HighwaterError =>
  new HighwaterError(code, message, retry_after);

/** Anything thrown, as an error of that code; one that has its code already keeps it. */
export const asError = (code: string, error: unknown): HighwaterError =>
  error instanceof HighwaterError
    ? error
    : new HighwaterError(code, (error as Error | undefined)?.message ?? `${error}`);

/** Names in the order of their numbers; a number says where the next name stands. */
const TABLE =
  '1 rate overloaded token_expired not_ready draining slots in_flight sequence_gap ' +
  'storage_full unknown_outcome other_history 32 conflict denied too_large epoch bad_name ' +
  'log_full no_log sequence_reused sequence_old bad_record 64 bad_frame frame_too_large ' +
  'hello_expected hello_late hello_twice version unauthorized unknown_connection ' +
  'unknown_writer fenced origin wrong_encoding silent revoked shutting_down sockets failed ' +
  '96 subscriptions unknown_log unsupported snapshot_behind snapshot_beyond snapshot_rule ' +
  'snapshot_parts bad_offset bad_request inactive connections trim_rule not_found timeout ' +
  'stale superseded';

const NAMES: string[] = [];
for (const word of TABLE.split(' ')) {
  if (+word) NAMES.length = +word;
  else NAMES.push(word);
}

/** The name of a code; a number that this version does not know is kept as `code_<number>`. */
export const codeName = (number: number): string => NAMES[number] ?? `code_${number}`;

/** The number of a code by its name; -1 where it is not known. */
export const codeNumber = (name: string): number =>
  name.startsWith('code_') ? +name.slice(5) : NAMES.indexOf(name);

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
