/**
 * What a connection's machine can be told, can ask for and can be in: its types, and nothing else.
 */

import type { Encoding } from './codec.js';
import type { Delivery, LogEvent } from './delivery.js';
import type { Code, HighwaterError } from './errors.js';
import type {
  Answers, ClientFrame, Cloning, Credit, Ended, Met, Reason, Welcome,
} from './frames.js';
import type { History } from './history.js';
import type { Writer } from './writer.js';

/** Why a client, or a log, is not live; the same for both. */
export type Away =
  /** It has begun, and was not met by the server yet. */
  | { readonly phase: 'connecting'; readonly reason: 'begun' }
  /**
   * Without a socket: it was `lost`, or could not be had, and is tried again in `retryAfter` ms;
   * there is no `network` (tried now and then); the app `asked` for it.
   */
  | {
      readonly phase: 'offline';
      readonly reason: 'lost' | 'network' | 'asked';
      readonly retryAfter?: number;
      readonly error?: HighwaterError;
    }
  /** Attached but sent nothing; may append; may ask to be active in `retryAfter` ms. */
  | { readonly phase: 'inactive'; readonly reason: Reason; readonly retryAfter: number }
  /**
   * Nothing is delivered: the token ended or is refused, or one of another user came. A token
   * function is asked for the next one, but for another user: that is another client.
   */
  | {
      readonly phase: 'needs-auth';
      readonly reason: Code;
      readonly retryAfter?: number;
      readonly error: HighwaterError;
    }
  /** This client is too old for the server. */
  | { readonly phase: 'update-required'; readonly reason: Code; readonly error: HighwaterError }
  /** Over: closed by the app, or coming back would not help. */
  | { readonly phase: 'closed'; readonly reason: Code; readonly error: HighwaterError };

/** What a client is doing, with the reason. */
export type Status =
  | Away
  /** Attached, and sent every update; `reason` is how it was met. */
  | {
      readonly phase: 'live';
      readonly reason: Met;
      readonly generation: number;
      /** The connection it was cloned from. */
      readonly source?: string | undefined;
    };

/** How a log stands, with the reason. */
export type LogStatus =
  | Away
  /** It was not whole yet: what there is of it is on its way for the first time. */
  | { readonly phase: 'loading'; readonly reason: 'first' }
  /** It was whole, and catches up after a time away; what is shown is old but whole. */
  | { readonly phase: 'catching-up'; readonly reason: 'missed' }
  /** All that there was is here, and what comes is sent. */
  | { readonly phase: 'live'; readonly reason: 'complete' }
  /** The server ended it (`error` where it refused it), or the app released it. */
  | {
      readonly phase: 'closed';
      readonly reason: Ended | Code | 'released';
      readonly error?: HighwaterError;
    };

/** The phases of a client. */
export type Phase = Status['phase'];
/** The phases of a log. */
export type LogPhase = LogStatus['phase'];

/** The phases in which it is over, each with the error that says why. */
export type End = Extract<Away, { phase: 'needs-auth' | 'update-required' | 'closed' }>;

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
  status(status: Status): void;
  /** A log that the app has not opened came along (a clone, the back end). */
  adopted(log: Delivery): void;
  log(log: Delivery, event: LogEvent): void;
}

export type Output = {
  [K in keyof Effects]: readonly [K, ...Parameters<Effects[K]>];
}[keyof Effects];

/** The body of a client's frame. */
export type BodyOf<K extends ClientFrame['name']> = Extract<ClientFrame, { name: K }>['body'];

/** What the parts of a connection (its logs, its writer) ask of it. */
export interface Core {
  readonly config: Config;
  readonly history: History;
  /** The newest `welcome`; none before the first. */
  readonly greeting: Welcome | undefined;
  /** All that append over its socket. */
  readonly writers: readonly Writer[];
  /** What the server has set aside for what they have still to send. */
  credit: Credit;
  /** Says a frame to the server. */
  say<K extends ClientFrame['name']>(
    name: K,
    body: BodyOf<K>,
  ): void;
  /** Tells something outside. */
  out(...output: Output): void;
  /** A number for a request (or that one again), with what is to be done when it is answered. */
  ticket(answer?: Answer, number?: number): number;
  /** The app asked for something: what comes together in a turn goes out at its end. */
  wake(): void;
}

/** How a request was answered: not at all (`lost`: its socket ended), by a refusal, or done. */
export type Answer = (now: number, error: HighwaterError | undefined, told?: unknown) => void;

export interface Config {
  /** The address of the server's WebSocket. */
  url: string;
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
  maxPending: number;
  /** From 0 to 1. */
  chance: () => number;
  /** Bytes that went out on the socket, plus one; 0 where nothing waits to go out. */
  flown: () => number;
  /** Called when the app has asked for something: there may be outputs. */
  wake: () => void;
  /** Is told how the server met this client, before anything else is made of it. */
  met?: ((welcome: Welcome) => void) | undefined;
  /** Is told what the server has answered, also of writers that are none of its own. */
  heard?: (answers: Answers) => void;
  encoding: Encoding;
}

/**
 * Each is named as the method that it calls. `_connect`: time to come back. `_unmet`: the socket
 * took too long. `_tokenless`: the app's function did. `probe`: too quiet, ask. `_silent`: no sign
 * of life. `_ack`: acknowledge. `_askActive`: ask to be active. `_renew`: get a new token. `flush`:
 * send again what was refused.
 */
export type Timer =
  | '_connect' | '_unmet' | '_tokenless' | 'probe' | '_silent' | '_ack' | '_askActive' | '_renew'
  | 'flush';
