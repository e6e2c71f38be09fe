/**
 * Highwater's client: a durable connection over many logs, which survives its sockets.
 *
 * `connect` gives a `Client` at once; it opens, keeps and reopens its socket by itself, for ever,
 * unless the server says that coming back does not help. Actions wait in memory for their answers,
 * in order; this form keeps nothing of them on disk.
 */

import { Out, toJson, u64, utf8Length, type Encoding } from './codec.js';
import { Connection, type ConnectionState, type Input } from './connection.js';
import type { Delivery } from './delivery.js';
import { Emitter } from './emitter.js';
import { HighwaterError } from './errors.js';
import { Open, Record, type Cloning, type LogRecord, type Met, type Start } from './frames.js';
import { browserStorage, Identity, newId, userOf, type Locks, type Storage } from './identity.js';
import { Log, type AppendOptions } from './log.js';
import { address, Socket, webSocket, type WebSocketConstructor } from './socket.js';
import type { Stored } from './writer.js';

export { HighwaterError } from './errors.js';
export { view, latestView, View, type Rules } from './view.js';
export { Log, type AppendOptions } from './log.js';
export type { ConnectionState } from './connection.js';
export type { Entry, LogEvents } from './delivery.js';
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
  /** Most actions without an answer; more are rejected with `queue_full`. Default 10,000. */
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

/** What a demo or a curious person may look at. */
export interface DebugInfo {
  connection: string;
  writer: string;
  user: string | undefined;
  met: Met | undefined;
  generation: number | undefined;
  source: string | undefined;
  received: number;
  acked: number;
  /** Actions without an answer. */
  pending: number;
  logs: {
    name: string;
    id: number | undefined;
    phase: string;
    cursor: number;
    head: number;
    lag: number;
    complete: boolean;
    pending: number;
  }[];
}

/** The longest that timers can wait. */
const LONGEST = 2 ** 31 - 1;

export class Client extends Emitter<ClientEvents> {
  readonly #core: Connection;
  readonly #identity: Identity;
  readonly #handles = new WeakMap<Delivery, Log>();
  readonly #cleanups: (() => void)[] = [];
  #make: WebSocketConstructor | undefined;
  #socket: Socket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #queued = false;
  #draining = false;

  constructor(
    private readonly url: string,
    private readonly options: ClientOptions,
  ) {
    super();
    const { token, encoding, storage, user } = options;
    const name = user ?? (typeof token === 'string' ? userOf(token) : '');
    const locks = (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks;
    this.#identity = new Identity(`highwater:${url}:${name}`, storage ?? browserStorage(), locks);
    this.#core = new Connection({
      connection: '',
      writer: newId(),
      device: options.device ?? this.#identity.device(),
      token: typeof token === 'string' ? token : undefined,
      tokens: typeof token === 'function',
      kept: false,
      visible: options.visible ?? (typeof document === 'undefined' || !document.hidden),
      cloning: options.cloning ?? 'all',
      window: options.window ?? 0,
      activate: options.activate ?? true,
      most: options.most ?? 10_000,
      random: Math.random,
      newId,
      weigh: weigher(encoding ?? 'bincode'),
    });
    this.#watch();
    void this.#begin();
  }

  async #begin(): Promise<void> {
    const { config } = this.#core;
    try {
      config.connection = this.options.connection ?? (await this.#identity.claim());
      if (this.options.token === undefined) {
        config.token = this.#identity.token;
        config.kept = config.token !== undefined;
      }
      this.#make = await webSocket(this.options.WebSocket);
    } catch (error) {
      const failed = new HighwaterError('failed', (error as Error).message);
      return this.#input([{ type: 'fail', error: failed }]);
    }
    // Closed before it began: it stays so.
    if (this.state.state === 'connecting') this.#input([{ type: 'start' }]);
  }

  /** What the connection is doing, and why. */
  get state(): ConnectionState {
    return this.#core.state;
  }

  /** The connection's id; empty until it is claimed. */
  get connection(): string {
    return this.#core.config.connection;
  }

  /** The id under which this run appends. */
  get writer(): string {
    return this.#core.writer.id;
  }

  /** Opens a log, or gives the handle that is open. Listen in the same turn, to miss nothing. */
  subscribe(name: string, options: SubscribeOptions = {}): Log {
    const { start = 'state', priority = 0, commit } = options;
    const manual = commit === 'manual';
    Open.put(new Out(), { name, start, priority }); // Throws where it cannot be carried.
    return this.run((core) => this.#handle(core.subscribe(name, { start, priority, manual })));
  }

  /**
   * Appends a record. Resolves when it is stored, at its offset; rejects with the server's reason.
   * It is sent again over new sockets until there is an answer, and stored once.
   */
  append(name: string, record: LogRecord, { if_head }: AppendOptions = {}): Promise<Stored> {
    return new Promise((resolve, reject) => {
      this.run((core) =>
        core.append(name, record, if_head, (result) =>
          result instanceof HighwaterError ? reject(result) : resolve(result),
        ),
      );
    });
  }

  /** An inactive connection asks to be active again, as soon as the server allows. */
  activate(): void {
    this.#input([{ type: 'activate' }]);
  }

  /** Comes back after `stopped`, for instance after `fenced` by another tab. */
  reconnect(): void {
    this.#input([{ type: 'start' }]);
  }

  /**
   * Ends this client. Its slot is given back at once (`leave: false`: kept for a while, to come
   * back); `forget`: the server forgets the connection altogether. Actions without an answer are
   * rejected.
   */
  close({ forget = false, leave = true }: { forget?: boolean; leave?: boolean } = {}): void {
    this.#input([{ type: 'close', leave, forget }]);
    for (const cleanup of this.#cleanups.splice(0)) cleanup();
    if (forget) void this.#identity.forget(this.connection);
    else this.#identity.leave();
  }

  readonly debug = {
    /** Breaks the socket as a network would. */
    cut: (): void => this.#input([{ type: 'cut' }]),
    /** No socket until it is set back. */
    setOffline: (offline: boolean): void => this.#input([{ type: 'offline', offline }]),
    info: (): DebugInfo => {
      const core = this.#core;
      const { user, met, generation, source } = core.welcome ?? {};
      return {
        connection: this.connection, writer: this.writer, user, met, generation, source,
        received: core.received, acked: core.acked, pending: core.writer.pending.length,
        logs: [...core.logs.values()].map(({ name, id, phase, cursor, head, complete, own }) => ({
          name, id, phase, cursor, head, lag: head - cursor, complete, pending: own.length,
        })),
      };
    },
  };

  // The shell around the machine.

  #handle(delivery: Delivery): Log {
    let log = this.#handles.get(delivery);
    if (!log) this.#handles.set(delivery, (log = new Log(delivery, this)));
    return log;
  }

  /** Carries out a command; what comes together in a turn goes out when it ends.
   * @internal */
  run<T>(command: (core: Connection, now: number) => T): T {
    const result = command(this.#core, now());
    this.#drain();
    if (!this.#queued) {
      this.#queued = true;
      queueMicrotask(() => {
        this.#queued = false;
        this.#input([]);
      });
    }
    return result;
  }

  #input(inputs: Input[]): void {
    for (const input of inputs) this.#core.handle(now(), input);
    this.#drain();
    this.#core.flush(now());
    this.#drain();
    const wait = this.#core.deadline() - now();
    clearTimeout(this.#timer);
    if (wait === Infinity) return;
    const tick = (): void => this.#input([{ type: 'tick' }]);
    this.#timer = setTimeout(tick, Math.min(LONGEST, Math.max(0, wait)));
  }

  #drain(): void {
    // A listener that asks for something adds to the queue; the loop that runs takes it from there.
    if (this.#draining) return;
    this.#draining = true;
    try {
      for (let output; (output = this.#core.poll()); ) this.#act(output);
    } finally {
      this.#draining = false;
    }
  }

  #act(output: NonNullable<ReturnType<Connection['poll']>>): void {
    switch (output.type) {
      case 'connect':
        return this.#open();
      case 'send':
        return this.#socket?.send(output.frame);
      case 'disconnect':
        this.#socket?.drop();
        this.#socket = undefined;
        return;
      case 'token':
        return void this.#fetchToken();
      case 'keep':
        this.#identity.token = output.token;
        return;
      case 'renamed':
        return void this.#identity.rename(output.from, output.to);
      case 'state':
        return this.emit('state', output.state);
      case 'adopted': {
        const log = this.#handle(output.log);
        this.emit('log', log);
        if (!log.listening) this.#core.unsubscribe(log.name);
        return;
      }
      case 'log':
        return this.#handle(output.log).emit(output.event.on, output.event.event as never);
    }
  }

  #open(): void {
    const encoding = this.options.encoding ?? 'bincode';
    try {
      if (!this.#make) throw new Error('this client has not begun yet');
      this.#socket = new Socket(this.#make, this.url, encoding, (inputs) => this.#input(inputs));
    } catch (error) {
      const reason = (error as Error).message;
      queueMicrotask(() => this.#input([{ type: 'closed', reason }]));
    }
  }

  async #fetchToken(): Promise<void> {
    const { token } = this.options;
    try {
      this.#input([{ type: 'token', token: typeof token === 'function' ? await token() : token }]);
    } catch (error) {
      this.#input([{ type: 'token', error: error ?? 'refused' }]);
    }
  }

  #watch(): void {
    const listen = (target: EventTarget | undefined, name: string, act: () => Input): void => {
      const listener = (): void => this.#input([act()]);
      target?.addEventListener?.(name, listener);
      this.#cleanups.push(() => target?.removeEventListener?.(name, listener));
    };
    if (typeof document === 'undefined') return;
    const page = globalThis as unknown as EventTarget;
    listen(page, 'online', () => ({ type: 'network', online: true }));
    listen(page, 'offline', () => ({ type: 'network', online: false }));
    listen(page, 'pageshow', () => ({ type: 'probe' }));
    if (this.options.visible === undefined) {
      listen(document, 'visibilitychange', () => ({ type: 'visible', visible: !document.hidden }));
    }
  }
}

const now = (): number => performance.now();

const weigher = (encoding: Encoding): Connection['config']['weigh'] => (record, if_head = 0) => {
  u64.put(new Out(), if_head);
  const { key = '', kind = '', headers = [], payload = '' } = record;
  const texts = [key, kind, ...headers.flat()];
  const content = typeof payload === 'string' ? utf8Length(payload) : payload.length;
  const size = texts.reduce((sum, text) => sum + utf8Length(text), content);
  const out = new Out();
  Record.put(out, record); // Throws where a value cannot be carried.
  const json = encoding === 'json';
  return { size, weight: json ? utf8Length(toJson(record)) : out.size };
};

/**
 * Connects to a server: `http://host:port`, or the whole address of its WebSocket. In Node before
 * 22 install the package `ws`, or give a constructor.
 */
export const connect = (url: string | URL, options: ClientOptions = {}): Client =>
  new Client(address(url), options);
