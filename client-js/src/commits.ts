/**
 * What the app has worked off and said so, until the server has read that.
 *
 * Promise: a commit is told on each socket until a sign of life comes from behind it. A frame is
 * handled before the next one, so a `pong` says that the `ack` before its `ping` was read.
 */

import { Stage, type Delivery, type Holder } from './delivery.js';
import { quiet } from './emitter.js';
import { HighwaterError } from './errors.js';
import type { Answer } from './states.js';

interface Commit {
  readonly log: Delivery;
  readonly settle: (result?: Promise<never>) => void;
  /** All that are told before the same ping. */
  round?: Commit[] | undefined;
}

export class Commits {
  private _open: Commit[] = [];

  /** Resolves when the server has read it; `over`: the client is. */
  add(log: Delivery, holder: Holder, next: number, over?: HighwaterError): Promise<void> {
    holder.vouched = Math.min(next, log.cursor);
    const held = log.holders.has(holder) && log.stage !== Stage.OVER;
    return quiet(new Promise((settle) => {
      if (over) throw over;
      if (!held) throw new HighwaterError('closed', 'it is over');
      this._open.push({ log, settle });
    }));
  }

  /** Gives the logs to be told of to `moved`; answers what the pong behind that means, if any. */
  due(moved: Set<Delivery>): Answer | undefined {
    this._settle(({ log }) => log.stage === Stage.OVER, new HighwaterError('closed', 'it is over'));
    const due = this._open.filter(
      ({ log, round }) => !round && log.announced && log.safe !== undefined,
    );
    for (const commit of due) {
      commit.round = due;
      moved.add(commit.log);
    }
    return due[0] && ((_, lost) => {
      // Else they are told again, on the next socket.
      if (!lost) this._settle(({ round }) => round === due);
      for (const commit of due) commit.round = undefined;
    });
  }

  /** It is over. */
  end(error: HighwaterError): void {
    this._settle(() => true, error);
  }

  private _settle(which: (commit: Commit) => boolean, error?: HighwaterError): void {
    this._open = this._open.filter((commit) => {
      const ends = which(commit);
      if (ends) commit.settle(error && Promise.reject(error));
      return !ends;
    });
  }
}
