/**
 * The one error type of this client, and what its codes mean for coming back.
 *
 * The server's codes keep their names and numbers. Three codes are the client's own and never on
 * the wire: `closed` (the app closed it), `lost` (the socket broke), `queue_full` (too many actions
 * wait).
 */

/** What a refusal or an end of this client carries. */
export class HighwaterError extends Error {
  override readonly name = 'HighwaterError';

  constructor(
    /** The server's code by its name, or one of the client's own: `closed`, `lost`, `queue_full`. */
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

const TABLE =
  '1 rate 2 overloaded 3 token_expired 4 not_ready 5 draining 6 slots 7 in_flight 8 sequence_gap ' +
  '9 storage_full 10 unknown_outcome 32 conflict 33 denied 34 too_large 35 epoch 36 bad_name ' +
  '37 log_full 38 no_log 39 sequence_reused 40 sequence_old 41 bad_record 64 bad_frame ' +
  '65 frame_too_large 66 hello_expected 67 hello_late 68 hello_twice 69 version 70 unauthorized ' +
  '71 unknown_connection 72 unknown_writer 73 fenced 74 origin 75 wrong_encoding 76 silent ' +
  '77 revoked 78 shutting_down 79 sockets 80 failed 96 subscriptions 97 unknown_log ' +
  '98 unsupported 99 snapshot_behind 100 snapshot_beyond 101 snapshot_rule 102 snapshot_parts ' +
  '103 bad_offset 104 bad_request 105 inactive 106 connections 107 trim_rule 108 not_found ' +
  '109 timeout 110 stale';

const NAMES = new Map<number, string>();
const NUMBERS = new Map<string, number>();
for (const [, number, name] of TABLE.matchAll(/(\d+) (\w+)/g)) {
  NAMES.set(+number!, name!);
  NUMBERS.set(name!, +number!);
}

/** Codes from 64 to 80 after which a new socket may help. */
const RECONNECT = [67, 76, 78, 79, 80];

/** The name of a code; a number that this version does not know is kept as `code_<number>`. */
export const codeName = (number: number): string => NAMES.get(number) ?? `code_${number}`;

/** The number of a code, by its name. */
export const codeNumber = (name: string): number =>
  NUMBERS.get(name) ?? (+(/^code_(\d+)$/.exec(name)?.[1] ?? 0));

/** Given before the fold: the same may be sent again, after the time told. */
export const isTransient = (code: string): boolean => {
  const number = codeNumber(code);
  return number > 0 && number < 32;
};

/** A close after which coming back unchanged does not help. */
export const isStop = (code: string): boolean => {
  const number = codeNumber(code);
  return number >= 64 && number < 96 && !RECONNECT.includes(number);
};

/** A close that another token may heal. */
export const wantsToken = (code: string): boolean =>
  code === 'unauthorized' || code === 'revoked' || code === 'token_expired';
