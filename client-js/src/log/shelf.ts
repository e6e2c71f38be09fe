/**
 * One log as this page holds it: its views, kept over page loads, and the subscription under them.
 *
 * Promise: what is on the device is shown first, and goes on from there; a view that was kept costs
 * the records since. A kept state is never older than one that was kept before, and never of
 * another history than the one that it is kept with.
 */

import type { Connection } from '../connection.js';
import { HighwaterError } from '../errors.js';
import type { Made, Start, Target } from '../frames.js';
import { Handle } from '../handle.js';
import type { LogStatus } from '../states.js';
import type { Definition, ViewDefinition } from './define.js';
import { Folded } from './fold.js';
import type { Inbox } from './inbox.js';
import { cloneable, kept, revived } from './kept.js';
import type { Ledger } from './ledger.js';
import { later, type CheckpointRow, type HistoryRow } from './rows.js';
import { Signal } from './signals.js';
import { inBackground, inTime, type Change, type Store } from './store.js';

/**
 * How long a view may be ahead of what is kept of it, ms; and one ms more for each that is pending:
 * while many go out, a view that is kept each second would cost more than they do.
 */
const KEEP_AFTER = 1000;
/** How long the page does nothing but fold, ms. */
const TURN = 8;
const LOADING: LogStatus = { phase: 'loading', reason: 'first' };

/** What logs of one client share. */
export interface Room {
  readonly core: Connection;
  readonly store: Store;
  readonly ledger: Ledger;
  readonly inbox: Inbox;
  /** Whose device it is, and of which history of the server, has been read; and all of it. */
  readonly met: Promise<void>;
  readonly ready: Promise<void>;
  /** Where the server's history stands, as it is kept. */
  readonly history: () => HistoryRow;
  /** What was kept by another page is of there: the server is to say whether that is its own. */
  readonly told: (kept: HistoryRow) => void;
  readonly user: () => string;
}

export interface ShelfOptions {
  readonly start: Start;
  priority: number;
}

export class Shelf {
  readonly folded: Folded;
  /** How many parts of the app have it open. */
  users = 0;
  readonly turn = new Signal<number>(() => this._turns);
  readonly status = new Signal<LogStatus>(() => this._status());
  private _turns = 0;
  private _handle: Handle<any> | undefined;
  private _fault: LogStatus | undefined;
  private _queued = false;
  private _begun = false;
  /** What was kept is known, and what is pending is still to come. */
  private _awaits = false;
  /** What was kept has been read: before that what was left pending is not shown by itself. */
  shows = false;
  private _timer: ReturnType<typeof setTimeout> | undefined;
  /** Some views go on from what was kept, and the others begin: it is to be of this log. */
  private _part: CheckpointRow | undefined;
  /** What was kept: up to where, without what. */
  private _kept: unknown[] = [];
  private readonly _offs: (() => void)[] = [];
  private _released = false;

  constructor(
    readonly name: string,
    readonly defined: Definition<string, any, any>,
    private readonly _room: Room,
    private readonly _options: ShelfOptions,
  ) {
    this.folded = new Folded(defined.actions, defined.shape, name, () => this._rebase());
    this.folded.as(_room.user());
    const { ledger } = _room;
    this._offs.push(
      ledger.on(name, ({ is, one, stored }) => {
        const { folded } = this;
        // What is done here is shown at once, also where what was kept is still being read.
        this.shows ||= is === 'added' && !!one.run?.own;
        if (is === 'added') {
          folded.add(one, (other) => other.at > one.at);
          // Folded at once: the page has nothing else to do until the next come from the disk.
          if (this._awaits) void folded.values;
        } else if (is === 'replaced') folded.replaced(one);
        else if (stored) folded.stored(one.id, stored);
        else folded.drop(one.id);
        this.changed(is !== 'ended' && one.run?.own);
      }),
    );
    for (const one of ledger.of(name)) this.folded.add(one);
    inBackground(this._begin());
  }

  private async _begin(): Promise<void> {
    const { store, inbox, core, met, ready } = this._room;
    const { name } = this;
    let have;
    if (this._options.start === 'state') {
      // Asked for at once, so that what is pending is shown, and folded, on top of it alone. The
      // history behind it: another page may have kept it since this one has read where that stands.
      const [rows, [[, kept] = []]] = await Promise.all([
        store.read(`c/${name}`), store.read('h'), met,
      ]);
      const [, row] = rows.find(([key]) => key === `c/${name}`) ?? [];
      if (kept) this._room.told(kept as HistoryRow);
      this.folded.as(this._room.user());
      have = row && this._resume(row as CheckpointRow);
      this._awaits = true;
      // Of what has an outcome by now both are read: first that it waits, then where it is stored.
      await ready;
      this._awaits = false;
      const { at } = this.folded;
      for (const done of at ? await inbox.done(name, at.log, at.next) : []) {
        const { writer, seq, item, stored } = done;
        this.folded.add({ id: `${writer}/${seq}`, stored, ...item }, ({ at }) => at > item.at);
      }
    }
    await ready;
    if (this._released) return;
    this.user();
    if (have && have.history !== this._room.history().history) {
      // Another was met while this was read.
      have = undefined;
      this.folded.begin(0);
    }
    this._begun = this.shows = true;
    this._follow(new Handle(core, name, { ...this._options, grace: 0 }, undefined, have));
    this.changed();
  }

  /** Who is here is known, or another. */
  user(): void {
    this.folded.as(this._room.user());
    this.changed();
  }

  /** Shows what was kept; answers what the server need not send. */
  private _resume(row: CheckpointRow) {
    const { history, log, made, next, missing, seen, views } = row;
    if (history !== this._room.history().history) return undefined;
    const lacking = new Set<number>();
    const shape = Object.entries(this.defined.shape) as [string, ViewDefinition][];
    const states = shape.map(([name, view], at) => {
      const had = views[name];
      if (had?.version === view.version) return revived(view, had);
      lacking.add(at);
    });
    // What one lacks all lack: who mends the reducer that failed there has all folded anew.
    if (lacking.size && (missing.length || lacking.size === shape.length)) return undefined;
    this.folded.resume({ log, made, next }, states, missing, seen, lacking);
    if (!lacking.size) return { log, made, next, history };
    this._part = row;
    return undefined;
  }

  /** What some views go on from is of the log that is told of, and nothing else takes its place. */
  private _goes(base?: unknown): boolean {
    const { _part: part, _handle: handle } = this;
    return !base && part?.history === this._room.history().history
      && part.log === handle!.id && part.made === handle!.shared.made?.position;
  }

  /** Else all begins, where no reset says so. */
  private _anew(base?: unknown): void {
    if (!this._part || this._goes(base)) return;
    this._part = undefined;
    this.folded.begin(0);
  }

  private _follow(handle: Handle<any>): void {
    this._handle = handle;
    const { folded } = this;
    this._offs.push(
      handle.on('reset', ({ cursor, reason, base }) => {
        if (!this._carries()) return;
        if (folded.known && !this._part) this._room.ledger.discard(this.name);
        folded.begin(cursor, reason === 'other_history', this._goes(base));
        // The gap that says so may be lost with the socket, when this is complete and kept.
        if (this._options.start === 'state' && !base && cursor) folded.gap(0, cursor);
      }),
      handle.on('base', ({ records, offset }) => {
        if (!records) return this._wrong();
        this._anew(true);
        folded.base(records, offset);
      }),
      handle.on('records', ({ records }) => {
        this._anew();
        folded.records(records);
        this._step();
      }),
      handle.on('gap', ({ from, to }) => {
        this._anew();
        folded.gap(from, to);
        this._step();
      }),
      handle.on('behind', () => folded.behind()),
      handle.on('complete', () => {
        if (!this._carries()) return;
        this._anew();
        this._part = undefined;
        folded.show(handle.id!, handle.shared.made?.position);
        this._step();
      }),
      handle.on('ended', () => this._ended()),
      handle.on('refused', () => this._ended()),
      handle.status.subscribe(() => {
        this.status.changed();
        this.sure();
      }),
    );
  }

  /** What is here may be of a log that begins anew: the server has not said so yet, or the end. */
  get unsure(): boolean {
    return this.folded.known && /^(offl|conn|load|catch)/.test(this.status.value.phase);
  }

  /** What waited for that may go out. */
  sure(): void {
    const { runs } = this._room.ledger;
    if (!this.unsure) runs.connected(runs.online);
  }

  private _ended(): void {
    this.folded.end();
    this.changed();
  }

  private _step(): void {
    this.folded.step();
    this.changed();
    if (!this.folded.complete) return;
    this._timer ??= inTime(() => this.keep(), KEEP_AFTER + this.folded.pending.length);
  }

  /** The most urgent of those that have opened it counts. */
  urge(priority: number): void {
    const { _options: options, _handle: handle } = this;
    options.priority = Math.min(options.priority, priority);
    if (!handle || handle.shared.over || handle.priority <= priority) return;
    // One that wants nothing but that.
    const more = new Handle(handle.core, this.name, { start: 'end', priority, grace: 0 });
    this._offs.push(() => more.release());
  }

  /** Whether the log's rule carries these views; else it is over, and says what to change. */
  private _carries(): boolean {
    const { rule } = this._handle!;
    const views = Object.values(this.defined.shape) as ViewDefinition[];
    const reduced = views.some(({ kind }) => kind === 'view');
    if (rule === 'client' || (rule === 'latest' && reduced)) this._wrong();
    return !this._fault;
  }

  private _wrong(): void {
    const { rule } = this._handle!;
    const error = new HighwaterError(
      'wrong_rule',
      `${this.name}: its views need snapshot = "none" in the server's [[rules]], not "${rule}"`,
    );
    this._fault = { phase: 'closed', reason: 'wrong_rule', error };
    this._handle!.release();
    this.status.changed();
  }

  private _status(): LogStatus {
    if (this._fault) return this._fault;
    if (this._handle) return this._handle.status.value;
    const { status } = this._room.core;
    return status.phase === 'live' ? LOADING : status;
  }

  /** Many are folded anew in short turns, between which the page does what else there is. */
  private _rebase(): void {
    inTime(() => {
      const { folded } = this;
      const until = performance.now() + TURN;
      while (folded.work()) if (performance.now() > until) return this._rebase();
      this._tell();
    }, 0);
  }

  /** What is shown has changed: told at once, or when this turn ends. */
  changed(now?: boolean): void {
    if (now) return this._tell();
    if (this._queued || !this._begun) return;
    this._queued = true;
    queueMicrotask(() => {
      this._queued = false;
      this._tell();
    });
  }

  private _tell(): void {
    this._turns++;
    this.turn.changed();
  }

  /** Where an action goes: to the log as it is known here, or to whichever has that name. */
  get target(): { to: Target; made: Made | undefined } {
    const { id, shared } = this._handle ?? {};
    if (id !== undefined) return { to: { log: id }, made: shared!.made };
    const { at } = this.folded;
    if (!at) return { to: { name: this.name }, made: undefined };
    const made = at.made === undefined ? undefined : { log: at.log, position: at.made };
    return { to: { log: at.log }, made };
  }

  /** Keeps what is shown, if it is further than what was kept. */
  keep(): void {
    clearTimeout(this._timer);
    this._timer = undefined;
    const { folded } = this;
    // A window is no state to go on from.
    if (this._options.start !== 'state' || !folded.complete || !folded.at) return;
    const { at: { log, next }, missing } = folded;
    // A gap may be told after the position behind it.
    const now = [log, next, missing];
    if (now.every((one, at) => one === this._kept[at])) return;
    this._kept = now;
    inBackground(this._room.store.write(this._checkpoint()).catch((error: HighwaterError) => {
      this._kept = [];
      if (error.code === 'closed') return;
      const odd = folded.names.filter((_, view) => !cloneable(folded.states[view]));
      const which = odd.length ? `view ${odd} is no plain data` : 'its views are not kept';
      throw new Error(`${this.name}: ${which}: ${error.message}`, { cause: error });
    }));
  }

  private _checkpoint(): Change[] {
    const { folded, name } = this;
    const now = this._room.history();
    const views = Object.fromEntries(
      folded.names.map((view, at) => [
        view, kept(this.defined.shape[view].version, folded.states[at]),
      ]),
    );
    const { log, made, next } = folded.at!;
    const row: CheckpointRow = {
      history: now.history, log, made, next, missing: folded.missing, seen: folded.seen, views,
    };
    return [
      [`c/${name}`, (old: CheckpointRow | undefined) => merged(old, row)],
      ['h', (old: HistoryRow | undefined) => later(old, now)],
    ];
  }

  release(): void {
    this._released = true;
    this.keep();
    for (const off of this._offs.splice(0)) off();
    this._handle?.release();
    this.sure();
  }
}

/**
 * What is to stand there. No view is moved back: what was kept stays where it is further, or of a
 * later history. Where it is as far, views of another definition of the log stay beside these.
 */
const merged = (old: CheckpointRow | undefined, row: CheckpointRow): CheckpointRow => {
  if (!old || old.history < row.history) return row;
  if (old.history > row.history) return old;
  if (old.log !== row.log || old.next < row.next) return row;
  if (old.next > row.next) return old;
  const whole = !old.missing.length && !row.missing.length;
  return whole ? { ...row, views: { ...old.views, ...row.views } } : row;
};
