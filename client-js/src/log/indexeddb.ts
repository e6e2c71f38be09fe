/**
 * Rows in the browser's IndexedDB: one database for a name, its version never moved, with one
 * object store of rows, so that tabs with old and new clients share it.
 *
 * Promise: `disk` is said at `complete` of a transaction that the browser was asked to flush; only
 * one that was rolled back by itself is refused. A database that was emptied under a page is
 * written anew from what the page holds; one that the browser found damaged, and emptied for that,
 * is told as soon as it is opened.
 */

import { Keeper, Lost, PATIENCE, type Disk } from './keeper.js';
import { outcome, Rows } from './memory.js';
import { looks, parts, together, unpacked, within } from './packs.js';
import { digits } from './rows.js';
import type { Change, OpenStore, Row, StoreOptions } from './store.js';

const ROWS = 'rows';
/** The only key that is no string: whoever finds another value there finds another database. */
const MARKER = 0;

/** So many rows are written, and read, in one task of the page, so that it stays a short one. */
const SLICE = 256;
const READ = 2048;

/**
 * Errors of a transaction that say nothing about what it was to do: the connection was closed under
 * it, or the browser has no access to its files. (Others are its own, as `QuotaExceededError`.)
 */
const LOST = /^(Abort|InvalidState|NotFound|NotReadable|Timeout|Unknown)Error$/;

/** Keys that begin so, from that one on, or behind it. */
const begins = (prefix: string, from = prefix, behind = false): IDBKeyRange => {
  const last = prefix.length - 1;
  const next = String.fromCharCode(prefix.charCodeAt(last) + 1);
  // All strings are at or behind the empty one, and the marker before it.
  return prefix
    ? IDBKeyRange.bound(from, prefix.slice(0, last) + next, behind, true)
    : IDBKeyRange.lowerBound(from, behind);
};

/** The key of the number that follows: where keys end in 16 digits none is between the two. */
const after = (key: string): string => key.slice(0, -16) + digits(+key.slice(-16) + 1);

class Database implements Disk {
  /** Ends what is under way. */
  private _fail: (lost: Lost) => void = () => {};

  /** `again`: it is not the first handle of this page, which may have written something already. */
  constructor(
    private readonly _db: IDBDatabase, gone: () => void, private readonly _again: boolean,
  ) {
    _db.onclose = () => {
      this._fail(new Lost(new DOMException('Closed by the browser', 'AbortError')));
      gone();
    };
    // Somebody deletes it. What is under way ends first; then it is opened anew.
    _db.onversionchange = () => {
      _db.close();
      gone();
    };
  }

  /**
   * One transaction. What `work` throws rolls it back, and so does what is thrown in a step of it:
   * in what it does with the answers of its requests.
   */
  private _run<T>(
    mode: IDBTransactionMode,
    work: (rows: IDBObjectStore, step: (next: () => void) => () => void) => T,
  ): Promise<T> {
    return new Promise((settle, fail) => {
      this._fail = fail;
      let why: unknown;
      let result: T;
      const step = (next: () => void) => (): void => {
        try {
          next();
        } catch (error) {
          why ??= error;
          all.abort();
        }
      };
      let all: IDBTransaction;
      try {
        all = this._db.transaction(ROWS, mode, { durability: 'strict' });
      } catch (error) {
        return fail(new Lost(error as Error));
      }
      all.oncomplete = () => settle(result);
      all.onabort = () => {
        const error = why ?? all.error ?? new DOMException('It was rolled back', 'AbortError');
        fail(!why && LOST.test(all.error?.name ?? '') ? new Lost(error as Error) : error);
      };
      step(() => (result = work(all.objectStore(ROWS), step)))();
    });
  }

  async read(prefix: string, from?: string, part?: (rows: Row[]) => void): Promise<Row[]> {
    const found: Row[] = [];
    // One of a writer may stand in a pack, which begins before it.
    const roomOf = (key: string): string => key.replace(/^(a\/[^/]+\/).*/, '$1');
    const room = roomOf(prefix);
    await this._run('readonly', (rows, step) => {
      const more = (range: IDBKeyRange): void => {
        const asked = rows.getAllKeys(range, READ);
        asked.onsuccess = step(() => {
          // Each look at a result goes through the browser.
          const keys = (asked.result as string[]).map((key) => [key] as const);
          // The next are asked for while these are on their way.
          if (keys.length === READ) more(begins(room, keys.at(-1)![0], true));
          for (const some of parts(keys, READ)) {
            const [[first], [last]] = [some[0]!, some.at(-1)!];
            const request = rows.getAll(IDBKeyRange.bound(first, last));
            request.onsuccess = step(() => {
              const values = request.result;
              const each = unpacked(some.map(([key], n): Row => [key, values[n]]), prefix);
              if (part) part(each);
              else for (const row of each) found.push(row);
            });
          }
        });
      };
      more(begins(room, roomOf(from ?? prefix)));
    });
    return found;
  }

  /** `apart`: none is packed with another that is not packed with it yet. */
  async write(changes: readonly Change[], apart = false): Promise<void> {
    await this._run('readwrite', (rows, step) => {
      const old = new Map<string, unknown>();
      /** Asks for what functions are to be given, and more; a large one is read in its own task. */
      const read = (
        changes: readonly Change[], more: IDBRequest<any>[], then: (answers: any[]) => void,
      ): void => {
        const keys = new Set(changes.flatMap(([key, value]) =>
          (typeof value === 'function' && !old.has(key) ? [key] : [])));
        const asked = [...more, ...[...keys].map((key) => rows.get(key))];
        const answers: any[] = [];
        for (const request of asked) request.onsuccess = step(() => {
          answers.push(request.result);
          if (answers.length < asked.length) return;
          let at = more.length;
          for (const key of keys) old.set(key, answers[at++]);
          then(answers.slice(0, more.length));
        });
        if (!asked.length) then(answers);
      };
      const asked = looks(changes, this._again).map(([from, to]) =>
        rows.getAllKeys(IDBKeyRange.bound(from, to)));
      read(changes, asked, (answers) => {
        const found = answers.flat();
        const now = within(changes, found);
        read(now, [], () => {
          const rest = outcome(now, (key) => old.get(key));
          this._put(rows, step, apart ? rest : together(rest, found));
        });
      });
    });
  }

  private _put(
    rows: IDBObjectStore, step: (next: () => void) => () => void, now: Map<string, unknown>,
  ): void {
    const work: [key: string, put: () => IDBRequest][] = [];
    // Those that go in a line go at once.
    let line: [first: string, last: string] | undefined;
    for (const [key, value] of now) {
      if (value !== undefined) work.push([key, () => rows.put(value, key)]);
      else if (line && key === after(line[1])) line[1] = key;
      else {
        const range = (line = [key, key]);
        work.push([key, () => rows.delete(IDBKeyRange.bound(...range))]);
      }
    }
    const left = parts(work, SLICE);
    const some = (): void => {
      const [first] = (left.shift() ?? []).map(([, put]) => put());
      if (left.length) first!.onsuccess = step(some);
      else rows.transaction.commit?.();
    };
    some();
  }

  async wipe(): Promise<void> {
    // The marker stays: who opens it anew is not to bring back what was wiped.
    await this._run('readwrite', (rows) => void rows.delete(begins('')));
  }

  close(): void {
    this._db.close();
  }

  /** Which database it is; one that has no marker is given this one. */
  async marker(given: string): Promise<string> {
    let found = given;
    await this._run('readwrite', (rows, step) => {
      const request = rows.get(MARKER);
      request.onsuccess = step(() => {
        if (request.result) found = request.result;
        else rows.put(given, MARKER);
      });
    });
    return found;
  }
}

/** As Chromium tells that it found a database damaged and deleted it; others do not tell. */
interface Upgrade extends IDBVersionChangeEvent {
  readonly dataLoss?: 'none' | 'total';
  readonly dataLossMessage?: string;
}

/** A handle. Some browsers never answer at times, where another try is answered: who is first. */
const connect = (name: string, emptied: (why: string) => void): Promise<IDBDatabase> =>
  new Promise((settle, fail) => {
    const open = (wait: number): void => {
      // One version for ever. Where there is no IndexedDB, or none is allowed, this throws.
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = (event: Upgrade) => {
        request.result.createObjectStore(ROWS);
        if (event.dataLoss === 'total') emptied(event.dataLossMessage!);
      };
      request.onsuccess = () => {
        if (timer) settle(request.result);
        else request.result.close();
        end();
      };
      request.onerror = () => {
        fail(request.error);
        end();
      };
      timer = setTimeout(open, wait, 2 * wait);
    };
    const end = (): void => {
      clearTimeout(timer);
      timer = undefined;
    };
    let timer: ReturnType<typeof setTimeout> | undefined;
    open(PATIENCE);
  });

/** Rows in the browser; in memory, visibly, where it has none to give. */
export const indexedDb: OpenStore = (name: string, options: StoreOptions) => {
  let known: string | undefined;
  const open = async (gone: () => void, emptied: (why: string) => void): Promise<Disk> => {
    const db = new Database(await connect(name, emptied), gone, !!known);
    try {
      const marker = await db.marker(crypto.getRandomValues(new Uint32Array(4)).join());
      if (known && known !== marker) await db.write([...options.rows()], true);
      known = marker;
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  };
  return new Keeper('disk', options, open, Rows);
};
