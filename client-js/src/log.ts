/** One log as the app sees it: its events, and what can be asked of it. */

import { Out } from './codec.js';
import type { Client } from './index.js';
import type { Delivery, Entry, LogEvents } from './delivery.js';
import { Emitter } from './emitter.js';
import { Start as Where, type LogRecord, type SnapshotRule, type Start } from './frames.js';
import type { Stored } from './writer.js';

export interface AppendOptions {
  /** Store it only if the log's head stands here; else it is refused with `conflict`. */
  if_head?: number;
}

export class Log extends Emitter<LogEvents> {
  constructor(
    private readonly delivery: Delivery,
    private readonly client: Client,
  ) {
    super();
  }

  get name(): string {
    return this.delivery.name;
  }

  /** The log id, once the server has told it. */
  get id(): number | undefined {
    return this.delivery.id;
  }

  /** Next offset wanted; all below was delivered. */
  get cursor(): number {
    return this.delivery.cursor;
  }

  /** Next offset to be written, as far as it is known here. */
  get head(): number {
    return this.delivery.head;
  }

  get lag(): number {
    return this.head - this.cursor;
  }

  /** All that there was when it was attached is here. */
  get complete(): boolean {
    return this.delivery.complete;
  }

  /** How the server keeps its state. */
  get rule(): SnapshotRule {
    return this.delivery.rule;
  }

  /** The client's own actions that the log does not show yet, in order. */
  get pending(): readonly Entry[] {
    return this.delivery.pending();
  }

  /** Something of it was delivered already. */
  get touched(): boolean {
    return this.delivery.touched;
  }

  /** As `Client.append` to this log. */
  append(record: LogRecord, options?: AppendOptions): Promise<Stored> {
    return this.client.append(this.name, record, options);
  }

  /** Has it delivered anew from there; a `reset` comes first. */
  seek(to: Start): void {
    Where.put(new Out(), to); // Throws where it cannot be carried.
    this.client.run((core) => core.seek(this.delivery, to));
  }

  /** With `commit: 'manual'`: all below `next` is worked off, this client could restart there. */
  commit(next: number): void {
    this.client.run((core, now) => core.commit(this.delivery, next, now));
  }

  /** Ends the subscription. */
  unsubscribe(): void {
    this.client.run((core) => core.unsubscribe(this.name));
  }
}
