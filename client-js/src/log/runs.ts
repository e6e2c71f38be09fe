/**
 * From the device to the wire: which writers there are, who sends for each, and when an action may
 * go out.
 *
 * Promise: a writer is sent for by whoever holds its lock: its page, or the first that has it after
 * that page is dead. Nothing goes out that is not saved, nor before a mark on disk says that it may
 * have been sent. What an action was made on top of goes out before it, also where the page that
 * made it is frozen. Only its holder lets the server forget a writer's outcomes.
 */

import type { Connection } from '../connection.js';
import { report } from '../emitter.js';
import { HighwaterError } from '../errors.js';
import type { Welcome } from '../frames.js';
import { weigh, Writer, type Stored } from '../writer.js';
import type { Inbox } from './inbox.js';
import { keyOf, type ActionRow, type WriterRow } from './rows.js';
import { firstOf, inOrder, markOf, type Logged, type Run } from './run.js';
import { inBackground, inTime, type Change, type Store } from './store.js';
import type { Hold } from './tabs.js';

/** What the runs ask of the log of actions. */
export interface Book {
  /** One of another page is shown as it stands on disk, whatever was heard of it. */
  says(run: Run, seq: number, row: ActionRow): void;
  /** Another page has its outcome, and has kept that. */
  gone(one: Logged, stored?: Stored): void;
  /** It will not be sent. */
  withdraw(one: Logged, error: HighwaterError): void;
  decided(one: Logged, result: Stored | HighwaterError): void;
  /** The server's history is another, and has nothing of these. */
  moved(run: Run, rest: Logged[]): void;
  /** Logs that may begin anew, and whose unsent work is then not to be sent. */
  doubtful(): ReadonlySet<string>;
  /** Its size is known now. */
  weighed(more: number): void;
  /** When all that was to be written is written. */
  settled(): Promise<void>;
}

export interface RunsOptions {
  readonly store: Store;
  readonly inbox: Inbox;
  readonly hold: Hold;
  /** Names the locks of this log. */
  readonly name: string;
  readonly now: () => number;
}

/** So many are marked ahead of what is on its way. */
const AHEAD = 2048;
/** How long another page that lives has to send what an action here was made on top of, ms. */
const HELP_AFTER = 2000;
/** No timer waits longer, ms. */
const LONGEST = 0x7fffffff;
/** How long what could not be written waits, ms. */
export const AGAIN = 1000;

const expired = (): HighwaterError => new HighwaterError('expired', 'it waited too long');

export class Runs {
  readonly all = new Map<string, Run>();
  online = false;
  closed = false;
  /** What is on the device is being read. */
  reading: Promise<void> | undefined;
  /** The browser keeps the page, for later. */
  private _left = false;
  /** Of this page, by urgency. */
  private readonly _own = new Map<string, Run>();
  private _helper: ReturnType<typeof setTimeout> | undefined;
  /** When the first that may be too old by then is looked for. */
  private _due = Infinity;
  private _clock: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly _core: Connection,
    private readonly _options: RunsOptions,
    private readonly _book: Book,
  ) {}

  /** It sends, or will. */
  get open(): boolean {
    return !this.closed && !this._left;
  }

  // Which there are.

  /** That of this page for actions of that urgency. */
  own(urgency: string): Run {
    let run = this._own.get(urgency);
    if (!run || this._torn(run)) {
      run = this._run(this._core.config.newId(), urgency, true);
      this._own.set(urgency, run);
      this._carry(run, 1);
    }
    return run;
  }

  /** The disk has some of it, and is lost: what this page has of it is known to no other. */
  private _torn({ disk }: Run): boolean | undefined {
    return disk && this._options.store.health.value.kind === 'memory';
  }

  /** One of another page, dead or alive; it is sent for from here once its lock is had. */
  found(id: string, { urgency, sent }: WriterRow): Run {
    const known = this.all.get(id);
    if (known) return known;
    const run = this._run(id, urgency, false);
    run.sent = run.marked = sent;
    run.written = true;
    run.disk = this._options.store.health.value.kind === 'disk';
    this._await(run);
    return run;
  }

  private _run(id: string, urgency: string, own: boolean): Run {
    const { hold, name } = this._options;
    const run: Run = {
      id, urgency, own, actions: new Map(), first: 1, lasts: new Map(), freed: 0, sent: 0,
      marked: 0, unkept: new Set(),
      ...hold(`${name}:${id}`),
    };
    this.all.set(id, run);
    return run;
  }

  private _await(run: Run): void {
    inBackground(run.had.then((had) => (had ? this._adopt(run) : undefined)));
  }

  /** Its page is dead: this one sends what it left, and keeps its outcomes. */
  private async _adopt(run: Run): Promise<void> {
    const { store, inbox } = this._options;
    const { release } = run;
    // What is on the device is shown first.
    await this.reading;
    await new Promise((done) => setTimeout(done));
    await inbox.known(run.id);
    const [[[, row] = []], actions] = await Promise.all([
      store.read(`w/${run.id}`), store.read(`a/${run.id}/`),
    ]);
    const gone = (): boolean => !this.open || run.release !== release;
    // It was let go meanwhile.
    if (gone()) return;
    this._drop(run);
    const left = new Set(actions.map(([key]) => +key.split('/')[2]!));
    // Another page, dead by now, had an outcome and has kept it; or died before it kept the action.
    const ended = [...run.actions.values()].filter(({ seq }) => !left.has(seq));
    const stored = ended.length ? await inbox.storedOf(run.id) : undefined;
    // It may have died before it told that it wrote there.
    await inbox.read();
    if (gone()) return;
    for (const one of ended) this._book.gone(one, stored!.get(one.seq));
    if (!row && !actions.length) return this._forget(run);
    const { sent, others } = (row ?? { sent: Infinity }) as WriterRow;
    run.sent = run.marked = sent;
    run.read = others;
    for (const [key, found] of actions) {
      // What replaced it may have been told and not written, or written and not told.
      this._book.says(run, +key.split('/')[2]!, found);
    }
    inOrder(run);
    this._carry(run, Math.max(0, ...left) + 1);
    for (const one of run.actions.values()) this._queue(run, one);
    this._expire(run, run.writer!.next - 1);
    this.mark(run);
    this.free(run);
    this.retire(run);
  }

  private _weigh(one: Logged): void {
    Object.assign(one, weigh(one.record, this._core.config.encoding));
    this._book.weighed(one.bulk);
  }

  private _queue(run: Run, one: Logged): void {
    // It is weighed when it goes out: many at once would be a long task.
    this._book.weighed(-one.bulk);
    Object.assign(one, { bulk: 0, weight: 0, held: true });
    one.sent = false;
    one.tried = one.seq <= run.sent;
    run.writer!.take(one);
  }

  /** From here on this page sends it. */
  private _carry(run: Run, next: number): void {
    this._drop(run);
    const { _book: book } = this;
    run.writer = new Writer(this._core, (one, result) => book.decided(one as Logged, result), {
      id: run.id, next,
      ended: (rest) => {
        if (this._own.get(run.urgency) === run) this._own.delete(run.urgency);
        book.moved(run, rest as Logged[]);
      },
    });
    this._floor(run);
    this._core.writers.push(run.writer);
  }

  /** This page sends it no longer. */
  private _drop(run: Run): void {
    const at = this._core.writers.indexOf(run.writer!);
    if (at > 0) this._core.writers.splice(at, 1);
    run.writer = run.helped = undefined;
    run.freed = 0;
  }

  // When an action may go out.

  /** There is a socket, or none. */
  connected(online: boolean): void {
    this.online = online;
    if (!online) return;
    for (const run of [...this.all.values()]) {
      this.mark(run);
      this.retire(run);
    }
  }

  /** Says how far it is to be marked: what is next, and some more; whether that is further. */
  ahead(run: Run): boolean {
    const { writer } = run;
    // In strides: a mark for each outcome would cost a transaction for each.
    if (!writer || !this.online || run.sent > writer.oldest + AHEAD / 2) return false;
    let upto = Math.min(writer.next - 1, writer.oldest + AHEAD);
    const doubtful = this._book.doubtful();
    if (run.own && doubtful.size) for (const { seq, log } of run.actions.values()) {
      if (seq > run.sent && doubtful.has(log)) upto = Math.min(upto, seq - 1);
    }
    if (upto <= run.sent) return false;
    const before = run.sent;
    run.sent = this._expire(run, upto);
    return run.sent > before;
  }

  /** What waits longer than it may goes, up to there; answers up to where the rest may be sent. */
  private _expire(run: Run, upto: number): number {
    const now = this._options.now();
    const old: Logged[] = [];
    let end = upto;
    for (let seq = Math.max(run.sent + 1, firstOf(run)); seq <= upto; seq++) {
      const one = run.actions.get(seq);
      if (one?.until! < now) old.push(one!);
      else this.ages(one?.until);
      if (one?.recalled || one?.until! < now) end = Math.min(end, seq - 1);
    }
    this.recall(run, old, expired());
    return end;
  }

  /** These are not to be sent, where no other page has sent them meanwhile: the disk knows. */
  recall(run: Run, list: readonly Logged[], error: HighwaterError): void {
    const ones = list.filter(({ recalled }) => !recalled);
    if (!ones.length || this.closed) return;
    let upto = 0;
    const changes = markOf(run);
    for (const one of ones) {
      one.recalled = true;
      changes.push([keyOf(run.id, one.seq), (old?: ActionRow) => {
        upto = run.others!;
        // Nobody sends it from here on; who takes over does not, either.
        return one.seq > upto ? old && { ...old, until: 0 } : old;
      }]);
    }
    const over = (): void => {
      for (const one of ones) one.recalled = false;
    };
    run.had.then(() => this._options.store.write(changes)).then(
      () => {
        over();
        for (const one of ones) {
          if (one.seq > upto && run.actions.has(one.seq)) this._book.withdraw(one, error);
        }
        this.marked(run, 0);
      },
      () => void setTimeout(() => {
        over();
        this.recall(run, ones, error);
      }, AGAIN),
    );
  }

  /** Not sent by then, it goes, also while there is no server. */
  ages(until = Infinity): void {
    if (until >= this._due) return;
    this._due = until;
    clearTimeout(this._clock);
    this._clock = inTime(() => {
      this._due = Infinity;
      for (const run of this.all.values()) {
        if (run.writer && run.helped === undefined) this._expire(run, run.writer.next - 1);
      }
    }, Math.min(until - this._options.now() + 1, LONGEST));
  }

  /** Marks on disk what may go out from now on. */
  mark(run: Run): void {
    if (run.helped !== undefined || !run.written || run.marked < run.sent) return;
    if (!this.ahead(run)) return;
    const upto = run.sent;
    this._options.store.write(markOf(run)).then(
      () => this.marked(run, upto),
      () => this.unmarked(run),
    );
  }

  /** Its mark could not be written: once more, after a while. */
  unmarked(run: Run): void {
    run.sent = run.marked;
    setTimeout(() => this.mark(run), AGAIN);
  }

  /** The mark is on disk. */
  marked(run: Run, upto: number): void {
    const { others = 0, read = 0 } = run;
    if (others > read && run.helped === undefined) return inBackground(this._reread(run, upto));
    run.marked = Math.max(run.marked, upto);
    // Another write of it may have failed meanwhile.
    run.sent = Math.max(run.sent, run.marked);
    this.mark(run);
    this.free(run);
  }

  /** Others have sent for this page: what stands on disk of that counts, and is read first. */
  private async _reread(run: Run, upto: number): Promise<void> {
    const { store, inbox } = this._options;
    const { others = 0, id } = run;
    const rows = new Map(await store.read(`a/${id}/`));
    const stored = await inbox.storedOf(id);
    await inbox.read();
    run.sent = Math.max(run.sent, others);
    for (const one of [...run.actions.values()]) {
      const { seq } = one;
      if (seq > others || !run.writer) continue;
      const row = rows.get(keyOf(id, seq));
      if (!row) this._book.gone(one, stored.get(seq));
      else {
        this._book.says(run, seq, row);
        // What goes out already says the same.
        if (one.held) this._queue(run, one);
      }
    }
    run.read = others;
    this.marked(run, Math.max(upto, others));
  }

  /** Lets go out what is saved and marked, in order. */
  free(run: Run): void {
    const { writer, marked } = run;
    if (!writer) return;
    // Where none waits, the next that comes is the first.
    const from = (run.freed = Math.max(run.freed, Math.min(firstOf(run), writer.next)));
    for (; run.freed < writer.next && run.freed <= marked; run.freed++) {
      const one = run.actions.get(run.freed);
      if (!one) continue;
      if (!one.saved) break;
      if (this._waits(one)) {
        this._rescue(one);
        break;
      }
      try {
        if (!one.weight) this._weigh(one);
      } catch (error) {
        // Of a newer client, which may more: who has that sends it.
        this._drop(run);
        return report(error);
      }
      one.held = false;
    }
    if (run.freed > from) this._core.wake();
  }

  freeAll(): void {
    for (const run of this.all.values()) this.free(run);
  }

  /** The pending ones of other pages that one of that log is made on top of: the last of each. */
  below(log: string): string[] | undefined {
    const found: string[] = [];
    for (const other of this.all.values()) {
      const last = other.own ? undefined : other.lasts.get(log);
      if (last !== undefined && firstOf(other) <= last) found.push(`${other.id}/${last}`);
    }
    return found.length ? found : undefined;
  }

  private _below(one: Logged): { run: Run; upto: number }[] {
    return (one.after ?? []).flatMap((id) => {
      const [writer, seq] = id.split('/') as [string, string];
      const run = this.all.get(writer);
      return run && firstOf(run) <= +seq ? [{ run, upto: +seq }] : [];
    });
  }

  private _waits(one: Logged): boolean {
    if (one.after && !this._below(one).length) one.after = undefined;
    return !!one.after;
  }

  // Pages that live and do not send.

  /** Sends for the pages that it waits for, if they do not do it themselves. */
  private _rescue(one: Logged): void {
    if (this._helper !== undefined || !this.online) return;
    this._helper = inTime(() => {
      this._helper = undefined;
      if (!this.online || this.closed) return;
      for (const { run, upto } of this._below(one)) {
        if (!run.writer) inBackground(this._help(run, upto));
      }
    }, HELP_AFTER);
  }

  /**
   * Another page lives and does not send, perhaps since it is frozen: what stands on disk of it up
   * to there is sent from here. It is not ours: what the server may forget is not said.
   */
  private async _help(run: Run, upto: number): Promise<void> {
    const { store, inbox } = this._options;
    await inbox.known(run.id);
    const rows = new Map(await store.read(`a/${run.id}/`));
    if (run.writer || this.closed) return;
    const there = [...run.actions.values()];
    const away = there.filter((one) => one.seq <= upto && !rows.has(keyOf(run.id, one.seq)));
    // That page has not saved it yet, or has its outcome and has not told: that is on disk then.
    const stored = away.length ? await inbox.storedOf(run.id) : undefined;
    if (stored) await inbox.read();
    if (run.writer || this.closed) return;
    for (const one of there) {
      const row = rows.get(keyOf(run.id, one.seq));
      // Its page may have told meanwhile what became of it.
      if (row && run.actions.has(one.seq)) this._book.says(run, one.seq, row);
    }
    for (const one of away) {
      const known = stored!.get(one.seq);
      if (known || inbox.has(one)) this._book.gone(one, known);
    }
    const first = firstOf(run);
    // What stands on no disk only its own page can send: it is looked for again.
    if (first > upto || away.some(({ seq }) => run.actions.has(seq))) return this.freeAll();
    const due = there.filter(({ seq }) => seq <= upto);
    const found = await this._claim(run, upto, due);
    if (run.writer || this.closed) return;
    const now = this._options.now();
    run.sent = Math.max(run.sent, upto);
    this._carry(run, upto + 1);
    run.helped = upto;
    run.writer!.floor = first;
    run.marked = run.sent;
    for (const one of due) {
      const row = found.get(one.seq);
      if (!run.actions.has(one.seq)) continue;
      if (!row) this._book.gone(one);
      else if (row.until! < now) this._book.withdraw(one, expired());
      else {
        this._book.says(run, one.seq, row);
        this._queue(run, one);
      }
    }
    this.free(run);
  }

  /** Says that they may be sent from here; what stands on disk of them in that very moment. */
  private async _claim(run: Run, upto: number, due: Logged[]): Promise<Map<number, ActionRow>> {
    const found = new Map<number, ActionRow>();
    const { id, urgency } = run;
    const mark = (old?: WriterRow): WriterRow => {
      found.clear();
      const { sent = 0, others = 0 } = old ?? {};
      return { urgency, sent: Math.max(upto, sent), others: Math.max(upto, others) };
    };
    const rows = due.map(({ seq }): Change => [keyOf(id, seq), (old?: ActionRow) => {
      if (old) found.set(seq, old);
      return old;
    }]);
    await this._options.store.write([[`w/${id}`, mark], ...rows]);
    return found;
  }

  // Its outcomes.

  /** One has its outcome, and is no more among those that wait. */
  ended(run: Run): void {
    if (run.helped !== undefined && firstOf(run) > run.helped) this._drop(run);
    this.retire(run);
    this.mark(run);
    this.freeAll();
  }

  /** The server must not forget an outcome that is not on disk yet. */
  keeps(run: Run, seq: number): void {
    run.unkept.add(seq);
    const { writer, helped } = run;
    if (writer && helped === undefined) writer.floor = Math.min(writer.floor, seq);
  }

  /** Some are on disk. */
  kept(run: Run): void {
    this._floor(run);
    this.retire(run);
  }

  private _floor(run: Run): void {
    const { writer, unkept, helped, blind } = run;
    if (!writer || (helped !== undefined && !blind)) return;
    // It is over when all that the server has of it is answered: not before that is known.
    writer.floor = blind ? 0 : Infinity;
    // What waits does not wait for good for what a later page may ask: so much is given up then.
    const most = this._core.greeting?.limits.inFlight! / 2;
    const low = this._torn(run) ? Math.min(firstOf(run), writer.next) - most : 0;
    for (const seq of unkept) if (!(seq < low)) writer.floor = Math.min(writer.floor, seq);
  }

  /** The server's history is another: those that send here of which nothing was `told`. */
  blind(told: Welcome['writers']): string[] {
    const named = new Set(told.map(({ writer }) => writer));
    return [...this.all.values()].flatMap((run) => {
      const { id } = run;
      this.sees(id);
      if (!run.writer || named.has(id)) return [];
      run.blind = true;
      this._floor(run);
      return [id];
    });
  }

  /** What this history has of it is known: it goes on from there. */
  sees(id: string): void {
    const run = this.all.get(id);
    if (!run?.blind) return;
    run.blind = false;
    if (run.helped === undefined) this._floor(run);
    else if (run.writer) run.writer.floor = firstOf(run);
    this._core.wake();
  }

  /** All of it is answered and kept, and its page is dead: nobody needs its mark any more. */
  retire(run: Run): void {
    if (!this._over(run)) return;
    // Whoever has its lock next reads what is on disk: first all of it is there.
    inBackground(this._book.settled().then(async () => {
      if (!this._over(run)) return;
      this._forget(run);
      if (run.sent) this._core.say('retire', { writer: run.id, request: 0 });
      this._core.wake();
      await this._options.store.write([[`w/${run.id}`, undefined]]);
    }));
  }

  private _over(run: Run): boolean {
    const done = !run.actions.size && !run.unkept.size && this.all.get(run.id) === run;
    if (!done || !run.writer || run.helped !== undefined) return false;
    return this._own.get(run.urgency) !== run && (!run.sent || this.online);
  }

  private _forget(run: Run): void {
    this._drop(run);
    this.all.delete(run.id);
    run.release();
  }

  // Pages that are kept for later, and the end.

  /** Nothing is sent from here on; answers how to let others do it. */
  leave(): () => void {
    this._left = true;
    clearTimeout(this._helper);
    this._helper = undefined;
    this._own.clear();
    const releases = [...this.all.values()].map(({ release }) => release);
    for (const run of this.all.values()) this._drop(run);
    return () => {
      for (const release of releases) release();
    };
  }

  /** It shows this page again, which begins under new writers. */
  again(): void {
    this._left = false;
    const { hold, name } = this._options;
    for (const run of this.all.values()) {
      Object.assign(run, hold(`${name}:${run.id}`), { own: false });
      this._await(run);
    }
  }
}
