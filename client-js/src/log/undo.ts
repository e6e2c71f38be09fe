/**
 * Undo and redo of what was done by one part of an app.
 *
 * Promise: only own actions are taken back, the newest first, by new actions: the log only grows.
 * What another has written over since stays as it is. What has no inverse is a barrier: nothing
 * before it is taken back.
 */

import type { Call } from './define.js';

/** Something that was done and can be taken back. */
export interface Doing {
  /** The action's name for good: by it one that was refused is found. */
  id: string;
  /** The key of its record: what another writes there since is not taken back. */
  readonly key: string | undefined;
  /** What takes it back, as it stands now; undefined: nothing is to be done. */
  readonly inverse: () => Call | undefined;
  readonly again: Call;
}

/** Groups that can be taken back. */
const MOST = 100;

export interface UndoOptions {
  /** Does it, as the app would, or as what takes something back (not to be taken back itself). */
  readonly act: (call: Call, record: boolean) => void;
  /** Whether that key still holds what that action wrote. */
  readonly stands: (key: string, id: string) => boolean;
  readonly watch: (key: string, on: boolean, id: string) => void;
  readonly changed: () => void;
}

export class Undo {
  private readonly _done: Doing[][] = [];
  private _undone: Call[][] = [];
  private _group: Doing[] | undefined;
  private _redoing = false;

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
      if (!this._group?.length) this._done.push(this._group ?? []);
      this._done.at(-1)!.push(doing);
      if (doing.key !== undefined) this._options.watch(doing.key, true, doing.id);
      if (this._done.length > MOST) this._forget(this._done.shift()!);
    }
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

  /** It was refused: there is nothing of it to take back. */
  refused(id: string): void {
    for (const group of this._done) {
      const at = group.findIndex((one) => one.id === id);
      if (at >= 0) this._forget(group.splice(at, 1));
    }
    for (let at = this._done.length; at--; ) if (!this._done[at]!.length) this._done.splice(at, 1);
    this._options.changed();
  }

  undo(): boolean {
    const group = this._done.pop();
    if (!group) return false;
    const again: Call[] = [];
    for (const { key, id, inverse, again: call } of group.reverse()) {
      if (key !== undefined && !this._options.stands(key, id)) continue;
      const back = inverse();
      if (!back) continue;
      this._options.act(back, false);
      again.unshift(call);
    }
    this._forget(group);
    if (again.length) this._undone.push(again);
    this._options.changed();
    return again.length > 0;
  }

  redo(): boolean {
    const calls = this._undone.pop();
    if (!calls) return false;
    this._redoing = true;
    try {
      this.group(() => {
        for (const call of calls) this._options.act(call, true);
      });
    } finally {
      this._redoing = false;
    }
    this._options.changed();
    return true;
  }

  private _forget(group: readonly Doing[]): void {
    for (const { key, id } of group) {
      if (key === undefined) continue;
      const held = this._done.some((others) => others.some((one) => one.key === key));
      if (!held) this._options.watch(key, false, id);
    }
  }
}
