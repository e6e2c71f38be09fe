/**
 * Who this client is: a connection id that no other living tab holds, a device id, a kept token.
 *
 * Where there are Web Locks and a storage, a page load takes up one of the connections that earlier
 * ones left, so that a reload resumes where it was. Elsewhere the ids live in memory. A lock is
 * held as long as the page lives, and the browser frees it with the page.
 */

import { fromBase64, hex, isId } from './codec.js';

/** The part of `localStorage` that is used. */
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
    work: (lock: unknown) => Promise<void> | undefined,
  ): Promise<unknown>;
}

/** Most connection ids kept for one user and server. */
const MOST = 32;

/** 128 random bits. */
export const newId = (): string => hex(crypto.getRandomValues(new Uint8Array(16)));

/** The user a JWT names, unchecked: only to keep the ids of several users apart. */
export const userOf = (token: string): string => {
  try {
    return `${(JSON.parse(fromBase64(token.split('.')[1]!)) as { sub?: unknown }).sub ?? ''}`;
  } catch {
    return '';
  }
};

/** `localStorage`, where it may be used. */
export const browserStorage = (): Storage | undefined => {
  // Node has a global of that name that warns; a page's is there together with its document.
  if (typeof document === 'undefined') return undefined;
  try {
    return globalThis.localStorage ?? undefined;
  } catch {
    return undefined; // Forbidden by the user's settings.
  }
};

export class Identity {
  #release: (() => void) | undefined;
  readonly #scope: string;
  readonly #storage: Storage | undefined;
  readonly #locks: Locks | undefined;

  constructor(scope: string, storage: Storage | undefined, locks: Locks | undefined) {
    this.#scope = scope;
    this.#storage = storage;
    this.#locks = locks;
  }

  #read(key: string): string | undefined {
    try {
      return this.#storage?.getItem(`${this.#scope}:${key}`) ?? undefined;
    } catch {
      return undefined;
    }
  }

  #write(key: string, value: string | undefined): void {
    try {
      if (value === undefined) this.#storage?.removeItem(`${this.#scope}:${key}`);
      else this.#storage?.setItem(`${this.#scope}:${key}`, value);
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
    const device = isId(kept) ? kept : newId();
    if (device !== kept) this.#write('device', device);
    return device;
  }

  /** Takes up a connection that no living page holds, else makes one. */
  async claim(): Promise<string> {
    if (!this.#storage || !this.#locks) return newId();
    let claimed = newId();
    await this.#alone(async () => {
      const ids = this.#ids();
      for (const id of [...ids, claimed]) {
        this.#release = await this.#hold(id);
        if (!this.#release) continue;
        claimed = id;
        break;
      }
      this.#keep([...ids.filter((id) => id !== claimed), claimed]);
    });
    return claimed;
  }

  /** Lets others take the connection up. */
  leave(): void {
    this.#release?.();
    this.#release = undefined;
  }

  /** Nobody shall take it up. */
  async forget(connection: string): Promise<void> {
    if (this.#storage && this.#locks) {
      await this.#alone(async () => this.#keep(this.#ids().filter((id) => id !== connection)));
    }
    this.leave();
  }

  #ids(): string[] {
    try {
      const kept: unknown = JSON.parse(this.#read('connections') ?? '[]');
      return Array.isArray(kept) ? kept.filter(isId).slice(-MOST) : [];
    } catch {
      return [];
    }
  }

  #keep(ids: string[]): void {
    this.#write('connections', JSON.stringify(ids.slice(-MOST)));
  }

  /** Does something while no other page does the same. */
  async #alone(work: () => Promise<void>): Promise<void> {
    await this.#locks!.request(`${this.#scope}:claim`, {}, work);
  }

  /** Holds a connection's lock, if nobody does; answers how to let it go. */
  #hold(id: string): Promise<(() => void) | undefined> {
    return new Promise((resolve) => {
      const work = (lock: unknown): Promise<void> | undefined => {
        if (lock) return new Promise<void>((release) => resolve(release));
        resolve(undefined);
        return undefined;
      };
      this.#locks!
        .request(`${this.#scope}:${id}`, { ifAvailable: true }, work)
        .catch(() => resolve(undefined));
    });
  }
}
