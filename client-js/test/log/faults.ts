/** A browser's IndexedDB, in memory, with the faults that real ones have had. */
import { forceCloseDatabase, IDBDatabase as Db, IDBFactory, IDBKeyRange } from 'fake-indexeddb';
import { afterEach, beforeEach } from 'node:test';

type Opened = IDBDatabase & { name: string };
type Begin = (mode: IDBTransactionMode) => IDBTransaction;

/** What a browser does wrong; what is not set works. */
export class Faults {
  /** Instead of a transaction: may throw, or give one that is not what it seems. */
  begin: ((begin: Begin, mode: IDBTransactionMode, db: Opened) => IDBTransaction) | undefined;
  /** So many more requests to open have no answer. */
  hung = 0;
  /** Requests to open fail with this. */
  refused: Error | undefined;
  /** A database that is made anew is one that was found damaged, as Chromium tells it. */
  damaged: string | undefined;
  /** All handles that were opened, the newest last. */
  readonly handles: Opened[] = [];
  readonly factory = new IDBFactory();

  open(name: string, version?: number): IDBOpenDBRequest {
    if (this.hung > 0) {
      this.hung--;
      return {} as IDBOpenDBRequest;
    }
    if (this.refused) {
      const request = { error: this.refused } as unknown as IDBOpenDBRequest;
      setImmediate(() => request.onerror?.(new Event('error')));
      return request;
    }
    const request = this.factory.open(name, version);
    const { damaged } = this;
    request.addEventListener('upgradeneeded', (event) => {
      const told = { dataLoss: damaged ? 'total' : 'none', dataLossMessage: damaged ?? '' };
      Object.assign(event, told);
    });
    request.addEventListener('success', () => this.handles.push(request.result));
    return request;
  }

  /** As when a person clears the data of a site. */
  clear(name: string): Promise<void> {
    for (const db of this.handles.splice(0)) if (db.name === name) forceCloseDatabase(db as any);
    return this.remove(name);
  }

  /** As another tab deletes it. */
  remove(name: string): Promise<void> {
    return new Promise((settle, fail) => {
      const request = this.factory.deleteDatabase(name);
      request.onsuccess = () => settle();
      request.onerror = () => fail(request.error);
    });
  }

  /** The browser closes the newest handle. */
  closed(): void {
    forceCloseDatabase(this.handles.pop() as any);
  }
}

/** One whose `complete` is not told before it is let go. */
export const held = (tx: IDBTransaction): { tx: IDBTransaction; release: () => void } => {
  let told: (() => void) | undefined;
  let done = false;
  let free = false;
  const tell = (): void => {
    if (done && free) told?.();
  };
  tx.addEventListener('complete', () => {
    done = true;
    tell();
  });
  Object.defineProperty(tx, 'oncomplete', { set: (handler) => void (told = handler) });
  const release = (): void => {
    free = true;
    tell();
  };
  return { tx, release };
};

/** One that the browser rolls back, once it is to be stored. */
export const aborted = (tx: IDBTransaction, name: string): IDBTransaction => {
  const commit = (): void => {
    const error = new DOMException('injected', name);
    Object.defineProperty(tx, 'error', { get: () => error });
    tx.abort();
  };
  return Object.defineProperty(tx, 'commit', { value: commit });
};

let faults = new Faults();
const real = Db.prototype.transaction;

/** Gives each test of a file a browser of its own. */
export const browser = (): { readonly now: Faults } => {
  beforeEach(() => {
    faults = new Faults();
    Object.assign(globalThis, { indexedDB: faults, IDBKeyRange });
    Db.prototype.transaction = function (this: any, names: any, mode: any, options: any) {
      const begin: Begin = (mode) => real.call(this, names, mode, options);
      return faults.begin?.(begin, mode, this) ?? begin(mode);
    } as any;
  });
  afterEach(() => {
    Db.prototype.transaction = real;
    delete (globalThis as any).indexedDB;
  });
  return {
    get now() {
      return faults;
    },
  };
};
