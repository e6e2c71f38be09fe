/**
 * The log of what was done here: each action from the moment it is made until the server's outcome
 * is known and kept.
 *
 * Promise: what `saved` says is on disk, it is. What is sent is what was saved, to the letter. An
 * outcome is on disk before the server may forget it. Nothing that was typed is ever just gone:
 * what ends otherwise than stored is among the refused ones.
 */

import type { Connection } from '../connection.js';
import { Emitter, quiet } from '../emitter.js';
import { HighwaterError } from '../errors.js';
import type { Draft, Made } from '../frames.js';
import { checkName, weigh, type Stored } from '../writer.js';
import { idOf } from './fold.js';
import { keyOf, rowOf, type ActionRow, type WriterRow } from './rows.js';
import {
  inOrder, markOf, type Counts, type Given, type Logged, type Message, type Run, type Told,
} from './run.js';
import { AGAIN, Runs, type Book, type RunsOptions } from './runs.js';
import { Signal } from './signals.js';
import { inBackground, type Change, type Kind, type Row } from './store.js';

export interface LedgerOptions extends RunsOptions {
  /** Most actions without an outcome. */
  readonly maxPending: number;
  /** Logs that begin anew, or not, and whose work is not to go on then. */
  readonly unsure: () => readonly string[];
  /** Says to other pages what happened here. */
  readonly say: (message: Message) => void;
}

/** Its end is known. */
interface Ended {
  readonly run: Run;
  readonly seq: number;
  readonly stored?: Stored | undefined;
}

/** So many outcomes are told one by one, as older clients hear them. */
const FEW = 16;
/** Bytes of actions without an outcome. */
const MOST_BYTES = 64 << 20;

const nothing = (): void => {};
/** For whoever did it, of which action it is; where another page did, nobody waits for it. */
const about = ({ log, record }: Logged, error: HighwaterError): Promise<never> => {
  const { code, message, retryAfter, maybeStored } = error;
  const text = `${log}: ${record.kind}: ${message}`;
  return quiet(Promise.reject(new HighwaterError(code, text, retryAfter, maybeStored)));
};

export class Ledger implements Book {
  readonly runs: Runs;
  /** Logs that somebody here has opened whose work is to go on where the log begins anew. */
  readonly rebased = new Set<string>();
  /** How much waits, and where. */
  readonly counts = new Signal<Counts>(
    () => ({ unsaved: this._unsaved, waiting: this._waiting }),
  );
  /** To be written: actions, other changes with them, and outcomes. */
  private _fresh: Logged[] = [];
  private _also: Change[] = [];
  private _outs: [Run, number, Change[], Stored | undefined][] = [];
  /** Those that end without the server, by what is written next. */
  private _gone: Ended[] = [];
  private _queued = false;
  /** Writes that have no answer yet. */
  private readonly _flying = new Set<Promise<void>>();
  private _bytes = 0;
  /** The newest: where the clock was put back, the next one comes behind it all the same. */
  private _at = 0;
  private _waiting = 0;
  private _unsaved = 0;
  /** What ended while the device is read, which may answer as it was before; and so many reads. */
  private readonly _ended = new Set<string>();
  private _reads = 0;
  private readonly _places = new Map<string, Made>();
  /** Those who listen, by their logs: what is done in one costs nothing for the others. */
  private readonly _open = new Map<string, Emitter<{ told: Told }>>();

  constructor(private readonly _core: Connection, private readonly _options: LedgerOptions) {
    this.runs = new Runs(_core, _options, this);
  }

  /** Tells `listener` what becomes of the actions of that log; answers how to stop that. */
  on(log: string, listener: (told: Told) => void): () => void {
    const open = this._open.get(log) ?? new Emitter();
    this._open.set(log, open);
    const off = open.on('told', listener);
    return () => {
      off();
      if (!open.heard) this._open.delete(log);
    };
  }

  tell(is: Told['is'], one: Told['one'], stored?: Stored, was?: string): void {
    this._open.get(one.log)?.emit('told', { is, one, stored, was });
  }

  // What is there from before.

  /** Takes in what earlier pages, and other ones, have left: shown now, sent by whoever may. */
  async begin(): Promise<void> {
    const { store } = this._options;
    this._reads++;
    for (const [key, row] of await store.read('w/')) this.runs.found(key.slice(2), row);
    const take = (rows: Row[]): void => this._take(rows);
    take(await store.read('a/', 'a/', take));
    for (const run of this.runs.all.values()) inOrder(run);
    this._read();
  }

  private _read(): void {
    if (!--this._reads) this._ended.clear();
    this.counts.changed();
  }

  /** Writers whose first words were on their way when this page began: none of it is missed. */
  async look(): Promise<void> {
    const { store } = this._options;
    this._reads++;
    for (const [key, row] of await store.read('w/')) {
      const id = key.slice(2);
      if (this.runs.all.has(id) || !this.runs.open) continue;
      const run = this.runs.found(id, row as WriterRow);
      const actions = await store.read(`a/${id}/`);
      if (run.writer) continue;
      this._take(actions);
      inOrder(run);
    }
    this._read();
  }

  private _take(rows: Row[]): void {
    for (const [key, row] of rows.sort(([, one], [, two]) => one.at - two.at)) {
      const [, writer, seq] = key.split('/') as [string, string, string];
      // A writer without a row is one that any of its actions may have been sent of.
      const run = this.runs.found(writer, { urgency: 'edit', sent: Infinity });
      if (!run.own && !this._ended.has(idOf(writer, +seq))) this._found(run, +seq, row);
    }
  }

  /** One of another page. */
  private _found(run: Run, seq: number, row: ActionRow): void {
    const id = idOf(run.id, seq);
    if (run.actions.has(seq)) return;
    const one: Logged = {
      ...row, made: this._place(row.made), id, seq, run, saved: true, bulk: 0, weight: 0,
      settle: nothing,
    };
    this._enter(one);
    this.tell('added', one);
  }

  /** One of another page says that now, and is shown. */
  says(run: Run, seq: number, row: ActionRow): void {
    const one = run.actions.get(seq);
    if (!one) return this._found(run, seq, row);
    const { record } = row;
    if (!one.saved) this._unsaved--;
    one.saved = true;
    if (JSON.stringify(one.record) === JSON.stringify(record)) return;
    one.record = record;
    this.tell('replaced', one);
  }

  /** One object for each place where a log id was made: by those a frame tells them apart. */
  private _place(made: Made | undefined): Made | undefined {
    if (!made) return undefined;
    const key = `${made.log} ${made.position}`;
    const known = this._places.get(key) ?? made;
    this._places.set(key, known);
    return known;
  }

  private _enter(one: Logged): void {
    const { run, seq, log } = one;
    run.actions.set(seq, one);
    run.first = Math.min(run.first, seq);
    run.lasts.set(log, seq);
    this._at = Math.max(this._at, one.at);
    this._waiting++;
    this._bytes += one.bulk;
    if (!one.saved) this._unsaved++;
  }

  /** Its size is known now. */
  weighed(more: number): void {
    this._bytes += more;
  }

  doubtful(): ReadonlySet<string> {
    return new Set(this._options.unsure());
  }

  private _past(id: string): void {
    if (this._reads) this._ended.add(id);
  }

  /** It waits no more; whether it did. */
  private _exit(one: Logged): boolean {
    const { run, seq } = one;
    if (!run.actions.delete(seq)) return false;
    run.writer?.queue.delete(seq);
    this._past(one.id);
    this._waiting--;
    this._bytes -= one.bulk;
    if (!one.saved) this._unsaved--;
    return true;
  }

  // What is done here.

  /** Logs one. Throws, before anything is shown, where it cannot be carried. */
  add(given: Given): Logged {
    if (this.runs.closed) throw new HighwaterError('closed', 'the app closed this client');
    const { maxPending, now } = this._options;
    const { urgency, record, settle = nothing, ...more } = given;
    const { log } = given;
    if (this._waiting >= maxPending || this._bytes >= MOST_BYTES) {
      throw new HighwaterError('queue_full', `${log}: ${this._waiting} actions wait already`);
    }
    checkName(log);
    const weighed = this._weigh(given);
    const run = this.runs.own(urgency);
    const seq = run.writer!.next;
    const one: Logged = {
      ifHead: undefined, ...more, ...weighed, made: this._place(more.made), seq, run, settle,
      id: idOf(run.id, seq), at: Math.max(this._at, now()), held: true,
      after: this.runs.below(log),
    };
    this._enter(one);
    run.writer!.take(one);
    this.tell('added', one);
    this._fresh.push(one);
    this.runs.ages(one.until);
    this._later();
    return one;
  }

  private _weigh(
    { log, record, ifHead }: Pick<Given, 'log' | 'record' | 'ifHead'>,
  ): ReturnType<typeof weigh> {
    const { status, config, greeting } = this._core;
    // Whoever sits here now is another: this log is not theirs to write in.
    if (status.reason === 'other_user') throw status.error;
    const weighed = weigh(record, config.encoding, ifHead);
    const most = greeting?.limits.recordBytes ?? Infinity;
    if (weighed.bulk > most) {
      throw new HighwaterError('too_large', `${log}: ${record.kind}: over ${most} bytes`);
    }
    return weighed;
  }

  /** Says something else instead, where nothing of it may have been sent; whether it could. */
  replace(one: Logged, record: Draft): boolean {
    const { run, bulk } = one;
    if (one.seq <= run.sent || one.recalled || !run.actions.has(one.seq)) return false;
    if (one.saved) one.stands = one.record;
    Object.assign(one, this._weigh({ ...one, record }));
    this._bytes += one.bulk - bulk;
    one.turns = (one.turns ?? 0) + 1;
    if (one.saved) this._unsaved++;
    one.saved = false;
    one.held = true;
    this.tell('replaced', one);
    this._fresh.push(one);
    this._later();
    return true;
  }

  /** Writes these with what is logged in this tick: all or nothing. */
  also(changes: readonly Change[]): void {
    this._also.push(...changes);
    this._later();
  }

  /** What comes together in a tick is written together. */
  private _later(): void {
    if (this._queued) return;
    this._queued = true;
    queueMicrotask(() => {
      this._queued = false;
      this._write();
      this._keep();
      this.counts.changed();
    });
  }

  private _write(): void {
    const fresh = this._fresh.splice(0)
      .map((one) => ({ one, turns: one.turns, record: one.record, late: false }));
    const also = this._also.splice(0);
    const gone = this._gone.splice(0);
    if (!fresh.length && !also.length) return;
    const runs = [...new Set(fresh.map(({ one }) => one.run))];
    for (const run of runs) this.runs.ahead(run);
    const rows = fresh.map((entry): Change => {
      const { one: { run, seq }, one, turns } = entry;
      const row = rowOf(one);
      // What another page has sent meanwhile says what it said then.
      const now = (old: unknown): unknown => ((entry.late = seq <= run.others!) ? old : row);
      return [keyOf(run.id, seq), turns ? now : row];
    });
    // Where its mark stands already, the transaction need not look at it first.
    const marks = runs.map((run) => {
      const again = fresh.some(({ one, turns }) => turns && one.run === run);
      const stands = run.written && run.sent <= run.marked && !again;
      return { run, upto: run.sent, row: stands ? [] : markOf(run) };
    });
    const changes = [...marks.flatMap(({ row }) => row), ...rows, ...also];
    // No other page may take a writer for dead before its lock is had: it hears of it after that.
    const had = Promise.all(runs.map((run) => run.had));
    const written = had.then(() => {
      for (const run of runs) this._did(run, fresh.map(({ one }) => one));
      return this._options.store.write(changes);
    }).then(
      (kind) => {
        this._options.store.persist();
        this._options.inbox.kept(also);
        this._over(gone, kind);
        for (const { one, turns, record, late } of fresh) {
          if (!late) this._written(one, turns, kind);
          else if (one.turns === turns) this._late(one, record);
        }
        for (const { run, upto } of marks) {
          run.written = true;
          run.disk ||= kind === 'disk';
          this.runs.marked(run, upto);
        }
        this.counts.changed();
      },
      (error: Error) => {
        for (const { one, turns } of fresh) this._unwritten(one, turns, error);
        for (const { run } of marks) this.runs.unmarked(run);
        this._also.unshift(...also);
        this._gone.unshift(...gone);
        this._again();
      },
    );
    this._flies(written);
  }

  /** What could not be written is tried again, after a while. */
  private _again(): void {
    setTimeout(() => this.runs.closed || this._later(), AGAIN);
  }

  private _flies(written: Promise<void>): void {
    this._flying.add(written);
    void written.then(() => this._flying.delete(written));
  }

  /** When all that was to be written is, once more what could not be; or `once` each was tried. */
  async settled(once = false): Promise<void> {
    for (;;) {
      await Promise.all(this._flying);
      if (this._queued || this._flying.size) continue;
      if (once || !this._also.length) return;
      await new Promise((done) => setTimeout(done, AGAIN));
    }
  }

  private _did(run: Run, all: readonly Logged[]): void {
    const { id: writer, urgency } = run;
    const there = all.filter((one) => one.run === run && run.actions.has(one.seq));
    const rows = there.map((one) => [one.seq, rowOf(one)] as const);
    this._options.say({ is: 'did', writer, urgency, rows });
  }

  /** What it says now goes on as another: what it said before was sent by another page. */
  private _late(one: Logged, record: Draft): void {
    const at = Math.max(this._at, this._options.now());
    const next = this._anew(one, { at, ...weigh(record, this._core.config.encoding) });
    this._later();
    const { run, seq, stands } = one;
    Object.assign(one, { settle: nothing, kept: nothing, record: stands });
    if (run.actions.has(seq)) {
      this._did(run, [one]);
      this.tell('replaced', one);
    }
    this.tell('added', next);
  }

  /** It goes on under a number of its own, and says that. */
  private _anew(one: Logged, says: Partial<Logged> = {}): Logged {
    const run = this.runs.own(one.run.urgency);
    const seq = run.writer!.next;
    const next: Logged = {
      ...one, ...says, run, seq, id: idOf(run.id, seq), held: true, sent: false, tried: false,
      saved: false,
    };
    this.tell('moved', next, undefined, one.id);
    this._enter(next);
    run.writer!.take(next);
    return this._fresh.push(next), next;
  }

  private _written(one: Logged, turns: number | undefined, kind: Kind): void {
    // What was replaced since is written once more.
    if (one.turns !== turns || one.saved) return;
    one.saved = true;
    // One that has ended meanwhile is counted no more.
    if (one.run.actions.get(one.seq) === one) this._unsaved--;
    one.kept?.(kind);
  }

  /** It was rolled back: it is on no disk, and was never sent. */
  private _unwritten(one: Logged, turns: number | undefined, error: Error): void {
    if (one.turns !== turns || !one.run.actions.has(one.seq)) return;
    const why = new HighwaterError('not_saved', `the device did not take it: ${error.message}`);
    one.kept?.(about(one, why));
    this.withdraw(one, why);
  }

  // Outcomes.

  decided(one: Logged, result: Stored | HighwaterError): void {
    const { run, seq } = one;
    // It holds its run, which would else be retired before this outcome is kept.
    this.runs.keeps(run, seq);
    let changes: Change[];
    let stored: Stored | undefined;
    if (result instanceof HighwaterError) {
      // Its views are without it when the inbox looks at what stands there.
      this._end(one, undefined, result);
      changes = this._options.inbox.refused(one, result);
    } else {
      this._core.history.saw(result.place.batch);
      stored = result;
      changes = this._options.inbox.stored(one, result);
      this._end(one, result);
    }
    this._outs.push([run, seq, [[keyOf(run.id, seq), undefined], ...changes], stored]);
    this._later();
  }

  /** It was not sent and will not be: it stands among the refused ones. */
  withdraw(one: Logged, error: HighwaterError): void {
    const { run, seq } = one;
    this.runs.keeps(run, seq);
    this._end(one, undefined, error);
    const changes = this._options.inbox.refused(one, error);
    this._gone.push({ run, seq });
    this.also([[keyOf(run.id, seq), undefined], ...changes]);
  }

  /** Without an error another page has its outcome: this one has nothing to keep of it. */
  private _end(one: Logged, stored: Stored | undefined, error?: HighwaterError): void {
    if (!this._exit(one)) return;
    const { run } = one;
    this.tell('ended', one, stored);
    // An error costs more than all else here, since it says where it was made: only where it is told.
    const lost = 'another page knows what became of it';
    one.settle(stored ?? about(one, error ?? new HighwaterError('lost', lost)));
    this.runs.ended(run);
    this._later();
  }

  /** Another page has its outcome, and has kept it: who listens is told. */
  gone(one: Logged, stored?: Stored): void {
    this._end(one, stored);
    this._options.say({ is: 'out', writer: one.run.id, seq: one.seq, stored });
  }

  private _keep(): void {
    const outs = this._outs.splice(0);
    if (!outs.length) return;
    const where = this._options.inbox.where();
    const changes = [...outs.flatMap(([, , changes]) => changes), ...where];
    this._flies(this._options.store.write(changes).then(
      (kind) => {
        this._options.inbox.kept(changes);
        this._over(outs.map(([run, seq, , stored]) => ({ run, seq, stored })), kind);
        this._core.wake();
      },
      () => {
        this._outs.unshift(...outs);
        this._again();
      },
    ));
  }

  /** Their ends are on disk: a page that begins now reads no more of them; others are told. */
  private _over(list: readonly Ended[], kind: Kind): void {
    const outs = list.map(({ run, seq, stored }): Message => {
      // Where the disk was lost since, it has the action without its outcome: the server is to keep
      // that for a later page.
      if (kind === 'disk' || !run.disk) run.unkept.delete(seq);
      return { is: 'out', writer: run.id, seq, stored };
    });
    if (outs.length > FEW) this._options.say({ is: 'outs', outs });
    else outs.forEach(this._options.say);
    for (const run of new Set(list.map(({ run }) => run))) this.runs.kept(run);
  }

  /** The server's history is another: what that has nothing of goes on under another writer. */
  moved(old: Run, rest: Logged[]): void {
    for (const one of rest) {
      this._exit(one);
      const next = this._anew(one);
      this.tell('ended', one);
      this._options.say({ is: 'out', writer: old.id, seq: one.seq });
      this._gone.push({ run: old, seq: one.seq });
      this._also.push([keyOf(old.id, one.seq), undefined]);
      this.tell('added', next);
      // A condition on a head of the other history says nothing of this one.
      const why = new HighwaterError('conflict', 'another history');
      if (next.ifHead !== undefined) this.withdraw(next, why);
    }
    this._also.push([`w/${old.id}`, undefined]);
    this.runs.retire(old);
    this._later();
  }

  /** That log begins anew: what of it was never sent is not to be sent, if nobody wants it. */
  discard(log: string): void {
    if (this.rebased.has(log)) return;
    const why = new HighwaterError('stale', 'its log began anew');
    for (const run of this.runs.all.values()) {
      if (!run.own) continue;
      const all = [...run.actions.values()];
      this.runs.recall(run, all.filter((one) => one.log === log && one.seq > run.sent), why);
    }
  }

  /** Those of that log without an outcome, in the order they were made. */
  of(log: string): Logged[] {
    const all = [...this.runs.all.values()].flatMap(({ actions }) => [...actions.values()]);
    return all.filter((one) => one.log === log).sort((one, two) => one.at - two.at);
  }

  // Other pages.

  hears(message: Message): void {
    if (message.is === 'did') {
      const { writer, urgency, rows } = message;
      const run = this.runs.found(writer, { urgency, sent: 0 });
      if (run.writer && run.helped === undefined) return;
      // What is sent from here is what stood on disk.
      for (const [seq, row] of rows) if (!(seq <= run.helped!)) this.says(run, seq, row);
    } else if (message.is === 'out') {
      const { writer, seq, stored } = message;
      const one = this.runs.all.get(writer)?.actions.get(seq);
      // It may be told before this page has read the action.
      if (!one) return this._past(idOf(writer, seq));
      // It says something else by now, which the disk will not take.
      if (!one.saved) return;
      this._end(one, stored);
    } else if (message.is === 'outs') for (const one of message.outs) this.hears(one);
    this.counts.changed();
  }

  // Pages that are kept for later, and the end.

  /** The browser keeps this page for later: others may send what it has. */
  leave(): void {
    inBackground(this._quit());
  }

  /** Nothing is sent from here on; when what is here is on disk, others may. */
  private async _quit(): Promise<void> {
    this._write();
    this._keep();
    const release = this.runs.leave();
    await this.settled(true);
    release();
  }

  /** It shows this page again, which begins under new writers. */
  again(): Promise<void> {
    this.runs.again();
    return this.begin();
  }

  /**
   * Nothing is sent from here on; what waits stays on disk, and whoever waits for it is told `why`.
   * Resolves when all of it is there.
   */
  async close(why: HighwaterError): Promise<void> {
    this._open.clear();
    this.runs.closed = true;
    await this._quit();
    for (const { actions } of this.runs.all.values()) {
      for (const one of actions.values()) one.settle(about(one, why), true);
    }
  }

  /** All rows that are held in memory: what a store that was lost is written anew from. */
  *rows(): Iterable<Change> {
    for (const run of this.runs.all.values()) {
      yield* markOf(run);
      for (const one of run.actions.values()) yield [keyOf(run.id, one.seq), rowOf(one)];
    }
  }
}
