/**
 * Highwater's client: a durable connection over many logs, which survives its sockets.
 *
 * `connect` gives a `Client` at once; it opens, keeps and reopens its socket by itself, for ever,
 * unless the server says that coming back does not help. Actions wait in memory for their answers,
 * in order; this layer keeps nothing of them on disk. What an app does not import is not in its
 * bundle.
 */

export {
  connect, type Client, type ClientEvents, type ClientOptions, type CloseOptions,
} from './client.js';
export { HighwaterError, type Code } from './errors.js';
export { json, type Codec } from './payload.js';
export { jsonWire } from './json-wire.js';
export { view, type View, type Range } from './view.js';
export { latest, type Latest } from './latest.js';
export { hydrate, type Reading } from './hydrate.js';
export { history, type HistoryOptions } from './past.js';
export { putSnapshot, type Snapshot } from './snapshot.js';
export { debug, type Debug } from './debug.js';

export type { Encoding, Payload } from './codec.js';
export type { Entry, LogEvents } from './delivery.js';
export type { Read } from './emitter.js';
export type {
  BaseAt, Cloning, Draft, Ended, GapReason, Level, Met, Origin, Place, Reason, ResetReason,
  SnapshotRule, Start,
} from './frames.js';
export type { Log, LogOptions } from './handle.js';
export type { Locks, Storage } from './identity.js';
export type { WebSocketConstructor, WebSocketLike } from './socket.js';
export type { Away, LogPhase, LogStatus, Phase, Status } from './states.js';
export type { AppendOptions, Stored } from './writer.js';
