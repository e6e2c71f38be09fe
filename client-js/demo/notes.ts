/**
 * Notes as the log has them: a key for each field, so that who moves a note takes back nothing of
 * what another writes on it meanwhile.
 *
 * `note/<id>/text` is the text, `note/<id>/at` its place as `x,y`, `note/<id>/color` a number. A
 * note is there while its text is: a move that crosses its deletion brings nothing back, what was
 * written does. A record of any other key is a whole note, as JSON, which is how they were kept
 * before; of it and a field the newer counts. Payloads come from anybody: they are read as data
 * and bounded.
 */

import type { Draft, Entry } from '../src/index.js';

export interface Note {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly color: number;
}

/** A note with what is known of its records. */
export interface Shown extends Note {
  /** Its records' keys. */
  readonly keys: readonly string[];
  /** The newest of its records. */
  readonly entry: Entry;
  readonly pending: boolean;
}

export const COLORS = 'Sand Foam Sky Coral Slate'.split(' ');
/** Of the sheet that all lie on, and of a note, px. */
export const SHEET_WIDE = 1600;
export const SHEET_HIGH = 1000;
export const WIDE = 208;
export const HIGH = 150;
/** From a note to the one below it, px. */
const BELOW = HIGH + 12;
export const MOST_TEXT = 1000;

type Field = 'text' | 'at' | 'color';
type Parts = { [F in Field | 'full']?: Entry };

const clamp = (value: unknown, most: number): number =>
  Math.min(Math.max(0, Math.round(Number(value)) || 0), most);

export const fit = ({ text, x, y, color }: { -readonly [K in keyof Note]?: unknown }): Note => ({
  text: `${text ?? ''}`.slice(0, MOST_TEXT),
  x: clamp(x, SHEET_WIDE - WIDE),
  y: clamp(y, SHEET_HIGH - HIGH),
  color: clamp(color, COLORS.length - 1),
});

const words = ({ payload }: Entry): string =>
  typeof payload === 'string' ? payload : new TextDecoder().decode(payload);

const whole = (entry: Entry): { -readonly [K in keyof Note]?: unknown } => {
  try {
    return { ...JSON.parse(words(entry)) };
  } catch {
    return { text: '(not a note)' };
  }
};

/** An own action that waits is newer than all that is stored. */
const at = (entry: Entry): number => entry.offset ?? Infinity;

const join = (parts: Parts): Shown => {
  const { full: old, text, at: place, color } = parts;
  const note: { -readonly [K in keyof Note]?: unknown } = old ? whole(old) : { x: 24, y: 24 };
  const over = (field: Entry | undefined): boolean => !!field && !(old && at(old) > at(field));
  if (over(text)) note.text = words(text!);
  if (over(place)) [note.x, note.y] = words(place!).split(',');
  if (over(color)) note.color = words(color!);
  const entries = [old, place, color, text].filter((entry) => !!entry);
  const entry = entries.reduce((newest, one) => (at(one) >= at(newest) ? one : newest));
  const keys = entries.map(({ key }) => key!);
  return { ...fit(note), keys, entry, pending: entries.some(({ pending }) => pending) };
};

const split = (key = ''): [id: string, field: Field | 'full'] => {
  const [, id = key, field = 'full'] = /^note\/(.+)\/(text|at|color)$/.exec(key) ?? [];
  return [id, field as Field];
};

/** The notes of these records, by their ids. */
export const notesOf = (entries: ReadonlyMap<string, Entry>): Map<string, Shown> => {
  const found = new Map<string, Parts>();
  for (const [key, entry] of entries) {
    const [id, field] = split(key);
    const parts = found.get(id) ?? {};
    parts[field] = entry;
    found.set(id, parts);
  }
  const notes = new Map<string, Shown>();
  const taken = new Map<string, number>();
  for (const [id, parts] of [...found].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!(parts.text ?? parts.full)) continue;
    const note = join(parts);
    // Two that were put on one spot by windows that did not see each other lie below one another.
    const spot = `${note.x},${note.y}`;
    const above = taken.get(spot) ?? 0;
    taken.set(spot, above + 1);
    notes.set(id, above ? { ...note, ...fit({ ...note, y: note.y + above * BELOW }) } : note);
  }
  return notes;
};

/** The records that change these fields of a note. */
export const recordsOf = (id: string, { text, x, y, color }: Partial<Note>): Draft[] => {
  const record = (field: Field, payload: string): Draft =>
    ({ key: `note/${id}/${field}`, payload });
  return [
    ...(x === undefined ? [] : [record('at', `${x},${y}`)]),
    ...(color === undefined ? [] : [record('color', `${color}`)]),
    ...(text === undefined ? [] : [record('text', text)]),
  ];
};

/** What an own action wrote, if it wrote a text. */
export const written = (entry: Entry): { id: string; text: string } | undefined => {
  const [id, field] = split(entry.key);
  return field === 'text' && entry.payload ? { id, text: words(entry) } : undefined;
};
