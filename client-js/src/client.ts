/**
 * The client: the shell around the machine of a connection, with its socket, clock and storage.
 *
 * Promise: nothing is opened before `connect`, nothing is told after `close`. What an app asks for
 * in one turn goes out together when the turn ends.
 */

import { Most, Ms } from './bounds.js';
import {
  binary, bool, id, option, own, struct, u32, type Encoding,
} from './codec.js';
import { Connection } from './connection.js';
import { Emitter, Source } from './emitter.js';
import { asError, HighwaterError } from './errors.js';
import { Cloning, sparse, type Draft } from './frames.js';
import { Handle, type Log, type LogOptions } from './handle.js';
import { browserStorage, Identity, newId, userOf, type Locks, type Storage } from './identity.js';
import {
  address, openSocket, webSocket, type Socket, type WebSocketConstructor,
} from './socket.js';
import type { Codec } from './payload.js';
import type { Effects, Status } from './states.js';
import { valid, type AppendOptions, type Stored } from './writer.js';

export interface ClientOptions {
  /**
   * A JWT, or how to get one. The function is asked when none is held, soon before the end of the
   * one that is, and when one was refused; it has 15 s to answer. All its tokens are of one user.
   */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** Connects by itself; default true. With false nothing is opened before `client.connect()`. */
  readonly autoConnect?: boolean;
  /** Keeps the ids of several users of one browser apart; else as the token's `sub` says. */
  readonly user?: string;
  /** How frames cross the socket: binary, or `jsonWire`. */
  readonly encoding?: Encoding;
  /** This connection's id, 32 hex digits; for services, which keep their own. */
  readonly connection?: string;
  /** The device's id, 32 hex digits; slots are counted per device. */
  readonly device?: string;
  /** What to take from an active connection of the same user when this one was inactive. */
  readonly cloning?: Cloning;
  /** Bytes of delivery that may be unacknowledged; 0: as the server likes. */
  readonly window?: number;
  /** Asks to be active again by itself when it was made inactive; default true. */
  readonly activate?: boolean;
  /** Whether someone looks; pages find out by themselves. */
  readonly visible?: boolean;
  /**
   * Most actions without an answer; more are rejected with `queue_full`. And the most answered ones
   * of a log that stay on top of what is shown while it is not live. Default 10,000.
   */
  readonly maxPending?: number;
  readonly WebSocket?: WebSocketConstructor;
  /** Where ids are kept, instead of `localStorage`. */
  readonly storage?: Storage;
}

export interface CloseOptions {
  readonly forget?: boolean;
  readonly leave?: boolean;
}

export interface ClientEvents {
  /**
   * A log that the app did not open came along, by a clone or from the back end. It is let go
   * unless a listener opens it with `client.log`. `lag`: how many records there are to catch up on.
   */
  log: { readonly name: string; readonly lag: number };
}

const Options = struct({
  connection: option(id), device: option(id), visible: bool, cloning: Cloning, window: u32,
  token: own((value) => /^(undefined|string|function)$/.test(typeof value)),
  WebSocket: own((value) => /^(undefined|function)$/.test(typeof value)),
  encoding: own((value: Encoding) => value.decode), maxPending: own((value: number) => value > 0),
});

/** What is not given; throws, with its name, where an option is none. */
const defaults = (options: ClientOptions) => {
  const all = {
    visible: !globalThis.document?.hidden, cloning: 'all' as Cloning, window: 0,
    activate: true, maxPending: 10_000, encoding: binary, ...sparse(options),
  };
  valid(Options, all as any);
  return all;
};

/** A log is of text and bytes, or of what its codec reads and writes. */
export interface OpenLog {
  <T>(name: string, options: LogOptions<T> & { readonly codec: Codec<T> }): Log<T>;
  (name: string, options?: LogOptions & { readonly codec?: undefined }): Log;
}

export class Client extends Emitter<ClientEvents> {
  /** What the client is doing, and why. */
  readonly status: Source<Status>;
  /** @internal */
  readonly core: Connection;

  private readonly _url: string;
  private readonly _options: ClientOptions;
  private readonly _identity: Identity;
  /** Ends what listens to the page. */
  private readonly _deaf = new AbortController();
  private readonly _handles = new Set<Handle<any>>();
  private _make: WebSocketConstructor | undefined;
  private _socket: Socket | undefined;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _begun?: Promise<void>;
  /** A socket is wanted: the last word was `connect`. */
  private _wanted?: boolean;
  private _claimed?: Promise<string>;
  private _closed?: boolean;
  private _queued?: boolean;
  private _draining?: boolean;

  constructor(url: string | { readonly href: string }, options: ClientOptions) {
    super();
    const all = defaults(options);
    this._url = address(url);
    this._options = options;
    const { token, storage, user, autoConnect = true } = options;
    const fixed = typeof token === 'string' ? trimmed(token) : undefined;
    this._identity = new Identity(
      `highwater:${this._url}:${user ?? userOf(fixed)}`,
      storage ?? browserStorage('localStorage'),
      (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks,
      browserStorage('sessionStorage'),
    );
    this.core = new Connection({
      ...all,
      connection: all.connection ?? '',
      url: this._url,
      device: all.device ?? this._identity.device(),
      fixed: !!all.connection,
      newId,
      token: fixed,
      tokens: typeof token === 'function',
      chance: Math.random,
      flown: () => this._socket?.flown() ?? 0,
      wake: () => this._wake(),
    });
    this.status = new Source(() => this.core.status);
    this._watch();
    if (autoConnect) this.connect();
  }

  /**
   * Connects: at first, after `disconnect`, and after the phases in which it gave up (for instance
   * `closed` with `fenced`, by another tab). While it waits to come back, it does so at once, or as
   * soon as the server allows. After `close` it does nothing.
   */
  readonly connect = (): void => {
    this._wanted = true;
    if (this._make) return this._turn('start');
    this._begun ??= this._begin();
  };

  private async _begin(): Promise<void> {
    const { config } = this.core;
    const { token, WebSocket } = this._options;
    try {
      if (!config.tokens) await this._claim();
      if (token === undefined) {
        config.token = this._identity.token;
        config.kept = config.token !== undefined;
      }
      this._make = await webSocket(WebSocket);
    } catch (error) {
      return this._turn('stop', asError('failed', error));
    }
    // Offline before it began: it stays so, unless it was to connect since.
    if (this._wanted) this._turn('start');
  }

  /** Takes up a connection, once, however often it is asked for. */
  private async _claim(user?: string): Promise<void> {
    const { config } = this.core;
    if (config.connection) return;
    config.connection = await (this._claimed ??= this._identity.claim(user));
    if (this._closed) this._identity.leave();
  }

  /**
   * The browser kept the page and shows it again. Its lock may be gone, and the connection with
   * another page, so that it would be fenced or fence.
   */
  private async _restored(): Promise<void> {
    if (this._options.connection === undefined && this.connection) {
      this._identity.leave();
      this.core.config.connection = await this._identity.claim();
    }
    if (this._closed) return this._identity.leave();
    const { phase, reason } = this.core.status;
    this._turn('cut');
    if (phase !== 'offline' || reason !== 'asked') this.connect();
  }

  /** The connection's id; empty until it is claimed. */
  get connection(): string {
    return this.core.config.connection;
  }

  /** The id under which this run appends; another after it has come to another history. */
  get writer(): string {
    return this.core.author.id;
  }

  /**
   * Opens a log: a handle of its own for each call. What is shared underneath is one subscription,
   * from the widest `start` of all handles; so a handle may be given more than it asked for, never
   * less. Listen in the same turn, to miss nothing.
   */
  readonly log: OpenLog = <T>(name: string, options?: LogOptions<T>): Log<T> => {
    if (this._closed) throw new HighwaterError('closed', 'the app closed this client');
    const handle = new Handle<T>(this.core, name, options, () => this._handles.delete(handle));
    this._handles.add(handle);
    return handle;
  };

  /** As `Log.append`, to a log that need not be open. Payloads are text or bytes. */
  readonly append = (name: string, record: Draft, options?: AppendOptions): Promise<Stored> =>
    this.core.append(name, record, options);

  /** An inactive connection asks to be active again, as soon as the server allows. */
  readonly activate = (): void => this._turn('activate', true);

  /** Asks whether the other side is there: it is found out sooner than by silence. */
  probe(): void {
    this._turn('probe');
  }

  /** Breaks the socket as a network would. @internal */
  cut(): void {
    this._turn('cut');
  }

  /** No socket until `connect`: `offline`, as it was asked for. Actions wait. */
  readonly disconnect = (): void => {
    this._wanted = false;
    this._turn('offline');
  };

  /**
   * Ends this client for good. Its slot is given back at once (`leave: false`: kept for a while, to
   * come back); `forget`: the server forgets the connection altogether. Actions without an answer
   * are rejected.
   */
  readonly close = ({ forget = false, leave = true }: CloseOptions = {}): void => {
    if (this._closed) return;
    this._closed = true;
    for (const handle of this._handles) handle.silence();
    this._turn('close', leave, forget);
    clearTimeout(this._timer);
    this.silence();
    this._deaf.abort();
    if (forget) this._identity.forget(this.connection);
    else this._identity.leave();
  };

  // The shell around the machine.

  /** The app asked for something; what comes together in a turn goes out when it ends. */
  private _wake(): void {
    this._drain();
    if (this._queued) return;
    this._queued = true;
    queueMicrotask(() => {
      this._queued = false;
      this._end();
    });
  }

  /** Tells the machine what happened, and does all that follows. */
  private readonly _turn = (...[what, ...given]: Turn): void => {
    (this.core as unknown as Record<string, (now: number, ...given: unknown[]) => void>)[what]!(
      now(),
      ...given,
    );
    this._end();
  };

  private _end(): void {
    const { core } = this;
    this._drain();
    core.flush(now());
    this._drain();
    const wait = core.deadline() - now();
    clearTimeout(this._timer);
    if (wait === Infinity) return;
    this._timer = setTimeout(() => this._turn('tick'), Math.min(Ms.LONGEST, wait));
  }

  private _drain(): void {
    // A listener that asks for something adds to the queue; the loop that runs takes it from there.
    if (this._draining) return;
    this._draining = true;
    for (let output; (output = this.core.poll()); ) {
      const [effect, ...given] = output;
      (this._effects[effect] as (...given: unknown[]) => void)(...given);
    }
    this._draining = false;
  }

  private _said: Status | undefined;

  private readonly _effects: Effects = {
    connect: () => this._open(),
    send: (frame) => {
      try {
        this._socket?.send(frame);
      } catch (error) {
        // An id or a number of the app's that is none: coming back would not help.
        this._turn('stop', asError('bad_frame', error));
      }
    },
    disconnect: () => {
      this._socket?.drop();
      this._socket = undefined;
    },
    token: () => void this._fetchToken(),
    keep: (token) => {
      this._identity.token = token;
    },
    rename: () => {
      this.core.config.connection = this._identity.renew();
    },
    status: () => {
      // What was told since is what it is now.
      const { status } = this.core;
      if (status === this._said) return;
      this._said = status;
      this.status.changed();
      for (const handle of [...this._handles]) handle.look();
    },
    adopted: (log) => {
      if (!log.holders.size) this.emit('log', { name: log.name, lag: log.lag });
      if (!log.holders.size) this.core.followed.drop(log);
    },
    log: (log, event) => log.emit(event),
  };

  private _open(): void {
    const { encoding } = this.core.config;
    // In JSON a frame may be six times as long.
    const most = (): number => 6 * this.core.greeting!.limits.frameBytes + Most.AROUND_LIST;
    try {
      this._socket = openSocket(this._make!, this.core.nodes.url, encoding, this._turn, most);
    } catch (error) {
      queueMicrotask(() => this._turn('closed', 0, (error as Error).message));
    }
  }

  private async _fetchToken(): Promise<void> {
    const { token, user } = this._options;
    try {
      const got = await (token as () => string | Promise<string>)();
      if (typeof got !== 'string') throw new Error('the token function gave no text in time');
      const one = trimmed(got);
      await this._claim(user === undefined ? userOf(one) : '');
      this._turn('gotToken', one);
    } catch (error) {
      this._turn('gotToken', undefined, asError('unauthorized', error));
    }
  }

  /** In a page: its network, and whether it is looked at. */
  private _watch(): void {
    if (!globalThis.document) return;
    const listen = (to: EventTarget, name: string, listener: (event: Event) => void): void => {
      to.addEventListener(name, listener, this._deaf);
    };
    listen(window, 'online', () => this._turn('network', true));
    listen(window, 'offline', () => this._turn('network', false));
    listen(window, 'pageshow', (event) => {
      if ((event as PageTransitionEvent).persisted) void this._restored();
      else this._turn('probe');
    });
    if (this._options.visible === undefined) {
      listen(document, 'visibilitychange', () => this._turn('look', !document.hidden));
    }
  }
}

/** What happens outside of the machine, as it names it. */
type Happening =
  | 'start' | 'gotToken' | 'opened' | 'frames' | 'closed' | 'tick' | 'probe' | 'network' | 'look'
  | 'activate' | 'offline' | 'cut' | 'stop' | 'close';
type Given<F> = F extends (now: number, ...given: infer G) => void ? G : never;
type Turn = { [K in Happening]: [what: K, ...given: Given<Connection[K]>] }[Happening];

const now = (): number => performance.now();

/** Without the newline that a file or `token make` ends with, and the quotes of a JSON text. */
const trimmed = (token: string): string => token.replace(/^["\s]+|["\s]+$/g, '');

/**
 * A client of the server at `http(s)://host:port`, or at the whole address of its WebSocket. Throws
 * a `HighwaterError` (`bad_request`) where the address or an option is none, and names it. In Node
 * before 22 install the package `ws`, or give a constructor.
 */
export const connect = (
  url: string | { readonly href: string },
  options: ClientOptions = {},
): Client => new Client(url, options);
