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
  #release: (() => void) | undefined;
  #scope: string;
  readonly #storage: Storage | undefined;
  readonly #locks: Locks | undefined;
  readonly #tab: Storage | undefined;

  constructor(scope: string, storage?: Storage, locks?: Locks, tab?: Storage) {
    this.#scope = scope;
    this.#storage = storage;
    this.#locks = locks;
    this.#tab = tab;
  }

  #read(key: string, storage = this.#storage): string | undefined {
    try {
      return storage?.getItem(`${this.#scope}:${key}`) ?? undefined;
    } catch {
      return undefined;
    }
  }

  #write(key: string, value: string | undefined, storage = this.#storage): void {
    try {
      if (value === undefined) storage?.removeItem(`${this.#scope}:${key}`);
      else storage?.setItem(`${this.#scope}:${key}`, value);
    } catch {
      // A full or forbidden storage: the next page load makes new ids.
    }
  }

  /** The token that a server in `--dev` made up for us. */
  get token(): string | undefined {
    return this.#read('token');
  }

  set token(token: string | undefined) {
    this.#write('token', token);
  }

  /** The same for all pages of this browser; none where nothing can be kept. */
  device(): string | undefined {
    if (!this.#storage) return undefined;
    const kept = this.#read('device');
    const device = isHex(kept) ? kept : newId();
    if (device !== kept) this.#write('device', device);
    return device;
  }

  /** Takes up a connection of that user that no living page holds, else makes one. */
  claim(user = ''): Promise<string> {
    this.#scope += user;
    const ids = this.#ids();
    const last = this.#read('connection', this.#tab);
    return this.#take([...ids.filter((id) => id === last), ...ids, newId()]);
  }

  /** Another connection, at once: those that were kept are of another user. */
  renew(): string {
    this.leave();
    this.#keep([]);
    const made = newId();
    void this.#take([made]);
    return made;
  }

  /** Takes up the first that no living page holds, and keeps it beside the others; or the last. */
  async #take(wanted: string[]): Promise<string> {
    for (const id of wanted) {
      this.#release = await this.#hold(id);
      if (!this.#release) continue;
      // What others have kept meanwhile stays.
      this.#keep([id, ...this.#ids().filter((other) => other !== id)]);
      this.#write('connection', id, this.#tab);
      return id;
    }
    return wanted.at(-1)!;
  }

  /** Lets others take the connection up. */
  leave(): void {
    this.#release?.();
    this.#release = undefined;
  }

  /** Nobody shall take it up. */
  forget(connection: string): void {
    this.#keep(this.#ids().filter((id) => id !== connection));
    this.leave();
  }

  /** The newest first. */
  #ids(): string[] {
    try {
      const kept = JSON.parse(this.#read('connections')!) as unknown[];
      return kept.filter((id) => isHex(id));
    } catch {
      return []; // Nothing is kept, or nothing that is a list.
    }
  }

  #keep(ids: string[]): void {
    this.#write('connections', JSON.stringify(ids.slice(0, Most.CONNECTIONS)));
  }

  /** Holds a connection's lock, if nobody does; answers how to let it go. */
  #hold(id: string): Promise<(() => void) | undefined> {
    return new Promise((resolve) => {
      const none = (): void => resolve(undefined);
      if (!this.#storage || !this.#locks) return none();
      const work = (lock: unknown): Promise<void> | void =>
        lock ? new Promise<void>(resolve) : none();
      this.#locks.request(`${this.#scope}:${id}`, { ifAvailable: true }, work).catch(none);
    });
  }
}
