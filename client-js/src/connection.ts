/**
 * The life of a connection as a machine without IO: inputs and the time go in, outputs come out.
 *
 * Its methods are of three kinds. What happens outside: `start`, `gotToken`, `opened`, `frames`,
 * `closed`, `tick`, `probe`, `network`, `look`. What the app asks for: `append`, `activate` and so
 * on, and all that `followed` offers. What drives it: when a turn ends, `flush(now)`, which puts
 * what has come together (appends, subscriptions, acknowledgements) into few frames; then `poll()`
 * until it answers undefined, carrying out each output; then a timer for `deadline()`, which comes
 * back as a `tick`. Times are milliseconds of any clock that does not go back. It knows no socket,
 * clock, storage or randomness of its own.
 */

import { Ms } from './bounds.js';
import { bytesOf, u64, type Sized } from './codec.js';
import type { AppendOptions } from './delivery.js';
import { asError, codeName, HighwaterError, passes, refusalOf, wantsToken } from './errors.js';
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
  readonly followed = new Subscriptions(this);
  readonly author: Writer;
  readonly history = new History();
  greeting: Welcome | undefined;
  /** Bytes of delivery worked off since `Welcome`, and how many of them the server knows. */
  worked = 0;
  acked = 0;

  private _phase = Phase.OFF;
  private readonly _outputs: Output[] = [];
  private _at: { [T in Timer]?: number } = {};
  private _active?: boolean;
  private _attempt = 0;
  private _activating?: number;
  private _activateAt = 0;
  private _notBefore!: number;
  private _online = true;
  private _tokenEnds = Infinity;
  private _asking?: boolean;
  private _refreshes = 0;
  private _welcomedAt!: number;
  /** What the server was last told of `visible`, and the newest requests of that and `refresh`. */
  private _told: boolean | undefined;
  private _looking?: number;
  private _refreshing?: number;
  /** How much had gone out when the other side was asked whether it is there. */
  private _flown?: number;

  constructor(readonly config: Config) {
    this.author = new Writer(this);
  }

  /** The next thing to do; undefined when all is done for now. */
  poll(): Output | undefined {
    return this._outputs.shift();
  }

  /** When a `tick` is due; Infinity: never. */
  deadline(): number {
    const writer = this._phase === Phase.OPEN ? this.author.deadline : Infinity;
    return Math.min(writer, ...Object.values(this._at));
  }

  // Commands of the app.

  /** As `Client.append`. */
  append(name: string, given: LogRecord, { if_head }: AppendOptions = {}): Promise<Stored> {
    return new Promise((resolve) => {
      const log = this.followed.named.get(name);
      const { most, encoding } = this.config;
      if (this.state.state === 'stopped') throw this.state.error;
      if (this.author.queue.length >= most) {
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
      const action = this.author.add({ log: name, to, made, if_head, ...weighed, settle: resolve });
      log?.act(action);
      this.config.wake();
    });
  }

  // The socket's life.

  /** Begin, also after `stopped` and `offline`; one that waits comes back as soon as it may. */
  start(now: number): void {
    if (this._phase === Phase.WAITING) this._at.retry = Math.max(now, this._notBefore);
    if (this._phase !== Phase.OFF) return;
    this._attempt = 0;
    this._connect(now);
  }

  private _connect(now: number): void {
    this._at.welcome = now + Ms.WELCOME;
    this._tell({ state: 'connecting', attempt: this._attempt });
    const ended = this.config.token === undefined || now > this._tokenEnds - Ms.PONG;
    if (this.config.tokens && ended) {
      this._phase = Phase.TOKEN;
      return this._askToken();
    }
    this._phase = Phase.OPENING;
    this.out('connect');
  }

  opened(_now: number): void {
    if (this._phase !== Phase.OPENING) return;
    this._phase = Phase.HELLO;
    const { config, history, author: writer } = this;
    this.say('hello', {
      ...config, // Of which goes out what the frame has.
      version: 1,
      capabilities: ['history', 'starts', 'requests', 'parts', 'held', 'bases'],
      client: VERSION,
      writers: [{ writer: writer.id, oldest: writer.oldest }],
      ...this.followed.ask(0),
      positions: history.positions,
    });
    this._told = config.visible;
  }

  /** The socket ended, with its close code if there was one. */
  closed(now: number, number = 0, reason = ''): void {
    if (number < 4000) return this._lost(now, reason || `closed (${number})`);
    // The last frame was lost, and with it the word on coming back: come back.
    this._bye(now, { code: codeName(number - 4000), message: reason, reconnect: true, after: 0 });
  }

  private _bye(now: number, { code, message, reconnect, after }: Bye): void {
    const error = new HighwaterError(code, message, after);
    if (wantsToken(code)) {
      this.config.token = undefined;
      if (this.config.kept) this.out('keep');
      else if (!this.config.tokens) return this.stop(now, error);
      this.config.kept = false;
    } else if (code === 'unknown_connection' && !this.greeting && !this.config.fixed) {
      this.out('rename'); // Another user of this browser left it.
    } else if (!reconnect) {
      return this.stop(now, error);
    }
    this._lost(now, error, after);
  }

  /** The socket is of no more use; comes back after a while. */
  private _lost(now: number, error: HighwaterError | string, after = 0): void {
    if (this._phase <= Phase.WAITING) return;
    if (this._phase === Phase.OPEN && now - this._welcomedAt >= Ms.STEADY) this._attempt = 0;
    this._drop();
    this._phase = Phase.WAITING;
    const wait = Math.max(after, this._jitter(this._attempt++));
    this._notBefore = now + after;
    this._at.retry = now + wait;
    if (this._online) this._tell({ state: 'waiting', after: wait, error: asError('lost', error) });
    else this._tell({ state: 'offline', reason: 'network' });
  }

  private _drop(): void {
    this.out('disconnect');
    this._phase = Phase.OFF;
    this._activating = 0;
    this._at = {};
    this._asking = false;
    this._pause();
  }

  /** Nothing is delivered from here on, until the logs are subscribed again. */
  private _pause(): void {
    this._active = false;
    this.followed.pause();
  }

  /** The app wants no socket until `start`. */
  offline(_now: number): void {
    if (this.state.state === 'stopped') return;
    this._drop();
    this._tell({ state: 'offline', reason: 'asked' });
  }

  /** It is over; actions without an answer are rejected. */
  stop(_now: number, error: HighwaterError): void {
    this._drop();
    this._tell({ state: 'stopped', error });
    for (const action of this.author.queue.splice(0)) {
      this.decided(action, new HighwaterError(error.code, error.message, 0, action.tried));
    }
  }

  close(now: number, leave: boolean, forget: boolean): void {
    if (this._phase === Phase.OPEN) {
      this._ack();
      if (leave) this.say('leave', { forget });
    }
    this.stop(now, new HighwaterError('closed', 'closed'));
  }

  // Time.

  tick(now: number): void {
    const due = (Object.entries(this._at) as [Timer, number][]).sort((a, b) => a[1] - b[1]);
    for (const [timer, at] of due) {
      // One that rang before may have put off or ended this one.
      if (at > now || this._at[timer] !== at) continue;
      delete this._at[timer];
      this._ring(now, timer, now - at);
    }
  }

  private _ring(now: number, timer: Timer, late: number): void {
    switch (timer) {
      case 'retry':
        return this._connect(now);
      case 'ping':
        return this.probe(now);
      case 'pong':
        // A ping that waits behind an upload is no silence as long as that moves.
        if (late > Ms.FROZEN || (this._flown && this._flown !== this.config.flown())) {
          return this.probe(now);
        }
        return this._lost(now, 'silence');
      case 'welcome':
        return this._lost(now, 'silence');
      case 'ack':
        return this._ack();
      case 'activate':
        return this._askActive();
      case 'refresh':
        return this._askToken();
      // After `subscribe`, `flush` sends what was refused.
    }
  }

  /** The browser's word on the network: only a hint. */
  network(now: number, online: boolean): void {
    this._online = online;
    if (!online && this._phase === Phase.WAITING) {
      this._tell({ state: 'offline', reason: 'network' });
    }
    this.probe(now);
  }

  /** The socket breaks, as by a network. */
  cut(now: number): void {
    this._lost(now, 'cut');
  }

  /** Is the other side there? With a socket it is asked, without one it is tried at once. */
  probe(now: number): void {
    if (this._phase === Phase.OPEN && !this._at.pong) {
      this.say('ping', { nonce: 0 });
      this._at.pong = now + Ms.PONG;
      this._flown = this.config.flown();
    } else if (this._phase === Phase.WAITING && this._online) {
      this._at.retry = Math.max(now, this._notBefore);
    }
  }

  /** Whether someone looks at the client. */
  look(now: number, visible: boolean): void {
    const { config } = this;
    if (config.visible === visible) return;
    config.visible = visible;
    if (!visible) return this._ack();
    this.probe(now);
    this.activate(now);
  }

  // Tokens.

  private _askToken(): void {
    if (this._asking) return;
    this._asking = true;
    this.out('token');
  }

  /** The answer to the output `token`. */
  gotToken(now: number, token: string | undefined, error?: HighwaterError): void {
    this._asking = false;
    if (!token) error ??= new HighwaterError('unauthorized', 'no token');
    if (error) {
      if (this._phase === Phase.TOKEN) this._lost(now, error);
      else if (this._phase === Phase.OPEN) this._refreshSoon(now);
      return;
    }
    this.config.token = token;
    this._tokenEnds = Infinity;
    if (this._phase === Phase.TOKEN) return this._connect(now);
    if (this._phase !== Phase.OPEN) return;
    const request = (this._refreshing = this.followed.ticket());
    this.say('refresh', { token: token!, request });
  }

  /** The token in force ended, or another could not be had: soon again, slower each time. */
  private _refreshSoon(now: number): void {
    if (!this.config.tokens || this._asking) return;
    const at = now + this._jitter(this._refreshes++);
    this._at.refresh = Math.min(at, this._at.refresh ?? Infinity);
  }

  private _jitter(attempt: number): number {
    return this.config.chance() * Math.min(Ms.BACK_TO, Ms.BACK_FROM * 2 ** attempt);
  }

  /** Gets the next token while this one is still good: 10 to 20 % before its end, at most 60 s. */
  private _expires(now: number, expires: number): void {
    this._tokenEnds = expires ? expires - this.greeting!.time + this._welcomedAt : Infinity;
    if (!expires || !this.config.tokens) return;
    const left = this._tokenEnds - now;
    const lead = Math.min(30_000, left / 10) * (1 + this.config.chance());
    this._at.refresh = now + Math.max(Ms.REFRESH, left - lead);
  }

  // Frames.

  /** The frames of a message. */
  frames(now: number, frames: readonly Sized<ServerFrame>[]): void {
    if (this._phase === Phase.OPEN) {
      delete this._at.pong;
      // Its own ping waits behind what comes in pieces, so the server hears one of ours.
      if (frames[0]) this._at.ping = 0;
      this._at.ping ||= now + this.greeting!.ping_interval;
    }
    for (const { frame, size } of frames) this._frame(now, frame, size);
  }

  private _frame(now: number, frame: ServerFrame, size: number): void {
    const { name, body } = frame;
    if (name === 'bye') return this._bye(now, body);
    if (name === 'welcome') return this._welcomed(now, body);
    if (this._phase !== Phase.OPEN) return;
    if (name !== 'answers') this.author.settled();
    switch (name) {
      case 'ping':
        this.history.told(body.positions!);
        return this.say('pong', body);
      case 'answers':
        return this._answered(now, body);
      case 'state':
        return this._changed(now, body);
      case 'subscribed':
        return this.followed.subscribed(body);
      case 'unsubscribed':
        return this.followed.unsubscribed(body);
      case 'refused':
        return this._refused(now, body);
      case 'refreshed':
        this._refreshes = 0;
        return this._expires(now, body.expires);
      case 'records':
      case 'base':
      case 'base_records':
        this.worked += size;
    }
    // Law 5: it never guesses. What is held is stated again on a new socket.
    const astray = this.followed.deliver(frame as DeliveryFrame);
    if (astray) this._lost(now, astray);
  }

  /** An action has its end, here and for whoever made it. */
  decided(action: Action, result: Stored | HighwaterError): void {
    const stored = result instanceof HighwaterError ? undefined : result;
    if (stored) this.history.saw(stored.place.batch);
    this.followed.named.get(action.log)?.answered(action, stored);
    action.settle(stored ?? Promise.reject(result));
  }

  private _answered(now: number, body: Answers): void {
    this.history.told(body.positions!);
    if (body.writer !== this.author.id) return;
    const code = this.author.answered(body, now);
    if (code === 'token_expired') this._refreshSoon(now);
    // The next `welcome` tells all that follows from it.
    if (code === 'other_history') this._lost(now, code);
  }

  private _welcomed(now: number, body: Welcome): void {
    if (this._phase !== Phase.HELLO) return;
    this._phase = Phase.OPEN;
    this.greeting = body;
    this._welcomedAt = now;
    this.worked = this.acked = 0;
    delete this._at.welcome;
    this._at.ping = now + body.ping_interval;
    const { writers, positions, other_history, credit } = body;
    this.history.told(positions!, other_history);
    const mark = writers.find(({ writer }) => writer === this.author.id)?.mark ?? 0;
    this.author.welcomed(now, mark, other_history, credit);
    if (other_history) this.followed.forget();
    if (body.token !== undefined) {
      this.config.token = body.token;
      this.config.kept = true;
      this.out('keep', body.token);
    }
    this._expires(now, body.expires);
    // Without a slot a `state` follows, with the time to wait.
    if (body.met !== 'waiting') this._activated();
  }

  private _activated(): void {
    const { met, generation, source } = this.greeting!;
    this._active = true;
    delete this._at.activate;
    this._tell({ state: 'active', met, generation, source });
  }

  private _changed(now: number, body: StateFrame): void {
    const { active, generation, met, source, reason, activate_after } = body;
    this._activating = 0;
    Object.assign(this.greeting!, { generation, source }, met && { met });
    if (active) return this._activated();
    this._pause();
    this._activateAt = now + activate_after;
    this._tell({ state: 'inactive', reason: reason!, after: activate_after });
    this.activate(now);
  }

  /** An inactive one asks to be active, as soon as it may. */
  activate(now: number, asked = false): void {
    const { visible, activate, chance } = this.config;
    if (this._phase !== Phase.OPEN || this._active || this._activating) return;
    if (!asked && !(visible && activate)) return;
    const at = Math.max(now, this._activateAt);
    // Many were perhaps told the same time.
    this._at.activate = asked ? at : at + chance() * 500;
  }

  private _askActive(): void {
    const request = (this._activating = this.followed.ticket());
    const { cloning } = this.config;
    this.say('activate', { request, cloning, ...this.followed.ask(0) });
  }

  private _refused(now: number, { request, name, refusal }: Refused): void {
    const error = refusalOf(refusal);
    const activating = request > 0 && request === this._activating;
    if (name === undefined) {
      if (activating) {
        this._activating = 0;
        this._pause();
        this._activateAt = now + error.retryAfter + this.config.chance() * 1000;
        return this.activate(now);
      }
      // Without a number: the token ended, or it is of a server that does not number these.
      const ended = request ? request === this._refreshing : wantsToken(error.code);
      if (ended) return this._refreshSoon(now);
      if (!request || request === this._looking) {
        if (!passes(error.code)) return;
        this._told = undefined;
        return this.followed.wait(now, error);
      }
    }
    // The logs of `activate` are answered as those of `hello`.
    this.followed.refused(now, activating ? 0 : request, name, error);
  }

  // What goes out when nothing else is to be done.

  flush(now: number): void {
    if (this._phase !== Phase.OPEN) return;
    const again = this.followed.flush(now, this._active);
    const { visible } = this.config;
    if (again) {
      this._at.subscribe = again;
    } else if (this._told !== visible) {
      const request = (this._looking = this.followed.ticket());
      this.say('visible', { visible, request });
      this._told = visible;
    }
    this.author.flush(now);
    const unacked = this.worked - this.acked;
    if (unacked && unacked * 4 >= this.greeting!.limits.window) this._ack();
    else if (unacked || this.followed.moved.size) this._at.ack ??= now + Ms.ACK;
  }

  private _ack(): void {
    delete this._at.ack;
    const cursors = this.followed.cursors();
    if (this._phase !== Phase.OPEN || (this.acked === this.worked && !cursors.length)) return;
    this.acked = this.worked;
    this.say('ack', { received: this.worked, cursors });
  }

  private _tell(state: ConnectionState): void {
    this.state = state;
    this.out('state', state);
  }

  say<K extends ClientFrame['name']>(
    name: K,
    body: Extract<ClientFrame, { name: K }>['body'],
  ): void {
    this.out('send', { name, body } as ClientFrame);
  }

  out(...output: Output): void {
    this._outputs.push(output);
  }
}
