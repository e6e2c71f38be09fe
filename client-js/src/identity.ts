/**
 * Who this client is: a connection id that no other living tab holds, a device id, a kept token.
 *
 * Where there are Web Locks and a storage, a page load takes up one of the connections that earlier
 * ones left: its own, as its tab remembers it, else the newest. So a reload resumes where it was.
 * Elsewhere the ids live in memory. A lock is held as long as the page lives, and the browser frees
 * it with the page; a duplicated tab remembers the same id, and finds its lock taken.
 */

import { Most } from './bounds.js';
import { fromBase64, hex, isHex } from './codec.js';

/** The part of `localStorage` and `sessionStorage` that is used. */
export interface Storage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** The part of `navigator.locks` that is used. */
export interface Locks {
  request(
    name: string,
    options: { ifAvailable?: boolean },
    work: (lock: unknown) => Promise<unknown> | void,
  ): Promise<unknown>;
}

/** 128 random bits. */
export const newId = (): string => hex(crypto.getRandomValues(new Uint8Array(16)));

/** The user that a JWT names, unchecked: only to keep the ids of several users apart. */
export const userOf = (token: unknown): string => {
  try {
    const claims = fromBase64((token as string).split('.')[1]!);
    return `${(JSON.parse(claims) as { sub?: unknown }).sub ?? ''}`;
  } catch {
    return '';
  }
};

/** A storage of the page, where it may be used. */
export const browserStorage = (name: 'localStorage' | 'sessionStorage'): Storage | undefined => {
  // Node has a global of that name that warns; a page's is there together with its document.
  if (!globalThis.document) return undefined;
  try {
    return globalThis[name] ?? undefined;
  } catch {
    return undefined; // Forbidden by the user's settings.
  }
};

export class Identity {
  private _release: (() => void) | undefined;
  private _scope: string;
  private readonly _storage: Storage | undefined;
  private readonly _locks: Locks | undefined;
  private readonly _tab: Storage | undefined;

  constructor(scope: string, storage?: Storage, locks?: Locks, tab?: Storage) {
    this._scope = scope;
    this._storage = storage;
    this._locks = locks;
    this._tab = tab;
  }

  private _read(key: string, storage = this._storage): string | undefined {
    try {
      return storage?.getItem(`${this._scope}:${key}`) ?? undefined;
    } catch {
      return undefined;
    }
  }

  private _write(key: string, value: string | undefined, storage = this._storage): void {
    try {
      if (value === undefined) storage?.removeItem(`${this._scope}:${key}`);
      else storage?.setItem(`${this._scope}:${key}`, value);
    } catch {
      // A full or forbidden storage: the next page load makes new ids.
    }
  }

  /** The token that a server in `--dev` made up for us. */
  get token(): string | undefined {
    return this._read('token');
  }

  set token(token: string | undefined) {
    this._write('token', token);
  }

  /** The same for all pages of this browser; none where nothing can be kept. */
  device(): string | undefined {
    if (!this._storage) return undefined;
    const kept = this._read('device');
    const device = isHex(kept) ? kept : newId();
    if (device !== kept) this._write('device', device);
    return device;
  }

  /** Takes up a connection of that user that no living page holds, else makes one. */
  claim(user = ''): Promise<string> {
    this._scope += user;
    const ids = this._ids();
    const last = this._read('connection', this._tab);
    return this._take([...ids.filter((id) => id === last), ...ids, newId()]);
  }

  /** Another connection, at once: those that were kept are of another user. */
  renew(): string {
    this.leave();
    this._keep([]);
    const made = newId();
    void this._take([made]);
    return made;
  }

  /** Takes up the first that no living page holds, and keeps it beside the others; or the last. */
  private async _take(wanted: string[]): Promise<string> {
    for (const id of wanted) {
      this._release = await this._hold(id);
      if (!this._release) continue;
      // What others have kept meanwhile stays.
      this._keep([id, ...this._ids().filter((other) => other !== id)]);
      this._write('connection', id, this._tab);
      return id;
    }
    return wanted.at(-1)!;
  }

  /** Lets others take the connection up. */
  leave(): void {
    this._release?.();
    this._release = undefined;
  }

  /** Nobody shall take it up. */
  forget(connection: string): void {
    this._keep(this._ids().filter((id) => id !== connection));
    this.leave();
  }

  /** The newest first. */
  private _ids(): string[] {
    try {
      const kept = JSON.parse(this._read('connections')!) as unknown[];
      return kept.filter((id) => isHex(id));
    } catch {
      return []; // Nothing is kept, or nothing that is a list.
    }
  }

  private _keep(ids: string[]): void {
    this._write('connections', JSON.stringify(ids.slice(0, Most.CONNECTIONS)));
  }

  /** Holds a connection's lock, if nobody does; answers how to let it go. */
  private _hold(id: string): Promise<(() => void) | undefined> {
    return new Promise((resolve) => {
      const none = (): void => resolve(undefined);
      if (!this._storage || !this._locks) return none();
      const work = (lock: unknown): Promise<void> | void =>
        lock ? new Promise<void>(resolve) : none();
      this._locks.request(`${this._scope}:${id}`, { ifAvailable: true }, work).catch(none);
    });
  }
}
