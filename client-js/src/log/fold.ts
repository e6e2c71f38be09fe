/**
 * The views of one log: `fold(base, accepted) + fold(pending)`, without any IO.
 *
 * Promise: an own action shows from the moment it is logged until it is refused, at no time twice
 * and at no time not: it leaves the pending ones in the same step in which the base covers it. What
 * was shown stays until what follows is complete; under many pending ones also until they were all
 * folded anew on top of it, which is done in short turns. What a view lacks, it says with the range.
 */

import type { Entry } from '../delivery.js';
import { report } from '../emitter.js';
import type { Draft } from '../frames.js';
import { guarded } from '../view.js';
import type { Range } from '../view.js';
import type { Stored } from '../writer.js';
import type { Actions, Keyed, Lww, Meta, ViewDefinition, Views } from './define.js';
import { KeyMap } from './key-map.js';
import { stepOf, type Step } from './records.js';

/** An own action, as views see it. */
export interface Pending {
  /** Which it is, for good: its writer and sequence. */
  readonly id: string;
  readonly record: Draft;
  /** When it was done, ms since 1970. */
  readonly at: number;
  /** Where it was stored, once that is known. */
  stored?: Stored | undefined;
  /** It is among what the base has, which is not shown yet. */
  landed?: boolean;
}

/** Where the views stand: what a checkpoint keeps. */
export interface At {
  /** The log id, and where that was made. */
  readonly log: number;
  readonly made: string | undefined;
  /** All below is folded. */
  readonly next: number;
}

/** How far writers are in a state. */
export type Seen = readonly (readonly [writer: string, seq: number])[];
/** So many are remembered, and kept with it, the newest. */
const WRITERS = 4096;
const WRITERS_KEPT = 256;

/** With more on top these are folded anew in turns of so many, while what was shown stays. */
const MANY = [1000, 250] as const;

/** What pending ones made of a state: the first so many of a list. */
interface Top {
  readonly of: readonly unknown[];
  states: readonly unknown[];
  readonly list: readonly Pending[];
  count: number;
}

export const idOf = (writer: string, seq: number): string => `${writer}/${seq}`;

/** Reads what a view's reducer makes of a step. Throws where that is no state. */
const reducerOf = (view: ViewDefinition): ((state: any, step: Step, meta: Meta) => any) => {
  if (view.kind === 'view') {
    return (state, { name, payload }, meta) => {
      const reduce = view.reducers[name];
      if (!reduce || !Object.hasOwn(view.reducers, name)) return state;
      const now = reduce(state, payload, meta);
      if (now === undefined || now instanceof Promise) {
        throw new TypeError(`a reducer is to answer a state, not ${now && 'a promise'}`);
      }
      return now;
    };
  }
  return (state, { name, payload, id, gone }) => {
    if (name !== view.name) return state;
    if (view.kind === 'lww') return gone ? null : payload;
    const map = state as KeyMap<unknown>;
    return gone ? map.delete(id!) : map.set(id!, payload);
  };
};

const initialOf = (view: ViewDefinition): unknown =>
  view.kind === 'view' ? view.initial : view.kind === 'lww' ? null : KeyMap.of();

const index = (keys: Map<string | undefined, Pending[]>, one: Pending): void => {
  const { key } = one.record;
  const all = keys.get(key);
  if (all) all.push(one);
  else keys.set(key, [one]);
};

export class Folded {
  /** By whose actions the views lie on top, the oldest first. */
  readonly pending: Pending[] = [];
  /** Something is known of the log: a checkpoint, or all of it. */
  known = false;
  /** All that there was is here, and shown. */
  complete = false;
  /** What is shown lacks these. */
  missing: readonly Range[] = [];
  /** Where what is shown stands; none: it begins with nothing. */
  at: At | undefined;
  /** Who did the pending ones, for their `meta`. */
  private _user = '';
  /** Whose record is the newest of the keys that undo asks for, and how many ask. */
  private readonly _last = new Map<string, { id: string | undefined; users: number }>();

  readonly names: readonly string[];
  private readonly _views: readonly ViewDefinition[];
  private readonly _reduce: ReturnType<typeof reducerOf>[];
  private readonly _byId = new Map<string, Pending>();
  /** The states that are shown, and those that are worked on, by the views' order. */
  private _shown: readonly unknown[];
  private _work: unknown[];
  /** What lacks in what is worked on, in order and apart; another list with each that comes. */
  private _holes: readonly Range[] = [];
  private _next = 0;
  /** How far each writer is in what is worked on: what is below has its outcome. */
  private _seen = new Map<string, number>();
  /** The same of what is shown, as far as it was looked at. */
  private _sure: ReadonlyMap<string, number> = new Map();
  /** Those that came with records since something was shown. */
  private _landed: Pending[] = [];
  /** Of which views there is nothing yet: they are made anew, by what the others have already. */
  private _lacking = new Set<number>();
  /** What the others have meanwhile, all below that offset. */
  private _had: { readonly states: readonly unknown[]; readonly next: number } | undefined;
  /** With pending ones on top. */
  private _top!: Top;
  /** What is shown while that is made, with those on top that came since; none: nothing else. */
  private _old: Top | undefined;
  /** Others are pending than when that was begun, or so many have come since. */
  private _stale = false;
  private _since = 0;
  /** The pending ones of each key, in their order; none: to be made when it is asked for. */
  private _keys: Map<string | undefined, Pending[]> | undefined;
  /** What the pending ones say, by their ids. (A weak map of so many makes each collection slow.) */
  private readonly _steps = new Map<string, Step | null>();
  /** What was reported: once for many records that a reducer fails at alike. */
  private readonly _told = new Set<string>();

  /**
   * `_log` names it where something fails. `later`: `work` is to be called, soon and until it is
   * done; without it nothing is put off.
   */
  constructor(
    private readonly _actions: Actions, private readonly _shape: Views,
    private readonly _log = '',
    private readonly _later?: () => void,
    private readonly _many: readonly [most: number, turn: number] = MANY,
  ) {
    this.names = Object.keys(_shape);
    this._views = Object.values(_shape);
    this._reduce = this._views.map((view) => guarded(reducerOf(view)));
    this._shown = this._work = this._views.map(initialOf);
    this._again(true);
  }

  /** The value of each view as it is now, with what is pending on top. */
  get values(): readonly unknown[] {
    if (!this._old && this._top.of !== this._shown) {
      this._rest();
      this._again();
    }
    return this._on(this._old ?? this._top);
  }

  /** The states with more of the list on top, or all of it. */
  private _on(top: Top, most = Infinity): readonly unknown[] {
    const { list } = top;
    const end = Math.min(list.length, top.count + most);
    for (; top.count < end; top.count++) {
      const one = list[top.count]!;
      const step = this._stepOf(one);
      if (!step) continue;
      const offset = one.stored?.offset;
      const meta = { user: this._user, time: one.at, offset, pending: true };
      top.states = this._apply(top.states, step, meta) ?? top.states;
    }
    return top.states;
  }

  /** Goes on with what is made aside; whether there is more of it. */
  work(): boolean {
    const { _old: old, _top: top } = this;
    if (!old) return false;
    this._on(top, this._many[1]);
    if (top.count < top.list.length) return true;
    if (this._stale || top.of !== this._shown) {
      // What it is of is newer than what is shown, and there is more that is newer still.
      this._old = { ...old, states: top.states, count: this._since };
      this._aside();
      return true;
    }
    this._old = undefined;
    this._top = { ...top, list: this.pending };
    return false;
  }

  private _aside(): void {
    this._stale = false;
    this._since = this._old!.list.length;
    this._top = { of: this._shown, states: this._shown, list: [...this.pending], count: 0 };
  }

  private _stepOf(one: Pending): Step | undefined {
    let step = this._steps.get(one.id);
    if (step === undefined) {
      try {
        const tombstone = one.record.payload === undefined;
        step = stepOf({ ...one.record, tombstone } as Entry, this._actions, this._shape) ?? null;
      } catch (error) {
        this._fails(one.record.kind, error);
        step = null;
      }
      if (this._byId.has(one.id)) this._steps.set(one.id, step);
    }
    return step ?? undefined;
  }

  /** The states after it; undefined, and reported, where a reducer failed at it. */
  private _apply(states: readonly unknown[], step: Step, meta: Meta): unknown[] | undefined {
    let at = 0;
    try {
      return states.map((state, view) => {
        at = view;
        const has = meta.offset! < this._had?.next! && !this._lacking.has(view);
        return has && !meta.pending ? state : this._reduce[view]!(state, step, meta);
      });
    } catch (error) {
      this._fails(step.name, error, `view ${this.names[at]}, `);
      return undefined;
    }
  }

  /** The action is left out, and its developer is told: once, however many fail alike. */
  private _fails(action: string | undefined, cause: unknown, view = ''): void {
    const why = (cause as Error | undefined)?.message ?? cause;
    const text = `${this._log}: ${view}action ${action} is left out: ${why}`;
    if (this._told.has(text)) return;
    this._told.add(text);
    report(new Error(text, { cause }));
  }

  /** Whose the pending ones are, as far as that is known. */
  as(user: string): void {
    if (user === this._user) return;
    this._user = user;
    this._again(true);
  }

  // Own actions.

  /** One comes on top: behind all, or before the first that `behind` it belongs. */
  add(one: Pending, behind: (other: Pending) => boolean = () => false): void {
    if (this._byId.has(one.id) || this._covers(one)) return;
    this._byId.set(one.id, one);
    let at = this.pending.length;
    const last = !at || !behind(this.pending[at - 1]!);
    // They are in order: where it belongs is found by halves.
    for (let low = 0, end = last ? 0 : at; low < end; ) {
      const half = (low + end) >> 1;
      if (behind(this.pending[half]!)) at = end = half;
      else low = half + 1;
    }
    if (!last) this._rest();
    this.pending.splice(at, 0, one);
    if (last) {
      if (this._keys) index(this._keys, one);
      (this._old?.list as Pending[] | undefined)?.push(one);
    } else {
      this._keys = undefined;
      if (this._old || at < this._top.count) this._again();
    }
  }

  /** Those of that key: one of many is found without a walk over all. */
  private _of(key: string): readonly Pending[] {
    if (!this._keys) {
      this._keys = new Map();
      for (const one of this.pending) index(this._keys, one);
    }
    return this._keys.get(key) ?? [];
  }

  /** One was stored there. It leaves when the base covers it. */
  stored(id: string, at: Stored): void {
    const one = this._byId.get(id);
    if (!one) return;
    one.stored = at;
    if (this._covers(one)) this._leave([one]);
  }

  /** One goes: it was refused, or taken back. */
  drop(id: string): void {
    const one = this._byId.get(id);
    // Whoever is told that it was refused is not to see it any more, in an older state neither.
    if (one) this._leave([one], true);
    else if (this._old) this._again(true);
  }

  has(id: string): boolean {
    return this._byId.has(id);
  }

  /** Who wrote that key last, as it is shown: one that is pending, or the newest record. */
  writerOf(key: string): string | undefined {
    return this._of(key).at(-1)?.id ?? this._last.get(key)?.id;
  }

  /** What a view of values shows under a key: for one of them not all that is pending is folded. */
  under(at: number, key: string): unknown {
    const { kind, name } = this._views[at] as Lww<unknown> | Keyed<unknown>;
    const own = this._of(key).findLast(({ record }) => record.kind === name);
    const step = own && this._stepOf(own);
    if (step) return step.gone ? undefined : step.payload;
    const state = this._shown[at];
    if (kind === 'lww') return state ?? undefined;
    return (state as KeyMap<unknown>).get(key.slice(name.length + 1));
  }

  /** From here on it is known who writes that key. */
  watch(key: string, id: string): void {
    const last = this._last.get(key);
    if (last) last.users++;
    else this._last.set(key, { id, users: 1 });
  }

  unwatch(key: string): void {
    const last = this._last.get(key);
    if (last && !--last.users) this._last.delete(key);
  }

  private _leave(list: readonly Pending[], now?: boolean): void {
    if (!list.length) return;
    if (!now) this._rest();
    for (const { id } of list) {
      this._byId.delete(id);
      this._steps.delete(id);
    }
    // One alone, in its turn, does not cost a walk over all.
    if (list.length === 1) {
      const [one] = list as [Pending];
      for (const all of [this.pending, this._keys?.get(one.record.key) ?? []]) {
        const at = all.indexOf(one);
        if (at >= 0) all.splice(at, 1);
      }
    } else {
      const gone = new Set(list);
      let kept = 0;
      for (const one of this.pending) if (!gone.has(one)) this.pending[kept++] = one;
      this.pending.length = kept;
      this._keys = undefined;
    }
    if (!this.pending.length) this._keys = undefined;
    this._again(now);
  }

  /** Before others are pending: what is shown is to have all those that were. */
  private _rest(): void {
    if (this._later && !this._old && this._top.count > this._many[0]) this._on(this._top);
  }

  /** What lies on top is folded anew: when it is asked for, or of many in turns. */
  private _again(now = !this._later): void {
    if (this._old && !now) this._stale = true;
    else if (now || this._top.count <= this._many[0]) {
      this._old = undefined;
      this._top = { of: this._shown, states: this._shown, list: this.pending, count: 0 };
    } else {
      this._old = { ...this._top, list: [], count: 0 };
      this._aside();
      this._later!();
    }
  }

  /** The last of the line takes what is there now instead of what it said. */
  replaced(one: Pending): void {
    this._steps.delete(one.id);
    this._keys = undefined;
    this._again(true);
  }

  // What the log tells.

  /**
   * What was kept of another time: shown, and gone on from. What is `lacking` is made anew, by
   * all that the log has; to the others comes what they have not.
   */
  resume(
    at: At, states: readonly unknown[], missing: readonly Range[], seen: Seen = [],
    lacking = new Set<number>(),
  ): void {
    this.at = at;
    this._seen = new Map(seen);
    this._sure = new Map(seen);
    this._shown = this._work = states.map(
      (state, view) => (lacking.has(view) ? initialOf(this._views[view]!) : state),
    );
    this._next = at.next;
    this._lacking = lacking;
    if (lacking.size) this._had = { states: this._work, next: at.next };
    this.missing = this._holes = missing;
    this.known = true;
    this._settle();
  }

  /** Something is known for that view. */
  shows(view: number): boolean {
    return this.known && !this._lacking.has(view);
  }

  /**
   * All begins anew, aside; what is shown stays meanwhile, also what was stored elsewhere. `same`:
   * of the log that something was kept of.
   */
  begin(cursor: number, foreign = false, same = false): void {
    this.complete = false;
    if (!same) this._had = undefined;
    this._work = [...this._had?.states ?? this._views.map(initialOf)];
    this._holes = [];
    this._next = cursor;
    for (const one of this.pending) one.landed = foreign && !!one.stored;
    this._landed = [];
    this._seen = new Map();
  }

  /** A part of the state that the server keeps of a log up to that offset. */
  base(records: readonly Entry[], offset: number): void {
    for (const entry of records) this._fold(entry);
    this._next = offset;
  }

  records(records: readonly Entry[]): void {
    for (const entry of records) {
      this._next = entry.offset! + 1;
      const id = idOf(entry.origin.writer, entry.seq);
      const own = this._byId.get(id);
      if (own) {
        own.landed = true;
        this._landed.push(own);
      }
      this._fold(entry);
    }
  }

  private _fold(entry: Entry): void {
    const { offset, time, origin, seq } = entry;
    const { _seen: seen } = this;
    const last = entry.key === undefined ? undefined : this._last.get(entry.key);
    if (last) last.id = idOf(origin.writer, seq);
    const far = Math.max(seq, seen.get(origin.writer) ?? 0);
    seen.delete(origin.writer); // The newest stands last.
    seen.set(origin.writer, far);
    if (seen.size > WRITERS) for (const [oldest] of seen) {
      seen.delete(oldest);
      break;
    }
    let work: unknown[] | undefined = this._work;
    try {
      const step = stepOf(entry, this._actions, this._shape);
      const meta = { user: origin.user, time: time!, offset, pending: false };
      work = step ? this._apply(work, step, meta) : work;
    } catch (error) {
      this._fails(entry.kind, error);
      work = undefined;
    }
    if (work) this._work = work;
    else this.gap(offset!, offset! + 1);
  }

  /** What lies there will not come. */
  gap(from: number, to: number): void {
    this._next = Math.max(this._next, to);
    // Of a base, which comes in the order of keys, ranges may come in any order.
    const meets = (one: Range): boolean => one.to >= from && one.from <= to;
    const joined = [...this._holes.filter(meets), { from, to }];
    const hole = {
      from: Math.min(...joined.map((one) => one.from)),
      to: Math.max(...joined.map((one) => one.to)),
    };
    const apart = this._holes.filter((one) => !meets(one));
    this._holes = [...apart, hole].sort((one, two) => one.from - two.from);
  }

  behind(): void {
    this.complete = false;
  }

  /** What was worked on is whole, and shown from now on; what it covers leaves the pending. */
  show(log: number, made: string | undefined): void {
    this.complete = this.known = true;
    this._had = undefined;
    this._lacking.clear();
    this._sure = new Map(this._seen);
    this._shown = this._work;
    this.missing = this._holes;
    this.at = { log, made, next: this._next };
    this._settle();
  }

  /** The log goes on: what came is shown, where all before it is. */
  step(): void {
    if (!this.complete || !this.at) return;
    this._shown = this._work;
    this.at = { ...this.at, next: this._next };
    if (this.missing === this._holes) return this._leave(this._landed.splice(0));
    this.missing = this._holes;
    // Also what was stored in a gap is covered: nothing more will come of it.
    this._settle();
  }

  /** It is over: nothing of what was answered will come any more. */
  end(): void {
    this._leave(this.pending.filter(({ stored }) => stored));
  }

  /** Lets go what the base that is shown covers. */
  private _settle(): void {
    this._landed = [];
    this._leave(this.pending.filter((one) => this._covers(one)));
  }

  private _covers({ id, stored, landed }: Pending): boolean {
    const { at, complete } = this;
    if (!at) return false;
    if (landed && complete) return true;
    // Of another page's a record may be here before its word, and a base has the newest alone.
    const end = id.indexOf('/');
    const seen = (complete ? this._seen : this._sure).get(id.slice(0, end));
    if (seen! >= +id.slice(end + 1)) return true;
    // One of another incarnation of the log is no part of this one; or that one is still to come.
    return !!stored && (stored.log === at.log ? stored.offset < at.next : complete);
  }

  /** What a checkpoint keeps beside: an action that it has may be without an outcome on disk. */
  get seen(): Seen {
    return [...this._seen].slice(-WRITERS_KEPT);
  }

  /** What a checkpoint keeps: the states that are shown, by the views' names. */
  get states(): readonly unknown[] {
    return this._shown;
  }
}
