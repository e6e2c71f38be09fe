/**
 * What stands in the store under which key. Keys and values are a format: old and new clients of
 * one browser share it (docs/actions.md).
 *
 * `w/<writer>`: a writer, and how far it may have been sent.
 * `a/<writer>/<seq>`: an action without an outcome. In a browser several may stand together
 * (`packs.ts`): `a/<writer>/<first seq>/<last seq>`.
 * `d/<log>//<log id>/<offset>/<writer>/<seq>`: one that was stored, kept for a while.
 * `r/<at>/<writer>/<seq>`: one that was refused.
 * `c/<log>`: where its views stand, and what they show.
 * `k/<id>`: a page that the browser keeps for later, and since when.
 * `h`: the history of the server. `u`: whose log it is. `t`: a token that a server in `--dev`
 * made up, in Node.
 */

import type { Draft, Made, Target } from '../frames.js';
import type { Code } from '../errors.js';
import type { Range } from '../view.js';
import type { Stored } from '../writer.js';
import type { Seen } from './fold.js';
import type { Logged } from './run.js';

export interface WriterRow {
  readonly urgency: string;
  /** Up to there it may have been sent. */
  readonly sent: number;
  /** Up to there another page has sent, too, while its own lived. */
  readonly others?: number;
}

/** The exact item, as it is sent. */
export interface ActionRow {
  readonly log: string;
  readonly to: Target;
  readonly made: Made | undefined;
  readonly ifHead: number | undefined;
  readonly record: Draft;
  readonly at: number;
  readonly until: number | undefined;
}

export interface DoneRow {
  readonly writer: string;
  readonly seq: number;
  readonly item: ActionRow;
  readonly stored: Stored;
  /** In the how manieth history that was. */
  readonly history: number;
}

export interface RefusedRow {
  readonly item: ActionRow;
  readonly code: Code;
  readonly message: string;
  /** What stood under its key when it was refused. */
  readonly before?: unknown;
}

export interface KeptView {
  readonly version: number;
  readonly state: unknown;
  /** A `KeyMap` lies within it (`kept.ts`). */
  readonly nested?: boolean;
}

export interface CheckpointRow {
  /** In the how manieth history it was true. */
  readonly history: number;
  readonly log: number;
  readonly made: string | undefined;
  readonly next: number;
  readonly missing: readonly Range[];
  /** How far writers are in it. */
  readonly seen: Seen;
  readonly views: { readonly [name: string]: KeptView };
}

export interface HistoryRow {
  /** Counts the histories that this device has been part of. */
  readonly history: number;
  readonly positions: readonly string[];
}

export const digits = (number: number): string => `${number}`.padStart(16, '0');

export const keyOf = (writer: string, seq: number): string => `a/${writer}/${digits(seq)}`;
/** Of several that stand together; all keys of that writer begin with `room`. */
export const packKey = (room: string, first: number, last: number): string =>
  `${room}${digits(first)}/${digits(last)}`;
/** Another history may have another action at that offset. */
export const doneKey = (
  log: string, id: number, offset: number, writer: string, seq: number,
): string => `${donesOf(log, id)}${digits(offset)}/${writer}/${digits(seq)}`;
/** Of a log's stored actions. */
export const donesOf = (log: string, id: number): string => `d/${log}//${digits(id)}/`;
export const refusedKey = (at: number, writer: string, seq: number): string =>
  `r/${digits(at)}/${writer}/${digits(seq)}`;

/** Whose key that is, of a refused one. */
export const actionOf = (key: string): string => {
  const [, , writer, seq] = key.split('/') as [string, string, string, string];
  return `${writer}/${+seq}`;
};

export const rowOf = ({ log, to, made, ifHead, record, at, until }: Logged): ActionRow =>
  ({ log, to, made, ifHead, record, at, until });

/** Of two words on where a history stands the later. */
export const later = (one: HistoryRow | undefined, two: HistoryRow): HistoryRow => {
  if (!one || one.history < two.history) return two;
  const batch = ({ positions }: HistoryRow): number =>
    Math.max(0, ...positions.map((text) => +text.split('.')[1]!));
  return one.history > two.history || batch(one) > batch(two) ? one : two;
};
