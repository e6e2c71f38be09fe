/**
 * The logs that are open, and how each stands on the socket of the day, without any IO.
 *
 * Promise: what the app opens is asked for until it is had or refused for good; what it closes is
 * let go; every log id is known by the socket that announced it and by no other.
 */

import { Out, u64 } from './codec.js';
import type { Connection } from './connection.js';
import { Delivery, type Options } from './delivery.js';
import { isTransient, type HighwaterError } from './errors.js';
import {
  Open, Start as Where, type Cursor, type Ended, type ServerFrame, type Start, type Subscribed,
} from './frames.js';
import { checkName } from './writer.js';

/** Names in one `Subscribe`: 200 of 255 bytes fit into the smallest frame limit. */
const NAMES = 200;

type DeliveryFrame = Extract<
  ServerFrame,
  { name: 'records' | 'base' | 'base_records' | 'gap' | 'reset' | 'snapshot_wanted' }
>;

export class Subscriptions {
  readonly open = new Map<string, Delivery>();
  readonly #ids = new Map<number, Delivery>();
  readonly #moved = new Set<Delivery>();
  #dropped: number[] = [];
  #requests = 0;
  readonly #core: Connection;

  constructor(core: Connection) {
    this.#core = core;
  }

  /** A number for a request. */
  request(): number {
    return ++this.#requests;
  }

  // Commands of the app.

  /** Opens a log, or gives the one that is open. */
  subscribe(name: string, options: Options): Delivery {
    checkName(name);
    Open.put(new Out(), { name, ...options }); // Throws where it cannot be carried.
    let log = this.open.get(name);
    if (log && log.phase !== 'over') return log;
    if (log) {
      log.phase = 'wanted';
      log.options = options;
    } else {
      log = this.#delivery(name, options);
    }
    this.#core.config.wake();
    return log;
  }

  unsubscribe(log: Delivery): void {
    if (this.open.get(log.name) !== log) return;
    this.open.delete(log.name);
    this.#moved.delete(log);
    if (log.announced) {
      this.#ids.delete(log.id!);
      this.#dropped.push(log.id!);
    }
    log.phase = 'over';
    this.#core.config.wake();
  }

  /** Moves a log's cursor where the app wants it; a reset follows. */
  seek(log: Delivery, to: Start): void {
    Where.put(new Out(), to); // Throws where it cannot be carried.
    log.options = { ...log.options, start: to };
    log.anew = true;
    if (log.announced) this.#seek(log);
    this.#core.config.wake();
  }

  #seek(log: Delivery): void {
    const body = { request: this.request(), log: log.id!, to: log.options.start };
    this.#core.send({ name: 'seek', body });
  }

  /** For a log with `manual`: the app could restart from here. */
  commit(log: Delivery, next: number): void {
    u64.put(new Out(), next); // Throws where it cannot be carried.
    log.committed = Math.min(next, log.cursor);
    this.#moved.add(log);
    this.#core.config.wake();
  }

  // What the socket tells.

  /** All that is open, with what is held of it; asked for from now on. */
  all(request: number): Open[] {
    const wanted = [...this.open.values()].filter((log) => log.phase === 'wanted');
    return wanted.map((log) => log.ask(request));
  }

  subscribed(body: Subscribed): void {
    let log = this.open.get(body.name);
    if (!log) {
      if (body.request) {
        this.#dropped.push(body.log); // The app let it go while it was asked for.
        return;
      }
      log = this.#delivery(body.name, { start: 'state', priority: body.priority, manual: false });
      this.#core.out('adopted', log);
    }
    if (log.phase === 'over') return;
    if (log.id !== undefined) this.#ids.delete(log.id);
    this.#ids.set(body.log, log);
    // The app may have sought while it was asked for as before.
    const late = log.anew && log.phase === 'asked';
    log.subscribed(body);
    if (late) this.#seek(log);
  }

  unsubscribed({ log, reason }: { log: number; reason: Ended }): void {
    this.#ids.get(log)?.end(reason);
    this.#ids.delete(log);
  }

  /** Hands a frame to its log; where it does not fit what is held, says so. */
  deliver({ name, body }: DeliveryFrame): string | undefined {
    const log = this.#ids.get(body.log);
    if (!log) return;
    this.#moved.add(log);
    if (log[name](body as never) === false) return `${log.name} was not sent from ${log.cursor} on`;
    return;
  }

  /** A request was refused: as a whole, or the log of that name. */
  refused(now: number, request: number, name: string | undefined, error: HighwaterError): void {
    for (const log of this.open.values()) {
      const meant = name === undefined ? log.request === request : log.name === name;
      if (log.phase !== 'asked' || !meant) continue;
      // A log that others have to make may be there later: the server says when to look again.
      const missing = error.code === 'unknown_log' && error.retryAfter > 0;
      if (isTransient(error.code) || error.code === 'inactive' || missing) {
        log.phase = 'wanted';
        log.after = now + error.retryAfter + this.#core.config.random() * 1000;
      } else {
        log.end(error);
      }
    }
  }

  /** Nothing comes from here on, until the logs are announced again. */
  pause(): void {
    this.#ids.clear();
    this.#moved.clear();
    this.#dropped = [];
    for (const log of this.open.values()) if (log.phase !== 'over') log.phase = 'wanted';
  }

  // What goes out when nothing else is to be done.

  /** Lets go and asks for logs; answers when to look again, if it has to be. */
  flush(now: number, active: boolean): number | undefined {
    const core = this.#core;
    if (this.#dropped.length) {
      const body = { request: this.request(), logs: this.#dropped.splice(0) };
      core.send({ name: 'unsubscribe', body });
    }
    let open: Open[] = [];
    let again: number | undefined;
    for (const log of active ? this.open.values() : []) {
      if (log.phase !== 'wanted') continue;
      if (log.after > now) {
        again = Math.min(log.after, again ?? Infinity);
        continue;
      }
      if (open.length % NAMES === 0) {
        open = [];
        core.send({ name: 'subscribe', body: { request: this.request(), open } });
      }
      open.push(log.ask(this.#requests));
    }
    return again;
  }

  /** Whether a cursor has moved since it was last told. */
  get moved(): boolean {
    return this.#moved.size > 0;
  }

  /** Cursors to tell: from there the client could restart. */
  cursors(): Cursor[] {
    const told = [...this.#moved].filter((log) => log.announced && log.safe >= 0);
    this.#moved.clear();
    return told.map((log) => ({ log: log.id!, next: log.safe }));
  }

  #delivery(name: string, options: Options): Delivery {
    const log = new Delivery(name, options, this.#core);
    this.open.set(name, log);
    return log;
  }
}
