/**
 * The life of a connection as a machine without IO: inputs and the time go in, outputs come out.
 *
 * What happens outside is told by `start`, `gotToken`, `opened`, `frames`, `closed`, `tick`,
 * `probe`, `network`, `look`. When a turn ends, `flush(now)` puts what has come together into few
 * frames; then `poll()` until it answers undefined, carrying out each output; then a timer for
 * `deadline()`, which comes back as a `tick`. Times are milliseconds of any clock that runs on.
 */

import { Most, Ms } from './bounds.js';
import type { Sized } from './codec.js';
import { Commits } from './commits.js';
import { Stage, type Delivery, type Holder } from './delivery.js';
import { quiet } from './emitter.js';
import { codeName, HighwaterError, passes, refusalOf, wantsToken } from './errors.js';
import type {
  Answers, Bye, ClientFrame, Draft, Refreshed, Refused, ServerFrame, State as StateFrame,
  Subscribed, Unsubscribed, Welcome,
} from './frames.js';
import { History } from './history.js';
import type { Answer, BodyOf, Config, Core, End, Output, Status, Timer } from './states.js';
import { Subscriptions, type DeliveryFrame } from './subscriptions.js';
import { Nodes } from './nodes.js';
import { backoff, Tokens } from './tokens.js';
import {
  checkName, FREE, weigh, Writer, type Action, type AppendOptions, type Stored,
} from './writer.js';

export const VERSION = 'highwater-js/0.1.0';
const NONE = 'the token function gave no text in time';
/** Requests of which the newest counts. */
type Asked = 'visible' | 'refresh' | 'activate';
type Told = (now: number, body: ServerFrame['body']) => void;
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

export class Connection implements Core {
  status: Status = { phase: 'connecting', reason: 'begun' };
  readonly followed: Subscriptions;
  readonly author: Writer;
  /** All that append over its socket: its own, and those of a log on disk. */
  readonly writers: Writer[];
  credit = FREE;
  readonly history = new History();
  greeting: Welcome | undefined;
  /** Bytes of delivery worked off since `Welcome`, and how many of them the server knows. */
  worked = 0;
  acked = 0;

  private _phase = Phase.OFF;
  /** It was met at least once, or lost: it is not `connecting` any more. */
  private _begun?: boolean;
  /** Why it is over, until it is started again. */
  private _over: HighwaterError | undefined;
  /** What it was told to be on this socket, while its token is good. */
  private _standing!: Status;
  private readonly _outputs: Output[] = [];
  private _polled = 0;
  bells: { [T in Timer]?: number } = {};
  private _active?: boolean;
  private _attempt = 0;
  private _activating?: number;
  private _activateAt = 0;
  private _notBefore!: number;
  private _online = true;
  private _welcomedAt!: number;
  private readonly _tokens: Tokens;
  readonly nodes: Nodes;
  /** What the server was last told of `visible`. */
  private _told: boolean | undefined;
  /** How much had gone out when the other side was asked whether it is there. */
  private _flown?: number;
  private _tickets = 0;
  /** Requests that have one answer. Those of logs are known by their logs. */
  private readonly _requests = new Map<number, Answer>();
  /** The newest of each kind: what is answered to an older one counts no more. */
  private readonly _newest: { [K in Asked]?: number } = {};
  private readonly _commits = new Commits();

  constructor(readonly config: Config) {
    this.author = new Writer(this, (action, result) => this._decided(action, result));
    this.writers = [this.author];
    this.followed = new Subscriptions(this, this.author);
    this._tokens = new Tokens(this);
    this.nodes = new Nodes(config.url);
  }

  /** The next thing to do; undefined when all is done for now. */
  poll(): Output | undefined {
    const output = this._outputs[this._polled++];
    // Taken from the front one by one, many would cost the square of their number.
    if (!output) this._outputs.length = this._polled = 0;
    return output;
  }

  /** When a `tick` is due; Infinity: never. */
  deadline(): number {
    const writers = this._phase === Phase.OPEN ? this.writers : [];
    const due = writers.map(({ deadline }) => deadline);
    return Math.min(...due, this.followed.deadline, ...Object.values(this.bells));
  }

  ticket(answer?: Answer, number = ++this._tickets): number {
    if (answer) this._requests.set(number, answer);
    return number;
  }

  wake(): void {
    this.config.wake();
  }

  /** It has said to the server which history it is of. */
  get stated(): boolean {
    return this._phase >= Phase.HELLO;
  }

  // Commands of the app.

  /** As `Client.append`. */
  append(name: string, given: Draft, { ifHead }: AppendOptions = {}): Promise<Stored> {
    return quiet(new Promise<Stored>((resolve) => {
      const log = this.followed.named.get(name);
      const { maxPending, encoding } = this.config;
      if (this._over) throw this._over;
      if (this.author.queue.size >= maxPending) {
        throw new HighwaterError('queue_full', `${maxPending} actions wait for their answers`);
      }
      checkName(name);
      const weighed = weigh(given, encoding, ifHead);
      const { id, made } = (log?.stage !== Stage.OVER && log) || {};
      const to = id === undefined ? { name } : { log: id };
      const action = this.author.add({ log: name, to, made, ifHead, ...weighed, settle: resolve });
      log?.act(action);
      this.wake();
    }));
  }

  /** All below `next` is worked off: resolves when the server has read that. */
  commit(log: Delivery, holder: Holder, next: number): Promise<void> {
    this.wake();
    return this._commits.add(log, holder, next, this._over);
  }

  /** It is that user's: a token of another one ends it. */
  mine(user: string): void {
    this._tokens.whose(user);
  }

  // The socket's life.

  /** Begin, also again, but after `close`; one that waits comes back as soon as it may. */
  start(now: number): void {
    if (this._over?.code === 'closed') return;
    if (this._phase === Phase.WAITING) this.bells._connect = Math.max(now, this._notBefore);
    if (this._phase !== Phase.OFF) return;
    this._over = undefined;
    this._attempt = 0;
    if (this._begun) this._tell({ phase: 'connecting', reason: 'begun' });
    this._connect(now);
  }

  private _connect(now: number): void {
    this._begun = true;
    if (this._tokens.wanted(now)) {
      this._phase = Phase.TOKEN;
      return this._tokens.ask(now);
    }
    this.bells._unmet = now + Ms.WELCOME;
    this._phase = Phase.OPENING;
    this.out('connect');
  }

  opened(_now: number): void {
    if (this._phase !== Phase.OPENING) return;
    this._phase = Phase.HELLO;
    const { config, history } = this;
    const { token, connection, device, visible, cloning, window } = config;
    this.say('hello', {
      version: 1,
      capabilities: ['history', 'starts', 'requests', 'parts', 'held', 'bases', 'delivered'],
      token,
      connection,
      device,
      client: VERSION,
      visible,
      cloning,
      window,
      writers: this._named(),
      ...this.followed.ask(0),
      positions: history.positions,
    });
    this._told = visible;
  }

  /** The own writer first, then others; answers tell the marks of those that have no room. */
  private _named(): { writer: string; oldest: number }[] {
    return this.writers.slice(0, Most.WRITERS).map(({ id, oldest }) => ({ writer: id, oldest }));
  }

  /** The socket ended, with its close code if there was one. */
  closed(now: number, number = 0, reason = ''): void {
    if (number < 4000) return this._lost(now, reason || `closed (${number})`);
    // The last frame was lost, and with it the word on coming back: come back.
    this.bye(now, { code: codeName(number - 4000), message: reason, reconnect: true, after: 0 });
  }

  bye(now: number, { code, message, reconnect, after, nodes }: Bye): void {
    const error = new HighwaterError(code, message, after);
    if (wantsToken(code)) {
      const { config } = this;
      config.token = undefined;
      if (config.kept) {
        config.kept = false;
        this._tokens.anybody();
        this.out('keep');
      } else if (!config.tokens) return this.stop(now, error);
    } else if (code === 'unknown_connection' && !this.greeting && !this.config.fixed) {
      this.out('rename'); // Another user of this browser left it.
    } else if (!reconnect) {
      return this.stop(now, error);
    }
    this._lost(now, error, after, nodes);
  }

  /** The socket is of no more use; comes back after a while, or goes to where it was sent. */
  private _lost(now: number, why: HighwaterError | string, after = 0, to?: string[]): void {
    if (this._phase <= Phase.WAITING) return;
    this.nodes.lost(this._phase === Phase.OPEN);
    // The time is that of the node which said it.
    if (to?.length && this.nodes.told(to, true)) after = 0;
    if (this._phase === Phase.OPEN && now - this._welcomedAt >= Ms.STEADY) this._attempt = 0;
    this._drop();
    this._phase = Phase.WAITING;
    const retryAfter = Math.max(after, backoff(this.config.chance, this._attempt++));
    this._notBefore = now + after;
    this.bells._connect = now + retryAfter;
    const error = typeof why === 'string' ? new HighwaterError('lost', why) : why;
    if (!this._online) this._tell({ phase: 'offline', reason: 'network' });
    else if (!wantsToken(error.code)) {
      this._tell({ phase: 'offline', reason: 'lost', retryAfter, error });
    } else this._tell({ phase: 'needs-auth', reason: error.code, retryAfter, error });
  }

  private _drop(): void {
    this.out('disconnect');
    this._phase = Phase.OFF;
    this._activating = 0;
    this.bells = {};
    this._tokens.asked();
    const requests = [...this._requests.values()];
    this._requests.clear();
    for (const answer of requests) answer(0, new HighwaterError('lost', 'the socket ended'));
    this._pause();
  }

  /** Nothing is delivered from here on, until the logs are subscribed again. */
  private _pause(): void {
    this._active = false;
    this.followed.pause();
  }

  /** The app wants no socket until `start`. */
  offline(_now: number): void {
    if (this._over) return;
    this._begun = true;
    this._drop();
    this._tell({ phase: 'offline', reason: 'asked' });
  }

  /** It is over; actions without an answer are rejected. */
  stop(_now: number, error: HighwaterError): void {
    const { code } = error;
    this._over = error;
    this._begun = true;
    this._drop();
    const auth = wantsToken(code) || code === 'other_user';
    const phase = auth ? 'needs-auth' : code === 'version' ? 'update-required' : 'closed';
    this._tell({ phase, reason: code, error } as End);
    for (const action of this.author.empty()) {
      this._decided(action, new HighwaterError(code, error.message, 0, action.tried));
    }
    this._commits.end(error);
  }

  close(now: number, leave: boolean, forget: boolean): void {
    if (this._over?.code === 'closed') return;
    if (this._phase === Phase.OPEN) {
      this._ack();
      if (leave) this.say('leave', { forget });
    }
    this.stop(now, new HighwaterError('closed', 'the app closed this client'));
  }

  // Time.

  tick(now: number): void {
    const due = (Object.entries(this.bells) as [Timer, number][]).sort((a, b) => a[1] - b[1]);
    for (const [timer, at] of due) {
      // One that rang before may have put off or ended this one.
      if (at > now || this.bells[timer] !== at) continue;
      delete this.bells[timer];
      this[timer](now, now - at);
    }
  }

  private _silent(now: number, late: number): void {
    // A ping that waits behind an upload is no silence as long as that moves.
    const moves = this._flown && this._flown !== this.config.flown();
    if (late > Ms.FROZEN || moves) this.probe(now);
    else this._lost(now, 'silence');
  }

  private _unmet(now: number): void {
    this._lost(now, 'no answer');
  }

  private _tokenless(now: number): void {
    this.gotToken(now);
  }

  private _renew(now: number): void {
    this._tokens.ask(now);
  }

  /** The browser's word on the network: only a hint. */
  network(now: number, online: boolean): void {
    this._online = online;
    if (!online && this._phase === Phase.WAITING) {
      this._tell({ phase: 'offline', reason: 'network' });
    }
    this.probe(now);
  }

  /** The socket breaks, as by a network. */
  cut(now: number): void {
    this._lost(now, 'cut');
  }

  /** Is the other side there? With a socket it is asked, without one it is tried at once. */
  probe(now: number): void {
    if (this._phase === Phase.OPEN && !this.bells._silent) {
      this.say('ping', { nonce: 0 });
      this.bells._silent = now + Ms.PONG;
      this._flown = this.config.flown();
    } else if (this._phase === Phase.WAITING && this._online) {
      this.bells._connect = Math.max(now, this._notBefore);
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

  /** The answer to the output `token`; also a late one, which another was asked for since. */
  gotToken(now: number, token?: string, error = new HighwaterError('unauthorized', NONE)): void {
    this._tokens.asked();
    delete this.bells._tokenless;
    if (this._over || (token && !this._tokens.took(now, token))) return;
    if (this._phase === Phase.TOKEN) {
      if (token) this._connect(now);
      else this._lost(now, error);
    } else if (this._phase === Phase.OPEN) {
      if (token) this._ask('refresh', { token }, (at) => this._tokens.soon(at));
      else this._tokens.soon(now);
    }
  }

  /** The server takes the token no more: nothing is delivered until it has another. */
  private _ended(now: number, error: HighwaterError): void {
    this._tell({ phase: 'needs-auth', reason: error.code, error });
    this._tokens.soon(now);
  }

  private _expires(now: number, expires: number): void {
    const end = expires ? expires - this.greeting!.time + this._welcomedAt : Infinity;
    this._tokens.lasts(now, end - now);
  }

  // Frames.

  /** The frames of a message. */
  frames(now: number, frames: readonly Sized<ServerFrame>[]): void {
    if (this._phase === Phase.OPEN) {
      delete this.bells._silent;
      // Its own ping waits behind what comes in pieces, so the server hears one of ours.
      if (frames[0]) this.bells.probe = 0;
      this.bells.probe ||= now + this.greeting!.pingInterval;
    }
    for (const { frame, size } of frames) this._frame(now, frame, size);
  }

  private _frame(now: number, frame: ServerFrame, size: number): void {
    const { name, body } = frame;
    if (this._phase !== Phase.OPEN && name !== 'welcome' && name !== 'bye') return;
    if (name !== 'answers') for (const writer of this.writers) writer.settled();
    const told = (this as unknown as { [K in string]?: Told })[name];
    if (told) return told.call(this, now, body);
    if (name === 'records' || name === 'base' || name === 'baseRecords') this.worked += size;
    // Law 5: it never guesses. What is held is stated again on a new socket.
    const astray = this.followed.deliver(frame as DeliveryFrame);
    if (astray) this._lost(now, astray);
  }

  // Methods by the names of frames.

  ping(_now: number, body: BodyOf<'ping'>): void {
    this.history.told(body.positions!);
    this.say('pong', body);
  }

  pong(now: number, { nonce }: BodyOf<'pong'>): void {
    this._answer(nonce)?.(now, undefined);
  }

  done(now: number, { request }: { request: number }): void {
    this._answer(request)?.(now, undefined);
  }

  deliveredTo(now: number, body: { request: number }): void {
    this._answer(body.request)?.(now, undefined, body);
  }

  subscribed(_now: number, body: Subscribed): void {
    this.followed.subscribed(body);
  }

  unsubscribed(_now: number, body: Unsubscribed): void {
    this.followed.unsubscribed(body);
  }

  refreshed(now: number, { request, expires }: Refreshed): void {
    this._tokens.good();
    this._tell(this._standing);
    this._answer(request!);
    this._expires(now, expires);
  }

  /** Asks for what is so from now on, whatever was asked before; `refused`: if that was in vain. */
  private _ask<K extends Asked>(
    name: K,
    body: Omit<BodyOf<K>, 'request'>,
    refused: (now: number, error: HighwaterError) => void,
  ): number {
    this._requests.delete(this._newest[name]!);
    const request = this.ticket((now, error) => {
      // Without a socket all is stated anew.
      if (error && this._phase) refused(now, error);
    });
    this._newest[name] = request;
    this.say(name, { ...body, request } as BodyOf<K>);
    return request;
  }

  /** What is to be done with the answer to that request, of which there is no other. */
  private _answer(request: number): Answer | undefined {
    const answer = this._requests.get(request);
    this._requests.delete(request);
    return answer;
  }

  /** An action has its end, here and for whoever made it. */
  private _decided(action: Action, result: Stored | HighwaterError): void {
    const stored = result instanceof HighwaterError ? undefined : result;
    if (stored) this.history.saw(stored.place.batch);
    this.followed.named.get(action.log)?.answered(action, stored);
    action.settle(stored ?? Promise.reject(result));
  }

  answers(now: number, body: Answers): void {
    this.history.told(body.positions!);
    const code = this.writers.find(({ id }) => id === body.writer)?.answered(body, now);
    if (code === 'token_expired') this._tokens.soon(now);
    this.config.heard?.(body);
    // The next `welcome` tells all that follows from it.
    if (code === 'other_history') this._lost(now, code);
  }

  welcome(now: number, body: Welcome): void {
    if (this._phase !== Phase.HELLO || !this._tokens.is(now, body.user)) return;
    this._phase = Phase.OPEN;
    this.greeting = body;
    this._welcomedAt = now;
    this.worked = this.acked = 0;
    delete this.bells._unmet;
    this.bells.probe = now + body.pingInterval;
    const { writers, positions, otherHistory, credit } = body;
    this.config.met?.(body);
    this.nodes.told(body.nodes);
    this.history.told(positions!, otherHistory);
    for (const one of [...this.writers]) {
      const mark = writers.find(({ writer }) => writer === one.id)?.mark;
      one.welcomed(now, mark ?? 0, otherHistory, credit);
    }
    if (otherHistory) this.followed.forget();
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
    delete this.bells._askActive;
    this._tell((this._standing = { phase: 'live', reason: met, generation, source }));
  }

  state(now: number, body: StateFrame): void {
    const { active, generation, met, source, reason, activateAfter: retryAfter, request } = body;
    this._answer(request!);
    this._activating = 0;
    Object.assign(this.greeting!, { generation, source }, met && { met });
    if (active) return this._activated();
    this._pause();
    this._activateAt = now + retryAfter;
    this._tell((this._standing = { phase: 'inactive', reason: reason!, retryAfter }));
    this.activate(now);
  }

  /** An inactive one asks to be active, as soon as it may. */
  activate(now: number, asked = false): void {
    const { visible, activate, chance } = this.config;
    if (this._phase !== Phase.OPEN || this._active || this._activating) return;
    if (!asked && !(visible && activate)) return;
    const at = Math.max(now, this._activateAt);
    // Many were perhaps told the same time.
    this.bells._askActive = asked ? at : at + chance() * 500;
  }

  private _askActive(): void {
    const { cloning } = this.config;
    const body = { cloning, ...this.followed.ask(0) };
    this._activating = this._ask('activate', body, (now, { retryAfter }) => {
      this._activating = 0;
      this._pause();
      this._activateAt = now + retryAfter + this.config.chance() * 1000;
      this.activate(now);
    });
  }

  refused(now: number, { request, name, refusal }: Refused): void {
    const error = refusalOf(refusal);
    // The logs of `activate` are answered as those of `hello`.
    const asked = request > 0 && request === this._activating ? 0 : request;
    if (name !== undefined) return this.followed.refused(now, asked, name, error);
    const answer = this._answer(request);
    if (answer) return answer(now, error);
    if (request) return this.followed.refused(now, request, name, error);
    // Without a number: the token ended, or it is of a server that does not number `visible`.
    if (wantsToken(error.code)) this._ended(now, error);
    else this._unseen(now, error);
  }

  /** It was not taken what is said of `visible`: once more, after a while. */
  private _unseen(now: number, error: HighwaterError): void {
    if (!passes(error.code)) return;
    this._told = undefined;
    this.followed.wait(now, error);
  }

  // What goes out when nothing else is to be done.

  flush(now: number): void {
    if (this._phase !== Phase.OPEN) return;
    const again = this.followed.flush(now, this._active);
    const { visible } = this.config;
    if (again) {
      this.bells.flush = again;
    } else if (this._told !== visible) {
      this._ask('visible', { visible }, (at, error) => this._unseen(at, error));
      this._told = visible;
    }
    const read = this._commits.due(this.followed.moved);
    if (read) {
      this._ack();
      this.say('ping', { nonce: this.ticket(read) });
    }
    for (const writer of [...this.writers]) writer.flush(now);
    const unacked = this.worked - this.acked;
    if (unacked && unacked * 4 >= this.greeting!.limits.window) this._ack();
    else if (unacked || this.followed.moved.size) this.bells._ack ??= now + Ms.ACK;
  }

  private _ack(): void {
    delete this.bells._ack;
    const cursors = this.followed.cursors();
    if (this._phase !== Phase.OPEN || (this.acked === this.worked && !cursors.length)) return;
    this.acked = this.worked;
    this.say('ack', { received: this.worked, cursors });
  }

  private _tell(status: Status): void {
    if (this.status === status) return;
    this.status = status;
    this.out('status', status);
  }

  say<K extends ClientFrame['name']>(name: K, body: BodyOf<K>): void {
    this.out('send', { name, body } as ClientFrame);
  }

  out(...output: Output): void {
    this._outputs.push(output);
  }
}
