/**
 * A log as one part of an app holds it: a handle of its own on what all its handles share.
 *
 * Promise: each handle gets its records once and in order between two of its resets, whatever the
 * others do; what one lets go, or asks for anew, takes nothing from another. After `release` it is
 * told nothing more.
 */

import { own, struct, u64, u8, word, type Payload } from './codec.js';
import type { Connection } from './connection.js';
import {
  Stage, type Delivery, type Entry, type Held, type Holder, type LogEvents, type Told,
} from './delivery.js';
import { Emitter, quiet, Source, type Read } from './emitter.js';
import { asError } from './errors.js';
import { Start as Where, type Draft, type SnapshotRule, type Start } from './frames.js';
import type { Codec } from './payload.js';
import type { LogStatus } from './states.js';
import { checkName, valid, type Action, type AppendOptions, type Stored } from './writer.js';

export interface LogOptions<T = Payload> {
  /** How payloads are written and read; without one they are text or bytes. */
  readonly codec?: Codec<T>;
  /** Where to begin when nothing is held; default: with the log's state. */
  readonly start?: Start;
  /** 0 first, 255 last; default 0. */
  readonly priority?: number;
  /** `manual`: the app says by `commit` from where it could restart. Default `auto`. */
  readonly commit?: 'auto' | 'manual';
  /** How long it stays subscribed after its last release, ms; default 1,000. */
  readonly grace?: number;
}

/** One log as a part of the app sees it: what happens, is known, and can be asked of it. */
export interface Log<T = Payload> {
  readonly name: string;
  /** The log id, once the server has told it. */
  readonly id: number | undefined;
  /** Next offset wanted; all below was delivered. */
  readonly cursor: number;
  /** Next offset to be written, as far as it is known here. */
  readonly head: number;
  /** How the server keeps its state. */
  readonly rule: SnapshotRule;
  readonly status: Read<LogStatus>;
  /** The client's own actions that the log does not show yet, in order. */
  readonly pending: Read<readonly Entry<T>[]>;
  /** Calls `listener` at each such event; answers how to stop that. */
  readonly on: <K extends keyof LogEvents<T>>(
    name: K,
    listener: (event: LogEvents<T>[K]) => void,
  ) => () => void;
  /**
   * Appends a record. Resolves when it is stored, at its offset; rejects with the server's reason.
   * It is sent again over new sockets until there is an answer, and stored once.
   */
  append(record: Draft<T>, options?: AppendOptions): Promise<Stored>;
  /** Has it delivered anew from there; a `reset` comes first, or `refused`, and all stays. */
  seek(to: Start): void;
  /**
   * With `commit: 'manual'`: all below `next` is worked off, a restart may begin there. Resolves
   * when the server has read that; it writes it down within its `commit_interval_ms`, or when the
   * socket ends, so that its crash before costs a repeat and never a gap.
   */
  commit(next: number): Promise<void>;
  /** This part of the app is done with it. Nothing is told any more. */
  release(): void;
}

const Options = struct({
  start: Where, priority: u8, commit: word('auto manual'), grace: u64,
  codec: own((value?: Partial<Codec<any>>) => !value || (value.encode && value.decode)),
});

const LIVE: LogStatus = { phase: 'live', reason: 'complete' };
const LOADING: LogStatus = { phase: 'loading', reason: 'first' };
const BEHIND: LogStatus = { phase: 'catching-up', reason: 'missed' };
const RELEASED: LogStatus = { phase: 'closed', reason: 'released' };

/** @internal */
export class Handle<T> extends Emitter<LogEvents<T> & Pick<Told, 'pending'>>
  implements Log<T>, Holder {
  readonly name: string;
  /** What it shares. @internal */
  readonly shared: Delivery;
  /** @internal */
  readonly core: Connection;
  /** @internal */
  readonly codec: Codec<T> | undefined;
  /** Something was told, so that a view that comes now has missed it. @internal */
  touched = false;
  /** @internal */
  start: Start;
  /** @internal */
  readonly priority: number;
  /** @internal */
  readonly manual: boolean;
  /** @internal */
  readonly have: Held | undefined;
  /** @internal */
  vouched: number | undefined;
  /** @internal */
  sought: boolean;

  private readonly _grace: number;
  private _released = false;
  /** What it is told begins with a reset that is still due. */
  private _late: boolean;
  /** What it has: all from there on, below the next offset that it wants, if it holds anything. */
  private _from = 0;
  private _next: number | undefined;
  private _whole = false;
  private _said: LogStatus | undefined;
  private _top: readonly Entry<T>[] | undefined;
  private readonly _entries = new WeakMap<Action, Entry<T>>();

  private readonly _gone: () => void;

  /** `gone` is called when it is released; `have` is what it kept of the log. */
  constructor(
    core: Connection,
    name: string,
    options: LogOptions<T> = {},
    gone: () => void = () => {},
    have?: Held,
  ) {
    super();
    this._gone = gone;
    const { codec, start = 'state', priority = 0, commit = 'auto', grace = 1000 } = options;
    valid(Options, { start, priority, commit, grace, codec });
    checkName(name);
    this.name = name;
    this.core = core;
    this.codec = codec;
    this.start = start;
    this.priority = priority;
    this.manual = commit === 'manual';
    this._grace = grace;
    this.have = have;
    const { log, late } = core.followed.hold(name, this);
    this.shared = log;
    this._late = this.sought = late;
    if (!log.touched || late) return;
    this._from = this._next = this.vouched = log.cursor;
    this._whole = log.whole;
  }

  get id(): number | undefined {
    return this.shared.id;
  }

  get cursor(): number {
    return this.shared.cursor;
  }

  get head(): number {
    return this.shared.head;
  }

  get rule(): SnapshotRule {
    return this.shared.rule;
  }

  readonly status: Source<LogStatus> = new Source(() => this._status());
  readonly pending: Source<readonly Entry<T>[]> = new Source(
    () => (this._top ??= [...this.shared.mine].map((action) => this.own(action))),
  );

  readonly append = (record: Draft<T>, options?: AppendOptions): Promise<Stored> => {
    const { codec, core, name } = this;
    let given = record as Draft;
    try {
      if (codec && record?.payload !== undefined) {
        const payload = codec.encode(record.payload);
        if (payload === undefined) throw new Error('payload: none');
        given = { ...given, payload };
      }
    } catch (error) {
      return quiet(Promise.reject(asError('bad_payload', error)));
    }
    return core.append(name, given, options);
  };

  readonly seek = (to: Start): void => {
    valid(Where, to, 'to');
    if (this._released) return;
    this.start = to;
    this.sought = true;
    this.core.followed.seek(this.shared, to);
  };

  readonly commit = (next: number): Promise<void> => {
    valid(u64, next, 'next');
    return this.core.commit(this.shared, this, next);
  };

  readonly release = (): void => {
    if (this._released) return;
    this._released = true;
    this.silence();
    this.core.followed.release(this.shared, this, this._grace);
    this.look();
    this._gone();
  };

  private _status(): LogStatus {
    if (this._released) return RELEASED;
    const { over, complete, stage } = this.shared;
    const { status } = this.core;
    if (!over) {
      if (status.phase !== 'live') return status;
      if (complete && stage === Stage.LIVE && !this._late) return LIVE;
      return this._whole ? BEHIND : LOADING;
    }
    return (this._ended ??= {
      phase: 'closed',
      ...('code' in over ? { reason: over.code, error: over } : { reason: over.reason }),
    });
  }

  private _ended: LogStatus | undefined;

  /** Tells whether it is in another phase. @internal */
  look(): void {
    const said = this._status();
    if (said === this._said) return;
    this._said = said;
    this.status.changed();
  }

  /** One of the client's own actions as an entry. @internal */
  own(action: Action): Entry<T> {
    let entry = this._entries.get(action);
    // Under another writer it has another number.
    if (entry?.seq !== action.seq) {
      entry = this.read(this.shared.own(action));
      this._entries.set(action, entry);
    }
    return entry!;
  }

  /** An entry as this handle's readers get it. @internal */
  readonly read = (entry: Entry): Entry<T> => {
    const { codec } = this;
    if (!codec || entry.tombstone) return entry as Entry<any>;
    try {
      return { ...entry, payload: codec.decode(entry.payload!) };
    } catch (error) {
      return { ...entry, payload: undefined, fault: asError('bad_payload', error) };
    }
  };

  /** What the shared log tells. @internal */
  take<K extends keyof Told>(name: K, event: Told[K]): void {
    if (this._released) return;
    const told = name !== 'announced' && this._passed(name, event);
    if (told) {
      this.touched ||= name !== 'pending';
      this.emit(name as never, told as never);
    }
    this.look();
  }

  /** The event for this handle; none where it has all that: what others sought is theirs. */
  private _passed(name: keyof Told, event: any): unknown {
    const next = this._next;
    if (name === 'pending') {
      this._top = undefined;
      this.pending.changed();
    } else if (name === 'reset') {
      if (event.sought && !this.sought && next! >= event.cursor) return;
      if (event.sought) this.sought = false;
      this._late = false;
      this._from = this._next = event.cursor;
      if (event.base) this._next = undefined;
    } else if (name === 'refused' || name === 'ended') {
      this._late = this.sought = false;
    } else if (this._late) {
      return;
    } else if (name === 'base') {
      if (next !== undefined) return;
      if (event.last) [this._from, this._next] = [0, event.offset];
      return event.records ? { ...event, records: event.records.map(this.read) } : event;
    } else if (name === 'records') {
      const records: Entry[] = event.records;
      const fresh = records.filter(({ offset }) => !(offset! < next!));
      if (!fresh.length) return;
      this._next = fresh.at(-1)!.offset! + 1;
      return { records: fresh.map(this.read) };
    } else if (name === 'gap') {
      if (event.to <= next! && event.from >= this._from) return;
      this._next = Math.max(next ?? 0, event.to);
    } else if (name === 'complete') {
      this._whole = true;
    }
    return event;
  }
}
