/**
 * A log as a part of the app uses it: what it does, and what it sees.
 *
 * Promise: an action is checked where it is called, and changes nothing if it cannot be carried;
 * else the views have changed when `do` returns.
 */

import { HighwaterError } from '../errors.js';
import type { Draft } from '../frames.js';
import type { LogStatus } from '../states.js';
import type { Range } from '../view.js';
import type {
  Action, Actions, Call, Definition, Keyed, Lww, Reduced, ViewDefinition, Views,
} from './define.js';
import type { KeyMap } from './key-map.js';
import type { Logged } from './run.js';
import { Receipt } from './receipt.js';
import { recordOf, valueRecord } from './records.js';
import type { Room, Shelf } from './shelf.js';
import { Signal } from './signals.js';
import { Undo, type Doing, type Done } from './undo.js';
import type { Read } from '../emitter.js';

/** A view by reducers: undefined until something is known of the log. */
export type ReducedRead<S> = Read<S | undefined>;

/** One value; null: it is not set. */
export interface LwwRead<T> extends Read<T | null | undefined> {
  readonly set: (value: T) => Receipt;
  readonly clear: () => Receipt;
}

/** A value for each id. */
export interface KeyedRead<T> extends Read<KeyMap<T> | undefined> {
  /** The value of that id: who reads it is told of that id alone. */
  readonly get: (id: string) => Read<T | undefined>;
  readonly set: (id: string, value: T) => Receipt;
  readonly delete: (id: string) => Receipt;
}

type ReadOf<V> = V extends Reduced<infer S> ? ReducedRead<S>
  : V extends Lww<infer T> ? LwwRead<T>
  : V extends Keyed<infer T> ? KeyedRead<T>
  : never;

type Do<A extends Actions> = {
  readonly [K in keyof A]: A[K] extends Action<infer P>
    ? [P] extends [void] ? () => Receipt
      : undefined extends P ? (payload?: P) => Receipt : (payload: P) => Receipt
    : never;
};

/** An open log. */
export interface Opened<A extends Actions, V extends Views> {
  readonly name: string;
  /** Each action by its name: logs it, shows it, and answers what becomes of it. */
  readonly do: Do<A>;
  readonly view: { readonly [K in keyof V]: ReadOf<V[K]> };
  /** How it stands: whether what is shown is whole, and why not. */
  readonly status: Read<LogStatus>;
  /** What is shown lacks these records: they are kept no more, or a reducer failed at them. */
  readonly incomplete: Read<readonly Range[]>;
  /** Own actions of this log that the server has not shown yet, also of other pages. */
  readonly pending: Read<number>;
  /** Takes back the last thing, or group of things, done by this handle; whether there was any. */
  readonly undo: () => boolean;
  readonly redo: () => boolean;
  readonly canUndo: Read<boolean>;
  readonly canRedo: Read<boolean>;
  /** This part of the app is done with it. What it has logged goes on. */
  readonly release: () => void;
}

interface Did {
  readonly one: Logged;
  readonly receipt: Receipt;
}

interface Coalesced extends Did {
  readonly name: string;
  /** The views as they were before it. */
  readonly before: unknown;
  /** How it is taken back; none: it cannot be. */
  readonly doing: Doing | undefined;
}

export class Open implements Opened<any, any> {
  readonly name: string;
  readonly do: any;
  readonly view: any;
  readonly status: Read<LogStatus>;
  readonly incomplete: Signal<readonly Range[]>;
  readonly pending: Signal<number>;
  readonly canUndo: Signal<boolean>;
  readonly canRedo: Signal<boolean>;
  /** @internal */
  readonly undoing: Undo;
  private readonly _shelf: Shelf;
  private readonly _room: Room;
  private readonly _gone: (open: Open) => void;
  private readonly _last: { coalesced?: Coalesced } = {};
  private readonly _off: () => void;
  private _released = false;

  constructor(shelf: Shelf, room: Room, gone: (open: Open) => void) {
    this._shelf = shelf;
    this._room = room;
    this._gone = gone;
    const { name, status, folded } = shelf;
    const { actions, shape } = shelf.defined as Definition<string, Actions, Views>;
    this.name = name;
    this.status = status;
    this.incomplete = this._read(() => folded.missing);
    this.pending = this._read(() => folded.pending.length);
    this.undoing = this._undo();
    this.canUndo = new Signal(() => this.undoing.can);
    this.canRedo = new Signal(() => this.undoing.canRedo);
    this.do = Object.fromEntries(
      Object.keys(actions).map((action) => [
        action, (payload: unknown) => this._act([action, payload], true).receipt,
      ]),
    );
    this.view = Object.fromEntries(
      Object.entries(shape).map(([view, one], at) => [view, this._view(one, at)]),
    );
    this._off = room.ledger.on(name, ({ is, one, stored, was }) => {
      if (was !== undefined) this.undoing.moved(was, one.id);
      else if (is === 'ended' && !stored) this.undoing.refused(one.id);
    });
  }

  private _read<T>(get: () => T): Signal<T> {
    const { turn } = this._shelf;
    return new Signal(() => {
      turn.value;
      return get();
    });
  }

  private _undo(): Undo {
    const { folded } = this._shelf;
    return new Undo({
      act: (call, record): Done => {
        const { id, record: { key } } = this._act(call, record).one;
        return { id, key };
      },
      stands: (key, id) => folded.writerOf(key) === id,
      watch: (key, on, id) => {
        if (on) folded.watch(key, id);
        else folded.unwatch(key);
      },
      changed: () => {
        this.canUndo?.changed();
        this.canRedo?.changed();
      },
    });
  }

  private _view(one: ViewDefinition, at: number): unknown {
    const { folded } = this._shelf;
    const value = (): any =>
      this._shelf.shows && (folded.shows(at) || folded.pending.length)
        ? folded.values[at] : undefined;
    const read = this._read(value);
    const { name } = one as Lww<unknown>;
    if (one.kind === 'lww') {
      return Object.assign(read, {
        set: (to: unknown) => this._act([`=${name}`, { to }], true).receipt,
        clear: () => this._act([`=${name}`, {}], true).receipt,
      });
    }
    if (one.kind !== 'keyed') return read;
    return Object.assign(read, {
      get: (id: string) => this._read(() => (value() as KeyMap<unknown> | undefined)?.get(id)),
      set: (id: string, to: unknown) => this._act([`=${name}`, { id, to }], true).receipt,
      delete: (id: string) => this._act([`=${name}`, { id }], true).receipt,
    });
  }

  /** Does what was called; `record`: it can be taken back. */
  private _act(call: Call, record: boolean): Did {
    if (this._released) throw new HighwaterError('closed', `${this.name} was released`);
    const [name, payload] = call;
    return name.startsWith('=')
      ? this._set(name.slice(1), payload as { id?: string; to?: unknown }, record)
      : this._action(name, payload, record);
  }

  private _action(name: string, payload: unknown, record: boolean): Did {
    const { actions } = this._shelf.defined;
    if (!Object.hasOwn(actions, name)) {
      const all = Object.keys(actions).join();
      throw new HighwaterError('bad_request', `${this.name}: no action ${name}, of ${all}`);
    }
    const action: Action<any> = actions[name];
    const { offline, maxAge, inverse, coalesce } = action;
    const { phase } = this._room.core.status;
    const at = `${this.name}: ${name}`;
    if (offline === 'reject' && phase !== 'live') {
      throw new HighwaterError('offline', `${at}: it does not wait for a server`);
    }
    const draft = recordOf(name, action, payload, at);
    // What takes something back stands for itself: it is to be told from what it takes back.
    const same = coalesce && !this.undoing.busy ? `${name} ${coalesce(payload)}` : undefined;
    const takenBack = (before: unknown): Pick<Doing, 'again' | 'inverse'> => ({
      again: [name, payload], inverse: () => inverse!(payload, before, this._values()),
    });
    const joined = this._join(same, draft);
    if (joined) {
      this.undoing.replaced(joined.doing, takenBack(joined.before));
      return joined;
    }
    const before = inverse && this._values();
    const over = this._over(draft);
    const did = this._log(draft, maxAge);
    const { id } = did.one;
    const doing = inverse && record
      ? { id, key: draft.key, over, ...takenBack(before) } : undefined;
    if (same) this._last.coalesced = { ...did, name: same, doing, before };
    if (record) this.undoing.did(doing);
    return did;
  }

  /** The last one gives way to this, where nothing of it was sent and nothing is between. */
  private _join(name: string | undefined, draft: Draft): Coalesced | undefined {
    const { coalesced } = this._last;
    delete this._last.coalesced;
    if (!name || coalesced?.name !== name) return undefined;
    const { one } = coalesced;
    if (this._shelf.folded.pending.at(-1)?.id !== one.id) return undefined;
    if (!this._room.ledger.replace(one, draft)) return undefined;
    return (this._last.coalesced = coalesced);
  }

  private _set(name: string, given: { id?: string; to?: unknown }, record: boolean): Did {
    const { defined, folded } = this._shelf;
    const views = Object.values(defined.shape) as ViewDefinition[];
    const at = views.findIndex((view) => view.kind !== 'view' && view.name === name);
    const where = `${this.name}: ${name}`;
    const draft = valueRecord(views[at] as Lww<unknown>, given.id, given.to, where);
    const now = folded.values[at] as KeyMap<unknown> | unknown;
    const { id } = given;
    const before = id === undefined ? now ?? undefined : (now as KeyMap<unknown>).get(id);
    const over = this._over(draft);
    const did = this._log(draft, undefined);
    if (record) {
      this.undoing.did({
        id: did.one.id, key: draft.key, over, again: [`=${name}`, given],
        inverse: () => [`=${name}`, { ...given, to: before }],
      });
    }
    return did;
  }

  /** Whose record stands under its key. */
  private _over({ key }: Draft): string | undefined {
    return key === undefined ? undefined : this._shelf.folded.writerOf(key);
  }

  private _log(record: Draft, maxAge: number | undefined): Did {
    const { name, defined, target } = this._shelf;
    const receipt = new Receipt(this._room.core);
    const one = this._room.ledger.add({
      urgency: defined.urgency, log: name, ...target, record,
      until: maxAge === undefined ? undefined : Date.now() + maxAge,
      kept: receipt.kept, settle: receipt.ended,
    });
    return { one, receipt };
  }

  /** The views' values by their names, as they are. */
  private _values(): Record<string, unknown> {
    const { names, values } = this._shelf.folded;
    return Object.fromEntries(names.map((view, at) => [view, values[at]]));
  }

  readonly undo = (): boolean => this._alone(() => this.undoing.undo());
  readonly redo = (): boolean => this._alone(() => this.undoing.redo());

  /** Nothing that is done later is joined with what it did, or took back. */
  private _alone(work: () => boolean): boolean {
    delete this._last.coalesced;
    return work();
  }

  readonly release = (): void => {
    if (this._released) return;
    this._released = true;
    this._off();
    this.undoing.did(undefined);
    this._gone(this);
  };
}
