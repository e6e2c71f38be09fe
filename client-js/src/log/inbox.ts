/**
 * What became of actions: the refused ones, which their user decides about, and the stored ones,
 * which the device keeps for a while.
 *
 * Promise: an action that ends otherwise than stored stands here with its reason, also over page
 * loads, until it is sent anew or dropped. Both ends are logs: where a server was restored from a
 * backup and has lost what it had stored, that stands here too (`restored`).
 */

import { report } from '../emitter.js';
import type { Code, HighwaterError } from '../errors.js';
import type { Stored } from '../writer.js';
import { idOf } from './fold.js';
import type { Logged } from './run.js';
import {
  actionOf, digits, doneKey, donesOf, later, refusedKey, rowOf, type ActionRow, type DoneRow,
  type HistoryRow, type RefusedRow,
} from './rows.js';
import { Signal } from './signals.js';
import { inBackground, type Change, type Row, type Store } from './store.js';

/** An action that was refused, or that its server has lost. */
export interface RefusedAction {
  readonly id: string;
  /** The log's name. */
  readonly log: string;
  /** The action's name, or that of the value that was set. */
  readonly action: string;
  readonly key: string | undefined;
  /** What it was to bring: its payload; undefined: it was to take its key away. */
  readonly after: unknown;
  /** What stood under its key when it was refused, as far as a view knew. */
  readonly before: unknown;
  readonly reason: { readonly code: Code; readonly message: string };
  /** When it was done, ms since 1970. */
  readonly at: number;
  /** It is on the device. Else it is in this page alone, until there is room for it. */
  readonly saved: boolean;
  /** Does it once more, as the last of its log. */
  readonly retry: () => void;
  /** As text, to be put somewhere else. */
  readonly copy: () => string;
  /** Lets it go, for good. */
  readonly drop: () => void;
}

/** Up to where the server has a writer, and up to where that was known here when it was asked. */
export type Mark = readonly [mark: number, upto: number];

export interface InboxOptions {
  readonly store: Store;
  /** Logs it anew; these rows are written with it. */
  readonly again: (item: ActionRow, changes: readonly Change[]) => void;
  /** Where the server's history stands. */
  readonly history: () => HistoryRow;
  /** What a view shows under that key. */
  readonly shown: (log: string, record: ActionRow['record']) => unknown;
  /** That one stands among them: it came, or was read once more. */
  readonly came: (one: ActionRow & { readonly id: string }) => void;
  /** The list has changed on disk. */
  readonly changed: () => void;
  /** The server is to say what it has lost. */
  readonly look: () => void;
}

/** How long, and how much of, what was stored is kept on the device. */
export const DAYS = 7;
const DAY = 86_400_000;
const KEPT_BYTES = 5 << 20;
/** How long what could not be written waits, ms. */
const AGAIN = 1000;
/** When it may be so many bytes more, it is looked how much is kept. */
const LOOK_BYTES = 1 << 20;

export class Inbox {
  private readonly _turn = new Signal(() => this._rows);
  /** It is made for whoever looks at it alone. */
  readonly list = new Signal<readonly RefusedAction[]>(() => this._made());
  /** As it was made for whoever asked last; none: it has changed since, and each is made once. */
  private _list: readonly RefusedAction[] | undefined = [];
  private readonly _ones = new WeakMap<RefusedRow, RefusedAction>();
  private _queued = false;
  /** The last read; and the same, while it waits for the one before. */
  private _last: Promise<void> = Promise.resolve();
  private _next: Promise<void> | undefined;
  /** What was stored and is kept, as far as this page knows: when it was done, and its bytes. */
  private _kept: Map<string, readonly [at: number, bytes: number]> | undefined;
  /** Its bytes; at first they may be as many as may be. */
  private _bytes = KEPT_BYTES;
  private readonly _rows = new Map<string, RefusedRow>();
  /** What has changed here and is not on disk yet. */
  private readonly _due = new Map<string, RefusedRow | undefined>();
  /** Those that are in this page alone. */
  private readonly _unsaved = new Set<string>();
  /** Those who wait for what the server says of a history that is over. */
  private readonly _waiting: (() => void)[] = [];

  constructor(private readonly _options: InboxOptions) {}

  /** So many there are. */
  get size(): number {
    return this._turn.value.size;
  }

  /** So many of them are in this page alone. */
  get unsaved(): number {
    this._turn.value;
    return this._unsaved.size;
  }

  /**
   * Reads what stands there: at first, and when another page has changed it. However often that
   * page says so meanwhile, it is read once more.
   */
  read(): Promise<void> {
    return (this._next ??= this._last = this._last.catch(() => {}).then(() => {
      this._next = undefined;
      return this._read();
    }));
  }

  private async _read(): Promise<void> {
    const rows = await this._options.store.read('r/');
    this._rows.clear();
    for (const [key, row] of [...rows, ...this._due]) {
      if (row) this._rows.set(key, row as RefusedRow);
      else this._rows.delete(key);
    }
    for (const [key, { item }] of this._rows) {
      this._options.came({ ...item, id: actionOf(key) });
    }
    this._show();
  }

  /** These are on disk: other pages may read them. */
  kept(changes: readonly Change[]): void {
    const ours = changes.filter(([key]) => key.startsWith('r/'));
    for (const [key, row] of ours) {
      if (this._due.get(key) === row) this._due.delete(key);
      if (!this._unsaved.delete(key)) continue;
      this._ones.delete(row as RefusedRow);
      this._show();
    }
    if (ours.length) this._options.changed();
    for (const [key, row] of changes) {
      if (key.startsWith('d/') && Object(row).item) this._counts(key, row as DoneRow);
    }
    if (this._bytes >= KEPT_BYTES + LOOK_BYTES) inBackground(this.sweep(Date.now(), !this._kept));
  }

  /** All that stands there: of a short action the payload is the least part. */
  private _counts(key: string, row: DoneRow): void {
    if (this._kept?.has(key)) return;
    const bytes = key.length + JSON.stringify(row).length;
    this._bytes += bytes;
    this._kept?.set(key, [row.item.at, bytes]);
  }

  private _write(changes: readonly Change[]): Promise<void> {
    return this._options.store.write(changes).then(() => this.kept(changes));
  }

  /** Until it is gone from the disk too: a later page would show it once more. */
  private _drop(id: string): void {
    this._write([[id, undefined]]).catch((error: HighwaterError) => {
      if (error.code === 'closed') return;
      report(error);
      setTimeout(() => this._drop(id), AGAIN);
    });
  }

  /** Many may be refused at once: who watches is told when this turn ends. */
  private _show(): void {
    this._list = undefined;
    if (this._queued) return;
    this._queued = true;
    queueMicrotask(() => {
      this._queued = false;
      this._turn.changed();
    });
  }

  private _made(): readonly RefusedAction[] {
    const rows = this._turn.value;
    return (this._list ??= [...rows].map(([key, row]) => {
      const one = this._ones.get(row) ?? this._one(key, row);
      this._ones.set(row, one);
      return one;
    }));
  }

  private _one(id: string, { item, code, message, before }: RefusedRow): RefusedAction {
    const { log, at, record } = item;
    const { key, kind = '', payload } = record;
    const after = parsed(payload);
    const gone = (): void => {
      this._rows.delete(id);
      this._unsaved.delete(id);
      this._due.set(id, undefined);
      this._show();
    };
    return {
      id, log, action: kind, key, after, before, at, saved: !this._unsaved.has(id),
      reason: { code, message },
      copy: () => JSON.stringify({ log, action: kind, key, value: after }, null, 2),
      retry: () => {
        if (!this._rows.has(id)) return;
        this._options.again(item, [[id, undefined]]);
        gone();
      },
      drop: () => {
        if (!this._rows.has(id)) return;
        gone();
        this._drop(id);
      },
    };
  }

  /** What is to be written where one was refused. */
  refused(one: Logged, { code, message }: { code: Code; message: string }): Change[] {
    const change = this._take(rowOf(one), code, message, one.run.id, one.seq);
    if (!one.saved) this._unsaved.add(change[0]);
    return [change];
  }

  private _take(
    item: ActionRow, code: Code, message: string, writer: string, seq: number,
  ): Change {
    const key = refusedKey(item.at, writer, seq);
    const before = this._options.shown(item.log, item.record);
    const row: RefusedRow = { item, code, message, before };
    this._rows.set(key, row);
    this._due.set(key, row);
    this._options.came({ ...item, id: idOf(writer, seq) });
    this._show();
    return [key, row];
  }

  /** What is to be written where one was stored. */
  stored(one: Logged, stored: Stored): Change[] {
    const { run, seq } = one;
    const { history } = this._options.history();
    const row: DoneRow = { writer: run.id, seq, item: rowOf(one), stored, history };
    return [[doneKey(one.log, stored.log, stored.offset, run.id, seq), row]];
  }

  private _dones(prefix = 'd/', from = prefix): Promise<[string, DoneRow][]> {
    return this._options.store.read(prefix, from) as Promise<any[]>;
  }

  /** Those of a log that are stored, from that offset on: what a kept view does not cover yet. */
  async done(name: string, id: number, from: number): Promise<DoneRow[]> {
    const of = donesOf(name, id);
    const rows = await this._dones(of, of + digits(from));
    const { history } = this._options.history();
    return rows.map(([, row]) => row)
      .filter((row) => row.stored.offset >= from && row.history === history);
  }

  /** What is to be written with what was stored: the history that has it, as far as it is known. */
  where(): Change[] {
    const now = this._options.history();
    return [['h', (old: HistoryRow | undefined) => later(old, now)]];
  }

  /** Where what that writer did was stored, by its sequence. */
  async storedOf(id: string): Promise<Map<number, Stored>> {
    const rows = await this._dones();
    return new Map(rows.filter(([, { writer }]) => writer === id).map(
      ([, { seq, stored }]) => [seq, stored],
    ));
  }

  /** Whether it stands among the refused ones. */
  has({ at, run, seq }: Logged): boolean {
    return this._rows.has(refusedKey(at, run.id, seq));
  }

  /**
   * Lets go what was kept for long enough, or is more than is kept. `whole`: by what stands there;
   * else by what this page knows of it, so that many in a row do not have all read again and again.
   */
  async sweep(now: number, whole = true): Promise<void> {
    if (whole) {
      this._bytes = 0;
      this._kept = new Map();
      const count = (rows: Row[]): void => {
        for (const [key, row] of rows) this._counts(key, row);
      };
      count(await this._options.store.read('d/', 'd/', count));
      this._kept = new Map([...this._kept].sort(([, [one]], [, [two]]) => one - two));
    }
    const gone: Change[] = [];
    // The oldest stand first; those that came since stand behind them.
    for (const [key, [at, bytes]] of this._kept!) {
      if (this._bytes <= KEPT_BYTES && at >= now - DAYS * DAY) break;
      this._kept!.delete(key);
      this._bytes -= bytes;
      gone.push([key, undefined]);
    }
    for (const [key, at] of whole ? await this._options.store.read('k/') : []) {
      if (at < now - DAY) gone.push([key, undefined]);
    }
    if (gone.length) await this._options.store.write(gone);
  }

  /** What was stored in a history that is over. */
  private async _former(): Promise<[string, DoneRow][]> {
    const now = this._options.history().history;
    const rows = now ? await this._dones() : [];
    return rows.filter(([, { history }]) => history < now);
  }

  /** The writers that a server of another history is asked about, and the newest stored of each. */
  async writers(): Promise<ReadonlyMap<string, number>> {
    const found = new Map<string, number>();
    for (const [, { writer, seq }] of await this._former()) {
      found.set(writer, Math.max(seq, found.get(writer) ?? 0));
    }
    return found;
  }

  /**
   * When nothing is to be asked of what that writer did in a history that is over. One that went on
   * before would have a mark beyond what was lost.
   */
  async known(writer: string): Promise<void> {
    while ((await this.writers()).has(writer)) {
      await new Promise<void>((next) => {
        this._waiting.push(next);
        this._options.look();
      });
    }
  }

  /** The server's history is another, and has these writers' actions up to their marks. */
  async restored(marks: ReadonlyMap<string, Mark>): Promise<void> {
    const { history } = this._options.history();
    const changes: Change[] = [];
    let more = false;
    for (const [key, row] of await this._former()) {
      const { writer, seq, item } = row;
      const [mark, upto] = marks.get(writer) ?? [];
      if (mark === undefined) continue;
      const has = { ...row, history };
      if (seq <= mark) changes.push([key, (old: unknown) => old && has]);
      // It was stored since, by a page that has seen nothing of what was lost.
      else if (seq > upto!) more = true;
      else {
        const why = 'the restored server has lost it';
        changes.push([key, undefined], this._take(item, 'restored', why, writer, seq));
      }
    }
    if (changes.length) await this._write(changes);
    for (const next of this._waiting.splice(0)) next();
    if (more) this._options.look();
  }

  /** All rows that are held in memory. */
  rows(): Iterable<Change> {
    return this._rows;
  }
}

const parsed = (payload: string | Uint8Array | undefined): unknown => {
  if (payload === undefined) return undefined;
  const text = typeof payload === 'string' ? payload : new TextDecoder().decode(payload);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

