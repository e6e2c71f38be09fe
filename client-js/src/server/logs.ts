/**
 * Logs as a whole, over HTTP: made, listed, trimmed, deleted, and given the state of a client.
 *
 * Promise: what may have been carried out is sent again only where that changes nothing more: a
 * deletion is not, because its name may lead to a new log by then.
 */

import { HighwaterError } from '../errors.js';
import { Refused, type Http } from './http.js';
import type { CallOptions } from './types.js';

/** A log, as a list of them tells it. */
export interface LogInfo {
  readonly name: string;
  /** The log's id. */
  readonly id: number;
  /** The first offset that is kept, and the next to be written. */
  readonly start: number;
  readonly head: number;
  /** Of the records that are kept. */
  readonly bytes: number;
  /** How its state is kept. */
  readonly rule: 'none' | 'latest' | 'client';
  /** The rule that it is being brought under. */
  readonly deriving: 'none' | 'latest' | 'client' | null;
  /** Records of a page; 0: none opens. */
  readonly pageSize: number;
  /** When it was made and last appended to (0: never), in milliseconds since 1970. */
  readonly created: number;
  readonly appended: number;
}

export interface Created {
  /** The id of the log. */
  readonly log: number;
  /** False where it was there: also where this call made it, and the answer was lost. */
  readonly created: boolean;
}

export interface Trimmed {
  /** The id of the log. */
  readonly log: number;
  /** The first offset that is kept now. */
  readonly start: number;
}

/** The state of all records below `offset`, made by the app. */
export interface NewSnapshot {
  readonly offset: number;
  /** The app's own number of its format, up to 2^32-1; default 0. */
  readonly version?: number | undefined;
  readonly data: Uint8Array;
}

/** Logs of one answer: the most that a node gives. */
const PAGE = 1000;
/** Bytes in a millisecond of the slowest link that an upload has to be through on. */
const SLOWEST = 16;

/** By name; ended by its `signal` with `closed`. */
export async function* list(
  http: Http,
  prefix: string | undefined,
  options: CallOptions,
): AsyncGenerator<LogInfo, void, undefined> {
  let after: string | undefined;
  do {
    const query = { prefix, after, limit: PAGE };
    const call = { method: 'GET', path: 'logs', query } as const;
    const { logs, next } = await http.json(call, options);
    // A page may be empty though more follow.
    yield* logs as LogInfo[];
    after = next ?? undefined;
  } while (after !== undefined);
}

export const create = async (
  http: Http,
  name: string,
  pageSize: number | undefined,
  options: CallOptions,
): Promise<Created> => {
  const query = { create: 'true', page_size: pageSize };
  const call = { method: 'POST', path: `logs/${name}`, query } as const;
  const { log, created } = await http.json(call, options);
  return { log, created };
};

export const trim = async (
  http: Http,
  name: string,
  offset: number,
  options: CallOptions,
): Promise<Trimmed> => {
  const call = { method: 'POST', path: `logs/${name}`, query: { trim: offset } } as const;
  const { log, start } = await http.json(call, options);
  return { log, start };
};

export const remove = async (
  http: Http,
  name: string,
  options: CallOptions,
): Promise<{ readonly log: number }> => {
  const { log } = await http.json({ method: 'DELETE', path: `logs/${name}` }, options);
  return { log };
};

export const put = async (
  http: Http,
  name: string,
  { offset, version = 0, data }: NewSnapshot,
  options: CallOptions,
): Promise<void> => {
  const patience = http.patience(options);
  const query = { offset, version };
  const headers = { 'content-type': 'application/octet-stream' };
  const wait = data.length / SLOWEST;
  const { signal } = options;
  const path = `snapshots/${name}`;
  const call = { method: 'PUT', path, query, headers, body: data, wait, signal } as const;
  for (;;) {
    try {
      await http.attempt({ ...call, within: patience.left });
      return;
    } catch (error) {
      // It was stored, and the answer was lost: a state at an offset is put once.
      const ours = patience.unsure && error instanceof Refused && error.code === 'snapshot_behind';
      if (ours && error.body['newest'] === offset) return;
      await patience.wait(again(error));
    }
  }
};

/** Another upload of this user came between, or this one's own before: it begins anew. */
const again = (error: unknown): unknown => {
  const { code, message, retryAfter } = error as HighwaterError;
  return code === 'snapshot_parts' ? new HighwaterError('lost', message, retryAfter) : error;
};
