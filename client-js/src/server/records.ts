/**
 * Records as the node reads and tells them, one to a line.
 *
 * Promise: what is appended is checked here, field by field; a line is made once and is what is
 * kept, sent and sent again.
 */

import type { Payload } from '../codec.js';
import { HighwaterError, asError } from '../errors.js';
import type { Draft, Place } from '../frames.js';
import { fromJson } from '../json-wire.js';
import type { Codec } from '../payload.js';
import { count, members, text, wrong } from './check.js';
import type { Entry } from './types.js';

const FIELDS = ['key', 'kind', 'eventTime', 'headers', 'payload'];

/** A record to append. Without a payload it takes its key away. */
export type NewRecord<T = Payload> = Omit<Draft<T>, 'extensions'>;

/** The line of a record. Throws `bad_request`, or `bad_payload` where the codec does. */
export const lineOf = <T>(field: string, record: NewRecord<T>, codec?: Codec<T>): string => {
  members(field, record, FIELDS);
  const { key, kind, eventTime, headers, payload } = record;
  if (key === undefined && payload === undefined) {
    wrong(`${field}.payload`, 'a record has a payload, or a key that it takes away');
  }
  return JSON.stringify({
    ...(key !== undefined && { key: text(`${field}.key`, key, 1, 255) }),
    ...(kind !== undefined && { kind: text(`${field}.kind`, kind, 1, 64) }),
    ...(eventTime !== undefined && { event_time: count(`${field}.eventTime`, eventTime) }),
    ...(headers !== undefined && { headers: headersOf(`${field}.headers`, headers) }),
    ...(payload !== undefined && { payload: payloadOf(`${field}.payload`, payload, codec) }),
  });
};

const headersOf = (field: string, headers: NonNullable<Draft['headers']>): unknown => {
  if (!Array.isArray(headers) || headers.length > 32) return wrong(field, 'at most 32 pairs');
  let bytes = 0;
  for (const [at, pair] of headers.entries()) {
    if (!Array.isArray(pair) || pair.length !== 2) wrong(`${field}[${at}]`, 'a name and a value');
    for (const part of pair) bytes += Buffer.byteLength(text(`${field}[${at}]`, part, 0, 4096));
  }
  return bytes <= 4096 ? headers : wrong(field, 'at most 4096 bytes');
};

const payloadOf = <T>(field: string, value: T, codec: Codec<T> | undefined): unknown => {
  let payload: unknown = value;
  if (codec) {
    try {
      payload = codec.encode(value);
    } catch (error) {
      throw new HighwaterError('bad_payload', `${field}: ${asError('bad_payload', error).message}`);
    }
  }
  if (payload instanceof Uint8Array) return { b64: Buffer.from(payload).toString('base64url') };
  if (typeof payload !== 'string') wrong(field, 'text or bytes, or give a codec');
  return text(field, payload, 0, Infinity);
};

/** A line that was kept, as the record that it was made of. */
export const recordOf = (line: string): NewRecord => fromJson(line) as NewRecord;

/** Parts of an answer that speak of a place: `batch.index`. */
export type Line = Draft & {
  readonly offset: number;
  readonly place: Place;
  readonly time: number;
  readonly seq: number;
  readonly origin: Entry['origin'];
};

/** A line of a log. Throws where it is none. */
export const readLine = (line: string): Line => fromJson(line) as unknown as Line;

/** As apps get it; a payload that the codec cannot read is told as `fault`. */
export const entryOf = <T>(line: Line, codec: Codec<T> | undefined): Entry<T> => {
  const { payload, ...rest } = line;
  const entry = { ...rest, tombstone: payload === undefined, pending: false };
  if (payload === undefined) return entry as Entry<T>;
  if (!codec) return { ...entry, payload } as Entry<any>;
  try {
    return { ...entry, payload: codec.decode(payload) };
  } catch (error) {
    return { ...entry, fault: asError('bad_payload', error) } as Entry<T>;
  }
};
