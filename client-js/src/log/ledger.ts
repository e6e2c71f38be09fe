/**
 * The log of what was done here: each action from the moment it is made until the server's outcome
 * is known and kept.
 *
 * Promise: what `saved` says is on disk, it is; nothing is sent that is not. Before an action goes
 * out for the first time a mark on disk says that it may have been sent, and from then on only the
 * server's outcome ends it. What is sent is what was saved, to the letter. An outcome is on disk
 * before the server may forget it. Nothing that was typed is ever just gone: what ends otherwise
 * than stored is among the refused ones.
 */

import type { Connection } from '../connection.js';
import { Emitter, Source } from '../emitter.js';
import { HighwaterError } from '../errors.js';
import type { Draft, Made, Target } from '../frames.js';
import { checkName, weigh, Writer, type Action, type Stored } from '../writer.js';
import { idOf, type Pending } from './fold.js';
import type { Inbox } from './inbox.js';
import { keyOf, rowOf, type ActionRow, type WriterRow } from './rows.js';
import { inBackground, type Change, type Kind, type Store } from './store.js';
import type { Hold } from './tabs.js';

/** An action that was logged here, or by another page of this device. */
export interface Logged extends Action, Pending {
  id: string;
  record: Draft;
  bulk: number;
  weight: number;
  readonly run: Run;
  /** It is where its store keeps things. */
  saved?: boolean;
  /** Where that is: told to whoever did it. */
  readonly kept?: (result: Kind | Promise<never>) => void;
  /** Not sent before this time, it is not sent at all. */
  readonly until?: number | undefined;
  /** So often it was replaced by a later one, before anything of it was sent. */
  turns?: number;
  /** What other pages had pending when it was made: it goes out after their outcomes. */
  after?: readonly string[] | undefined;
}

/** A writer, as this page knows it. */
export interface Run {
  readonly id: string;
  readonly urgency: string;
  /** What sends it; none: another page that lives does. */
  writer?: Writer | undefined;
  /** Those without an outcome, by sequence. */
  readonly actions: Map<number, Logged>;
  /** The newest sequence of each log, and when the newest of all was made. */
  readonly lasts: Map<string, number>;
  at: number;
  /** All below is let go out. */
  freed: number;
  /** On disk: up to there it may have been sent. */
  sent: number;
  /** The same, once that is on disk. */
  marked: number;
  /** Answered ones whose outcome is not on disk yet, in order. */
  readonly unkept: Set<number>;
  /** Lets go its lock; and whether it is had, for which it may wait for long. */
  release: () => void;
  had: Promise<boolean>;
  /** This page began it. */
  own: boolean;
  /** It has a row on disk. */
  written?: boolean;
  /** Another page that lives holds it, and is sent for up to this sequence. */
  helped?: number | undefined;
}

export interface LedgerEvents {
  /** One came on top. */
  added: Logged;
  /** One was stored there; or it ends without that (`stored` is none). */
  ended: { readonly one: Logged; readonly stored?: Stored | undefined };
  /** What it says was replaced. */
  replaced: Logged;
}

export interface LedgerOptions {
  readonly store: Store;
  readonly hold: Hold;
  /** Names the locks of this log. */
  readonly name: string;
  readonly inbox: Inbox;
  /** Most actions without an outcome. */
  readonly maxPending: number;
  readonly now: () => number;
  /** Says to other pages what happened here. */
  readonly say: (message: Message) => void;
}

/** What pages tell each other. */
export type Message =
  | { readonly is: 'did'; readonly writer: string; readonly urgency: string; readonly rows: readonly [seq: number, row: ActionRow][] }
  | { readonly is: 'out'; readonly writer: string; readonly seq: number; readonly stored?: Stored | undefined }
  | { readonly is: 'refused' | 'wiped' };

/** Bytes of actions without an outcome. */
const MOST_BYTES = 64 << 20;
/** So many are marked ahead of what is on its way. */
const AHEAD = 2048;
/** How long another page that lives has to send what an action here was made on top of, ms. */
const HELP_AFTER = 2000;
/** How long an outcome that could not be written waits, ms. */
const AGAIN = 1000;

export class Ledger extends Emitter<LedgerEvents> {
  readonly runs = new Map<string, Run>();
  /** How much waits, and where. */
  readonly counts = new Source<Counts>(() => this._count());
  private readonly _own = new Map<string, Run>();
  private _fresh: Logged[] = [];
  private _gone: Change[] = [];
  private _outs: [Run, number, Change[]][] = [];
  private _queued = false;
  private _bytes = 0;
  private _waiting = 0;
  private _unsaved = 0;
  private _online = false;
  /** Outcomes that were heard of before their actions. */
  private _heard: Map<string, Stored | undefined> | undefined = new Map();
  private _closed = false;
  private _writing: Promise<void> | undefined;
  private _helper: ReturnType<typeof setTimeout> | undefined;
  private readonly _places = new Map<string, Made>();

  constructor(private readonly _core: Connection, private readonly _options: LedgerOptions) {
    super();
  }

  private _counts: Counts | undefined;

  private _count(): Counts {
    const { _unsaved: unsaved, _waiting: waiting } = this;
    const { _counts: before } = this;
    if (before?.unsaved === unsaved && before.waiting === waiting) return before;
    return (this._counts = { unsaved, waiting });
  }

  // What is there from before.

  /** Takes in what earlier pages, and other ones, have left: shown now, sent by whoever may. */
  async begin(): Promise<void> {
    const [writers, actions] = await Promise.all([
      this._options.store.read('w/'), this._options.store.read('a/'),
    ]);
    for (const [key, row] of writers) this._found(key.slice(2), row as WriterRow);
    const found: Logged[] = [];
    for (const [key, row] of actions) {
      const [, writer, seq] = key.split('/') as [string, string, string];
      const run = this.runs.get(writer) ?? this._found(writer, { urgency: 'edit', sent: Infinity });
      if (run.own) continue;
      const one = this._shown(run, +seq, row as ActionRow);
      if (one) found.push(one);
    }
    found.sort((one, two) => one.at - two.at);
    this._heard = undefined;
    for (const one of found) this.emit('added', one);
    this.counts.changed();
  }

  private _found(id: string, { urgency, sent }: WriterRow): Run {
    const known = this.runs.get(id);
    if (known) return known;
    const run = this._run(id, urgency, false);
    run.sent = run.marked = sent;
    run.written = true;
    inBackground(run.had.then((had) => (had ? this._adopt(run) : undefined)));
    return run;
  }

  private _run(id: string, urgency: string, own: boolean): Run {
    const { hold, name } = this._options;
    const run: Run = {
      id, urgency, own, actions: new Map(), lasts: new Map(), at: 0, freed: 0, sent: 0, marked: 0,
      unkept: new Set(),
      ...hold(`${name}:${id}`),
    };
    this.runs.set(id, run);
    return run;
  }

  /** One of another page, as it stands on disk; none where its outcome is known already. */
  private _shown(run: Run, seq: number, row: ActionRow): Logged | undefined {
    const id = idOf(run.id, seq);
    if (run.actions.has(seq) || this._heard?.has(id)) return undefined;
    const made = this._place(row.made);
    const one: Logged = {
      ...row, made, id, seq, run, saved: true, bulk: 0, weight: 0, settle: () => {},
    };
    this._enter(one);
    return one;
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
    run.lasts.set(log, seq);
    run.at = Math.max(run.at, one.at);
    this._waiting++;
    this._bytes += one.bulk;
  }

  /** Its page is dead: this one sends what it left, and keeps its outcomes. */
  private async _adopt(run: Run): Promise<void> {
    const { store } = this._options;
    const [[[, row] = []], actions] = await Promise.all([
      store.read(`w/${run.id}`), store.read(`a/${run.id}/`),
    ]);
    if (this._closed) return;
    if (!row && !actions.length) return this._retired(run);
    const { sent } = (row ?? { sent: Infinity }) as WriterRow;
    run.sent = run.marked = sent;
    run.helped = undefined;
    const left = new Set(actions.map(([key]) => +key.split('/')[2]!));
    // Another page, dead by now, had an outcome and has kept it.
    for (const [seq, one] of [...run.actions]) if (!left.has(seq)) this._end(one);
    for (const [key, found] of actions) {
      const one = this._shown(run, +key.split('/')[2]!, found as ActionRow);
      if (one) this.emit('added', one);
    }
    this._carry(run, Math.max(0, ...left) + 1);
    for (const one of [...run.actions.values()].sort((a, b) => a.seq - b.seq)) {
      this._queue(run, one);
    }
    this._mark(run);
    this._free(run);
    this._retire(run);
  }

  private _queue(run: Run, one: Logged): void {
    this._bytes -= one.bulk;
    Object.assign(one, weigh(one.record, this._core.config.encoding));
    this._bytes += one.bulk;
    one.held = true;
    one.tried = one.seq <= run.sent;
    run.writer!.take(one);
  }

  /** From here on this page sends it. */
  private _carry(run: Run, next: number): void {
    this._drop(run);
    run.writer = new Writer(this._core, (one, result) => this._decided(one as Logged, result), {
      id: run.id, next, ended: (rest) => this._anew(run, rest as Logged[]),
    });
    this._core.writers.push(run.writer);
  }

  /** This page sends it no longer. */
  private _drop(run: Run): void {
    const at = this._core.writers.indexOf(run.writer!);
    if (at > 0) this._core.writers.splice(at, 1);
    run.writer = undefined;
    run.freed = 0;
  }

  // What is done here.

  /** The run of this page for actions of that urgency. */
  run(urgency: string): Run {
    let run = this._own.get(urgency);
    if (!run) {
      run = this._run(this._core.config.newId(), urgency, true);
      this._own.set(urgency, run);
      this._carry(run, 1);
    }
    return run;
  }

  /** Logs one. Throws, before anything is shown, where it cannot be carried. */
  add(given: Given): Logged {
    if (this._closed) throw new HighwaterError('closed', 'the app closed this client');
    const { maxPending, now } = this._options;
    if (this._waiting >= maxPending || this._bytes >= MOST_BYTES) {
      throw new HighwaterError('queue_full', `${this._waiting} actions wait for their outcome`);
    }
    const { urgency, record, ...more } = given;
    checkName(given.log);
    const weighed = this._weigh(record, given.ifHead);
    const run = this.run(urgency);
    const seq = run.writer!.next;
    const one: Logged = {
      ifHead: undefined, ...more, ...weighed, made: this._place(more.made), seq, run, id: idOf(run.id, seq),
      at: Math.max(run.at, now()), held: true, settle: given.settle ?? (() => {}),
    };
    one.after = this._before(one);
    this._enter(one);
    run.writer!.take(one);
    this._unsaved++;
    this.emit('added', one);
    this._fresh.push(one);
    this._later();
    return one;
  }

  private _weigh(record: Draft, ifHead?: number): ReturnType<typeof weigh> {
    const weighed = weigh(record, this._core.config.encoding, ifHead);
    const most = this._core.greeting?.limits.recordBytes ?? Infinity;
    if (weighed.bulk > most) throw new HighwaterError('too_large', `over ${most} bytes`);
    return weighed;
  }

  /** The pending ones of other pages that it was made on top of: the last of each. */
  private _before({ log, run }: Logged): string[] | undefined {
    const found: string[] = [];
    for (const other of this.runs.values()) {
      const last = other === run || other.own ? undefined : other.lasts.get(log);
      if (last !== undefined && firstOf(other) <= last) found.push(idOf(other.id, last));
    }
    return found.length ? found : undefined;
  }

  /** Says something else instead, where nothing of it may have been sent; whether it could. */
  replace(one: Logged, record: Draft): boolean {
    const { run } = one;
    if (one.seq <= run.sent || !run.actions.has(one.seq)) return false;
    const { bulk } = one;
    Object.assign(one, this._weigh(record, one.ifHead));
    this._bytes += one.bulk - bulk;
    one.turns = (one.turns ?? 0) + 1;
    if (one.saved) this._unsaved++;
    one.saved = false;
    one.held = true;
    this.emit('replaced', one);
    this._fresh.push(one);
    this._later();
    return true;
  }

  /** What comes together in a tick is written together. */
  private _later(): void {
    if (this._queued) return;
    this._queued = true;
    queueMicrotask(() => {
      this._queued = false;
      inBackground(this._write());
      this._keep();
      this.counts.changed();
    });
  }

  /** Resolves when all of it is where the store keeps things, or was rolled back. */
  private async _write(): Promise<void> {
    const fresh = this._fresh.splice(0);
    const gone = this._gone.splice(0);
    if (!fresh.length && !gone.length) return;
    const runs = new Set(fresh.map(({ run }) => run));
    const turns = fresh.map(({ turns }) => turns);
    for (const run of runs) if (this._online) this._ahead(run);
    const rows = fresh.map((one): Change => [keyOf(one.run.id, one.seq), rowOf(one)]);
    const marks = [...runs].map(markOf);
    const upto = [...runs].map(({ sent }) => sent);
    // No other page may take a writer for dead before its lock is had.
    const written = Promise.all([...runs].map(({ had }) => had))
      .then(() => this._options.store.write([...rows, ...gone, ...marks.flat()]))
      .then(
        (kind) => {
          this._options.store.persist();
          fresh.forEach((one, at) => {
            // What was replaced since is written once more.
            if (one.turns !== turns[at] || one.saved) return;
            one.saved = true;
            this._unsaved--;
            one.kept?.(kind);
          });
          [...runs].forEach((run, at) => {
            run.written = true;
            run.marked = Math.max(run.marked, upto[at]!);
            this._mark(run);
            this._free(run);
          });
          this.counts.changed();
        },
        (error: Error) => fresh.forEach((one, at) => this._unwritten(one, turns[at], error)),
      );
    for (const run of runs) {
      const rows = fresh.filter((one) => one.run === run).map((one) => [one.seq, rowOf(one)] as [number, ActionRow]);
      this._options.say({ is: 'did', writer: run.id, urgency: run.urgency, rows });
    }
    this._writing = written;
    return written;
  }

  /** It was rolled back: it is on no disk, and was never sent. */
  private _unwritten(one: Logged, turns: number | undefined, error: Error): void {
    if (one.turns !== turns || !one.run.actions.has(one.seq)) return;
    const why = new HighwaterError('not_saved', error.message);
    one.kept?.(Promise.reject(why));
    one.run.writer?.queue.delete(one.seq);
    this._refuse(one, why);
  }

  // From disk to the wire.

  /** There is a socket, or none. */
  online(online: boolean): void {
    this._online = online;
    if (!online) return;
    for (const run of [...this.runs.values()]) {
      this._mark(run);
      this._retire(run);
    }
  }

  /** How far it is to be marked: what is next, and some more. */
  private _ahead(run: Run): boolean {
    const { writer } = run;
    if (!writer) return false;
    const upto = Math.min(writer.next - 1, writer.oldest + AHEAD);
    // In strides: a mark for each outcome would cost a transaction for each.
    if (upto <= run.sent || run.sent > writer.oldest + AHEAD / 2) return false;
    this._expire(run, upto);
    run.sent = upto;
    return true;
  }

  private _expire(run: Run, upto: number): void {
    const now = this._options.now();
    for (let seq = Math.max(run.sent + 1, firstOf(run)); seq <= upto; seq++) {
      const one = run.actions.get(seq);
      if (!one || !(one.until! < now)) continue;
      run.writer!.queue.delete(one.seq);
      this._refuse(one, new HighwaterError('expired', 'it waited longer than it may'));
    }
  }

  /** Marks on disk what may go out from now on. */
  private _mark(run: Run): void {
    if (!this._online || run.helped !== undefined || !run.written) return;
    if (run.marked < run.sent || !this._ahead(run)) return;
    const upto = run.sent;
    this._options.store.write(markOf(run)).then(
      () => {
        run.marked = Math.max(run.marked, upto);
        this._free(run);
      },
      () => {
        run.sent = run.marked;
        setTimeout(() => this._mark(run), AGAIN);
      },
    );
  }

  /** Lets go out what is saved and marked, in order. */
  private _free(run: Run): void {
    const { writer, marked } = run;
    if (!writer) return;
    const from = (run.freed = Math.max(run.freed, firstOf(run)));
    for (; run.freed < writer.next && run.freed <= marked; run.freed++) {
      const one = run.actions.get(run.freed);
      if (!one) continue;
      if (!one.saved) break;
      if (this._waits(one)) {
        this._rescue(one);
        break;
      }
      one.held = false;
    }
    if (run.freed > from) this._core.wake();
  }

  private _waits(one: Logged): boolean {
    one.after = one.after?.filter((id) => {
      const [writer, seq] = id.split('/') as [string, string];
      const other = this.runs.get(writer);
      return other && firstOf(other) <= +seq;
    });
    return !!one.after?.length;
  }

  /** Sends for the pages that it waits for, if they do not do it themselves. */
  private _rescue({ after = [] }: Logged): void {
    if (this._helper !== undefined || !this._online) return;
    this._helper = setTimeout(() => {
      this._helper = undefined;
      if (!this._online || this._closed) return;
      for (const id of after) {
        const [writer, seq] = id.split('/') as [string, string];
        const run = this.runs.get(writer);
        if (run && !run.writer && firstOf(run) <= +seq) inBackground(this._help(run, +seq));
      }
    }, HELP_AFTER);
    (this._helper as { unref?: () => void }).unref?.();
  }

  /**
   * Another page lives and does not send, perhaps since it is frozen: what stands on disk of it up
   * to there is sent from here. It is not ours: what the server may forget is not said.
   */
  private async _help(run: Run, upto: number): Promise<void> {
    const { store } = this._options;
    const actions = await store.read(`a/${run.id}/`);
    if (run.writer || this._closed) return;
    for (const one of [...run.actions.values()]) {
      // That page has its outcome, and has not told yet.
      const there = actions.some(([key]) => key === keyOf(run.id, one.seq));
      if (!there && one.seq <= upto) this._leave(one);
    }
    const first = firstOf(run);
    if (first > upto) return this._freeAll();
    run.helped = upto;
    run.sent = Math.max(run.sent, upto);
    await store.write(markOf(run));
    this._carry(run, upto + 1);
    run.writer!.floor = first;
    run.marked = run.sent;
    for (const one of run.actions.values()) if (one.seq <= upto) this._queue(run, one);
    this._free(run);
  }

  /** It goes, as another page tells; this one has nothing to keep of it. */
  private _leave(one: Logged, stored?: Stored): void {
    one.run.writer?.queue.delete(one.seq);
    one.run.actions.delete(one.seq);
    this._waiting--;
    this._bytes -= one.bulk;
    if (!one.saved) this._unsaved--;
    this.emit('ended', { one, stored });
    one.settle(stored ?? Promise.reject(new HighwaterError('lost', 'another page knows')));
  }

  private _freeAll(): void {
    for (const run of this._own.values()) this._free(run);
  }

  // Outcomes.

  private _decided(one: Logged, result: Stored | HighwaterError): void {
    const { run, seq } = one;
    if (result instanceof HighwaterError) return this._refuse(one, result, true);
    this._core.history.saw(result.place.batch);
    this._unkept(run, seq, this._options.inbox.stored(one, result));
    this._end(one, result);
  }

  /** It ends, and stands among the refused ones. */
  private _refuse(one: Logged, error: HighwaterError, answered = false): void {
    const { run, seq } = one;
    // It holds its run, which would else be retired before this outcome is kept.
    if (answered) run.unkept.add(seq);
    // Its views are without it when the inbox looks at what stands there.
    this._end(one, undefined, error);
    const changes = this._options.inbox.refused(one, error);
    if (answered) return this._unkept(run, seq, changes);
    this._gone.push([keyOf(run.id, seq), undefined], ...changes);
    this._later();
  }

  private _end(one: Logged, stored?: Stored, error?: HighwaterError): void {
    const { run, seq } = one;
    if (!run.actions.delete(seq)) return;
    this._waiting--;
    if (!one.saved) this._unsaved--;
    this._bytes -= one.bulk;
    this.emit('ended', { one, stored });
    one.settle(stored ?? Promise.reject(error ?? new HighwaterError('lost', 'another page knows')));
    this._options.say({ is: 'out', writer: run.id, seq, stored });
    if (run.helped !== undefined && firstOf(run) > run.helped) {
      this._drop(run);
      run.helped = undefined;
    }
    this._retire(run);
    this._mark(run);
    if (!run.own) this._freeAll();
    this._later();
  }

  /** The server must not forget an outcome that is not on disk yet. */
  private _unkept(run: Run, seq: number, changes: readonly Change[]): void {
    run.unkept.add(seq);
    this._floor(run);
    this._outs.push([run, seq, [[keyOf(run.id, seq), undefined], ...changes]]);
    this._later();
  }

  private _floor({ writer, unkept, helped }: Run): void {
    if (!writer || helped !== undefined) return;
    const [first = Infinity] = unkept;
    writer.floor = first;
  }

  private _keep(): void {
    const outs = this._outs.splice(0);
    if (!outs.length) return;
    this._options.store.write(outs.flatMap(([, , changes]) => changes)).then(
      () => {
        for (const [run, seq] of outs) {
          run.unkept.delete(seq);
          this._floor(run);
          this._retire(run);
        }
        this._core.wake();
      },
      () => {
        setTimeout(() => {
          this._outs.unshift(...outs);
          this._later();
        }, AGAIN);
      },
    );
  }

  /** All of it is answered and kept, and its page is dead: nobody needs its mark any more. */
  private _retire(run: Run): void {
    const done = !run.actions.size && !run.unkept.size && this.runs.has(run.id);
    if (!done || !run.writer || run.helped || this._own.get(run.urgency) === run) return;
    if (run.sent && !this._online) return;
    this._retired(run);
    inBackground(this._options.store.write([[`w/${run.id}`, undefined]]));
    if (run.sent) this._core.say('retire', { writer: run.id, request: 0 });
    this._core.wake();
  }

  private _retired(run: Run): void {
    this._drop(run);
    this.runs.delete(run.id);
    run.release();
  }

  /** The server's history is another: what that has nothing of goes on under another writer. */
  private _anew(old: Run, rest: Logged[]): void {
    if (this._own.get(old.urgency) === old) this._own.delete(old.urgency);
    const run = this.run(old.urgency);
    for (const one of rest) {
      old.actions.delete(one.seq);
      this._waiting--;
      this._bytes -= one.bulk;
      if (!one.saved) this._unsaved--;
      this._gone.push([keyOf(old.id, one.seq), undefined]);
      this.emit('ended', { one });
      const seq = run.writer!.next;
      const moved: Logged = {
        ...one, run, seq, id: idOf(run.id, seq), held: true, sent: false, tried: false, saved: false,
      };
      this._unsaved++;
      this._enter(moved);
      run.writer!.take(moved);
      this.emit('added', moved);
      this._fresh.push(moved);
      if (moved.ifHead === undefined) continue;
      // A condition on a head of the other history says nothing of this one.
      run.writer!.queue.delete(seq);
      this._refuse(moved, new HighwaterError('conflict', 'another history'));
    }
    this._gone.push([`w/${old.id}`, undefined]);
    this._retire(old);
    this._later();
  }

  // Other pages.

  hears(message: Message): void {
    if (message.is === 'did') {
      const { writer, urgency, rows } = message;
      const run = this.runs.get(writer) ?? this._found(writer, { urgency, sent: 0 });
      if (run.writer && run.helped === undefined) return;
      for (const [seq, row] of rows) {
        const one = run.actions.get(seq);
        if (one) {
          one.record = row.record;
          this.emit('replaced', one);
        } else {
          const shown = this._shown(run, seq, row);
          if (shown) this.emit('added', shown);
        }
      }
    }
    if (message.is === 'out') {
      const { writer, seq, stored } = message;
      const run = this.runs.get(writer);
      const one = run?.actions.get(seq);
      // Its page may be asked for it before this one has read it.
      if (!one) return void this._heard?.set(idOf(writer, seq), stored);
      this._leave(one, stored);
      this._freeAll();
    }
    this.counts.changed();
  }

  /** What of that log was never sent is not to be sent any more. */
  discard(log: string): void {
    for (const run of this._own.values()) {
      for (const one of [...run.actions.values()]) {
        if (one.log !== log || one.seq <= run.sent) continue;
        run.writer!.queue.delete(one.seq);
        this._refuse(one, new HighwaterError('stale', 'its log began anew before it was sent'));
      }
    }
  }

  /** Writes these with what is logged in this tick: all or nothing. */
  also(changes: readonly Change[]): void {
    this._gone.push(...changes);
    this._later();
  }

  // Pages that are kept for later, and the end.

  /** The browser keeps this page for later: others may send what it has. */
  leave(): void {
    inBackground(this._write());
    this._keep();
    this._own.clear();
    for (const run of this.runs.values()) {
      this._drop(run);
      run.helped = undefined;
      run.release();
    }
  }

  /** It shows this page again, which begins under new writers. */
  again(): Promise<void> {
    const { hold, name } = this._options;
    for (const run of this.runs.values()) {
      Object.assign(run, hold(`${name}:${run.id}`), { own: false });
      inBackground(run.had.then((had) => (had ? this._adopt(run) : undefined)));
    }
    return this.begin();
  }

  /** Nothing is sent from here on; what waits stays on disk. Resolves when all of it is there. */
  async close(): Promise<void> {
    await this._writing;
    await this._write();
    this._keep();
    this._closed = true;
    this.silence();
    for (const run of this.runs.values()) run.release();
  }

  /** All rows that are held in memory: what a store that was lost is written anew from. */
  *rows(): Iterable<Change> {
    for (const run of this.runs.values()) {
      yield* markOf(run);
      for (const one of run.actions.values()) yield [keyOf(run.id, one.seq), rowOf(one)];
    }
  }
}

/** What waits. */
export interface Counts {
  /** Not where the store keeps things yet: lost if the page dies now. */
  readonly unsaved: number;
  /** Without an outcome of the server. */
  readonly waiting: number;
}

/** What is logged. */
export interface Given {
  readonly urgency: string;
  readonly log: string;
  readonly to: Target;
  readonly made: Made | undefined;
  readonly ifHead?: number | undefined;
  readonly record: Draft;
  readonly until?: number | undefined;
  readonly kept?: (result: Kind | Promise<never>) => void;
  readonly settle?: (result: Stored | Promise<never>) => void;
}

/** The oldest without an outcome: they end in their order. */
const firstOf = ({ actions }: Run): number => {
  const [first = Infinity] = actions.keys();
  return first;
};

/** Its row, which never goes back. */
const markOf = ({ id, urgency, sent }: Run): Change[] => [
  [`w/${id}`, (old: WriterRow | undefined): WriterRow => ({ urgency, sent: Math.max(sent, old?.sent ?? 0) })],
];
