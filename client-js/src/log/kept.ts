/**
 * A view's state as the device keeps it.
 *
 * Promise: what is read is what was written, `KeyMap`s within it too. A browser clones those to
 * plain objects without a word, so they stand there as maps; where any is not the state itself but
 * lies in it, it stands in a wrapper, and the row says that there are such.
 */

import type { ViewDefinition } from './define.js';
import { KeyMap } from './key-map.js';
import type { KeptView } from './rows.js';

/** Names the map that a `KeyMap` within a state became. */
const WRAPPED = '$keyMap';

/** The same with its parts changed; itself, where none of them did. */
const mapped = (value: any, change: (part: any) => unknown): any => {
  if (value instanceof Map) {
    let made: Map<unknown, unknown> | undefined;
    for (const [key, part] of value) {
      const now = change(part);
      if (now !== part) (made ??= new Map(value)).set(key, now);
    }
    return made ?? value;
  }
  if (Object(value) !== value) return value;
  const list = Array.isArray(value);
  if (!list && Object.getPrototypeOf(value) !== Object.prototype) return value;
  let made: any;
  for (const key of Object.keys(value)) {
    const now = change(value[key]);
    if (now === value[key]) continue;
    made ??= list ? [...value] : { ...value };
    Object.defineProperty(made, key, { value: now });
  }
  return made ?? value;
};

export const kept = (version: number, from: unknown): KeptView => {
  let nested = false;
  const within = (value: unknown): unknown => {
    if (!(value instanceof KeyMap)) return mapped(value, within);
    nested = true;
    return { [WRAPPED]: mapped(new Map(value), within) };
  };
  const state = mapped(from instanceof KeyMap ? new Map(from) : from, within);
  return { version, state, ...(nested ? { nested } : {}) };
};

/** Whether a browser can keep it. */
export const cloneable = (from: unknown): boolean => {
  try {
    return !!structuredClone(kept(1, from));
  } catch {
    return false;
  }
};

export const revived = (view: ViewDefinition, { state, nested }: KeptView): unknown => {
  const within = (value: any): unknown => {
    const inner = mapped(value, within);
    const map = inner?.[WRAPPED];
    return map instanceof Map ? KeyMap.of(map as Map<string, unknown>) : inner;
  };
  const whole = nested ? mapped(state, within) : state;
  const map = view.kind === 'keyed' || (view.kind === 'view' && view.initial instanceof KeyMap);
  return map ? KeyMap.of(whole as Map<string, unknown>) : whole;
};
