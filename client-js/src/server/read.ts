/**
 * Reads a log, or its state, over HTTP.
 *
 * Promise: records come in offset order, each once, from where was asked up to the head as it stood
 * at the beginning; an answer that broke off is noticed and gone on from; what is no longer kept is
 * told and never passed over.
 */

import type { Payload } from '../codec.js';
import { HighwaterError } from '../errors.js';
import type { Codec } from '../payload.js';
import { Refused, utf8, type Http, type Reply } from './http.js';
import { entryOf, readLine, type Line } from './records.js';
import type { CallOptions, Entry, Gap, Signal } from './types.js';

export interface ReadOptions<T = Payload> extends CallOptions {
  /** An offset, or the first that is kept (default). */
  readonly from?: number | 'start' | undefined;
  /** Most records. */
  readonly limit?: number | undefined;
  /** Reads the payloads; a payload that it cannot read is told as `fault` of its entry. */
  readonly codec?: Codec<T> | undefined;
  /** The log's id where `from` means something in that one alone: else `epoch`. */
  readonly logId?: number | undefined;
  /** The position that came with it: a server with another history answers `other_history`. */
  readonly position?: string | undefined;
  /** Told before the records behind it; without it a gap rejects with `bad_offset`. */
  readonly onGap?: ((gap: Gap) => void | Promise<void>) | undefined;
}

/** Bytes of rows that are asked for at once. */
const PAGE = 1 << 20;

/** Where a reader stands. */
export interface At {
  from: number | 'start' | 'end';
  logId?: number | undefined;
  position?: string | undefined;
}

export interface Page {
  readonly lines: readonly Line[];
  /** The log's next offset. */
  readonly head: number;
  /** It ends sooner than it said. */
  readonly cut: boolean;
}

export interface Asked {
  readonly limit?: number | undefined;
  readonly maxBytes?: number | undefined;
  readonly wait?: number | undefined;
  readonly signal?: Signal | undefined;
  readonly within?: number;
}

/**
 * One answer, from `at` on; `at` moves behind what came. Rejects with the reason of the refusal,
 * and with `GapFound` below the first offset that is kept.
 */
export const page = async (http: Http, log: string, at: At, asked: Asked): Promise<Page> => {
  const { limit, maxBytes = PAGE, wait = 0, signal, within } = asked;
  let reply;
  try {
    reply = await http.attempt({
      method: 'GET',
      path: `logs/${log}`,
      signal,
      logId: at.logId,
      position: at.position,
      query: { from: at.from, limit, max_bytes: maxBytes, wait: wait || undefined },
      wait,
      ...(within !== undefined && { within }),
    });
  } catch (error) {
    throw gapIn(log, error) ?? error;
  }
  const told = (name: string): number => {
    const value = reply.headers.get(`highwater-${name}`);
    if (value === null) throw new HighwaterError('lost', `an answer without highwater-${name}`);
    return Number(value);
  };
  const [start, head, next] = [told('start'), told('head'), told('next')];
  at.logId = told('log');
  at.position = reply.position;
  let from = at.from === 'start' ? start : at.from === 'end' ? next : at.from;
  // What is behind the last newline broke off.
  const lines: Line[] = [];
  for (const text of utf8(reply.bytes).split('\n').slice(0, -1)) {
    const line = parsed(text);
    if (line?.offset !== from) break;
    lines.push(line);
    from++;
  }
  at.from = from;
  return { lines, head, cut: from !== next };
};

const parsed = (text: string): Line | undefined => {
  try {
    return readLine(text);
  } catch {
    return undefined;
  }
};

/** Records that are no longer kept, as the way on. */
export class GapFound extends Refused {
  constructor(
    readonly gap: Gap,
    { body, status }: Refused,
  ) {
    const range = `records ${gap.from} to ${gap.to - 1} of ${gap.log}`;
    super('bad_offset', `${range} are no longer kept (${gap.reason})`, 0, body, status);
  }
}

const gapIn = (log: string, error: unknown): GapFound | undefined => {
  const gap = error instanceof Refused && error.code === 'bad_offset' && error.body['gap'];
  return gap ? new GapFound({ ...gap, log }, error as Refused) : undefined;
};

/** Tells of a gap, and goes on behind it. Throws where nobody listens, or it is something else. */
export const passGap = async (
  error: unknown,
  at: At,
  onGap: ((gap: Gap) => void | Promise<void>) | undefined,
): Promise<void> => {
  if (!(error instanceof GapFound) || !onGap) throw error;
  await onGap(error.gap);
  at.from = error.gap.to;
};

/** The entries of a log as it stands. Ended by its `signal` with `closed`. */
export async function* read<T>(
  http: Http,
  log: string,
  options: ReadOptions<T>,
  at: At = { from: options.from ?? 'start', logId: options.logId, position: options.position },
): AsyncGenerator<Entry<T>, void, undefined> {
  const { signal, codec, limit = Infinity, onGap } = options;
  const patience = http.patience(options);
  let left = limit;
  let end: number | undefined;
  let maxBytes = PAGE;
  while (left > 0 && (end === undefined || (at.from as number) < end)) {
    const most = Number.isFinite(left) ? left : undefined;
    let got: Page;
    try {
      const within = patience.left;
      got = await page(http, log, at, { limit: most, maxBytes, signal, within });
    } catch (error) {
      if (error instanceof GapFound) await passGap(error, at, onGap);
      else await patience.wait(error);
      continue;
    }
    end ??= got.head;
    if (got.lines.length || !got.cut) patience.progress();
    else await patience.wait(new HighwaterError('lost', 'the answer broke off'));
    // Less at once, where connections are cut before all of it is through.
    maxBytes = got.cut ? Math.max(1, maxBytes >> 1) : PAGE;
    for (const line of got.lines) {
      if (left <= 0 || line.offset >= end) return;
      left--;
      yield entryOf(line, codec);
    }
  }
}

/** The state of a log at an offset: a `Reading`, which a server-rendered page begins with. */
export type State<T = Payload> = {
  readonly name: string;
  /** The log's id. */
  readonly log: number;
  /** The state is that of all records below. */
  readonly offset: number;
  readonly position: string;
} & (
  | {
      readonly rule: 'latest';
      /** The newest record of each key, by key. */
      readonly state: readonly Entry<T>[];
    }
  | {
      readonly rule: 'client';
      /** The app's number of its format. */
      readonly version: number;
      /** The bytes that a client put. */
      readonly state: Uint8Array;
    }
);

/** Reads the state; under `latest` with what was written during the answer. */
export const readState = async <T>(
  http: Http,
  log: string,
  options: CallOptions & { readonly codec?: Codec<T> | undefined },
): Promise<State<T>> => {
  const reply = await snapshot(http, log, options);
  const number = (name: string): number => Number(reply.headers.get(`highwater-${name}`));
  const [name, logId] = [log, number('log')];
  const { position } = reply;
  if (reply.headers.get('highwater-rule') === 'client') {
    const [offset, version] = [number('offset'), number('version')];
    return { name, log: logId, offset, position, rule: 'client', version, state: reply.bytes };
  }
  const entries = new Map<string, Entry<T>>();
  const put = (entry: Entry<T>): void => {
    if (entry.key === undefined) return;
    if (entry.tombstone) entries.delete(entry.key);
    else entries.set(entry.key, entry);
  };
  // The last line may be filled up with spaces.
  for (const text of utf8(reply.bytes).split('\n')) {
    if (text.trim()) put(entryOf(readLine(text), options.codec));
  }
  // A key that was overwritten during the answer is left out of it, and comes with these.
  const at: At = { from: number('offset'), logId, position };
  for await (const entry of read(http, log, options, at)) put(entry);
  const state = [...entries.values()].sort((a, b) => Buffer.compare(key(a), key(b)));
  const offset = at.from as number;
  return { name, log: logId, offset, position: at.position!, rule: 'latest', state };
};

/** The answer, whole: lines that do not end with a newline broke off. */
const snapshot = async (http: Http, log: string, options: CallOptions): Promise<Reply> => {
  const patience = http.patience(options);
  for (;;) {
    try {
      const call = { method: 'GET', path: `snapshots/${log}`, signal: options.signal } as const;
      const reply = await http.attempt({ ...call, within: patience.left });
      const lines = reply.headers.get('highwater-rule') !== 'client' && reply.bytes.length > 0;
      if (!reply.cut && !(lines && reply.bytes.at(-1) !== 10)) return reply;
      throw new HighwaterError('lost', 'the answer broke off');
    } catch (error) {
      await patience.wait(error);
    }
  }
};

const key = (entry: Entry<any>): Buffer => Buffer.from(entry.key!);
