/**
 * What an app says of a log, once: its actions, and the views that are folded from them.
 *
 * A definition is data. It opens nothing and knows no client; `client.open(definition, params)`
 * does. Its types follow from it: the parameters of the name, the payloads of `do`, the values of
 * the views.
 */

import { HighwaterError } from '../errors.js';
import type { KeyMap } from './key-map.js';

/** A validator of any library that keeps to Standard Schema (standardschema.dev), version 1. */
export interface Schema<T> {
  readonly '~standard': {
    readonly validate: (value: unknown) =>
      | { readonly value: T; readonly issues?: undefined }
      | { readonly issues: readonly { readonly message: string }[] }
      | Promise<unknown>;
  };
}

/** An action by its name, with its payload: what an inverse answers. */
export type Call = readonly [action: string, payload?: unknown];

export interface ActionOptions<P> {
  /** Version of the payload's format; default 1. */
  readonly version?: number;
  /** Makes of a payload of an older version one of this. Called when records are folded. */
  readonly upcast?: (payload: any, version: number) => P;
  /** The record's key: with the rule `latest` the server keeps the newest record of each. */
  readonly key?: (payload: P) => string;
  /**
   * What takes it back, made when it is undone: `before` are the views as they were, `now` as they
   * are. None: nothing is to be taken back.
   */
  readonly inverse?: (payload: P, before: any, now: any) => Call | undefined;
  /** What becomes of it without a server: it waits (`queue`, the default), or `do` throws. */
  readonly offline?: 'queue' | 'reject';
  /** One that was never sent within so many ms goes to the refused ones (`expired`). */
  readonly maxAge?: number;
  /** One that was never sent gives way to the next of the same answer, where nothing is between. */
  readonly coalesce?: (payload: P) => string;
}

export interface Action<P> extends ActionOptions<P> {
  readonly schema?: Schema<P> | undefined;
}

/**
 * An action: `action(schema, options)`, or by a type alone, `action<{ id: string }>(options)`.
 * Without either it has no payload.
 */
export function action<P = void>(options?: ActionOptions<P>): Action<P>;
export function action<P>(schema: Schema<P>, options?: ActionOptions<P>): Action<P>;
export function action(first?: any, options?: any): Action<any> {
  return first && '~standard' in first ? { ...options, schema: first } : { ...first };
}

/** What a reducer is told of an action beside its payload. */
export interface Meta {
  /** Who did it. */
  readonly user: string;
  /** When the server stored it, ms since 1970; for a pending one when it was done here. */
  readonly time: number;
  /** Its offset in the log; undefined: it is pending. */
  readonly offset: number | undefined;
  /** It is this device's own and not in the log yet, as far as is known here. */
  readonly pending: boolean;
}

export type Actions = { readonly [name: string]: Action<any> };
type PayloadOf<A> = A extends Action<infer P> ? P : never;

/** A reducer for each action that matters; it answers a new state, and leaves the old one. */
export type Reducers<A extends Actions, S> = {
  readonly [K in keyof A]?: (state: S, payload: PayloadOf<A[K]>, meta: Meta) => S;
};

/** A view by reducers. */
export interface Reduced<S> {
  readonly kind: 'view';
  readonly initial: S;
  readonly reducers: { readonly [name: string]: (state: S, payload: any, meta: Meta) => S };
  readonly version: number;
}

/** One value, the newest that was set: `view.title.set('...')`. */
export interface Lww<T> {
  readonly kind: 'lww';
  readonly name: string;
  readonly schema?: Schema<T> | undefined;
  readonly version: number;
}

/** A value for each id, the newest that was set: `view.cards.set(id, card)`. */
export interface Keyed<T> {
  readonly kind: 'keyed';
  readonly name: string;
  readonly schema?: Schema<T> | undefined;
  readonly version: number;
}

export type ViewDefinition = Reduced<any> | Lww<any> | Keyed<any>;
export type Views = { readonly [name: string]: ViewDefinition };

/** A view's value. */
export type ValueOf<V> = V extends Reduced<infer S> ? S
  : V extends Lww<infer T> ? T | null
  : V extends Keyed<infer T> ? KeyMap<T>
  : never;

const checked = (name: string, version = 1, log = 'lww, keyed'): number => {
  if (!/^[\w.-]{1,64}$/.test(name)) throw wrong(`${log}: ${name}: 1 to 64 of A-Z a-z 0-9 _ . -`);
  if (Number.isSafeInteger(version) && version > 0) return version;
  throw wrong(`${log}: version of ${name}: a number from 1`);
};

const wrong = (message: string): HighwaterError => new HighwaterError('bad_request', message);

/** One value, last write wins; its records have this kind and key. */
export const lww = <T>(name: string, schema?: Schema<T>): Lww<T> =>
  ({ kind: 'lww', name, schema, version: checked(name) });

/** A value for each id, last write wins; its records have this kind, and the key `name/id`. */
export const keyed = <T>(name: string, schema?: Schema<T>): Keyed<T> =>
  ({ kind: 'keyed', name, schema, version: checked(name) });

/**
 * Makes a view: its first state, and a reducer for each action that changes it. Give it another
 * `version` when its reducers change what they answer, so that a kept state is made anew.
 */
export type MakeView<A extends Actions> = <S>(
  initial: S,
  reducers: Reducers<A, S>,
  options?: { readonly version?: number },
) => Reduced<S>;

/** The parameters in the name of a log: `:list` in `lists/:list/todos`. */
export type Params<N extends string> = N extends `${infer Head}/${infer Rest}`
  ? Params<Head> & Params<Rest>
  : N extends `:${infer P}` ? { readonly [K in P]: string } : unknown;

/** What an app says of the logs of a name. */
export interface Definition<N extends string, A extends Actions, V extends Views> {
  readonly pattern: N;
  readonly urgency: string;
  readonly actions: A;
  readonly shape: V;
  /** The views that are folded from its actions. */
  views<W extends Views>(make: (view: MakeView<A>) => W): Definition<N, A, W>;
}

export interface LogDefinition<A extends Actions> {
  readonly actions?: A;
  /**
   * Actions of one urgency go out in their order, and never wait for those of another: what is
   * logged for analytics does not delay an edit. Default `edit`.
   */
  readonly urgency?: string;
}

/** Defines the logs of a name, in which `:word` stands for a parameter. */
export const log = <const N extends string, A extends Actions = {}>(
  pattern: N,
  { actions = {} as A, urgency = 'edit' }: LogDefinition<A> = {},
): Definition<N, A, {}> => {
  for (const [name, { version = 1, maxAge = 0 }] of Object.entries(actions)) {
    checked(name, version, pattern);
    if (!(maxAge >= 0)) throw wrong(`${pattern}: maxAge of ${name}: milliseconds`);
  }
  return define(pattern, actions, urgency, {});
};

const define = <N extends string, A extends Actions, V extends Views>(
  pattern: N,
  actions: A,
  urgency: string,
  shape: V,
): Definition<N, A, V> => ({
  pattern, actions, urgency, shape,
  views: (make) => {
    const view: MakeView<A> = (initial, reducers, { version = 1 } = {}) =>
      ({ kind: 'view', initial, reducers: reducers as any, version });
    const made = make(view);
    for (const [at, { kind, version, ...one }] of Object.entries(made)) {
      checked('view', version, `${pattern}: ${at}`);
      const name = 'name' in one ? (one.name as string) : '';
      if (name in actions) {
        throw wrong(`${pattern}: ${kind}('${name}'): an action has that name`);
      }
    }
    return define(pattern, actions, urgency, made);
  },
});

/** The log's name, with these parameters; throws `bad_name` where one is missing or no segment. */
export const nameOf = (pattern: string, params: Readonly<Record<string, string>>): string =>
  pattern.replace(/:(\w+)/g, (_, name: string) => {
    const value = params[name];
    if (typeof value === 'string' && /^[\w.~-]+$/.test(value)) return value;
    throw new HighwaterError('bad_name', `${pattern}: ${name}: some of A-Z a-z 0-9 _ . ~ -`);
  });
