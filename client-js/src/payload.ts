/**
 * How payloads are written and read: the app's values on one side, text or bytes on the other.
 */

import type { Payload } from './codec.js';

/** Writes and reads the payloads of a log; both may throw. */
export interface Codec<T> {
  readonly encode: (value: T) => Payload;
  readonly decode: (payload: Payload) => T;
}

/** Values as JSON text. `client.log<Todo>('todos', { codec: json })` */
export const json: Codec<any> = {
  encode: (value) => JSON.stringify(value),
  decode: (payload) =>
    JSON.parse(typeof payload === 'string' ? payload : new TextDecoder().decode(payload)),
};
