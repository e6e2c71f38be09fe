/**
 * The logs that are open, and how each stands on the socket of the day, without any IO.
 *
 * Promise: what the app opens is asked for until it is had or refused for good; what it closes is
 * let go; every log id is known by the socket that announced it and by no other. An answer is taken
 * for what was asked by its number: that of an older request neither opens, moves nor ends a newer
 * one. So that there is no doubt, one name is asked for once at a time.
 */

import { Most } from './bounds.js';
import { utf8Length } from './codec.js';
import { Delivery, Stage, wider, type Holder } from './delivery.js';
import { passes, type HighwaterError } from './errors.js';
import type { BaseHeld, Cursor, Ended, Open, ServerFrame, Start, Subscribed } from './frames.js';
import type { Core } from './states.js';
import type { Writer } from './writer.js';

/** Frames of one log; others name none. */
export type DeliveryFrame = Extract<
  ServerFrame,
  { name: 'records' | 'base' | 'baseRecords' | 'gap' | 'reset' | 'snapshotWanted' }
>;

export class Subscriptions {
  readonly named = new Map<string, Delivery>();
  private readonly _ids = new Map<number, Delivery>();
  /** Those whose cursor has moved since it was last told. */
  readonly moved = new Set<Delivery>();
  /** What was let go, by name, until the server knows; also over sockets. */
  private readonly _gone = new Map<string, Delivery>();
  /** Those that nobody holds any more, and until when they are kept. */
  private readonly _leaving = new Map<Delivery, number>();
  /** After a refusal that passes: nothing is asked for before this time. */
  private _after = 0;
  private readonly _core: Core;
  private readonly _author: Writer;

  constructor(core: Core, author: Writer) {
    this._core = core;
    this._author = author;
  }

  // Commands of the app.

  /**
   * A handle comes. Answers its log, and whether that begins for it with a `reset` only: where
   * something of it went by already.
   */
  hold(name: string, holder: Holder): { log: Delivery; late: boolean } {
    let log = this.named.get(name);
    if (log?.stage === Stage.OVER) this.drop(log);
    if (!log || log.stage === Stage.OVER) log = this._delivery(name, holder.start);
    const { stage, touched, start, holders } = log;
    const anew = !holders.size && this._leaving.delete(log);
    let late = false;
    if (stage === Stage.WANTED && !touched) {
      log.widen(holder.start);
      // What it kept is its own: others begin where they want.
      if (holder.have && !holders.size) log.resume(holder.have);
    } else late = touched ? anew || holder.start !== 'end' : wider(start, holder.start) !== start;
    holders.add(holder);
    if (late) this.seek(log, holder.start);
    const { name: called, id, priority, announced } = log;
    if (announced && holders.size > 1 && holder.priority === priority) {
      // The server takes the new priority; what comes of it tells nothing new.
      const open = [{ name: called, start, priority, have: { log: id!, next: log.cursor } }];
      this._core.say('subscribe', { request: this._core.ticket(), open, bases: [] });
    }
    this._core.wake();
    return { log, late };
  }

  /** A handle wants it anew from there: it goes to where all that share it have enough. */
  seek(log: Delivery, to: Start): void {
    const others = [...log.holders].map(({ start }) => start);
    log.seek(log.holders.size > 1 ? others.reduce(wider, to) : to);
  }

  /** A handle goes; the last one's log is kept for `grace` ms, as long as it is announced. */
  release(log: Delivery, holder: Holder, grace: number): void {
    log.holders.delete(holder);
    if (log.holders.size || this.named.get(log.name) !== log) return;
    log.grace = grace;
    if (grace && log.stage !== Stage.WANTED) this._leaving.set(log, Infinity);
    else this.drop(log);
    this._core.wake();
  }

  /** When something is due by time. */
  get deadline(): number {
    return Math.min(...this._leaving.values());
  }

  /** Takes no more of it, and says so to the server; where it has no id yet, once that is told. */
  drop(log: Delivery): void {
    if (this.named.get(log.name) === log) this.named.delete(log.name);
    this._leaving.delete(log);
    this.moved.delete(log);
    this._ids.delete(log.id!);
    const known = log.asking !== undefined || log.id !== undefined;
    if (log.stage !== Stage.OVER && known) this._letGo(log, log.id);
    log.stage = Stage.OVER;
    this._core.wake();
  }

  private _letGo(log: Delivery, id?: number): void {
    this._gone.set(log.name, Object.assign(log, { id, saying: 'due' }));
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
    let room = (welcome?.limits.frameBytes ?? Most.FRAME) - Most.AROUND_LIST;
    room -= (config.token ?? '').length + Most.POSITION * history.positions.length;
    for (const log of [...this.named.values()].sort((a, b) => +b.holds - +a.holds)) {
      const { name, begun, stage } = log;
      if (stage !== Stage.WANTED || !log.holders.size || log.after > now) continue;
      if (this._gone.get(name)?.asking !== undefined) continue;
      room -= utf8Length(JSON.stringify([name, begun])) + Most.AROUND_NAME;
      if (room < 0 || bases.length === Most.ITEMS) break;
      // Then this word takes the place of what the server has.
      if (!request) this._gone.delete(name);
      if (begun) bases.push(begun);
      open.push(log.ask(request));
    }
    return { open, bases };
  }

  subscribed(body: Subscribed): void {
    const { request, name, log: id, head, cursor, held } = body;
    const gone = this._gone.get(name);
    if (gone && (!request || gone.asking === request)) {
      if (gone.asking === request) gone.asking = undefined;
      if (gone.id !== id) this._letGo(gone, id);
      return;
    }
    let log = this.named.get(name);
    const asked = log?.asking === request;
    if (request && !asked && log?.saying !== request) return;
    if (asked) log!.asking = undefined;
    if (!log) {
      log = this._delivery(name, 'state');
      // What it would have to catch up on.
      Object.assign(log, held && { cursor, head });
      this._core.out('adopted', log);
    }
    if (held) {
      if (asked || log.announced) log.stage = Stage.WANTED;
      return;
    }
    if (log.stage === Stage.OVER) return this._letGo(log, id);
    // In another history its number may be another log's by now.
    if (this._ids.get(log.id!) === log) this._ids.delete(log.id!);
    this._ids.set(id, log);
    log.subscribed(body);
  }

  unsubscribed({ request, log, reason }: { request: number; log: number; reason: Ended }): void {
    for (const gone of this._gone.values()) {
      if (gone.id === log && gone.saying === request) this._gone.delete(gone.name);
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
    // It would not take that: coming back would only bring it once more.
    if (log.stage === Stage.OVER) this._refuse(log);
    return;
  }

  private _refuse(log: Delivery): void {
    this._ids.delete(log.id!);
    this._letGo(log, log.id);
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
      const said = request > 0 && log.saying === request;
      if (!asked && !said) continue;
      if (again) this.wait(now, error);
      if (gone && !again) this._gone.delete(log.name);
      if (said) {
        if (again) log.saying = 'due';
        else if (!gone) log.stay(error);
        const anew = this.named.get(log.name);
        if (gone && again && anew?.stage === Stage.ASKED) {
          // It was asked for on top of what is still there: what comes of that is let go too.
          log.asking = anew.asking;
          anew.asking = undefined;
          anew.stage = Stage.WANTED;
        }
      }
      if (!asked) continue;
      log.asking = undefined;
      if (gone) continue;
      // A log that others have to make may be there later; that holds nothing else up.
      const missing = error.code === 'unknown_log' ? error.retryAfter : 0;
      log.after = now + missing;
      if (again || missing) log.stage = Stage.WANTED;
      else log.end('refused', error);
    }
  }

  /** Nothing comes from here on, until the logs are announced again. */
  pause(): void {
    this._ids.clear();
    this.moved.clear();
    // Nobody holds these: they are not asked for again.
    for (const log of [...this._leaving.keys()]) this.drop(log);
    for (const log of this._gone.values()) {
      log.asking = undefined;
      log.saying = 'due';
    }
    for (const log of this.named.values()) {
      log.asking = undefined;
      if (typeof log.saying === 'number') log.saying = 'due';
      if (log.stage !== Stage.OVER) log.stage = Stage.WANTED;
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
    for (const [log, until] of this._leaving) {
      if (until === Infinity) this._leaving.set(log, now + log.grace);
      else if (until <= now) this.drop(log);
    }
    if (this._after > now) return this._after;
    const core = this._core;
    for (;;) {
      const unsaid = [...this._gone.values()].filter(
        ({ id, saying }) => id !== undefined && saying === 'due',
      );
      if (!unsaid.length) break;
      const request = core.ticket();
      const logs = unsaid.slice(0, Most.IDS).map((log) => {
        log.saying = request;
        return log.id!;
      });
      core.say('unsubscribe', { request, logs });
    }
    if (!active) return;
    for (const log of this.named.values()) {
      if (log.saying !== 'due' || !log.announced) continue;
      const request = (log.saying = core.ticket());
      core.say('seek', { request, log: log.id!, to: log.to! });
    }
    for (;;) {
      const request = core.ticket();
      const body = this.ask(request, now);
      if (!body.open.length) break;
      core.say('subscribe', { request, ...body });
    }
    // Those that are missing are looked for about when the server said.
    const missing = [...this.named.values()].some(({ stage }) => stage === Stage.WANTED);
    return missing ? now + 1000 : undefined;
  }

  /** Cursors to tell: from there the client could restart. */
  cursors(): Cursor[] {
    const moved = [...this.moved].slice(0, Most.IDS);
    for (const log of moved) this.moved.delete(log);
    return moved.flatMap((log) => {
      const next = log.safe;
      return log.announced && next !== undefined ? [{ log: log.id!, next }] : [];
    });
  }

  private _delivery(name: string, start: Start): Delivery {
    const log = new Delivery(name, start, this._core, this._author);
    this.named.set(name, log);
    return log;
  }
}
