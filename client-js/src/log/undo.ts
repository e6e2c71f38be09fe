/**
 * Undo and redo of what was done by one part of an app.
 *
 * Promise: only own actions are taken back, the newest first, by new actions: the log only grows.
 * What another has written over since stays as it is. What has no inverse is a barrier: nothing
 * before it is taken back.
 */

import type { Call } from './define.js';

/** Which action it became, and the key of its record. */
export interface Done {
  readonly id: string;
  readonly key: string | undefined;
}

/** Something that was done and can be taken back. */
export interface Doing {
  /** The action's name for good, or that of what has put the same value back since. */
  id: string;
  /** The key of its record: what another writes there since is not taken back. */
  readonly key: string | undefined;
  /** Whose record stood under that key before, as far as it was watched. */
  over: string | undefined;
  /** What takes it back, as it stands now; undefined: nothing is to be done. */
  inverse: () => Call | undefined;
  again: Call;
}

/** Groups that can be taken back. */
const MOST = 100;

export interface UndoOptions {
  /** Does it, as the app would, or as what takes something back (not to be taken back itself). */
  readonly act: (call: Call, record: boolean) => Done;
  /** Whether that key still holds what that action wrote. */
  readonly stands: (key: string, id: string) => boolean;
  readonly watch: (key: string, on: boolean, id: string) => void;
  readonly changed: () => void;
}

export class Undo {
  /** Something is taken back, or done once more. */
  busy = false;
  private readonly _done: Doing[][] = [];
  private _undone: Call[][] = [];
  private _group: Doing[] | undefined;
  private _redoing = false;
  /** How many that can be taken back have that key. */
  private readonly _keys = new Map<string, number>();

  constructor(private readonly _options: UndoOptions) {}

  get can(): boolean {
    return this._done.length > 0;
  }

  get canRedo(): boolean {
    return this._undone.length > 0;
  }

  /** One was done; none: it cannot be taken back, nor what was done before it. */
  did(doing: Doing | undefined): void {
    if (!this._redoing) this._undone = [];
    if (!doing) {
      this._group &&= [];
      for (const group of this._done.splice(0)) this._forget(group);
    } else {
      const { key, id } = doing;
      if (key !== undefined) {
        const many = this._keys.get(key) ?? 0;
        if (!many) this._options.watch(key, true, id);
        this._keys.set(key, many + 1);
      }
      if (!this._group?.length) this._done.push(this._group ?? []);
      this._done.at(-1)!.push(doing);
      if (this._done.length > MOST) this._forget(this._done.shift()!);
    }
    this._options.changed();
  }

  /** What was done last says something else now. */
  replaced(doing: Doing | undefined, { again, inverse }: Pick<Doing, 'again' | 'inverse'>): void {
    if (doing) Object.assign(doing, { again, inverse });
    this._undone = [];
    this._options.changed();
  }

  /** What is done in `work` is taken back together. */
  group(work: () => void): void {
    if (this._group) return work();
    this._group = [];
    try {
      work();
    } finally {
      this._group = undefined;
    }
  }

  /** It has another id now. */
  moved(was: string, id: string): void {
    for (const one of this._done.flat()) {
      if (one.id === was) one.id = id;
      if (one.over === was) one.over = id;
    }
  }

  /** It was refused: there is nothing of it to take back. */
  refused(id: string): void {
    for (const group of this._done) {
      const at = group.findIndex((one) => one.id === id);
      if (at >= 0) this._forget(group.splice(at, 1));
    }
    for (let at = this._done.length; at--; ) if (!this._done[at]!.length) this._done.splice(at, 1);
    this._options.changed();
  }

  /** Where something throws, what was not taken back can be still. */
  undo(): boolean {
    const group = this._done.at(-1);
    if (!group) return false;
    const again: Call[] = [];
    this.busy = true;
    try {
      while (group.length) {
        const doing = group.at(-1)!;
        if (this._back(doing)) again.unshift(doing.again);
        group.pop();
        this._forget([doing]);
      }
      const at = this._done.indexOf(group);
      if (at >= 0) this._done.splice(at, 1);
    } finally {
      this.busy = false;
      if (again.length) this._undone.push(again);
      this._options.changed();
    }
    return again.length > 0;
  }

  private _back({ key, id, over, inverse }: Doing): boolean {
    if (key !== undefined && !this._options.stands(key, id)) return false;
    const back = inverse();
    if (!back) return false;
    const done = this._options.act(back, false);
    // What it was written over stands again, under another name: that can be taken back, too.
    if (key !== undefined && over !== undefined && done.key === key) {
      for (const one of this._done.flat()) if (one.key === key && one.id === over) one.id = done.id;
    }
    return true;
  }

  redo(): boolean {
    const calls = this._undone.pop();
    if (!calls) return false;
    this.busy = this._redoing = true;
    try {
      this.group(() => {
        for (; calls.length; calls.shift()) this._options.act(calls[0]!, true);
      });
    } finally {
      this.busy = this._redoing = false;
      if (calls.length) this._undone.push(calls);
      this._options.changed();
    }
    return true;
  }

  /** These can be taken back no more. */
  private _forget(gone: readonly Doing[]): void {
    for (const { key, id } of gone) {
      if (key === undefined) continue;
      const many = this._keys.get(key)! - 1;
      if (many) this._keys.set(key, many);
      else {
        this._keys.delete(key);
        this._options.watch(key, false, id);
      }
    }
  }
}
