/**
 * The life of a connection as a machine without IO: inputs and the time go in, outputs come out.
 *
 * Its methods are of three kinds. What happens outside: `start`, `gotToken`, `opened`, `frames`,
 * `closed`, `tick`, `probe`, `network`, `look`. What the app asks for: `append`, `activate` and so
 * on, and all that `logs` offers. What drives it: when a turn ends, `flush(now)`, which puts what
 * has come together (appends, subscriptions, acknowledgements) into few frames; then `poll()` until
 * it answers undefined, carrying out each output; then a timer for `deadline()`, which comes back
 * as a `tick`. Times are milliseconds of any clock that does not go back. It knows no socket,
 * clock, storage or randomness of its own.
 */

import { Ms } from './bounds.js';
import { bytesOf, u64, type Sized } from './codec.js';
import type { AppendOptions } from './delivery.js';
import { asError, codeName, HighwaterError, passes, wantsToken } from './errors.js';
import type {
  Answers, Bye, ClientFrame, LogRecord, Refused, ServerFrame, State as StateFrame, Welcome,
} from './frames.js';
import { History } from './history.js';
import type { Config, ConnectionState, Output, Timer } from './states.js';
import { Subscriptions, type DeliveryFrame } from './subscriptions.js';
import { checkName, weigh, Writer, type Action, type Stored } from './writer.js';

export const VERSION = 'highwater-js/0.1.0';

/** How far its socket is. */
const enum Phase {
  OFF,
  /** It is lost; another comes after a while. */
  WAITING,
  TOKEN,
  OPENING,
  HELLO,
  OPEN,
}

export class Connection {
  state: ConnectionState = { state: 'connecting', attempt: 0 };
  readonly logs = new Subscriptions(this);
  readonly writer: Writer;
  readonly history = new History();
  welcome: Welcome | undefined;
  /** Bytes of delivery worked off since `Welcome`, and how many of them the server knows. */
  received = 0;
  acked = 0;

  #phase = Phase.OFF;
  readonly #outputs: Output[] = [];
  #at: { [T in Timer]?: number } = {};
  #active = false;
  #attempt = 0;
  #activating = 0;
  #activateAt = 0;
  #notBefore = 0;
  #online = true;
  #tokenEnds = Infinity;
  #asking = false;
  #refreshes = 0;
  #welcomedAt = 0;
  /** What the server was last told of `visible`, and the newest requests of that and `refresh`. */
  #told: boolean | undefined;
  #looking = 0;
  #refreshing = 0;
  /** How much had gone out when the other side was asked whether it is there. */
  #flown = 0;

  constructor(readonly config: Config) {
    this.writer = new Writer(this);
  }

  /** The next thing to do; undefined when all is done for now. */
  poll(): Output | undefined {
    return this.#outputs.shift();
  }

  /** When a `tick` is due; Infinity: never. */
  deadline(): number {
    const writer = this.#phase === Phase.OPEN ? this.writer.deadline : Infinity;
    return Math.min(writer, ...Object.values(this.#at));
  }

  // Commands of the app.

  /** As `Client.append`. */
  append(name: string, given: LogRecord, { if_head }: AppendOptions = {}): Promise<Stored> {
    return new Promise((resolve) => {
      const log = this.logs.open.get(name);
      const { most, encoding } = this.config;
      if (this.state.state === 'stopped') throw this.state.error;
      if (this.writer.pending.length >= most) {
        throw new HighwaterError('queue_full', 'over the limit');
      }
      let weighed;
      try {
        checkName(name);
        bytesOf(u64, if_head ?? 0);
        weighed = weigh(given, encoding);
      } catch (error) {
        throw asError('bad_record', error);
      }
      const { id, made } = (log?.phase !== 'over' && log) || {};
      const to = id === undefined ? { name } : { log: id };
      const action = this.writer.add({ log: name, to, made, if_head, ...weighed, done: resolve });
      log?.act(action);
      this.config.wake();
    });
  }

  // The socket's life.

  /** Begin, also after `stopped` and `offline`; one that waits comes back as soon as it may. */
  start(now: number): void {
    if (this.#phase === Phase.WAITING) this.#at.retry = Math.max(now, this.#notBefore);
    if (this.#phase !== Phase.OFF) return;
    this.#attempt = 0;
    this.#connect(now);
  }

  #connect(now: number): void {
    this.#at.welcome = now + Ms.WELCOME;
    this.#tell({ state: 'connecting', attempt: this.#attempt });
    const ended = this.config.token === undefined || now > this.#tokenEnds - Ms.PONG;
    if (this.config.tokens && ended) {
      this.#phase = Phase.TOKEN;
      return this.#askToken();
    }
    this.#phase = Phase.OPENING;
    this.out('connect');
  }

  opened(_now: number): void {
    if (this.#phase !== Phase.OPENING) return;
    this.#phase = Phase.HELLO;
    const { config, history, writer } = this;
    const body = {
      ...config, // Of which goes out what the frame has.
      version: 1,
      capabilities: ['history', 'starts', 'requests', 'parts', 'held', 'bases'],
      client: VERSION,
      writers: [{ writer: writer.id, oldest: writer.oldest }],
      ...this.logs.ask(0),
      positions: history.positions,
    };
    this.send('hello', body);
    this.#told = config.visible;
  }

  /** The socket ended, with its close code if there was one. */
  closed(now: number, number = 0, reason = ''): void {
    if (number < 4000) return this.#lost(now, reason || `closed (${number})`);
    // The last frame was lost, and with it the word on coming back: come back.
    this.#bye(now, { code: codeName(number - 4000), message: reason, reconnect: true, after: 0 });
  }

  #bye(now: number, { code, message, reconnect, after }: Bye): void {
    const error = new HighwaterError(code, message, after);
    if (wantsToken(code)) {
      this.config.token = undefined;
      if (!this.config.tokens && !this.config.kept) return this.stop(now, error);
      if (this.config.kept) this.out('keep');
      this.config.kept = false;
    } else if (code === 'unknown_connection' && !this.welcome && !this.config.fixed) {
      this.out('rename'); // Another user of this browser left it.
    } else if (!reconnect) {
      return this.stop(now, error);
    }
    this.#lost(now, error, after);
  }

  /** The socket is of no more use; comes back after a while. */
  #lost(now: number, error: HighwaterError | string, after = 0): void {
    if (this.#phase <= Phase.WAITING) return;
    if (this.#phase === Phase.OPEN && now - this.#welcomedAt >= Ms.STEADY) this.#attempt = 0;
    this.#drop();
    this.#phase = Phase.WAITING;
    const wait = Math.max(after, this.#jitter(this.#attempt++));
    this.#notBefore = now + after;
    this.#at.retry = now + wait;
    if (this.#online) this.#tell({ state: 'waiting', after: wait, error: asError('lost', error) });
    else this.#tell({ state: 'offline', reason: 'network' });
  }

  #drop(): void {
    this.out('disconnect');
    this.#phase = Phase.OFF;
    this.#activating = 0;
    this.#at = {};
    this.#asking = false;
    this.#pause();
  }

  /** Nothing is delivered from here on, until the logs are subscribed again. */
  #pause(): void {
    this.#active = false;
    this.logs.pause();
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
      this.decided(action, new HighwaterError(error.code, error.message, 0, action.tried));
    }
  }

  close(now: number, leave: boolean, forget: boolean): void {
    if (this.#phase === Phase.OPEN) {
      this.#ack();
      if (leave) this.send('leave', { forget });
    }
    this.stop(now, new HighwaterError('closed', 'closed'));
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
        return this.#lost(now, 'no welcome');
      case 'ping':
        return this.probe(now);
      case 'pong':
        // A ping that waits behind an upload is no silence as long as that moves.
        if (late > Ms.FROZEN || (this.#flown && this.#flown !== this.config.flown())) {
          return this.probe(now);
        }
        return this.#lost(now, 'silence');
      case 'ack':
        return this.#ack();
      case 'activate':
        return this.#askActive();
      case 'refresh':
        return this.#askToken();
      // After `subscribe`, `flush` sends what was refused.
    }
  }

  /** The browser's word on the network: only a hint. */
  network(now: number, online: boolean): void {
    this.#online = online;
    if (!online && this.#phase === Phase.WAITING) {
      this.#tell({ state: 'offline', reason: 'network' });
    }
    this.probe(now);
  }

  /** The socket breaks, as by a network. */
  cut(now: number): void {
    this.#lost(now, 'cut');
  }

  /** Is the other side there? With a socket it is asked, without one it is tried at once. */
  probe(now: number): void {
    if (this.#phase === Phase.OPEN && !this.#at.pong) {
      this.send('ping', { nonce: 0 });
      this.#at.pong = now + Ms.PONG;
      this.#flown = this.config.flown();
    } else if (this.#phase === Phase.WAITING && this.#online) {
      this.#at.retry = Math.max(now, this.#notBefore);
    }
  }

  /** Whether someone looks at the client. */
  look(now: number, visible: boolean): void {
    const { config } = this;
    if (config.visible === visible) return;
    config.visible = visible;
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
    if (!token) error ??= new HighwaterError('unauthorized', 'no token');
    if (error) {
      if (this.#phase === Phase.TOKEN) this.#lost(now, error);
      else if (this.#phase === Phase.OPEN) this.#refreshSoon(now);
      return;
    }
    this.config.token = token;
    this.#tokenEnds = Infinity;
    if (this.#phase === Phase.TOKEN) return this.#connect(now);
    if (this.#phase !== Phase.OPEN) return;
    const request = (this.#refreshing = this.logs.request());
    this.send('refresh', { token: token!, request });
  }

  /** The token in force ended, or another could not be had: soon again, slower each time. */
  #refreshSoon(now: number): void {
    if (!this.config.tokens || this.#asking) return;
    const at = now + this.#jitter(this.#refreshes++);
    this.#at.refresh = Math.min(at, this.#at.refresh ?? Infinity);
  }

  #jitter(attempt: number): number {
    return this.config.random() * Math.min(Ms.BACK_TO, Ms.BACK_FROM * 2 ** attempt);
  }

  /** Gets the next token while this one is still good: 10 to 20 % before its end, at most 60 s. */
  #expires(now: number, expires: number): void {
    this.#tokenEnds = expires ? expires - this.welcome!.time + this.#welcomedAt : Infinity;
    if (!expires || !this.config.tokens) return;
    const left = this.#tokenEnds - now;
    const lead = Math.min(30_000, left / 10) * (1 + this.config.random());
    this.#at.refresh = now + Math.max(Ms.REFRESH, left - lead);
  }

  // Frames.

  /** The frames of a message. */
  frames(now: number, frames: readonly Sized<ServerFrame>[]): void {
    if (this.#phase === Phase.OPEN) {
      delete this.#at.pong;
      this.#at.ping = now + this.welcome!.ping_interval;
    }
    for (const { frame, size } of frames) this.#frame(now, frame, size);
  }

  #frame(now: number, frame: ServerFrame, size: number): void {
    const { name, body } = frame;
    if (name === 'bye') return this.#bye(now, body);
    if (name === 'welcome') return this.#welcomed(now, body);
    if (this.#phase !== Phase.OPEN) return;
    if (name !== 'answers') this.writer.settled();
    switch (name) {
      case 'ping':
        this.history.told(body.positions!);
        return this.send('pong', body);
      case 'answers':
        return this.#answered(now, body);
      case 'state':
        return this.#changed(now, body);
      case 'subscribed':
        return this.logs.subscribed(body);
      case 'unsubscribed':
        return this.logs.unsubscribed(body);
      case 'refused':
        return this.#refused(now, body);
      case 'refreshed':
        this.#refreshes = 0;
        return this.#expires(now, body.expires);
      case 'records':
      case 'base':
      case 'base_records':
        this.received += size;
    }
    // Law 5: it never guesses. What is held is stated again on a new socket.
    const astray = this.logs.deliver(frame as DeliveryFrame);
    if (astray) this.#lost(now, astray);
  }

  /** An action has its end, here and for whoever made it. */
  decided(action: Action, result: Stored | HighwaterError): void {
    const stored = result instanceof HighwaterError ? undefined : result;
    if (stored) this.history.saw(stored.place.batch);
    this.logs.open.get(action.log)?.answered(action, stored);
    action.done(stored ?? Promise.reject(result));
  }

  #answered(now: number, body: Answers): void {
    this.history.told(body.positions!);
    if (body.writer !== this.writer.id) return;
    const code = this.writer.answered(body, now);
    if (code === 'token_expired') this.#refreshSoon(now);
    // The next `welcome` tells all that follows from it.
    if (code === 'other_history') this.#lost(now, code);
  }

  #welcomed(now: number, body: Welcome): void {
    if (this.#phase !== Phase.HELLO) return;
    this.#phase = Phase.OPEN;
    this.welcome = body;
    this.#welcomedAt = now;
    this.received = this.acked = 0;
    delete this.#at.welcome;
    this.#at.ping = now + body.ping_interval;
    const { writers, positions, other_history, credit } = body;
    this.history.told(positions!, other_history);
    const mark = writers.find(({ writer }) => writer === this.writer.id)?.mark ?? 0;
    this.writer.welcomed(now, mark, other_history, credit);
    if (other_history) this.logs.forget();
    if (body.token !== undefined) {
      this.config.token = body.token;
      this.config.kept = true;
      this.out('keep', body.token);
    }
    this.#expires(now, body.expires);
    // Without a slot a `state` follows, with the time to wait.
    if (body.met !== 'waiting') this.#activated();
  }

  #activated(): void {
    const { met, generation, source } = this.welcome!;
    this.#active = true;
    delete this.#at.activate;
    this.#tell({ state: 'active', met, generation, source });
  }

  #changed(now: number, body: StateFrame): void {
    const { active, generation, met, source, reason, activate_after } = body;
    this.#activating = 0;
    Object.assign(this.welcome!, { generation, source }, met && { met });
    if (active) return this.#activated();
    this.#pause();
    this.#activateAt = now + activate_after;
    this.#tell({ state: 'inactive', reason: reason!, after: activate_after });
    this.activate(now);
  }

  /** An inactive one asks to be active, as soon as it may. */
  activate(now: number, asked = false): void {
    const { visible, activate, random } = this.config;
    if (this.#phase !== Phase.OPEN || this.#active || this.#activating) return;
    if (!asked && !(visible && activate)) return;
    const at = Math.max(now, this.#activateAt);
    // Many were perhaps told the same time.
    this.#at.activate = asked ? at : at + random() * 500;
  }

  #askActive(): void {
    if (this.#active || this.#activating) return;
    const request = (this.#activating = this.logs.request());
    const { cloning } = this.config;
    this.send('activate', { request, cloning, ...this.logs.ask(0) });
  }

  #refused(now: number, { request, name, refusal }: Refused): void {
    const { code, message, retry_after } = refusal;
    const error = new HighwaterError(code, message, retry_after);
    const activating = request > 0 && request === this.#activating;
    if (name === undefined) {
      if (activating) {
        this.#activating = 0;
        this.#pause();
        this.#activateAt = now + retry_after + this.config.random() * 1000;
        return this.activate(now);
      }
      // Without a number: the token ended, or it is of a server that does not number these.
      if (request ? request === this.#refreshing : wantsToken(code)) return this.#refreshSoon(now);
      if (!request || request === this.#looking) {
        if (!passes(code)) return;
        this.#told = undefined;
        return this.logs.wait(now, error);
      }
    }
    // The logs of `activate` are answered as those of `hello`.
    this.logs.refused(now, activating ? 0 : request, name, error);
  }

  // What goes out when nothing else is to be done.

  flush(now: number): void {
    if (this.#phase !== Phase.OPEN) return;
    const again = this.logs.flush(now, this.#active);
    const { visible } = this.config;
    if (again) {
      this.#at.subscribe = again;
    } else if (this.#told !== visible) {
      const request = (this.#looking = this.logs.request());
      this.send('visible', { visible, request });
      this.#told = visible;
    }
    this.writer.flush(now);
    const unacked = this.received - this.acked;
    if (unacked && unacked * 4 >= this.welcome!.limits.window) this.#ack();
    else if (unacked || this.logs.moved.size) this.#at.ack ??= now + Ms.ACK;
  }

  #ack(): void {
    delete this.#at.ack;
    const cursors = this.logs.cursors();
    if (this.#phase !== Phase.OPEN || (this.acked === this.received && !cursors.length)) return;
    this.acked = this.received;
    this.send('ack', { received: this.received, cursors });
  }

  #tell(state: ConnectionState): void {
    this.state = state;
    this.out('state', state);
  }

  send<K extends ClientFrame['name']>(
    name: K,
    body: Extract<ClientFrame, { name: K }>['body'],
  ): void {
    this.out('send', { name, body } as ClientFrame);
  }

  out(...output: Output): void {
    this.#outputs.push(output);
  }
}
