/**
 * The client with its log: the plain one, over a store on the device.
 *
 * Promise: what is on the device is shown without a server; what is done is logged before it is
 * tried, and sent when it can be. The log is of one server, one user and one format: who logs in
 * next sees and sends nothing of the former's.
 */

import { batch } from '@preact/signals-core';
import { Client, type ClientOptions, type CloseOptions } from '../client.js';
import type { Read } from '../emitter.js';
import { HighwaterError } from '../errors.js';
import type { Start, Welcome } from '../frames.js';
import { userOf, type Locks, type Storage } from '../identity.js';
import type { Status } from '../states.js';
import { nameOf, type Actions, type Definition, type Params, type Views } from './define.js';
import { Inbox, type RefusedAction } from './inbox.js';
import { indexedDb } from './indexeddb.js';
import { Keeper } from './keeper.js';
import { Ledger } from './ledger.js';
import { Marks } from './marks.js';
import { memory, Rows } from './memory.js';
import { nameFor } from './naming.js';
import { Open, type Opened } from './opened.js';
import { later, type ActionRow, type HistoryRow } from './rows.js';
import type { Message } from './run.js';
import { Shelf, type Room } from './shelf.js';
import { Signal } from './signals.js';
import {
  inBackground, inTime, type Change, type Health, type OpenStore, type Row, type Store,
} from './store.js';
import { holdBy, holdHere, tabs, type Hold, type Tabs } from './tabs.js';

export interface LogClientOptions extends Omit<ClientOptions, 'autoConnect'> {
  /** Connects by itself, once what is on the device was read; default true. */
  readonly autoConnect?: boolean;
  /**
   * Whose log it is. Without it, whom the token names; where that comes from a function, whoever it
   * was last on this device, so that a start without a network finds the log.
   */
  readonly user?: string;
  /**
   * It is one that notifies from a background tab: it says that someone looks though nobody does,
   * and asks to be active again by itself there too.
   */
  readonly keepHidden?: boolean;
  /** Where the log is kept: `indexedDb` (the default in a browser), `memory`, or another. */
  readonly store?: OpenStore;
}

export interface OpenOptions {
  /** 0 first, 255 last; default 0. Of those that have a log open the most urgent counts. */
  readonly priority?: number;
  /** Only the newest records: such a view is not kept on the device. */
  readonly start?: Extract<Start, { last: number }>;
  /**
   * The log begins anew here (its start was trimmed away, the server has another history): what
   * was never sent goes on (`rebase`, the default), or to the refused ones, where all that this
   * page has ever opened of the log say `discard`. Then nothing of it goes out before the log is
   * `live`.
   */
  readonly onReset?: 'rebase' | 'discard';
}

/** Whether what was done here is safe, and where it is. */
export interface Work {
  /** Not on the device, also of the refused ones: it would be lost with the page. */
  readonly unsaved: number;
  /** On the device, without an outcome of the server. */
  readonly waiting: number;
  /** Refused, for their user to decide about. */
  readonly refused: number;
  /** How the device keeps it. */
  readonly store: Health;
}

/** Most actions without an outcome. */
const MOST_PENDING = 50_000;
/** What was kept for long enough goes so long after the start, ms. */
const SWEEP_AFTER = 5000;
/** And again after so long, in a page that stays open. */
const SWEEP_EVERY = 3_600_000;
/** How often a page looks whether its clock has jumped, ms. */
const LOOK_EVERY = 5000;
const CLOSED = 'the app closed this client';

export class LogClient {
  /** What the client is doing, and why. */
  readonly status: Read<Status>;
  /** Whether what was done is safe: unsaved, on this device, refused. */
  readonly work: Read<Work>;
  /** Every action that was refused or stranded, also of earlier page loads. */
  readonly refused: Read<readonly RefusedAction[]>;
  /** The client under it: other logs, tokens, ids. */
  readonly plain: Client;

  private readonly _room: Room & { history: () => HistoryRow };
  private readonly _store: Deferred;
  private readonly _shelves = new Map<Definition<any, any, any>, Map<string, Shelf>>();
  private readonly _opens = new Set<Open>();
  private _history: HistoryRow = { history: 0, positions: [] };
  private _user = '';
  private readonly _marks: Marks;
  private _tabs: Tabs<Message> | undefined;
  /** Who was here last is not known any more; and no token is waited for. */
  private readonly _forget: () => void;
  private readonly _hurry: () => void;
  private readonly _deaf = new AbortController();
  private readonly _offs: (() => void)[] = [];
  /** Names what it left on the device when the browser began to keep it for later. */
  private _sign: string | undefined;
  private _closed = false;
  private _connected = false;
  /** A token that the server made up, in Node. */
  private _made: string | undefined;

  /** @internal `around` is what lies around a page, where that is not the browser's own. */
  constructor(
    url: string | { readonly href: string },
    options: LogClientOptions,
    private readonly _around: Around = browser(options.store),
  ) {
    const { store, autoConnect = true, keepHidden, ...rest } = options;
    if (store && typeof store !== 'function') {
      throw new HighwaterError('bad_request', 'store: indexedDb, memory, file()');
    }
    const given = keepHidden ? { ...rest, visible: true } : rest;
    const { name, token, whose, forget, hurry } = nameFor(url, options);
    this._forget = forget;
    this._hurry = hurry;
    // A page has a storage of its own for the token that a server in `--dev` makes up; elsewhere
    // it is kept with the log, which is of the user that it names.
    const storage = given.storage ?? (globalThis.document ? undefined : this._tokens());
    this.plain = new Client(
      url, { maxPending: 1000, ...given, ...(storage && { storage }), token, autoConnect: false },
    );
    const { core } = this.plain;
    const { lock: hold, open } = this._around;
    const rows = (): Iterable<Change> => this._rows();
    // One that cannot be opened is memory, which says so.
    const lost = (error: Error): Store =>
      new Keeper('disk', { rows }, () => Promise.reject(error), Rows);
    this._store = new Deferred(name.then((name) => open(name, { rows })).catch(lost));
    const inbox = new Inbox({
      store: this._store,
      again: (item, changes) => this._again(item, changes),
      shown: (log, record) => this._shown(log, record),
      history: () => this._room.history(),
      // Also one that another page, or another history, has not: it is not to be pending for good.
      came: (one) => this._room.ledger.tell('refused', one),
      changed: () => this._tabs?.say({ is: 'refused' }),
      look: () => this._marks.look(),
    });
    const ledger = new Ledger(core, {
      store: this._store, hold, name: 'highwater', inbox,
      maxPending: options.maxPending ?? MOST_PENDING, now: Date.now,
      say: (message) => this._tabs?.say({ ...message, history: this._history.history }),
      unsure: () => [...this._all()].filter(
        (one) => !ledger.rebased.has(one.name) && one.unsure,
      ).map(({ name }) => name),
    });
    const marks = (this._marks = new Marks(core, ledger.runs, inbox));
    core.config.met = (welcome) => this._met(welcome);
    core.config.heard = (answers) => marks.heard(answers);
    const met = name.then((name) => this._meets(name, whose(name)));
    const ready = met.then(() => this._begin());
    ledger.runs.reading = ready;
    this._room = {
      core, store: this._store, ledger, inbox, met, ready,
      history: () => ({ ...this._history, positions: core.history.positions }),
      told: (kept) => this._told(kept),
      user: () => core.greeting?.user || this._user || (options.user ?? userOf(token)),
    };
    const status = new Signal(() => this.plain.status.value);
    this.status = status;
    this.refused = inbox.list;
    this.work = this._work(ledger, inbox);
    this._offs.push(
      this.plain.status.subscribe(({ phase }) => {
        status.changed();
        ledger.runs.connected(phase === 'live' || phase === 'inactive');
        marks.ask();
        for (const shelf of this._all()) {
          shelf.status.changed();
          // Whoever reloads a page that is cut off is to see what it showed.
          if (phase !== 'live') shelf.keep();
        }
      }),
    );
    this._watch();
    this._connected = autoConnect;
    // What was said meanwhile counts: `disconnect` before it was read is one.
    inBackground(ready.then(() => this._connected && this.plain.connect()));
  }

  /** Whose the device is, and of which history. */
  private async _meets(name: string, whose: string): Promise<void> {
    const { core } = this.plain;
    this._tabs = this._around.tabs?.(name, (message) => this._hears(message));
    const [[history], [user], [made]] = await Promise.all(
      ['h', 'u', 't'].map((key) => this._store.read(key)),
    ) as [Row[], Row[], Row[]];
    this._made = made?.[1] as string | undefined;
    if (history) {
      this._history = history[1] as HistoryRow;
      core.history.told(this._history.positions);
    }
    // Where the server never said, whom the token names: another's is not to send what is here.
    const mine = (user?.[1] as string | undefined) ?? whose;
    if (mine) core.mine((this._user = mine));
  }

  /** Reads what is on the device. */
  private async _begin(): Promise<void> {
    const { ledger, inbox } = this._room;
    await Promise.all([ledger.begin(), inbox.read()]);
    this._marks.look();
    this._sweepAfter(SWEEP_AFTER, () => this._room.ledger.look());
  }

  private _tokens(): Storage {
    const set = (key: string, value: string | undefined): void => {
      if (!key.endsWith(':token')) return;
      this._made = value;
      inBackground(this._store.write([['t', value]]));
    };
    return {
      getItem: (key) => (key.endsWith(':token') && this._made) || null,
      setItem: set,
      removeItem: (key) => set(key, undefined),
    };
  }

  private _sweepAfter(wait: number, first?: () => Promise<void>): void {
    inTime(() => {
      if (this._closed) return;
      this._sweepAfter(SWEEP_EVERY);
      inBackground(Promise.resolve(first?.()).then(() => this._room.inbox.sweep(Date.now())));
    }, wait);
  }

  private _work(ledger: Ledger, inbox: Inbox): Read<Work> {
    let before: Work | undefined;
    return new Signal<Work>(() => {
      const { unsaved, waiting } = ledger.counts.value;
      const now = {
        unsaved: unsaved + inbox.unsaved, waiting, refused: inbox.size,
        store: this._store.health.value,
      };
      const same = before && (Object.keys(now) as (keyof Work)[]).every(
        (name) => before![name] === now[name],
      );
      return same ? before! : (before = now);
    });
  }

  private *_all(): Iterable<Shelf> {
    for (const shelves of this._shelves.values()) yield* shelves.values();
  }

  private *_rows(): Iterable<Change> {
    const { ledger, inbox, history } = this._room;
    yield* ledger.rows();
    yield* inbox.rows();
    const now = history();
    yield ['h', (old: HistoryRow | undefined) => later(old, now)];
    if (this._user) yield ['u', this._user];
  }

  /**
   * Opens a log: what is on the device is shown at once, and goes on from there. Each call is a
   * handle of its own, with its own undo; what is shared underneath is the log.
   */
  readonly open = <N extends string, A extends Actions, V extends Views>(
    definition: Definition<N, A, V>,
    params: Params<N> & Readonly<Record<string, string>>,
    { priority = 0, start, onReset = 'rebase' }: OpenOptions = {},
  ): Opened<A, V> => {
    if (this._closed) throw new HighwaterError('closed', CLOSED);
    const name = nameOf(definition.pattern, params);
    const wrong = (priority & 255) !== priority ? 'priority: 0 to 255'
      : start && start.last >>> 0 !== start.last ? 'start: { last: how many }'
      : !/^(rebase|discard)$/.test(onReset) && "onReset: 'rebase' or 'discard'";
    if (wrong) throw new HighwaterError('bad_request', `${name}: ${wrong}`);
    const shelves = this._shelves.get(definition) ?? new Map<string, Shelf>();
    this._shelves.set(definition, shelves);
    const key = `${name} ${start ? start.last : ''}`;
    let shelf = shelves.get(key);
    if (!shelf) {
      shelf = new Shelf(name, definition, this._room, { start: start ?? 'state', priority });
      shelves.set(key, shelf);
    }
    shelf.users++;
    shelf.urge(priority);
    if (onReset !== 'discard') {
      this._room.ledger.rebased.add(name);
      shelf.sure();
    }
    const open = new Open(shelf, this._room, (gone) => {
      this._opens.delete(gone);
      if (--shelf.users) return;
      shelf.release();
      shelves.delete(key);
    });
    this._opens.add(open);
    return open as unknown as Opened<A, V>;
  };

  /** What is done in `work` is shown together, and undone together. */
  readonly batch = (work: () => void): void => {
    const groups = [...this._opens].reduce(
      (inner, open) => () => open.undoing.group(inner),
      () => batch(work),
    );
    groups();
  };

  private _again(item: ActionRow, changes: readonly Change[]): void {
    const { ledger } = this._room;
    const { log, record } = item;
    // Where that was deleted, its user says that another of that name is meant.
    const open = ({ name, status }: Shelf): boolean =>
      name === log && status.value.phase !== 'closed';
    const shelf = [...this._all()].find(open);
    const { urgency } = shelf?.defined ?? { urgency: 'edit' };
    const target = shelf?.target ?? { to: { name: log }, made: undefined };
    ledger.add({ urgency, log, ...target, record });
    ledger.also(changes);
  }

  private _shown(log: string, { kind, key }: { kind?: string; key?: string }): unknown {
    if (key === undefined) return undefined;
    for (const { name, defined, folded } of this._all()) {
      if (name !== log) continue;
      const at = Object.values(defined.shape as Views).findIndex(
        (view) => view.kind !== 'view' && view.name === kind,
      );
      if (at >= 0) return folded.under(at, key);
    }
    return undefined;
  }

  // The server.

  /** Connects, also again: as `Client.connect`, once what is on the device was read. */
  readonly connect = (): void => {
    this._connected = true;
    inBackground(this._room.ready.then(() => this._connected && this.plain.connect()));
  };

  /** No socket until `connect`. What is done waits on the device. */
  readonly disconnect = (): void => {
    this._connected = false;
    this.plain.disconnect();
  };

  /** How the server met it, before anything is made of it. */
  private _met(welcome: Welcome): void {
    const { user, otherHistory, positions } = welcome;
    if (user && user !== this._user) {
      this._user = user;
      inBackground(this._store.write([['u', user]]));
      for (const shelf of this._all()) shelf.user();
    }
    if (otherHistory) {
      this._history = { history: this._history.history + 1, positions: positions ?? [] };
      const now = this._history;
      inBackground(
        this._store.write([['h', (old: HistoryRow | undefined) => later(old, now)]]),
      );
      // What an earlier history has lost is asked about in this one.
      this._marks.anew(welcome);
    }
  }

  /** Another page has kept that, in what may be another history than the one met here. */
  private _told({ history, positions }: HistoryRow): void {
    if (history !== this._history.history) return;
    const { core, status } = this.plain;
    const before = `${core.history.positions}`;
    const erasOf = (list: string): string => list.replace(/\..*?(,|$)/g, '$1');
    core.history.told(positions);
    const now = `${core.history.positions}`;
    if (now === before || !core.stated) return;
    const { phase } = status.value;
    const met = phase === 'live' || phase === 'inactive';
    // What was said on this socket does not cover it.
    if (!met || erasOf(now) !== erasOf(before)) this.plain.cut();
  }

  // Other pages, and this one's life.

  private _hears(message: Message): void {
    if (message.is === 'refused') inBackground(this._room.inbox.read());
    else if (message.is === 'wiped') {
      // Also what this page had yet to keep is not to come back, nor what was on its way to disk.
      this._store.muted = true;
      inBackground(this._emptied().then(() => this.close()));
    } else {
      // Where the server has lost it since, this page is to be told so.
      const now = message.history === this._history.history;
      for (const one of message.is === 'outs' ? message.outs : [message]) {
        if (now && one.is === 'out' && one.stored) {
          this.plain.core.history.saw(one.stored.place.batch);
        }
      }
      this._room.ledger.hears(message);
    }
  }

  /** Takes away what this page wrote while another wiped; whoever began since keeps theirs. */
  private async _emptied(): Promise<void> {
    // As it stands now: of what is told from here on another session may be the author.
    const ours = new Set(this._room.ledger.runs.all.keys());
    this._tabs?.close();
    const rows = await this._store.read('');
    const gone = rows.filter(([key, row]: Row) => {
      const writer = key.startsWith('d/') ? row.writer : /^(?:[aw]|r\/\d+)\/(\w+)/.exec(key)?.[1];
      return writer === undefined || ours.has(writer);
    });
    await this._store.write(gone.map(([key]: Row) => [key, undefined]), false);
  }

  private _watch(): void {
    const page = globalThis.window as EventTarget | undefined;
    if (!page || !globalThis.document) return;
    const listen = (to: EventTarget, name: string, listener: (event: any) => void): void =>
      to.addEventListener(name, listener, this._deaf);
    const keep = (): void => {
      for (const shelf of this._all()) shelf.keep();
    };
    listen(document, 'visibilitychange', () => document.hidden && keep());
    listen(page, 'pagehide', ({ persisted }: { persisted: boolean }) => {
      keep();
      if (!persisted) return;
      // By this row it knows, when it is shown again, whether all was wiped meanwhile.
      this._sign = `k/${this.plain.core.config.newId()}`;
      inBackground(this._store.write([[this._sign, Date.now()]]));
      // Others may send what it has; shown again, it begins under writers of its own.
      this._room.ledger.leave();
      this.plain.disconnect();
    });
    listen(document, 'resume', () => this.plain.probe());
    // A machine that slept, or a timer that was held back: is the other side there still?
    let before = Date.now();
    const timer = setInterval(() => {
      const now = Date.now();
      if (Math.abs(now - before - LOOK_EVERY) > LOOK_EVERY) this.plain.probe();
      before = now;
    }, LOOK_EVERY);
    this._offs.push(() => clearInterval(timer));
    listen(page, 'pageshow', ({ persisted }: { persisted: boolean }) => {
      if (!persisted) return;
      // What it writes waits for that.
      this._store.after = this._signed();
      inBackground(this._room.ledger.again());
      inBackground(this._room.inbox.read());
      inBackground(this._store.after.then(() => {
        if (this._store.muted) return this.close();
        if (this._connected) this.connect();
      }));
    });
  }

  /** What it had left on the device is there still; else nothing more is written. */
  private async _signed(): Promise<void> {
    const sign = this._sign;
    if (!sign) return;
    const [row] = await this._store.read(sign);
    if (!row) this._store.muted = true;
    else inBackground(this._store.write([[sign, undefined]]));
  }

  /** Ends this client. What it has logged stays on the device, and is sent by the next. */
  readonly close = async (options?: CloseOptions): Promise<void> => {
    if (this._closed) return;
    for (const open of [...this._opens]) open.release();
    await this._end();
    this.plain.close(options);
    this._ended();
    await this._store.close();
  };

  /** Who listens has been told. */
  private _ended(): void {
    for (const off of this._offs.splice(0)) off();
  }

  private async _end(): Promise<void> {
    this._closed = true;
    this._connected = false;
    this._deaf.abort();
    // What waits is kept for whoever the token names.
    if (this._store.muted || !this._room.ledger.counts.value.waiting) this._hurry();
    await this._room.ready.catch(() => {});
    const stays = this._store.muted ? '' : ': what it logged stays on the device';
    await this._room.ledger.close(new HighwaterError('closed', CLOSED + stays));
    this._tabs?.close();
  }

  /**
   * Ends this client, as its user leaves. `wipe`: nothing stays on the device, also what was not
   * sent. `keep`: it stays, as plain text, for the same user to come back to.
   */
  readonly logout = async (what: 'keep' | 'wipe'): Promise<void> => {
    if (what === 'keep') {
      // Whoever comes next without a token is nobody, and not who left.
      this._forget();
      return this.close();
    }
    if (this._closed) return;
    this._tabs?.say({ is: 'wiped' });
    this._store.muted = true;
    for (const open of [...this._opens]) open.release();
    await this._end();
    this.plain.close({ forget: true });
    this._ended();
    this._forget();
    await this._store.wipe();
    await this._store.close();
  };
}

/** Where a page keeps its log, and how it knows of the other pages that share that. */
export interface Around {
  readonly open: OpenStore;
  readonly lock: Hold;
  /** None: nobody shares it, so nothing that others say is about it. */
  readonly tabs?: ((name: string, hears: (message: Message) => void) => Tabs<Message>) | undefined;
}

const browser = (store: OpenStore | undefined): Around => {
  const { locks } = (globalThis as { navigator?: { locks?: Locks } }).navigator ?? {};
  // Without locks nobody knows whether a writer's page lives: what it left is not to be touched.
  if (!locks || (store && store !== indexedDb)) return { open: store ?? memory, lock: holdHere() };
  return { open: indexedDb, lock: holdBy(locks), tabs };
};

const OPENING: Health = { kind: 'disk', state: 'open' };

/** A store that is still to be named: what is asked of it waits. */
class Deferred implements Store {
  private _is: Store | undefined;
  /** Nothing is written any more. */
  muted = false;
  /** What is asked for from here on is written after it. */
  after: Promise<void> | undefined;
  readonly health = new Signal<Health>(() => this._is?.health.value ?? OPENING);

  constructor(private readonly _store: Promise<Store>) {
    void _store.then((store) => {
      this._is = store;
      store.health.subscribe(() => this.health.changed());
    });
  }

  read = async (...asked: Parameters<Store['read']>): Promise<any> =>
    (await this._store).read(...asked);
  write = async (changes: readonly Change[], muted?: boolean): Promise<any> => {
    const { after } = this;
    const store = await this._store;
    if (after) await after;
    return muted ?? this.muted ? 'memory' : store.write(changes);
  };
  persist = (): void => this._is?.persist();
  close = async (): Promise<void> => (await this._store).close();
  wipe = async (): Promise<void> => (await this._store).wipe();
}

/**
 * A client with a log on the device, of the server at `http(s)://host:port`. Throws a
 * `HighwaterError` (`bad_request`) where the address or an option is none, and names it.
 */
export const connect = (
  url: string | { readonly href: string },
  options: LogClientOptions = {},
): LogClient => new LogClient(url, options);
