/**
 * The order in which a disk is asked, and what is done where it fails.
 *
 * Promise: what is asked for is done one after another, as it was asked; a handle that is lost is
 * opened anew once, what had no answer is asked again, and then memory takes its place, visibly.
 */

import { report, Source } from '../emitter.js';
import { HighwaterError } from '../errors.js';
import type { Change, Health, Kind, Row, Store, StoreOptions } from './store.js';

type Later<T> = T | Promise<T>;

/** What a storage gives, one at a time. What throws was rolled back, but for `Lost`. */
export interface Disk {
  read(prefix: string, from?: string, part?: (rows: Row[]) => void): Later<Row[]>;
  /** In one transaction. */
  write(changes: readonly Change[]): Later<void>;
  wipe(): Later<void>;
  /** Never throws, and may come twice. */
  close(): Later<void>;
}

/** The handle is of no use any more, and what it was asked may have been done or not. */
export class Lost {
  constructor(readonly error: Error) {}
}

/** How long something may have no answer before it is said, in ms. */
export const PATIENCE = 5000;

/** So many promises lie at most between an answer and what is asked for because of it. */
const TURNS = 32;

interface Job {
  readonly changes?: readonly Change[];
  readonly run?: (disk: Disk) => unknown;
  readonly settle: (result: any) => void;
  /** It has failed once with a handle that was lost. */
  again?: boolean;
}

export class Keeper implements Store {
  private readonly _jobs: Job[] = [];
  private _busy = false;
  private _disk: Promise<Disk> | undefined;
  /** So many writes are tried in one transaction: fewer after one that was rolled back. */
  private _most = Infinity;
  private _health: Health;
  private _closed: Promise<void> | undefined;
  private _asked = false;
  readonly health = new Source(() => this._health);

  constructor(
    kind: Kind,
    private readonly _options: StoreOptions,
    /** Opens a handle; it says when that is of no use any more, and if what was there is gone. */
    private readonly _open: (gone: () => void, emptied: (why: string) => void) => Later<Disk>,
    /** What takes its place. */
    private readonly _rows: new () => Disk,
  ) {
    this._health = { kind, state: 'open' };
    this._look();
  }

  read(...asked: Parameters<Store['read']>): Promise<Row[]> {
    return this._ask({ run: (disk) => disk.read(...asked) });
  }

  write(changes: readonly Change[]): Promise<Kind> {
    return this._ask({ changes });
  }

  persist(): void {
    if (this._asked) return;
    this._asked = true;
    // Whether it will is nobody's business here: it may say no, or never answer.
    globalThis.navigator?.storage?.persist?.().catch(() => {});
  }

  close(): Promise<void> {
    return (this._closed ??= this._ask({ run: (disk) => disk.close() }));
  }

  wipe(): Promise<void> {
    return this._ask({
      run: async (disk) => {
        await disk.wipe();
        if (this._health.state !== 'lost') return;
        try {
          // What was on disk when that was lost is there still.
          const left = await this._open(() => {}, () => {});
          await left.wipe();
          await left.close();
        } catch (error) {
          throw error instanceof Lost ? error.error : error;
        }
      },
    });
  }

  private _ask<T>(job: Omit<Job, 'settle'>): Promise<T> {
    if (this._closed) return Promise.reject(new HighwaterError('closed', 'the store was closed'));
    return new Promise((settle) => {
      this._jobs.push({ ...job, settle });
      if (!this._busy) void this._work();
    });
  }

  /** Opens it, though nobody asks for anything. */
  private _look(): void {
    if (!this._closed) this._ask({ run: () => {} }).catch(() => {});
  }

  private async _work(): Promise<void> {
    this._busy = true;
    // What else this tick asks for goes with it.
    await null;
    while (this._jobs.length) {
      const timer = setTimeout(() => this._say('stuck'), PATIENCE);
      await this._step();
      clearTimeout(timer);
      if (this._health.state === 'stuck') this._say('open');
      // Whoever was answered asks for more in the same turn: that goes with what waits already,
      // not behind it.
      for (let turn = 0; this._jobs.length && turn < TURNS; turn++) await null;
    }
    this._busy = false;
  }

  private async _step(): Promise<void> {
    const [first] = this._jobs as [Job];
    let count = 1;
    if (first.changes) while (count < this._most && this._jobs[count]?.changes) count++;
    const answer = (result: unknown): void => {
      for (const { settle } of this._jobs.splice(0, count)) settle(result);
    };
    let disk: Disk | undefined;
    try {
      disk = await (this._disk ??= this._opened());
      if (!first.changes) return answer(await first.run!(disk));
      await disk.write(this._jobs.slice(0, count).flatMap((job) => job.changes!));
      answer(this._health.kind);
      this._most *= 2;
    } catch (error) {
      if (error instanceof Lost) {
        this._disk = undefined;
        await disk?.close();
        if (first.again) this._fall(error.error);
        first.again = true;
      } else if (count > 1) {
        // One of them is why; the others are not to go with it.
        this._most = count >> 1;
      } else answer(Promise.reject(error));
    }
  }

  private _opened(): Promise<Disk> {
    const gone = (): void => {
      if (this._disk !== disk) return;
      this._disk = undefined;
      this._look();
    };
    const emptied = (why: string): void => {
      const error = new HighwaterError('lost', `the device lost what it kept: ${why}`);
      this._health = { ...this._health, error };
      this.health.changed();
    };
    const disk: Promise<Disk> = (async () => this._open(gone, emptied))().catch((error) => {
      throw error instanceof Lost ? error : new Lost(error);
    });
    return disk;
  }

  private _fall(error: Error): void {
    const rows = new this._rows();
    for (const row of this._options.rows()) {
      try {
        rows.write([row]);
      } catch (error) {
        report(error);
      }
    }
    this._disk = Promise.resolve(rows);
    this._health = { kind: 'memory', state: 'lost', error };
    this.health.changed();
  }

  private _say(state: 'open' | 'stuck'): void {
    if (this._health.state === 'lost') return;
    this._health = { ...this._health, state };
    this.health.changed();
  }
}
