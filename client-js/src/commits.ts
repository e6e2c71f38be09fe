/**
 * What the app has worked off and said so, until the server has read that.
 *
 * Promise: a commit is told on each socket until a sign of life comes from behind it. A frame is
 * handled before the next one, so a `pong` says that the `ack` before its `ping` was read.
 */

import { Stage, type Delivery, type Holder } from './delivery.js';
import { quiet } from './emitter.js';
import { HighwaterError } from './errors.js';

interface Commit {
  readonly log: Delivery;
  readonly settle: (result?: Promise<never>) => void;
  /** Of the ping behind the frame that tells it. */
  nonce?: number | undefined;
}

export class Commits {
  private _open: Commit[] = [];
  private _nonce = 0;

  /** Resolves when the server has read it; `over`: the client is. */
  add(log: Delivery, holder: Holder, next: number, over?: HighwaterError): Promise<void> {
    holder.vouched = Math.min(next, log.cursor);
    const held = log.holders.has(holder) && log.stage !== Stage.OVER;
    return quiet(new Promise((settle) => {
      if (over) throw over;
      if (!held) throw new HighwaterError('closed', 'it is over, or released');
      this._open.push({ log, settle });
    }));
  }

  /** Gives the logs to be told of, each to `moved`; answers the nonce of the ping that follows. */
  due(moved: (log: Delivery) => void): number | undefined {
    this._settle(({ log }) => log.stage === Stage.OVER, new HighwaterError('closed', 'it is over'));
    let due = false;
    for (const commit of this._open) {
      const { log, nonce } = commit;
      if (nonce || !log.announced || log.safe === undefined) continue;
      due = true;
      commit.nonce = this._nonce + 1;
      moved(log);
    }
    return due ? ++this._nonce : undefined;
  }

  /** The socket is lost: they are told again. */
  lost(): void {
    for (const commit of this._open) commit.nonce = undefined;
  }

  /** The server has read all up to that ping. */
  read(nonce: number): void {
    this._settle((commit) => !!commit.nonce && commit.nonce <= nonce);
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
