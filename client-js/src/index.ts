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
  readonly #url: string;
  readonly #options: ClientOptions;
  readonly #core: Connection;
  readonly #identity: Identity;
  /** Ends what listens to the page. */
  readonly #deaf = new AbortController();
  #make: WebSocketConstructor | undefined;
  #socket: Socket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #queued = false;
  #draining = false;

  constructor(url: string, options: ClientOptions) {
    super();
    this.#url = url;
    this.#options = options;
    const { token, storage, user } = options;
    const name = user ?? userOf(token);
    const locks = (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks;
    this.#identity = new Identity(
      `highwater:${url}:${name}`,
      storage ?? browserStorage('localStorage'),
      locks,
      browserStorage('sessionStorage'),
    );
    this.#core = new Connection({
      connection: '',
      device: options.device ?? this.#identity.device(),
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
      kept: false,
      random: Math.random,
      flown: () => this.#socket?.flown() ?? 0,
      wake: () => this.#wake(),
    });
    this.#watch();
    void this.#begin();
  }

  async #begin(): Promise<void> {
    const { config } = this.#core;
    const { token, WebSocket } = this.#options;
    try {
      if (!config.tokens) await this.#claim();
      if (token === undefined) {
        config.token = this.#identity.token;
        config.kept = config.token !== undefined;
      }
      this.#make = await webSocket(WebSocket);
    } catch (error) {
      return this.#turn('stop', asError('failed', error));
    }
    // Closed before it began: it stays so.
    if (this.state.state === 'connecting') this.reconnect();
  }

  /** Takes up a connection, unless there is one. */
  async #claim(user?: string): Promise<void> {
    const { config } = this.#core;
    config.connection ||= await this.#identity.claim(user);
    if (this.#closed) this.#identity.leave();
  }

  /**
   * The browser kept the page and shows it again. Its lock may be gone, and the connection with
   * another page, so that it would be fenced or fence.
   */
  async #restored(): Promise<void> {
    if (this.#options.connection === undefined) {
      this.#identity.leave();
      this.#core.config.connection = await this.#identity.claim();
    }
    if (this.#closed) return this.#identity.leave();
    this.#turn('cut');
    this.#turn('start');
  }

  /** What the connection is doing, and why. */
  get state(): ConnectionState {
    return this.#core.state;
  }

  /** The connection's id; empty until it is claimed. */
  get connection(): string {
    return this.#core.config.connection;
  }

  /** The id under which this run appends; another after it has come to another history. */
  get writer(): string {
    return this.#core.writer.id;
  }

  /** The logs that are open. */
  get logs(): Log[] {
    return [...this.#core.logs.open.values()];
  }

  /** Opens a log, or gives the one that is open. Listen in the same turn, to miss nothing. */
  subscribe(
    name: string,
    { start = 'state', priority = 0, commit }: SubscribeOptions = {},
  ): Log {
    return this.#core.logs.subscribe(name, { start, priority, manual: commit === 'manual' });
  }

  /**
   * Appends a record. Resolves when it is stored, at its offset; rejects with the server's reason.
   * It is sent again over new sockets until there is an answer, and stored once.
   */
  append(name: string, record: LogRecord, options?: AppendOptions): Promise<Stored> {
    return this.#core.append(name, record, options);
  }

  /** An inactive connection asks to be active again, as soon as the server allows. */
  activate(): void {
    this.#turn('activate', true);
  }

  /**
   * Comes back after `stopped`, for instance after `fenced` by another tab; while `waiting`, as
   * soon as the server allows.
   */
  reconnect(): void {
    this.#turn('start');
  }

  /**
   * Ends this client. Its slot is given back at once (`leave: false`: kept for a while, to come
   * back); `forget`: the server forgets the connection altogether. Actions without an answer are
   * rejected.
   */
  close({ forget = false, leave = true }: { forget?: boolean; leave?: boolean } = {}): void {
    this.#closed = true;
    this.#turn('close', leave, forget);
    this.#deaf.abort();
    if (forget) this.#identity.forget(this.connection);
    else this.#identity.leave();
  }

  /** What a demo or a curious person may look at, and break. */
  readonly debug = {
    /** Breaks the socket as a network would. */
    cut: (): void => this.#turn('cut'),
    /** No socket until it is set back. */
    setOffline: (offline: boolean): void => this.#turn(offline ? 'offline' : 'start'),
    /**
     * How it was last met (`met`, `generation`, `source`, `user`), the bytes of delivery worked
     * off and acknowledged since, and the number of actions without an answer.
     */
    info: (): Partial<Welcome> & { received: number; acked: number; pending: number } => {
      const { welcome, received, acked, writer } = this.#core;
      return { ...welcome, token: undefined, received, acked, pending: writer.pending.length };
    },
  };

  // The shell around the machine.

  /** The app asked for something; what comes together in a turn goes out when it ends. */
  #wake(): void {
    this.#drain();
    if (this.#queued) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      this.#end();
    });
  }

  /** Tells the machine what happened, and does all that follows. */
  #turn<K extends Happening>(what: K, ...given: Given<Connection[K]>): void {
    (this.#core as unknown as Record<K, (now: number, ...given: unknown[]) => void>)[what](
      now(),
      ...given,
    );
    this.#end();
  }

  #end(): void {
    const core = this.#core;
    this.#drain();
    core.flush(now());
    this.#drain();
    const wait = core.deadline() - now();
    clearTimeout(this.#timer);
    if (wait === Infinity) return;
    this.#timer = setTimeout(() => this.#turn('tick'), Math.min(Ms.LONGEST, Math.max(0, wait)));
  }

  #drain(): void {
    // A listener that asks for something adds to the queue; the loop that runs takes it from there.
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (let output; (output = this.#core.poll()); ) {
        const [effect, ...given] = output;
        (this.#effects[effect] as (...given: unknown[]) => void)(...given);
      }
    } finally {
      this.#draining = false;
    }
  }

  readonly #effects: Effects = {
    connect: () => this.#open(),
    send: (frame) => {
      try {
        this.#socket?.send(frame);
      } catch (error) {
        // An id or a number of the app's that is none: coming back would not help.
        this.#turn('stop', asError('bad_frame', error));
      }
    },
    disconnect: () => {
      this.#socket?.drop();
      this.#socket = undefined;
    },
    token: () => void this.#fetchToken(),
    keep: (token) => {
      this.#identity.token = token;
    },
    rename: () => {
      this.#core.config.connection = this.#identity.renew();
    },
    state: (state) => this.emit('state', state),
    adopted: (log) => {
      this.emit('log', log);
      if (!log.listening) log.unsubscribe();
    },
    log: (log, [on, event]) => log.emit(on, event),
  };

  #open(): void {
    const closed = (code?: number, reason?: string): void => this.#turn('closed', code, reason);
    const events = {
      opened: () => this.#turn('opened'),
      message: (frames: Sized<ServerFrame>[]) => this.#turn('frames', frames),
      closed,
    };
    // In JSON a frame may be six times as long.
    const most = (): number => 6 * this.#core.welcome!.limits.frame_bytes + Most.AROUND_LIST;
    try {
      this.#socket = openSocket(this.#make!, this.#url, this.#core.config.encoding, events, most);
    } catch (error) {
      queueMicrotask(() => closed(0, (error as Error).message));
    }
  }

  async #fetchToken(): Promise<void> {
    const { token, user } = this.#options;
    try {
      const got = await (token as () => string | Promise<string>)();
      await this.#claim(user === undefined ? userOf(got) : '');
      this.#turn('gotToken', got);
    } catch (error) {
      this.#turn('gotToken', undefined, asError('unauthorized', error));
    }
  }

  /** In a page: its network, and whether it is looked at. */
  #watch(): void {
    if (!globalThis.document) return;
    const listen = (to: EventTarget, name: string, listener: (event: Event) => void): void => {
      to.addEventListener(name, listener, this.#deaf);
    };
    listen(window, 'online', () => this.#turn('network', true));
    listen(window, 'offline', () => this.#turn('network', false));
    listen(window, 'pageshow', (event) => {
      if ((event as PageTransitionEvent).persisted) void this.#restored();
      else this.#turn('probe');
    });
    if (this.#options.visible === undefined) {
      listen(document, 'visibilitychange', () => this.#turn('look', !document.hidden));
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
