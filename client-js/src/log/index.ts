/**
 * `highwater/log`: every action is logged on the device before it is tried, shown at once, and
 * synced when it can be. The plain layer under it is `highwater`.
 */

export {
  connect, type LogClient, type LogClientOptions, type OpenOptions, type Work,
} from './client.js';
export {
  action, keyed, log, lww, type Action, type ActionOptions, type Actions, type Call,
  type Definition, type Keyed, type Lww, type Meta, type Params, type Reduced, type Reducers,
  type Schema, type ValueOf, type Views,
} from './define.js';
export type { Read } from '../emitter.js';
export { HighwaterError, type Code } from '../errors.js';
export type { LogStatus, Status } from '../states.js';
export { KeyMap } from './key-map.js';
export { memory } from './memory.js';
export { indexedDb } from './indexeddb.js';
export type { RefusedAction } from './inbox.js';
export type { KeyedRead, LwwRead, Opened, ReducedRead } from './opened.js';
export type { Receipt, ReceiptState } from './receipt.js';
export type { Change, Health, Kind, OpenStore, Row, Store, StoreOptions } from './store.js';
