/**
 * The logs that are open, and how each stands on the socket of the day, without any IO.
 *
 * Promise: what the app opens is asked for until it is had or refused for good; what it closes is
 * let go; every log id is known by the socket that announced it and by no other. An answer is taken
 * for what was asked by its number: that of an older request neither opens, moves nor ends a newer
 * one. So that there is no doubt, one name is asked for once at a time.
 */

import { Most } from './bounds.js';
import { bytesOf, toJson, utf8Length } from './codec.js';
import type { Connection } from './connection.js';
import { Delivery, type Options } from './delivery.js';
import { passes, type HighwaterError } from './errors.js';
import {
  Open, type BaseHeld, type Cursor, type Ended, type ServerFrame, type Subscribed,
} from './frames.js';
import { checkName } from './writer.js';

/** Frames of one log; others name none. */
export type DeliveryFrame = Extract<
  ServerFrame,
  { name: 'records' | 'base' | 'base_records' | 'gap' | 'reset' | 'snapshot_wanted' }
>;

export class Subscriptions {
  readonly named = new Map<string, Delivery>();
  private readonly _ids = new Map<number, Delivery>();
  /** Those whose cursor has moved since it was last told. */
  readonly moved = new Set<Delivery>();
  /**
   * What was let go, by name, until the server knows; also over sockets. `sought` is the request
   * that says so; -1: it is still to be sent.
   */
  private readonly _gone = new Map<string, Delivery>();
  /** After a refusal that passes: nothing is asked for before this time. */
  private _after = 0;
  private _requests = 0;
  private readonly _core: Connection;

  constructor(core: Connection) {
    this._core = core;
  }

  /** A number for a request. */
  ticket(): number {
    return ++this._requests;
  }

  // Commands of the app.

  /** Opens a log, or gives the one that is open. */
  subscribe(name: string, options: Options): Delivery {
    checkName(name);
    bytesOf(Open, { name, ...options }); // Throws where it cannot be carried.
    let log = this.named.get(name);
    if (log && log.phase !== 'over') return log;
    if (log) {
      log.phase = 'wanted';
      log.wishes = options;
    } else {
      log = this._delivery(name, options);
    }
    this._core.config.wake();
    return log;
  }

  unsubscribe(log: Delivery): void {
    if (this.named.get(log.name) !== log) return;
    this.named.delete(log.name);
    this.drop(log);
    this._core.config.wake();
  }

  /** Takes no more of it, and says so to the server; where it has no id yet, once that is told. */
  drop(log: Delivery): void {
    this.moved.delete(log);
    this._ids.delete(log.id!);
    if (log.phase !== 'over' && (log.asking >= 0 || log.id! >= 0)) this._letGo(log, log.id);
    log.phase = 'over';
  }

  private _letGo(log: Delivery, id?: number): void {
    this._gone.set(log.name, Object.assign(log, { id, sought: -1 }));
  }

  // What the socket tells.

  /**
   * What is wanted, with what is held of it, asked for from now on. What does not fit into a frame
   * waits for the next; first comes what is held, which the server would else send from its start.
   */
  ask(request: number, now = Infinity): { open: Open[]; bases: BaseHeld[] } {
    const { config, history, greeting: welcome } = this._core;
    const open: Open[] = [];
    const bases: BaseHeld[] = [];
    let room = (welcome?.limits.frame_bytes ?? Most.FRAME) - Most.AROUND_LIST;
    room -= (config.token ?? '').length + Most.POSITION * history.positions.length;
    for (const log of [...this.named.values()].sort((a, b) => +b.holds - +a.holds)) {
      const { name, begun, phase } = log;
      if (phase !== 'wanted' || log.after > now || this._gone.get(name)?.asking! >= 0) continue;
      room -= utf8Length(toJson([name, begun])) + Most.AROUND_NAME;
      if (room < 0 || bases.length === Most.ITEMS) break;
      // Then this word takes the place of what the server has.
      if (!request) this._gone.delete(name);
      if (begun) bases.push(begun);
      open.push(log.ask(request));
    }
    return { open, bases };
  }

  subscribed(body: Subscribed): void {
    const { request, name, log: id, priority, head, cursor, held } = body;
    const gone = this._gone.get(name);
    if (gone && (!request || gone.asking === request)) {
      if (gone.asking === request) gone.asking = -1;
      if (gone.id !== id) this._letGo(gone, id);
      return;
    }
    let log = this.named.get(name);
    const asked = log?.asking === request;
    if (request && !asked && log?.sought !== request) return;
    if (asked) log!.asking = -1;
    if (!log) {
      log = this._delivery(name, { start: 'state', priority, manual: false });
      // What it would have to catch up on.
      Object.assign(log, held && { cursor, head });
      this._core.out('adopted', log);
    }
    if (held) {
      if (asked || log.announced) log.phase = 'wanted';
      return;
    }
    if (log.phase === 'over') return this._letGo(log, id);
    // In another history its number may be another log's by now.
    if (this._ids.get(log.id!) === log) this._ids.delete(log.id!);
    this._ids.set(id, log);
    log.subscribed(body);
  }

  unsubscribed({ request, log, reason }: { request: number; log: number; reason: Ended }): void {
    for (const gone of this._gone.values()) {
      if (gone.id === log && gone.sought === request) this._gone.delete(gone.name);
    }
    // What was asked for was let go here already; it may be open again.
    if (request) return;
    this._ids.get(log)?.end('ended', { reason });
    this._ids.delete(log);
  }

  /** Hands a frame to its log; where it does not fit what is held, says so. */
  deliver({ name, body }: DeliveryFrame): string | undefined {
    const log = this._ids.get(body.log);
    if (!log) return;
    this.moved.add(log);
    if (log[name](body as never) === false) return `${log.name} jumped`;
    return;
  }

  /** After a refusal that passes: nothing is asked for before the time it tells. */
  wait(now: number, { retryAfter }: HighwaterError): void {
    this._after = now + retryAfter + this._core.config.chance() * 1000;
  }

  /** A request was refused: as a whole, or the log of that name. */
  refused(now: number, request: number, name: string | undefined, error: HighwaterError): void {
    const again = passes(error.code);
    for (const log of [...this._gone.values(), ...this.named.values()]) {
      const gone = this.named.get(log.name) !== log;
      const asked = log.asking === request && (name ?? log.name) === log.name;
      const sought = request > 0 && log.sought === request;
      if (!asked && !sought) continue;
      if (again) this.wait(now, error);
      if (gone && !again) this._gone.delete(log.name);
      if (sought) {
        if (again) log.sought = -1;
        else if (!gone) log.stay(error);
        const anew = this.named.get(log.name);
        if (gone && again && anew?.phase === 'asked') {
          // It was asked for on top of what is still there: what comes of that is let go too.
          log.asking = anew.asking;
          anew.asking = -1;
          anew.phase = 'wanted';
        }
      }
      if (!asked) continue;
      log.asking = -1;
      if (gone) continue;
      // A log that others have to make may be there later; that holds nothing else up.
      const missing = error.code === 'unknown_log' ? error.retryAfter : 0;
      log.after = now + missing;
      if (again || missing) log.phase = 'wanted';
      else log.end('refused', error);
    }
  }

  /** Nothing comes from here on, until the logs are announced again. */
  pause(): void {
    this._ids.clear();
    this.moved.clear();
    for (const log of this._gone.values()) {
      log.asking = log.sought = -1;
    }
    for (const log of this.named.values()) {
      log.asking = -1;
      if (log.phase !== 'over') log.phase = 'wanted';
    }
  }

  /** The server's history is another: there the ids are those of other logs. */
  forget(): void {
    for (const gone of this._gone.values()) gone.id = undefined;
    for (const log of this.named.values()) log.forget();
  }

  // What goes out when nothing else is to be done.

  /** Lets go of logs, seeks and asks for them; where it may not yet, answers when. */
  flush(now: number, active = false): number | undefined {
    if (this._after > now) return this._after;
    const core = this._core;
    for (;;) {
      const unsaid = [...this._gone.values()].filter(({ id, sought }) => id! >= 0 && sought < 0);
      if (!unsaid.length) break;
      const request = this.ticket();
      const logs = unsaid.slice(0, Most.IDS).map((log) => {
        log.sought = request;
        return log.id!;
      });
      core.say('unsubscribe', { request, logs });
    }
    if (!active) return;
    for (const log of this.named.values()) {
      if (log.sought >= 0 || !log.announced) continue;
      log.sought = this.ticket();
      core.say('seek', { request: log.sought, log: log.id!, to: log.to! });
    }
    for (;;) {
      const body = { request: this.ticket(), ...this.ask(this._requests, now) };
      if (!body.open.length) break;
      core.say('subscribe', body);
    }
    // Those that are missing are looked for about when the server said.
    const missing = [...this.named.values()].some(({ phase }) => phase === 'wanted');
    return missing ? now + 1000 : undefined;
  }

  /** Cursors to tell: from there the client could restart. */
  cursors(): Cursor[] {
    const moved = [...this.moved].slice(0, Most.IDS);
    for (const log of moved) this.moved.delete(log);
    const told = moved.filter((log) => log.announced && log.safe >= 0);
    return told.map((log) => ({ log: log.id!, next: log.safe }));
  }

  private _delivery(name: string, options: Options): Delivery {
    const log = new Delivery(name, options, this._core);
    this.named.set(name, log);
    return log;
  }
}
