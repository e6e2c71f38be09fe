/**
 * The life of a connection as a machine without IO: inputs and the time go in, outputs come out.
 *
 * Its methods are of three kinds. What happens outside: `start`, `gotToken`, `opened`, `frames`,
 * `closed`, `tick`, `probe`, `network`, `look`. What the app asks for: `subscribe`, `append`,
 * `seek` and so on. What drives it: when a turn ends, `flush(now)`, which puts what has come
 * together (appends, subscriptions, acknowledgements) into few frames; then `poll()` until it
 * answers undefined, carrying out each output; then a timer for `deadline()`, which comes back as
 * a `tick`. Times are milliseconds of any clock that does not go back. It knows no socket, clock, storage or
 * randomness of its own.
 */

import { In, Out, toJson, u64, utf8Length, type Encoding, type Sized } from './codec.js';
import { Delivery, type AppendOptions, type LogEvent, type Options } from './delivery.js';
import { asError, codeName, HighwaterError, isTransient, wantsToken } from './errors.js';
import {
  Open, Record, Start as Where, type Answers, type Bye, type ClientFrame, type Cloning, type Cursor,
  type LogRecord, type Met, type Reason, type Refused, type ServerFrame, type Start,
  type State as StateFrame, type Subscribed, type Welcome,
} from './frames.js';
import { Writer, type Stored } from './writer.js';

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
  writer: string;
  device?: string | undefined;
  /** A token to begin with. */
  token?: string | undefined;
  /** Whether the output `token` can be answered. */
  tokens: boolean;
  /** Whether `token` was made up by a server in `--dev` and kept. */
  kept: boolean;
  visible: boolean;
  cloning: Cloning;
  /** Bytes of delivery that may be unacknowledged; 0: as the server likes. */
  window: number;
  /** Ask to be active again when the time told is over and the client is visible. */
  activate: boolean;
  /** Most actions without an answer. */
  most: number;
  /** From 0 to 1. */
  random: () => number;
  /** Called when the app has asked for something: there may be outputs. */
  wake: () => void;
  encoding: Encoding;
}

/**
 * A copy of a record, which the app cannot change any more, with its size as limits count it, and
 * as a frame carries it, in bytes. Throws if it cannot be carried.
 */
const weigh = (
  given: LogRecord,
  encoding: Encoding,
): { record: LogRecord; size: number; weight: number } => {
  const out = new Out();
  Record.put(out, given);
  const record = Record.take(new In(out.done()));
  const { key = '', kind = '', headers = [], payload = '' } = record;
  const content = typeof payload === 'string' ? utf8Length(payload) : payload.length;
  const size = [key, kind, ...headers.flat()].reduce((sum, text) => sum + utf8Length(text), content);
  return { record, size, weight: encoding === 'json' ? utf8Length(toJson(record)) : out.size };
};

/** A longer name would cost the socket; all other bad ones the server refuses by themselves. */
const checkName = (name: string): void => {
  if (utf8Length(name) > 255) throw new HighwaterError('bad_name', 'a name has at most 255 bytes');
};

type DeliveryFrame = Extract<
  ServerFrame,
  { name: 'records' | 'base' | 'base_records' | 'gap' | 'reset' | 'snapshot_wanted' }
>;

export const VERSION = 'highwater-js/0.1.0';

/** Bounds of the wait before coming back, ms: a random part of a bound that doubles. */
export const BACKOFF = { from: 500, to: 20_000 };
/** From opening a socket to its `Welcome`, ms. */
const WELCOME = 15_000;
/** From a ping to any sign of life, ms. */
const PONG = 5_000;
/** A timer later than this was frozen with its page, and what came meanwhile is not read yet. */
const FROZEN = 2_000;
/** Anything new is acknowledged within this, ms. */
const ACK = 800;
/** A socket that lived so long after its `Welcome` was a good one, ms. */
const STEADY = 10_000;
/** Names in one `Subscribe`: 200 of 255 bytes fit into the smallest frame limit. */
const NAMES = 200;

/**
 * `retry`: time to come back. `welcome`: the socket took too long. `ping`: too quiet, ask.
 * `pong`: no sign of life. `ack`: acknowledge. `activate`: ask to be active. `refresh`: get a new
 * token. `subscribe`: ask again for refused logs.
 */
type Timer = 'retry' | 'welcome' | 'ping' | 'pong' | 'ack' | 'activate' | 'refresh' | 'subscribe';

export class Connection {
  state: ConnectionState = { state: 'connecting', attempt: 0 };
  readonly logs = new Map<string, Delivery>();
  readonly writer: Writer;
  welcome: Welcome | undefined;
  /** Bytes of delivery worked off since `Welcome`, and how many of them the server knows. */
  received = 0;
  acked = 0;

  #phase: 'off' | 'token' | 'opening' | 'hello' | 'open' | 'waiting' = 'off';
  readonly #outputs: Output[] = [];
  #at: { [T in Timer]?: number } = {};
  readonly #ids = new Map<number, Delivery>();
  readonly #moved = new Set<Delivery>();
  #dropped: number[] = [];
  #active = false;
  #attempt = 0;
  #requests = 0;
  #activating = 0;
  #activateAt = 0;
  #notBefore = 0;
  #online = true;
  #tokenEnds = Infinity;
  #asking = false;
  #refreshes = 0;
  #welcomedAt = 0;
  #nonce = 0;

  constructor(readonly config: Config) {
    this.writer = new Writer(config.writer, config.random);
  }

  /** The next thing to do; undefined when all is done for now. */
  poll(): Output | undefined {
    return this.#outputs.shift();
  }

  /** When a `tick` is due; Infinity: never. */
  deadline(): number {
    const writer = this.#phase === 'open' ? this.writer.deadline : Infinity;
    return Math.min(writer, ...Object.values(this.#at));
  }

  // Commands of the app.

  /** Opens a log, or gives the one that is open. */
  subscribe(name: string, options: Options): Delivery {
    checkName(name);
    Open.put(new Out(), { name, ...options }); // Throws where it cannot be carried.
    let log = this.logs.get(name);
    if (log && log.phase !== 'over') return log;
    if (log) {
      log.phase = 'wanted';
      log.options = options;
    } else {
      log = this.#delivery(name, options);
    }
    this.config.wake();
    return log;
  }

  unsubscribe(name: string): void {
    const log = this.logs.get(name);
    if (!log) return;
    this.logs.delete(name);
    this.#moved.delete(log);
    if (log.announced) {
      this.#ids.delete(log.id!);
      this.#dropped.push(log.id!);
    }
    log.phase = 'over';
    this.config.wake();
  }

  /** Moves a log's cursor where the app wants it; a reset follows. */
  seek(log: Delivery, to: Start): void {
    Where.put(new Out(), to); // Throws where it cannot be carried.
    log.options = { ...log.options, start: to };
    log.anew = true;
    if (log.announced) {
      this.#send({ name: 'seek', body: { request: ++this.#requests, log: log.id!, to } });
    } else {
      log.held = false;
    }
    this.config.wake();
  }

  /** For a log with `manual`: the app could restart from here. */
  commit(log: Delivery, next: number): void {
    log.committed = Math.min(next, log.cursor);
    this.#moved.add(log);
    this.config.wake();
  }

  /** As `Client.append`. */
  append(name: string, given: LogRecord, { if_head }: AppendOptions = {}): Promise<Stored> {
    return new Promise((resolve, reject) => {
      const log = this.logs.get(name);
      const { most, connection, encoding } = this.config;
      if (this.state.state === 'stopped') throw this.state.error;
      if (this.writer.pending.length >= most || (log && log.own.length >= most)) {
        throw new HighwaterError('queue_full', `${most} actions wait for answers`);
      }
      let weighed;
      try {
        checkName(name);
        u64.put(new Out(), if_head ?? 0);
        weighed = weigh(given, encoding);
      } catch (error) {
        throw asError('bad_record', error);
      }
      const known = log && log.phase !== 'over' ? log.id : undefined;
      const to = known === undefined ? { name } : { log: known };
      const done = (result: Stored | HighwaterError): void =>
        result instanceof HighwaterError ? reject(result) : resolve(result);
      const seq = this.writer.add({ log: name, to, if_head, ...weighed, done });
      const origin = { user: this.welcome?.user ?? '', writer: this.writer.id, connection };
      log?.act({ record: weighed.record, origin, seq, pending: true });
      this.config.wake();
    });
  }

  // The socket's life.

  /** Begin, also after `stopped` and `offline`; one that waits comes back as soon as it may. */
  start(now: number): void {
    if (this.#phase === 'waiting') this.#at.retry = Math.max(now, this.#notBefore);
    if (this.#phase !== 'off') return;
    this.#attempt = 0;
    this.#connect(now);
  }

  #connect(now: number): void {
    delete this.#at.retry;
    this.#tell({ state: 'connecting', attempt: this.#attempt });
    if (this.config.tokens && (this.config.token === undefined || now > this.#tokenEnds - PONG)) {
      this.#phase = 'token';
      return this.#askToken();
    }
    this.#phase = 'opening';
    this.#at.welcome = now + WELCOME;
    this.out('connect');
  }

  opened(_now: number): void {
    if (this.#phase !== 'opening') return;
    this.#phase = 'hello';
    const { connection, device, token, visible, cloning, window } = this.config;
    const writers = [{ writer: this.writer.id, oldest: this.writer.oldest }];
    this.#send({
      name: 'hello',
      body: {
        version: 1, capabilities: [], token, connection, device, client: VERSION,
        visible, cloning, writers, open: this.#opening(0), window,
      },
    });
  }

  /** All that is open, with what is held of it; asked for from now on. */
  #opening(request: number): Open[] {
    const wanted = [...this.logs.values()].filter((log) => log.phase === 'wanted');
    return wanted.map((log) => this.#ask(log, request));
  }

  #ask(log: Delivery, request: number): Open {
    log.phase = 'asked';
    log.request = request;
    return log.open();
  }

  /** The socket ended, with its close code if there was one. */
  closed(now: number, number = 0, reason = ''): void {
    if (number < 4000) {
      return this.#lost(now, new HighwaterError('lost', reason || `the socket closed (${number})`));
    }
    // The last frame was lost, and with it the word on coming back: come back.
    const code = codeName(number - 4000);
    this.#bye(now, { code, message: reason, reconnect: true, after: 0 });
  }

  #bye(now: number, { code, message, reconnect, after }: Bye): void {
    const error = new HighwaterError(code, message, after);
    if (wantsToken(code)) {
      this.config.token = undefined;
      if (!this.config.tokens && !this.config.kept) return this.stop(now, error);
      if (this.config.kept) this.out('keep');
      this.config.kept = false;
    } else if (code === 'unknown_connection' && !this.welcome && !this.config.fixed) {
      // Another user of this browser left it. The next one is there long before the socket.
      this.out('rename');
      after = Math.max(after, BACKOFF.from);
    } else if (!reconnect) {
      return this.stop(now, error);
    }
    this.#lost(now, error, after);
  }

  /** The socket is of no more use; comes back after a while. */
  #lost(now: number, error: HighwaterError, after = 0): void {
    if (this.#phase === 'off' || this.#phase === 'waiting') return;
    if (this.#phase === 'open' && now - this.#welcomedAt >= STEADY) this.#attempt = 0;
    this.#drop();
    this.#phase = 'waiting';
    const wait = Math.max(after, this.#jitter(this.#attempt++));
    this.#notBefore = now + after;
    this.#at.retry = now + wait;
    if (this.#online) this.#tell({ state: 'waiting', after: wait, error });
    else this.#tell({ state: 'offline', reason: 'network' });
  }

  #drop(): void {
    this.out('disconnect');
    this.#phase = 'off';
    this.#activating = 0;
    this.#at = {};
    this.#dropped = [];
    this.#pause();
  }

  /** Nothing is delivered from here on, until the logs are subscribed again. */
  #pause(): void {
    this.#active = false;
    this.#ids.clear();
    this.#moved.clear();
    for (const log of this.logs.values()) log.detach();
  }

  /** The app wants no socket until `start`. */
  offline(_now: number): void {
    if (this.state.state === 'stopped') return;
    this.#drop();
    this.#tell({ state: 'offline', reason: 'asked' });
  }

  /** It is over; actions without an answer are rejected. */
  stop(_now: number, error: HighwaterError): void {
    this.#drop();
    this.#tell({ state: 'stopped', error });
    for (const action of this.writer.pending.splice(0)) {
      this.logs.get(action.log)?.answered(action.seq);
      action.done(new HighwaterError(error.code, error.message, 0, action.tried));
    }
  }

  close(now: number, leave: boolean, forget: boolean): void {
    if (this.#phase === 'open') {
      this.#ack();
      if (leave) this.#send({ name: 'leave', body: { forget } });
    }
    this.stop(now, new HighwaterError('closed', 'the app closed this client'));
  }

  // Time.

  tick(now: number): void {
    const due = (Object.entries(this.#at) as [Timer, number][]).sort((a, b) => a[1] - b[1]);
    for (const [timer, at] of due) {
      // One that rang before may have put off or ended this one.
      if (at > now || this.#at[timer] !== at) continue;
      delete this.#at[timer];
      this.#ring(now, timer, now - at);
    }
  }

  #ring(now: number, timer: Timer, late: number): void {
    switch (timer) {
      case 'retry':
        return this.#connect(now);
      case 'welcome':
        return this.#lost(now, new HighwaterError('lost', 'no welcome in time'));
      case 'ping':
        return this.probe(now);
      case 'pong':
        if (late > FROZEN) return this.probe(now);
        return this.#lost(now, new HighwaterError('lost', 'nothing was heard'));
      case 'ack':
        return this.#ack();
      case 'activate':
        return this.#askActive();
      case 'refresh':
        return this.#askToken();
      case 'subscribe':
        return; // `flush` looks at every log that waits.
    }
  }

  /** The browser's word on the network: only a hint. */
  network(now: number, online: boolean): void {
    this.#online = online;
    if (!online && this.#phase === 'waiting') this.#tell({ state: 'offline', reason: 'network' });
    this.probe(now);
  }

  /** The socket breaks, as by a network. */
  cut(now: number): void {
    this.#lost(now, new HighwaterError('lost', 'the socket was cut'));
  }

  /** Is the other side there? With a socket it is asked, without one it is tried at once. */
  probe(now: number): void {
    if (this.#phase === 'open' && !this.#at.pong) {
      this.#send({ name: 'ping', body: { nonce: ++this.#nonce } });
      this.#at.pong = now + PONG;
    } else if (this.#phase === 'waiting' && this.#online) {
      this.#at.retry = Math.max(now, this.#notBefore);
    }
  }

  /** Whether someone looks at the client. */
  look(now: number, visible: boolean): void {
    const { config } = this;
    if (config.visible === visible) return;
    config.visible = visible;
    if (this.#phase === 'open') this.#send({ name: 'visible', body: { visible } });
    if (!visible) return this.#ack();
    this.probe(now);
    this.activate(now);
  }

  // Tokens.

  #askToken(): void {
    if (this.#asking) return;
    this.#asking = true;
    this.out('token');
  }

  /** The answer to the output `token`. */
  gotToken(now: number, token: string | undefined, error?: HighwaterError): void {
    this.#asking = false;
    if (!token) error ??= new HighwaterError('unauthorized', 'the token function gave none');
    if (error) {
      if (this.#phase === 'token') this.#lost(now, error);
      else if (this.#phase === 'open') this.#refreshSoon(now);
      return;
    }
    this.config.token = token;
    this.#tokenEnds = Infinity;
    if (this.#phase === 'token') this.#connect(now);
    else if (this.#phase === 'open') this.#send({ name: 'refresh', body: { token: token! } });
  }

  /** The token in force ended, or another could not be had: soon again, slower each time. */
  #refreshSoon(now: number): void {
    if (!this.config.tokens || this.#asking) return;
    const at = now + this.#jitter(this.#refreshes++);
    this.#at.refresh = Math.min(at, this.#at.refresh ?? Infinity);
  }

  #jitter(attempt: number): number {
    return this.config.random() * Math.min(BACKOFF.to, BACKOFF.from * 2 ** attempt);
  }

  /** Gets the next token while this one is still good: 10 to 20 % before its end, at most 60 s. */
  #expires(now: number, expires: number): void {
    const { time } = this.welcome!;
    const left = expires - (time + now - this.#welcomedAt);
    this.#tokenEnds = expires ? now + left : Infinity;
    if (!expires || !this.config.tokens) return;
    const lead = Math.min(30_000, left / 10) * (1 + this.config.random());
    this.#at.refresh = now + Math.max(0, left - lead);
  }

  // Frames.

  /** The frames of a message. */
  frames(now: number, frames: readonly Sized<ServerFrame>[]): void {
    for (const { frame, size } of frames) this.#frame(now, frame, size);
  }

  #frame(now: number, frame: ServerFrame, size: number): void {
    const { name, body } = frame;
    if (name === 'bye') return this.#bye(now, body);
    if (name === 'welcome') return this.#welcomed(now, body);
    if (this.#phase !== 'open') return;
    delete this.#at.pong;
    this.#at.ping = now + this.welcome!.ping_interval;
    if (name !== 'answers') this.writer.settled();
    switch (name) {
      case 'ping':
        return this.#send({ name: 'pong', body });
      case 'answers':
        if (body.writer !== this.writer.id) return;
        return this.#answered(now, body);
      case 'state':
        return this.#changed(now, body);
      case 'subscribed':
        return this.#subscribed(body);
      case 'unsubscribed': {
        const log = this.#ids.get(body.log);
        this.#ids.delete(body.log);
        return log?.end(body.reason);
      }
      case 'refused':
        return this.#refused(now, body);
      case 'refreshed':
        this.#refreshes = 0;
        return this.#expires(now, body.expires);
      case 'pong':
      case 'done':
        return;
      default:
        return this.#deliver(now, frame, size);
    }
  }

  #answered(now: number, body: Answers): void {
    for (const [action, result] of this.writer.answered(body, now)) {
      const stored = result instanceof HighwaterError ? undefined : result;
      this.logs.get(action.log)?.answered(action.seq, stored);
      action.done(result);
    }
    const ended = body.answers.some(
      ({ outcome }) => 'refused' in outcome && outcome.refused.code === 'token_expired',
    );
    if (ended) this.#refreshSoon(now);
  }

  #deliver(now: number, { name, body }: DeliveryFrame, size: number): void {
    if (name !== 'gap' && name !== 'reset' && name !== 'snapshot_wanted') this.received += size;
    const log = this.#ids.get(body.log);
    if (!log) return;
    this.#moved.add(log);
    if (log[name](body as never) === false) {
      // Law 5: it never guesses. What is held is stated again on a new socket.
      const message = `${log.name} was not sent from ${log.cursor} on`;
      this.#lost(now, new HighwaterError('lost', message));
    }
  }

  #welcomed(now: number, body: Welcome): void {
    if (this.#phase !== 'hello') return;
    this.#phase = 'open';
    this.welcome = body;
    this.#welcomedAt = now;
    this.received = this.acked = 0;
    delete this.#at.welcome;
    this.#at.ping = now + body.ping_interval;
    this.writer.welcomed(body.writers.find(({ writer }) => writer === this.writer.id)?.mark ?? 0);
    if (body.token !== undefined) {
      this.config.token = body.token;
      this.config.kept = true;
      this.out('keep', body.token);
    }
    this.#expires(now, body.expires);
    const { met, generation, source } = body;
    // Without a slot a `state` follows, with the time to wait.
    this.#active = met !== 'waiting';
    if (this.#active) this.#tell({ state: 'active', met, generation, source });
  }

  #changed(now: number, body: StateFrame): void {
    const { active, generation, met, source, reason, activate_after } = body;
    this.#activating = 0;
    Object.assign(this.welcome!, { generation, source }, met && { met });
    if (active) {
      this.#active = true;
      delete this.#at.activate;
      return this.#tell({ state: 'active', met: this.welcome!.met, generation, source });
    }
    this.#pause();
    this.#activateAt = now + activate_after;
    this.#tell({ state: 'inactive', reason: reason ?? 'no_slot', after: activate_after });
    this.activate(now);
  }

  /** An inactive one asks to be active, as soon as it may. */
  activate(now: number, asked = false): void {
    const { visible, activate, random } = this.config;
    if (this.#phase !== 'open' || this.#active || this.#activating) return;
    if (!asked && !(visible && activate)) return;
    const at = Math.max(now, this.#activateAt);
    // Many were perhaps told the same time.
    this.#at.activate = asked ? at : at + random() * 500;
  }

  #askActive(): void {
    if (this.#active || this.#activating) return;
    const request = (this.#activating = ++this.#requests);
    const { cloning } = this.config;
    this.#send({ name: 'activate', body: { request, cloning, open: this.#opening(request) } });
  }

  #subscribed(body: Subscribed): void {
    let log = this.logs.get(body.name);
    if (!log) {
      if (body.request) {
        this.#dropped.push(body.log); // The app let it go while it was asked for.
        return;
      }
      log = this.#delivery(body.name, { start: 'state', priority: body.priority, manual: false });
      this.out('adopted', log);
    }
    if (log.phase === 'over') return;
    if (log.id !== undefined) this.#ids.delete(log.id);
    this.#ids.set(body.log, log);
    log.subscribed(body);
  }

  #refused(now: number, { request, name, refusal }: Refused): void {
    const { code, message, retry_after } = refusal;
    const error = new HighwaterError(code, message, retry_after);
    const jitter = this.config.random() * 1000;
    if (request && request === this.#activating) {
      if (name === undefined) {
        this.#activating = 0;
        this.#pause();
        this.#activateAt = now + retry_after + jitter;
        return this.activate(now);
      }
    } else if (!request && name === undefined) {
      if (wantsToken(code)) this.#refreshSoon(now);
      return;
    }
    for (const log of this.logs.values()) {
      if (log.phase !== 'asked' || (name === undefined ? log.request !== request : log.name !== name)) {
        continue;
      }
      if (isTransient(code) || code === 'inactive') {
        log.phase = 'wanted';
        log.after = now + retry_after + jitter;
      } else {
        log.end(error);
      }
    }
  }

  // What goes out when nothing else is to be done.

  flush(now: number): void {
    if (this.#phase !== 'open') return;
    if (this.#dropped.length) {
      const logs = this.#dropped.splice(0);
      this.#send({ name: 'unsubscribe', body: { request: ++this.#requests, logs } });
    }
    if (this.#active) this.#askForLogs(now);
    const refuse = (action: { log: string; seq: number; done: (error: HighwaterError) => void }) => {
      this.logs.get(action.log)?.answered(action.seq);
      action.done(new HighwaterError('too_large', 'the record is larger than the limit'));
    };
    for (const frame of this.writer.frames(now, this.welcome!.limits, refuse)) this.#send(frame);
    const unacked = this.received - this.acked;
    if (unacked && unacked * 4 >= this.welcome!.limits.window) this.#ack();
    else if ((unacked || this.#moved.size) && !this.#at.ack) this.#at.ack = now + ACK;
  }

  #askForLogs(now: number): void {
    let open: Open[] = [];
    delete this.#at.subscribe;
    for (const log of this.logs.values()) {
      if (log.phase !== 'wanted') continue;
      if (log.after > now) {
        this.#at.subscribe = Math.min(log.after, this.#at.subscribe ?? Infinity);
        continue;
      }
      if (open.length % NAMES === 0) {
        open = [];
        this.#send({ name: 'subscribe', body: { request: ++this.#requests, open } });
      }
      open.push(this.#ask(log, this.#requests));
    }
  }

  #ack(): void {
    delete this.#at.ack;
    const cursors: Cursor[] = [];
    for (const log of this.#moved) {
      const next = log.options.manual ? log.committed : log.cursor;
      if (log.held && log.announced && next >= 0) cursors.push({ log: log.id!, next });
    }
    this.#moved.clear();
    if (this.#phase !== 'open' || (this.acked === this.received && !cursors.length)) return;
    this.acked = this.received;
    this.#send({ name: 'ack', body: { received: this.received, cursors } });
  }

  #delivery(name: string, options: Options): Delivery {
    const log = new Delivery(name, options, this);
    this.logs.set(name, log);
    return log;
  }

  #tell(state: ConnectionState): void {
    this.state = state;
    this.out('state', state);
  }

  #send(frame: ClientFrame): void {
    this.out('send', frame);
  }

  out(...output: Output): void {
    this.#outputs.push(output);
  }
}
