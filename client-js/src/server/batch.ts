/**
 * Sends records of a writer until each has its answer.
 *
 * Promise: a record is sent under one number however often it is sent; it is stored once; where
 * that can no longer be known the batch ends with the reason and is never numbered anew.
 */

import { HighwaterError, codeNumber, type Code } from '../errors.js';
import { fromJson } from '../json-wire.js';
import { Refused, utf8, type Http, type Patience, type Reply } from './http.js';
import type { CallOptions, Outcome, Stored } from './types.js';

/** Records of one log, under neighbouring numbers. */
export interface Batch {
  readonly log: string;
  /** Store them only in the log of that id. */
  readonly logId?: number | undefined;
  /** Store it only if the head is there; for one record. */
  readonly ifHead?: number | undefined;
  /** The sequence of the first. */
  readonly first: number;
  readonly lines: readonly string[];
}

/** Most records, as the node keeps so many answers. */
export const MOST = 1024;
/** Most bytes of a body: by itself nginx takes no more than 1 MiB. */
const BODY = 1_000_000;

/** Refusals that say that these numbers are not what the writer takes them for. */
const BREAKS: readonly Code[] = ['sequence_reused', 'sequence_old'];

export interface Sending extends CallOptions {
  readonly position?: string | undefined;
  /** An answer told a newer position. */
  readonly onPosition?: (position: string) => void;
}

/**
 * The outcome of each record: stored, or refused for good. Rejects where the rest cannot be had:
 * with `lost` and the like when nothing gets through any more, or with the reason why the writer is
 * over; the same batch may be sent again.
 */
export const sendBatch = async (
  http: Http,
  writer: string,
  batch: Batch,
  options: Sending,
): Promise<Outcome[]> => {
  const patience = http.patience(options);
  const outcomes: Outcome[] = [];
  let { position } = options;
  let most = MOST;
  while (outcomes.length < batch.lines.length) {
    const part = partOf(batch, outcomes.length, most);
    let answered: readonly unknown[] | undefined;
    let failure: unknown;
    try {
      const reply = await http.attempt({
        method: 'POST',
        path: `logs/${batch.log}`,
        query: {
          writer,
          seq: batch.first + outcomes.length,
          oldest: batch.first,
          results: 'true',
          if_head: batch.ifHead,
        },
        headers: { 'content-type': 'application/x-ndjson' },
        body: part.join('\n'),
        signal: options.signal,
        within: patience.left,
        logId: batch.logId,
        position,
      });
      options.onPosition?.((position = reply.position));
      answered = resultsOf(reply);
    } catch (error) {
      if (error instanceof Refused) answered = error.body['results'];
      failure = error;
    }
    const before = outcomes.length;
    failure = take(answered, part.length, outcomes) ?? failure;
    if (outcomes.length > before) patience.progress();
    if (outcomes.length === before + part.length) continue;
    if (failure instanceof Refused && failure.status === 413 && !answered) {
      if (part.length === 1) throw patience.final(failure);
      most = Math.ceil(part.length / 2);
      continue;
    }
    // Where a part was answered, the whole is not to be had under other numbers.
    patience.unsure ||= outcomes.length > 0;
    await patience.wait(passing(failure, batch.first + outcomes.length, patience));
  }
  return outcomes;
};

/** The lines from one on, as many as a body takes. */
const partOf = ({ lines }: Batch, from: number, most: number): readonly string[] => {
  let bytes = 0;
  let to = from;
  while (to < lines.length && to < from + most) {
    bytes += Buffer.byteLength(lines[to]!) + 1;
    if (to > from && bytes > BODY) break;
    to++;
  }
  return lines.slice(from, to);
};

const resultsOf = (reply: Reply): readonly unknown[] => {
  try {
    const { results, level } = fromJson(utf8(reply.bytes));
    if (Array.isArray(results)) return results.map((result) => ({ ...result, level }));
  } catch {
    // It broke off; what it said is told again when the same is sent again.
  }
  throw new HighwaterError('lost', 'the answer broke off', 0, true);
};

/** Takes the outcomes that are final, in order; answers the failure of the first that has none. */
const take = (
  results: readonly unknown[] | undefined,
  asked: number,
  outcomes: Outcome[],
): HighwaterError | undefined => {
  for (const result of (results ?? []).slice(0, asked) as Record<string, any>[]) {
    const refusal = refusalOf(result);
    if (refusal && !isFinal(refusal.code)) return refusal;
    outcomes.push(refusal ?? storedOf(result));
  }
  return undefined;
};

/** The refusal of one record; none where it was stored. */
export const refusalOf = (result: Record<string, any>): HighwaterError | undefined =>
  typeof result['code'] === 'string'
    ? new HighwaterError(result['code'] as Code, `${result['message']}`, +result['retryAfter'] || 0)
    : undefined;

/** Decided, and its number is spent. */
const isFinal = (code: Code): boolean => {
  const number = codeNumber(code);
  return number >= 32 && number < 64 && !BREAKS.includes(code);
};

/** Where a record is. */
export const storedOf = (result: Record<string, any>): Stored => {
  const { log, offset, place, level } = result;
  return { log, offset, place, ...(level && { level }) };
};

/** A failure as one that may pass, where the node only has more, or as much, as was thought. */
const passing = (failure: unknown, next: number, patience: Patience): unknown => {
  if (!(failure instanceof HighwaterError)) return failure;
  const { code, message } = failure;
  if (BREAKS.includes(code)) patience.unsure = true;
  if (code !== 'sequence_gap') return failure;
  // A mark at or past this number: an attempt that had no answer was carried out meanwhile.
  const mark = failure instanceof Refused ? Number(failure.body['mark']) : NaN;
  return mark + 1 >= next ? new HighwaterError('lost', message) : failure;
};
