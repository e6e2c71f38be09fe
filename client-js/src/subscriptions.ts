/**
 * The logs that are open, and how each stands on the socket of the day, without any IO.
 *
 * Promise: what the app opens is asked for until it is had or refused for good; what it closes is
 * let go; every log id is known by the socket that announced it and by no other.
 */

import { Most } from './bounds.js';
import { bytesOf, toJson, utf8Length } from './codec.js';
import type { Connection } from './connection.js';
import { Delivery, type Options } from './delivery.js';
import { isTransient, type HighwaterError } from './errors.js';
import {
  Open, type Cursor, type Ended, type ServerFrame, type Subscribed,
} from './frames.js';
import { checkName } from './writer.js';

/** Frames of one log; others name none. */
export type DeliveryFrame = Extract<
  ServerFrame,
  { name: 'records' | 'base' | 'base_records' | 'gap' | 'reset' | 'snapshot_wanted' }
>;

export class Subscriptions {
  readonly open = new Map<string, Delivery>();
  readonly #ids = new Map<number, Delivery>();
  /** Those whose cursor has moved since it was last told. */
  readonly moved = new Set<Delivery>();
  #dropped: number[] = [];
  /** Requests that let logs go, until they are answered. */
  readonly #dropping = new Map<number, number[]>();
  /** After a refusal that passes: nothing is asked for before this time. */
  #after = 0;
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
    bytesOf(Open, { name, ...options }); // Throws where it cannot be carried.
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
    this.drop(log);
    this.#core.config.wake();
  }

  /** Takes no more of it, and says so to the server. */
  drop(log: Delivery): void {
    this.moved.delete(log);
    if (log.announced) {
      this.#ids.delete(log.id!);
      this.#dropped.push(log.id!);
    }
    log.phase = 'over';
  }

  // What the socket tells.

  /**
   * What is wanted, with what is held of it, asked for from now on. What does not fit into a frame
   * waits for the next; first comes what is held, which the server would else send from its start.
   */
  ask(request: number, now = Infinity): Open[] {
    const { config, history, welcome } = this.#core;
    const open: Open[] = [];
    let room = (welcome?.limits.frame_bytes ?? Most.FRAME) - Most.AROUND_LIST;
    room -= (config.token ?? '').length + Most.POSITION * history.positions.length;
    for (const log of [...this.open.values()].sort((a, b) => +b.holds - +a.holds)) {
      if (log.phase !== 'wanted' || log.after > now) continue;
      room -= utf8Length(toJson(log.name)) + Most.AROUND_NAME;
      if (room < 0) break;
      open.push(log.ask(request));
    }
    return open;
  }

  subscribed(body: Subscribed): void {
    let log = this.open.get(body.name);
    if (log ? log.phase === 'over' : body.request) {
      this.#dropped.push(body.log); // It was let go while it was asked for, or is over.
      return;
    }
    if (!log) {
      log = this.#delivery(body.name, { start: 'state', priority: body.priority, manual: false });
      this.#core.out('adopted', log);
    }
    // In another history its number may be another log's by now.
    if (this.#ids.get(log.id!) === log) this.#ids.delete(log.id!);
    this.#ids.set(body.log, log);
    log.subscribed(body);
  }

  unsubscribed({ request, log, reason }: { request: number; log: number; reason: Ended }): void {
    this.#dropping.delete(request);
    this.#ids.get(log)?.end(reason);
    this.#ids.delete(log);
  }

  /** Hands a frame to its log; where it does not fit what is held, says so. */
  deliver({ name, body }: DeliveryFrame): string | undefined {
    const log = this.#ids.get(body.log);
    if (!log) return;
    this.moved.add(log);
    if (log[name](body as never) === false) return `${log.name} was not sent from ${log.cursor} on`;
    return;
  }

  /** Whether a refusal passes; then the same is asked for again, not before the time it tells. */
  passes(now: number, { code, retryAfter }: HighwaterError): boolean {
    const passes = isTransient(code) || code === 'inactive' || code === 'stale';
    if (passes) this.#after = now + retryAfter + this.#core.config.random() * 1000;
    return passes;
  }

  /** A request was refused: as a whole, or the log of that name. */
  refused(now: number, request: number, name: string | undefined, error: HighwaterError): void {
    const passes = this.passes(now, error);
    if (passes) this.#dropped.push(...(this.#dropping.get(request) ?? []));
    for (const log of this.open.values()) {
      if (request && log.sought === request) {
        if (passes) log.sought = -1;
        else log.stay(error);
      }
      const meant = name === undefined ? log.request === request : log.name === name;
      if (log.phase !== 'asked' || !meant) continue;
      // A log that others have to make may be there later; that holds nothing else up.
      const missing = error.code === 'unknown_log' ? error.retryAfter : 0;
      log.after = now + missing;
      if (passes || missing) log.phase = 'wanted';
      else log.end(error);
    }
  }

  /** Nothing comes from here on, until the logs are announced again. */
  pause(): void {
    this.#ids.clear();
    this.moved.clear();
    this.#dropping.clear();
    this.#dropped = [];
    for (const log of this.open.values()) if (log.phase !== 'over') log.phase = 'wanted';
  }

  // What goes out when nothing else is to be done.

  /** Lets go of logs, seeks and asks for them; where it may not yet, answers when. */
  flush(now: number, active: boolean): number | undefined {
    if (this.#after > now) return this.#after;
    const core = this.#core;
    while (this.#dropped.length) {
      const body = { request: this.request(), logs: this.#dropped.splice(0, Most.IDS) };
      this.#dropping.set(body.request, body.logs);
      core.send({ name: 'unsubscribe', body });
    }
    if (!active) return;
    for (const log of this.open.values()) {
      if (log.sought >= 0 || !log.announced) continue;
      log.sought = this.request();
      core.send({ name: 'seek', body: { request: log.sought, log: log.id!, to: log.to! } });
    }
    for (;;) {
      const body = { request: this.request(), open: this.ask(this.#requests, now) };
      if (!body.open.length) break;
      core.send({ name: 'subscribe', body });
    }
    // Those that are missing are looked for about when the server said.
    return [...this.open.values()].some(({ phase }) => phase === 'wanted') ? now + 1000 : undefined;
  }

  /** Cursors to tell: from there the client could restart. */
  cursors(): Cursor[] {
    const moved = [...this.moved].slice(0, Most.IDS);
    for (const log of moved) this.moved.delete(log);
    const told = moved.filter((log) => log.announced && log.safe >= 0);
    return told.map((log) => ({ log: log.id!, next: log.safe }));
  }

  #delivery(name: string, options: Options): Delivery {
    const log = new Delivery(name, options, this.#core);
    this.open.set(name, log);
    return log;
  }
}
