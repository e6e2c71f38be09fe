/**
 * What a call is given, held to the rules before anything is sent.
 *
 * Promise: what breaks a rule throws a `HighwaterError` there and then, whose message begins with
 * the field's name; nothing that passes is refused by the server for its form.
 */

import { HighwaterError, type Code } from '../errors.js';
import type { Codec } from '../payload.js';
import type { Signal } from './types.js';

const NAME = /^(?!\.{1,2}(\/|$))[\w.~-]+(\/(?!\.{1,2}(\/|$))[\w.~-]+)*$/;
const NAME_RULE =
  'segments of A-Z a-z 0-9 _ . ~ - parted by /, none empty, . or .., at most 255 bytes';
const POSITION = /^[\da-f]{32}\.\d{1,16}(\.[\da-f]{16})?$/;

/** Throws `bad_request` (or that code) with the field's name. */
export const wrong = (field: string, rule: string, code: Code = 'bad_request'): never => {
  throw new HighwaterError(code, `${field}: ${rule}`);
};

/** An object with none but these members: one that is misspelt would go by unnoticed. */
export const members = (field: string, value: unknown, names: readonly string[]): void => {
  if (Object(value) !== value || Array.isArray(value)) wrong(field || 'options', 'not an object');
  const known = new Set(names);
  for (const name of Object.keys(value as object)) {
    if (!known.has(name))
      wrong(field ? `${field}.${name}` : name, `not one of ${names.join(', ')}`);
  }
};

/** A log's name. */
export const logName = (field: string, name: unknown): string =>
  typeof name === 'string' && name.length <= 255 && NAME.test(name)
    ? name
    : wrong(field, NAME_RULE, 'bad_name');

/** A name, or one in which a segment may be `*`, and the last `**`. */
export const pattern = (field: string, text: unknown): string => {
  if (text === '**') return text;
  const plain = `${text}`
    .replace(/\/\*\*$/, '')
    .split('/')
    .map((part) => (part === '*' ? 'x' : part));
  const good = typeof text === 'string' && text.length <= 255 && NAME.test(plain.join('/'));
  return good
    ? text
    : wrong(field, `a name in which a segment may be *, and the last **: ${NAME_RULE}`);
};

/** Text that has no half of a character, of so many bytes in UTF-8. */
export const text = (field: string, value: unknown, least: number, most: number): string => {
  if (typeof value !== 'string') return wrong(field, 'not a text');
  if (/\p{Cs}/u.test(value)) return wrong(field, 'it has half of a character');
  const bytes = Buffer.byteLength(value);
  return bytes >= least && bytes <= most ? value : wrong(field, `${least} to ${most} bytes`);
};

/** A user's name. */
export const userName = (field: string, value: unknown): string =>
  /[\p{Cc}]/u.test(`${value}`) ? wrong(field, 'no control characters') : text(field, value, 1, 128);

/** A whole number in these bounds. */
export const count = (
  field: string,
  value: unknown,
  least = 0,
  most: number = Number.MAX_SAFE_INTEGER,
): number =>
  Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
    ? (value as number)
    : wrong(field, `a whole number from ${least} to ${most}`);

/** The same, or nothing. */
export const maybe = <T>(value: T | undefined, check: (value: T) => T): T | undefined =>
  value === undefined ? undefined : check(value);

export const position = (field: string, value: unknown): string =>
  typeof value === 'string' && POSITION.test(value)
    ? value
    : wrong(field, 'a position, as an answer told it: era.batch.chain');

export const callback = <T>(field: string, value: T): T =>
  typeof value === 'function' ? value : wrong(field, 'not a function');

export const codec = (field: string, value: Codec<any> | undefined): void => {
  if (value === undefined) return;
  callback(`${field}.encode`, value?.encode);
  callback(`${field}.decode`, value?.decode);
};

/** An `AbortSignal`, or nothing. */
export const signal = (value: Signal | undefined): void => {
  if (value === undefined) return;
  const good = typeof value?.aborted === 'boolean' && typeof value.addEventListener === 'function';
  if (!good) wrong('signal', 'not an AbortSignal');
};

/** Milliseconds, or `Infinity`. */
export const patience = (value: number | undefined): void => {
  if (value !== undefined && value !== Infinity) count('giveUpAfter', value);
};

/** Names of logs, at least one and at most so many. */
export const logNames = (field: string, value: unknown, most: number): readonly string[] => {
  if (!Array.isArray(value) || !value.length || value.length > most) {
    return wrong(field, `a list of 1 to ${most} names of logs`);
  }
  return value.map((name, at) => logName(`${field}[${at}]`, name));
};
