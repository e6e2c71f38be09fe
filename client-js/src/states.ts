/**
 * What a connection's machine can be told, can ask for and can be in: its types, and nothing else.
 */

import type { Encoding } from './codec.js';
import type { Delivery, LogEvent } from './delivery.js';
import type { HighwaterError } from './errors.js';
import type { ClientFrame, Cloning, Met, Reason } from './frames.js';

/** What a connection is doing, with the reason. */
export type ConnectionState =
  /** A socket is being opened or greeted. */
  | { readonly state: 'connecting'; readonly attempt: number }
  /** Attached, and sent every update. */
  | {
      readonly state: 'active';
      readonly met: Met;
      readonly generation: number;
      readonly source?: string | undefined;
    }
  /** The socket was lost, or could not be had; tried again in `after` ms. */
  | { readonly state: 'waiting'; readonly after: number; readonly error: HighwaterError }
  /** Attached but sent nothing; may append; asked to be active again in `after` ms. */
  | { readonly state: 'inactive'; readonly reason: Reason; readonly after: number }
  /** Without a network (still tried now and then), or because the app asked for it. */
  | { readonly state: 'offline'; readonly reason: 'network' | 'asked' }
  /** Over: closed by the app, or coming back would not help. */
  | { readonly state: 'stopped'; readonly error: HighwaterError };

/** What is to be done outside; every output names one of these with its arguments. */
export interface Effects {
  /** Open a socket. */
  connect(): void;
  send(frame: ClientFrame): void;
  /** Close the socket; nothing of it may come in afterwards. */
  disconnect(): void;
  /** Get a token; it comes back by `gotToken`. */
  token(): void;
  /** Keep this token that the server made up, or forget the one that was kept. */
  keep(token?: string): void;
  /** The connection needs another id: put it into `config`. */
  rename(): void;
  state(state: ConnectionState): void;
  /** A log that the app has not opened came along (a clone, the back end). */
  adopted(log: Delivery): void;
  log(log: Delivery, event: LogEvent): void;
}

export type Output = {
  [K in keyof Effects]: readonly [K, ...Parameters<Effects[K]>];
}[keyof Effects];

export interface Config {
  connection: string;
  /** The app gave the id: without it there is no other. */
  fixed: boolean;
  /** Gives an id of 128 random bits, for a writer. */
  newId: () => string;
  device?: string | undefined;
  /** A token to begin with. */
  token?: string | undefined;
  /** Whether the output `token` can be answered. */
  tokens: boolean;
  /** Whether `token` was made up by a server in `--dev` and kept. */
  kept?: boolean;
  visible: boolean;
  cloning: Cloning;
  /** Bytes of delivery that may be unacknowledged; 0: as the server likes. */
  window: number;
  /** Ask to be active again when the time told is over and the client is visible. */
  activate: boolean;
  /** Most actions without an answer, and most answered ones of a log that it does not show yet. */
  most: number;
  /** From 0 to 1. */
  chance: () => number;
  /** Bytes that went out on the socket, plus one; 0 where nothing waits to go out. */
  flown: () => number;
  /** Called when the app has asked for something: there may be outputs. */
  wake: () => void;
  encoding: Encoding;
}

/**
 * `retry`: time to come back. `welcome`: the token or the socket took too long. `ping`: too quiet,
 * ask. `pong`: no sign of life. `ack`: acknowledge. `activate`: ask to be active. `refresh`: get a
 * new token. `subscribe`: send again what was refused.
 */
export type Timer =
  | 'retry' | 'welcome' | 'ping' | 'pong' | 'ack' | 'activate' | 'refresh' | 'subscribe';
