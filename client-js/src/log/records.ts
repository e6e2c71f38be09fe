/**
 * How an action is a record, and a record an action again (docs/actions.md).
 *
 * Promise: what one client writes any other reads, also an older or a newer one, and other
 * languages. The record's `kind` is the action's name; a header `v` is the version of its payload,
 * none is version 1; the payload is JSON, none is null; a key is the action's own.
 */

import { HighwaterError } from '../errors.js';
import type { Entry } from '../delivery.js';
import type { Draft } from '../frames.js';
import type { Action, Actions, Keyed, Lww, Meta, Schema, Views } from './define.js';

/** What a record says, as the views fold it. */
export interface Step {
  /** The action, or what an `lww` or `keyed` view calls its own. */
  readonly name: string;
  readonly payload: any;
  /** The id in a `keyed` view. */
  readonly id: string | undefined;
  /** It takes its key away. */
  readonly gone: boolean;
}

const validate = <P>(name: string, schema: Schema<P> | undefined, given: P): P => {
  const result = schema?.['~standard'].validate(given);
  if (!result) return given;
  if ('then' in result) {
    throw new HighwaterError('bad_payload', `${name}: its schema must answer at once`);
  }
  if (!result.issues) return result.value;
  const issues = result.issues.map(({ message }) => message).join('; ');
  throw new HighwaterError('bad_payload', `${name}: ${issues}`);
};

const text = (name: string, value: unknown): string => {
  let json;
  try {
    json = JSON.stringify(value ?? null);
  } catch (error) {
    throw new HighwaterError('bad_payload', `${name}: ${(error as Error).message}`);
  }
  if (json === undefined) throw new HighwaterError('bad_payload', `${name}: it is no JSON`);
  return json;
};

/**
 * The record of an action. Throws `bad_payload` where its schema refuses it, or it is no JSON;
 * `at` says where.
 */
export const recordOf = <P>(name: string, action: Action<P>, given: P, at = name): Draft => {
  const payload = validate(at, action.schema, given);
  const { version = 1 } = action;
  const key = action.key?.(payload);
  return {
    kind: name,
    payload: text(at, payload),
    ...(key !== undefined && { key }),
    ...(version > 1 && { headers: [['v', `${version}`]] as [string, string][] }),
  };
};

/** The record that sets a value, of that id where there are many; undefined takes it away. */
export const valueRecord = <T>(
  view: Lww<T> | Keyed<T>,
  id: string | undefined,
  given?: T,
  at = view.name,
): Draft => {
  const { name, schema } = view;
  const key = id === undefined ? name : `${name}/${id}`;
  if (given === undefined) return { kind: name, key };
  return { kind: name, key, payload: text(at, validate(at, schema, given)) };
};

const asText = (part: unknown): string =>
  typeof part === 'string' ? part : new TextDecoder().decode(part as Uint8Array);

/**
 * What a record says by this definition; undefined: nothing that its views know. Throws where it
 * cannot be read, or is of a newer version: a view then lacks it, and says so.
 */
export const stepOf = (
  { kind, key, payload, headers, tombstone }: Pick<
    Entry, 'kind' | 'key' | 'payload' | 'headers' | 'tombstone'
  >,
  actions: Actions,
  shape: Views,
): Step | undefined => {
  if (kind === undefined) return undefined;
  const json = (): unknown => JSON.parse(asText(payload));
  const of = actions[kind];
  if (!of || !Object.hasOwn(actions, kind)) {
    for (const view of Object.values(shape)) {
      if (view.kind === 'view' || view.name !== kind) continue;
      const id = view.kind === 'keyed' ? key?.slice(kind.length + 1) : undefined;
      return { name: kind, id, gone: tombstone, payload: tombstone ? null : json() };
    }
    return undefined;
  }
  const { version = 1, upcast } = of;
  const said = headers?.find(([name]) => name === 'v');
  const from = said ? +asText(said[1]) : 1;
  if (!(from <= version)) throw new Error(`version ${from} is newer than this app`);
  if (tombstone) return undefined;
  const value = json();
  if (from < version && !upcast) throw new Error(`it has no upcast from version ${from}`);
  const now = from < version ? upcast!(value, from) : value;
  return { name: kind, id: undefined, gone: false, payload: now };
};

export type { Meta };
