/**
 * One of two people who write, as a page would hold them: a client of Highwater and documents that
 * are fed by nothing but it.
 *
 * Promise: a transaction is made on a document that knows exactly its parents, all of them
 * delivered by Highwater, and is appended as one record. What is shown has all that was delivered
 * and the author's own pending updates; it never shows less than it did.
 */

import assert from 'node:assert/strict';
import * as Y from 'yjs';
import type { Client, Entry, Log } from '../src/index.js';
import { docOf, edit, textOf, type Transaction } from './session.js';

/** Transactions made in one go before others have their turn. */
const CHUNK = 100;

export const USERS = ['ada', 'bert'] as const;
export const bytesOf = ({ payload }: Entry): Uint8Array => {
  assert.ok(payload instanceof Uint8Array, 'an update is bytes');
  return payload;
};

/** What all who take part share. */
export interface Stage {
  /** Something happened that others may wait for. */
  ring(): void;
  fail(error: unknown): void;
  /** Whether one more transaction may be made now. */
  admits(): boolean;
  /** One was made. */
  made(): void;
}

/** Follows a log and shows its text; checks the laws of delivery as it goes. */
export class Reader {
  /** What is shown: whole at all times, and never less than before. */
  shown = new Y.Doc();
  #next = new Y.Doc();
  log!: Log;
  /** Updates of each user, in the log's order, since the last reset. */
  seen: [Uint8Array[], Uint8Array[]] = [[], []];
  resets = 0;

  constructor(
    readonly stage: Stage,
    readonly name: string,
  ) {
    this.#next = this.shown;
  }

  follow(client: Client): void {
    let cursor = 0;
    this.seen = [[], []];
    this.#next = new Y.Doc();
    const log = (this.log = client.log(this.name, { start: 'state' }));
    const guarded = <E>(work: (event: E) => void) => (event: E): void => {
      try {
        work(event);
      } catch (error) {
        this.stage.fail(error);
      }
      this.stage.ring();
    };
    log.on('reset', guarded((event) => {
      assert.equal(event.cursor, 0, 'a log without snapshots is replayed from its start');
      cursor = 0;
      this.resets++;
      this.seen = [[], []];
      this.#next = new Y.Doc();
    }));
    log.on('records', guarded(({ records }) => {
      for (const entry of records) {
        assert.equal(entry.offset, cursor++, 'each offset comes once and in order');
        const user = USERS.indexOf(entry.origin.user as 'ada');
        this.seen[user as 0 | 1].push(bytesOf(entry));
        Y.applyUpdate(this.#next, bytesOf(entry));
      }
      this.came(records);
    }));
    log.on('complete', guarded(() => this.#whole()));
    log.on('gap', guarded((gap) => assert.fail(`a gap: ${JSON.stringify(gap)}`)));
    log.on('refused', guarded((error) => assert.fail(`the log was refused: ${error}`)));
    log.on('ended', guarded(({ reason }) => assert.fail(`the log was ended: ${reason}`)));
  }

  /** Whoever writes looks at what came. */
  protected came(_records: readonly Entry[]): void {}

  /** The new state is whole: it may be shown, and has all that was shown before. */
  #whole(): void {
    if (this.#next === this.shown) return;
    for (const entry of this.log.pending.value) Y.applyUpdate(this.#next, bytesOf(entry));
    const known = (doc: Y.Doc): Map<number, number> =>
      Y.decodeStateVector(Y.encodeStateVector(doc));
    const is = known(this.#next);
    for (const [writer, clock] of known(this.shown)) {
      assert.ok((is.get(writer) ?? 0) >= clock, 'what was shown does not go away');
    }
    this.shown.destroy();
    this.shown = this.#next;
  }

  /** An own update, shown at once. */
  protected act(update: Uint8Array): void {
    Y.applyUpdate(this.shown, update);
    if (this.#next !== this.shown) Y.applyUpdate(this.#next, update);
  }

  get text(): string {
    return textOf(this.shown);
  }
}

export class Author extends Reader {
  client!: Client;
  /** What it made, and where each was stored. */
  readonly updates: Uint8Array[] = [];
  readonly offsets: number[] = [];
  answered = 0;
  paused = false;
  #doc: Y.Doc;
  /** Of its own and of the other's updates: how many `#doc` has. */
  #own = 0;
  #theirs = 0;
  #runs = 0;
  #queued = false;

  constructor(
    stage: Stage,
    name: string,
    readonly writer: 0 | 1,
    readonly script: readonly Transaction[],
  ) {
    super(stage, name);
    this.#doc = docOf(writer);
  }

  get done(): boolean {
    return this.answered === this.script.length;
  }

  get settled(): boolean {
    return this.answered === this.updates.length;
  }

  /** Begins with a client; after a reload all that the page held is gone. */
  begin(client: Client, reloaded: boolean): void {
    this.client = client;
    if (reloaded) {
      this.#doc = docOf(this.writer, ++this.#runs);
      this.#own = this.#theirs = 0;
    }
    this.follow(client);
    this.wake();
  }

  protected override came(): void {
    const [mine, theirs] = this.#sides();
    // After a reload: what it made itself comes back, always after what it had known.
    while (this.#own < this.updates.length && this.#own < mine.length) {
      this.#take(theirs, this.script[this.#own]!.needs);
      Y.applyUpdate(this.#doc, mine[this.#own++]!);
    }
    this.wake();
  }

  #sides(): [Uint8Array[], Uint8Array[]] {
    return [this.seen[this.writer], this.seen[this.writer ? 0 : 1]];
  }

  #take(theirs: Uint8Array[], upTo: number): void {
    assert.ok(theirs.length >= upTo, 'an update lies in the log before those that know it');
    while (this.#theirs < upTo) Y.applyUpdate(this.#doc, theirs[this.#theirs++]!);
  }

  /** Writes on as far as is possible, in turns. */
  wake(): void {
    if (this.#queued) return;
    this.#queued = true;
    setImmediate(() => {
      this.#queued = false;
      try {
        this.#write();
      } catch (error) {
        this.stage.fail(error);
      }
    });
  }

  #write(): void {
    for (let chunk = 0; chunk < CHUNK; chunk++) {
      const next = this.script[this.updates.length];
      const [, theirs] = this.#sides();
      if (!next || this.paused || this.#own < this.updates.length) return;
      if (next.needs > theirs.length || !this.stage.admits()) return;
      this.#take(theirs, next.needs);
      const update = edit(this.#doc, next);
      this.#own++;
      this.act(update);
      const at = this.updates.push(update) - 1;
      const answer = this.log.append({ payload: update });
      answer.then(({ offset }) => {
        this.offsets[at] = offset;
        this.answered++;
        this.stage.ring();
      }, this.stage.fail);
      this.stage.made();
    }
    this.wake();
  }
}
