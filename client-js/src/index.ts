/**
 * Highwater's client: a durable connection over many logs, which survives its sockets.
 *
 * `connect` gives a `Client` at once; it opens, keeps and reopens its socket by itself, for ever,
 * unless the server says that coming back does not help. Actions wait in memory for their answers,
 * in order; this form keeps nothing of them on disk.
 */

import { Most, Ms } from './bounds.js';
import type { Encoding, Sized } from './codec.js';
import { Connection } from './connection.js';
import type { AppendOptions, Log } from './delivery.js';
import { Emitter } from './emitter.js';
import { asError } from './errors.js';
import {
  sparse, type Cloning, type LogRecord, type ServerFrame, type Start, type Welcome,
} from './frames.js';
import { browserStorage, Identity, newId, userOf, type Locks, type Storage } from './identity.js';
import type { ConnectionState, Effects } from './states.js';
import {
  address, openSocket, webSocket, type Socket, type WebSocketConstructor,
} from './socket.js';
import type { Stored } from './writer.js';

export { HighwaterError } from './errors.js';
export { view, latestView, View, type Rules } from './view.js';
export type { ConnectionState } from './states.js';
export type { AppendOptions, Entry, Log, LogEvents } from './delivery.js';
export type { Encoding, Payload } from './codec.js';
export type { Stored } from './writer.js';
export type * from './frames.js';

export interface ClientOptions {
  /** A JWT, or how to get one; with a function it is refreshed before its end. */
  token?: string | (() => string | Promise<string>);
  /** Keeps the ids of several users of one browser apart; else as the token's `sub` says. */
  user?: string;
  encoding?: Encoding;
  /** This connection's id, 32 hex digits; for services, which keep their own. */
  connection?: string;
  /** The device's id; slots are counted per device. */
  device?: string;
  /** What to take from an active connection of the same user when this one was inactive. */
  cloning?: Cloning;
  /** Bytes of delivery that may be unacknowledged; 0: as the server likes. */
  window?: number;
  /** Asks to be active again by itself when it was made inactive; default true. */
  activate?: boolean;
  /** Whether someone looks; pages find out by themselves. */
  visible?: boolean;
  /**
   * Most actions without an answer; more are rejected with `queue_full`. And the most answered ones
   * of a log that stay on top of what is shown while it is not live. Default 10,000.
   */
  most?: number;
  WebSocket?: WebSocketConstructor;
  /** Where ids are kept, instead of `localStorage`. */
  storage?: Storage;
}

export interface SubscribeOptions {
  /** Where to begin when nothing is held; default: with the log's state. */
  start?: Start;
  /** 0 first, 255 last. */
  priority?: number;
  /** `manual`: the app says by `log.commit` from where it could restart. Default `auto`. */
  commit?: 'auto' | 'manual';
}

export interface ClientEvents {
  state: ConnectionState;
  /** A log that the app did not open came along; it is let go unless a listener takes it up. */
  log: Log;
}

export class Client extends Emitter<ClientEvents> {
  private readonly _url: string;
  private readonly _options: ClientOptions;
  private readonly _core: Connection;
  private readonly _identity: Identity;
  /** Ends what listens to the page. */
  private readonly _deaf = new AbortController();
  private _make: WebSocketConstructor | undefined;
  private _socket: Socket | undefined;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  private _closed?: boolean;
  private _queued?: boolean;
  private _draining?: boolean;

  constructor(url: string, options: ClientOptions) {
    super();
    this._url = url;
    this._options = options;
    const { token, storage, user } = options;
    this._identity = new Identity(
      `highwater:${url}:${user ?? userOf(token)}`,
      storage ?? browserStorage('localStorage'),
      (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks,
      browserStorage('sessionStorage'),
    );
    this._core = new Connection({
      connection: '',
      device: options.device ?? this._identity.device(),
      visible: !globalThis.document?.hidden,
      cloning: 'all',
      window: 0,
      activate: true,
      most: 10_000,
      encoding: 'bincode',
      ...(sparse(options) as Omit<ClientOptions, 'token'>),
      fixed: options.connection !== undefined,
      newId,
      token: typeof token === 'string' ? token : undefined,
      tokens: typeof token === 'function',
      chance: Math.random,
      flown: () => this._socket?.flown() ?? 0,
      wake: () => this._wake(),
    });
    this._watch();
    void this._begin();
  }

  private async _begin(): Promise<void> {
    const { config } = this._core;
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
    // Closed before it began: it stays so.
    if (this.state.state === 'connecting') this.reconnect();
  }

  /** Takes up a connection, unless there is one. */
  private async _claim(user?: string): Promise<void> {
    const { config } = this._core;
    config.connection ||= await this._identity.claim(user);
    if (this._closed) this._identity.leave();
  }

  /**
   * The browser kept the page and shows it again. Its lock may be gone, and the connection with
   * another page, so that it would be fenced or fence.
   */
  private async _restored(): Promise<void> {
    if (this._options.connection === undefined) {
      this._identity.leave();
      this._core.config.connection = await this._identity.claim();
    }
    if (this._closed) return this._identity.leave();
    this._turn('cut');
    this._turn('start');
  }

  /** What the connection is doing, and why. */
  get state(): ConnectionState {
    return this._core.state;
  }

  /** The connection's id; empty until it is claimed. */
  get connection(): string {
    return this._core.config.connection;
  }

  /** The id under which this run appends; another after it has come to another history. */
  get writer(): string {
    return this._core.author.id;
  }

  /** The logs that are open. */
  get logs(): Log[] {
    return [...this._core.followed.named.values()];
  }

  /** Opens a log, or gives the one that is open. Listen in the same turn, to miss nothing. */
  subscribe(
    name: string,
    { start = 'state', priority = 0, commit }: SubscribeOptions = {},
  ): Log {
    return this._core.followed.subscribe(name, { start, priority, manual: commit === 'manual' });
  }

  /**
   * Appends a record. Resolves when it is stored, at its offset; rejects with the server's reason.
   * It is sent again over new sockets until there is an answer, and stored once.
   */
  append(name: string, record: LogRecord, options?: AppendOptions): Promise<Stored> {
    return this._core.append(name, record, options);
  }

  /** An inactive connection asks to be active again, as soon as the server allows. */
  activate(): void {
    this._turn('activate', true);
  }

  /**
   * Comes back after `stopped`, for instance after `fenced` by another tab; while `waiting`, as
   * soon as the server allows.
   */
  reconnect(): void {
    this._turn('start');
  }

  /**
   * Ends this client. Its slot is given back at once (`leave: false`: kept for a while, to come
   * back); `forget`: the server forgets the connection altogether. Actions without an answer are
   * rejected.
   */
  close({ forget = false, leave = true }: { forget?: boolean; leave?: boolean } = {}): void {
    this._closed = true;
    this._turn('close', leave, forget);
    this._deaf.abort();
    if (forget) this._identity.forget(this.connection);
    else this._identity.leave();
  }

  /** What a demo or a curious person may look at, and break. */
  readonly debug = {
    /** Breaks the socket as a network would. */
    cut: (): void => this._turn('cut'),
    /** No socket until it is set back. */
    setOffline: (offline: boolean): void => this._turn(offline ? 'offline' : 'start'),
    /**
     * How it was last met (`met`, `generation`, `source`, `user`), the bytes of delivery worked
     * off and acknowledged since, and the number of actions without an answer.
     */
    info: (): Partial<Welcome> & { received: number; acked: number; pending: number } => {
      const { greeting: welcome, worked: received, acked, author: writer } = this._core;
      return { ...welcome, token: undefined, received, acked, pending: writer.queue.length };
    },
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
  private _turn<K extends Happening>(what: K, ...given: Given<Connection[K]>): void {
    (this._core as unknown as Record<K, (now: number, ...given: unknown[]) => void>)[what](
      now(),
      ...given,
    );
    this._end();
  }

  private _end(): void {
    const core = this._core;
    this._drain();
    core.flush(now());
    this._drain();
    const wait = core.deadline() - now();
    clearTimeout(this._timer);
    if (wait === Infinity) return;
    this._timer = setTimeout(() => this._turn('tick'), Math.min(Ms.LONGEST, Math.max(0, wait)));
  }

  private _drain(): void {
    // A listener that asks for something adds to the queue; the loop that runs takes it from there.
    if (this._draining) return;
    this._draining = true;
    for (let output; (output = this._core.poll()); ) {
      const [effect, ...given] = output;
      (this._effects[effect] as (...given: unknown[]) => void)(...given);
    }
    this._draining = false;
  }

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
      this._core.config.connection = this._identity.renew();
    },
    state: (state) => this.emit('state', state),
    adopted: (log) => {
      this.emit('log', log);
      if (!log.listening) log.unsubscribe();
    },
    log: (log, [on, event]) => log.emit(on, event),
  };

  private _open(): void {
    const closed = (code?: number, reason?: string): void => this._turn('closed', code, reason);
    const events = {
      opened: () => this._turn('opened'),
      message: (frames: Sized<ServerFrame>[]) => this._turn('frames', frames),
      closed,
    };
    // In JSON a frame may be six times as long.
    const most = (): number => 6 * this._core.greeting!.limits.frame_bytes + Most.AROUND_LIST;
    try {
      this._socket = openSocket(this._make!, this._url, this._core.config.encoding, events, most);
    } catch (error) {
      queueMicrotask(() => closed(0, (error as Error).message));
    }
  }

  private async _fetchToken(): Promise<void> {
    const { token, user } = this._options;
    try {
      const got = await (token as () => string | Promise<string>)();
      await this._claim(user === undefined ? userOf(got) : '');
      this._turn('gotToken', got);
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

const now = (): number => performance.now();

/**
 * Connects to a server: `http://host:port`, or the whole address of its WebSocket. In Node before
 * 22 install the package `ws`, or give a constructor.
 */
export const connect = (url: string | URL, options: ClientOptions = {}): Client =>
  new Client(address(url), options);
