/**
 * What another history of the server has of writers: asked for on the socket that is there.
 *
 * Promise: however many writers there are, each is asked about, without another socket. One that
 * may have something in this history sends nothing before that is known.
 */

import type { Connection } from '../connection.js';
import { report } from '../emitter.js';
import type { Answers, Item, Welcome } from '../frames.js';
import type { Inbox, Mark } from './inbox.js';
import { AGAIN, type Runs } from './runs.js';
import { inBackground, inTime } from './store.js';

/** The last sequence there is. */
const NEVER = 2 ** 53 - 1;
/** No writer's mark is the one before: so it is never taken, and its answer tells the mark. */
const PROBE: Item = {
  seq: NEVER, prev: NEVER - 1, to: { name: 'none' }, ifHead: undefined, record: { payload: '' },
};

export class Marks {
  /** Those without an answer, by what was known of each when it was asked about. */
  private readonly _left = new Map<string, number>();
  private readonly _marks = new Map<string, Mark>();

  constructor(
    private readonly _core: Connection,
    private readonly _runs: Runs,
    private readonly _inbox: Inbox,
  ) {}

  /** The server's history is another; what it has of the writers of `hello` it has told. */
  anew({ writers }: Welcome): void {
    this._marks.clear();
    this._left.clear();
    for (const id of this._runs.blind(writers)) this._left.set(id, 0);
    this.look();
  }

  /** What the server's history has lost of what was stored is found out; also after a page load. */
  look(): void {
    inBackground(this._inbox.writers().then((ids) => {
      for (const [id, known] of ids) {
        if (this._left.has(id)) continue;
        this._left.set(id, known);
        this._ask(id);
      }
    }));
  }

  /** Asks about all that have no answer on this socket. */
  ask(): void {
    for (const id of this._left.keys()) this._ask(id);
  }

  private _ask(writer: string): void {
    const { _core: core } = this;
    if (!this._runs.online) return;
    const { positions } = core.history;
    core.say('append', { writer, oldest: 1, items: [PROBE], positions, made: [] });
    core.wake();
  }

  heard({ writer, mark, answers }: Answers): void {
    const { seq, outcome } = answers[0] ?? {};
    const known = this._left.get(writer);
    if (seq !== NEVER || known === undefined) return;
    const { refused } = outcome as Extract<typeof outcome, { refused: unknown }>;
    if (refused.code !== 'sequence_gap') {
      return void inTime(() => this._ask(writer), refused.retryAfter || AGAIN);
    }
    this._left.delete(writer);
    this._marks.set(writer, [mark, known]);
    this._runs.sees(writer);
    if (!this._left.size) this._restored();
  }

  private _restored(): void {
    this._inbox.restored(this._marks).catch((error: unknown) => {
      report(error);
      inTime(() => this._restored(), AGAIN);
    });
  }
}
