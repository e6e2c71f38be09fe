/**
 * Highwater's server side, for back ends in Node: tokens, and records over HTTP.
 *
 * It has no dependencies, opens no socket of its own and keeps nothing running between calls.
 */

export { highwater } from './server/backend.js';
export { AppendError } from './server/backend.js';
export { signToken } from './server/sign.js';
export { fileStorage, memoryStorage } from './server/storage.js';
export { HighwaterError, type Code } from './errors.js';
export { json, type Codec } from './payload.js';

export type {
  AppendOptions, Highwater, HighwaterOptions, Notified, Revoked, Whom,
} from './server/backend.js';
export type { Cursor, FollowOptions, Reset } from './server/follow.js';
export type { TokenSource } from './server/http.js';
export type { Created, LogInfo, NewSnapshot, Trimmed } from './server/logs.js';
export type { ReadOptions, State } from './server/read.js';
export type { NewRecord } from './server/records.js';
export type { Duration, Grant, PrivateKey, Right, TokenOptions } from './server/sign.js';
export type { Storage } from './server/storage.js';
export type { CallOptions, Entry, Gap, Outcome, Signal, Stored } from './server/types.js';
export type { Owed, Writer, WriterState } from './server/writer.js';
export type { Payload } from './codec.js';
export type { Origin, Place } from './frames.js';
