/** Older records of a log, read over HTTP: what lies before the window that a handle follows. */

import type { Delivered } from './frames.js';
import type { Entry } from './delivery.js';
import { HighwaterError, type Code } from './errors.js';
import type { Handle, Log } from './handle.js';
import { fromJson } from './json-wire.js';

export interface HistoryOptions {
  /** Read those below this offset; default: up to where the log was delivered from, its head. */
  readonly before?: number | undefined;
  /** Most records; default 50. */
  readonly limit?: number;
}

/**
 * The newest records below `before`, in order, as entries like those of the log's events. Fewer
 * than `limit` where no more are kept. Rejects with the server's reason: with `epoch` where the log
 * was deleted or made anew since it was opened.
 */
export const history = async <T>(
  log: Log<T>,
  { before = log.head, limit = 50 }: HistoryOptions = {},
): Promise<readonly Entry<T>[]> => {
  const { core, id, name } = log as Handle<T>;
  if (![before, limit].every((count) => Number.isSafeInteger(count) && count >= 0)) {
    throw new HighwaterError('bad_request', 'before, limit: numbers from 0');
  }
  const from = Math.max(0, before - limit);
  if (from === before) return [];
  const { token } = core.config;
  const headers = {
    ...(token && { authorization: `Bearer ${token}` }),
    ...(id !== undefined && { 'highwater-log': `${id}` }),
  };
  const query = `from=${from}&limit=${before - from}&gap=skip`;
  const url = new URL(`/v1/logs/${name}?${query}`, core.nodes.url.replace(/^ws/, 'http'));
  let answer;
  try {
    answer = await fetch(url, { headers });
  } catch (error) {
    throw new HighwaterError('lost', (error as Error).message);
  }
  const text = await answer.text();
  if (!answer.ok) throw refused(answer.status, text);
  return entries(log as Handle<T>, text).filter(({ offset }) => offset! < before);
};

const refused = (status: number, text: string): HighwaterError => {
  try {
    const { code, message, retryAfter } = fromJson(text) as any;
    if (typeof code === 'string') {
      return new HighwaterError(code as Code, `${message ?? ''}`, +retryAfter || 0);
    }
  } catch {
    // Not the server's word, but a proxy's.
  }
  return new HighwaterError('lost', `the answer was ${status}`);
};

type Line = Delivered & { origin: any; offset: number };

const entries = <T>(log: Handle<T>, text: string): Entry<T>[] => {
  // An answer that was cut ends without its newline: what is whole is told.
  const lines = text.split('\n').slice(0, -1).filter(Boolean);
  return lines.map((line) => {
    const { offset, place, time, seq, origin, ...record } = fromJson(line) as unknown as Line;
    const tombstone = (record as { payload?: unknown }).payload === undefined;
    return log.read({ ...record, tombstone, origin, seq, offset, place, time, pending: false });
  });
};
