/**
 * A session played through a real server, with everything that can go wrong on the way.
 *
 * Promise: all faults come at seeded places of the session and all of them come; nothing waits for
 * a time to pass, only for what has to happen. What is asserted at the end is in `trace.test.ts`.
 */

import assert from 'node:assert/strict';
import { connect, debug, jsonWire, type Client, type Encoding } from '../src/index.js';
import { newId } from '../src/identity.js';
import { Server, token } from '../test/server.js';
import { Author, Reader, USERS, type Stage } from './author.js';
import { randomOf, type Session } from './session.js';

/** A step that takes longer hangs, ms. */
const PATIENCE = 120_000;
/** A client that would wait longer than this before it comes back is told to come at once, ms. */
const HURRY = 1000;

export const LOG = 'docs/42/ops';

const CONFIG = `
[[rules]]
pattern = "docs/**"
snapshot = "none"

[limits]
activate_after_ms = 200
commit_interval_ms = 100
`;

/** How the writer that is downgraded comes back. */
type Away =
  /** The socket stays and is told. */
  | 'attached'
  /** Without a network, the page open. */
  | 'offline'
  /** The page is closed, and loaded anew with the same connection. */
  | 'reload'
  /** Without a network, while the server is killed. */
  | 'killed';

type Fault =
  | { readonly at: number; readonly what: 'cut'; readonly whom: 0 | 1 | 2 }
  | { readonly at: number; readonly what: 'kill' }
  | { readonly at: number; readonly what: 'downgrade'; readonly away: Away };

export interface Plan {
  readonly faults: readonly Fault[];
  /** The writer that is downgraded. */
  readonly victim: 0 | 1;
  readonly encodings: readonly [Encoding?, Encoding?, Encoding?];
}

/** What happens, and after how many transactions. */
export const plan = (seed: number, count: number): Plan => {
  const random = randomOf(seed);
  const between = (from: number, to: number): number =>
    Math.floor((from + random() * (to - from)) * count);
  const faults: Fault[] = [{ at: between(0.15, 0.45), what: 'kill' }];
  const ways: Away[] = ['attached', 'offline', 'reload', 'attached', 'killed'];
  for (const away of ways.sort(() => random() - 0.5)) {
    faults.push({ at: between(0.2, 0.85), what: 'downgrade', away });
  }
  for (const whom of [0, 1, 2] as const) {
    for (let cuts = 4; cuts--; ) faults.push({ at: between(0.02, 0.98), what: 'cut', whom });
  }
  const encoding = (bit: number): Encoding | undefined => (seed & bit ? jsonWire : undefined);
  return {
    faults: faults.sort((a, b) => a.at - b.at),
    victim: random() < 0.5 ? 0 : 1,
    encodings: [encoding(1), encoding(2), encoding(4)],
  };
};

export class Run implements Stage {
  readonly server = new Server(CONFIG);
  readonly authors: readonly [Author, Author];
  /** The second connection of the victim's user: it stays active throughout, and reads. */
  readonly sibling: Reader;
  siblingClient!: Client;
  kills = 0;
  clones = 0;
  cuts = 0;
  /** Actions of both writers without an answer at the moments of faults, all together. */
  caught = 0;
  #made = 0;
  #gate = 0;
  #failed: unknown;
  readonly #waiting = new Set<() => void>();

  constructor(
    readonly session: Session,
    readonly plan: Plan,
  ) {
    const { scripts } = session;
    this.authors = [new Author(this, LOG, 0, scripts[0]), new Author(this, LOG, 1, scripts[1])];
    this.sibling = new Reader(this, LOG);
  }

  // What those on stage see of it.

  ring(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  readonly fail = (error: unknown): void => {
    this.#failed ??= error;
    this.ring();
  };

  admits(): boolean {
    return this.#made < this.#gate;
  }

  made(): void {
    this.#made++;
    this.ring();
  }

  /** Waits until that is so, whatever makes it so. */
  until(what: string, so: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.#failed === undefined && !so()) return;
        this.#waiting.delete(look);
        clearTimeout(timer);
        if (this.#failed !== undefined) reject(this.#failed);
        else resolve();
      };
      const hangs = (): void => this.fail(new Error(`this hangs: ${what}\n${this.told()}`));
      const timer = setTimeout(hangs, PATIENCE);
      this.#waiting.add(look);
      look();
    });
  }

  /** How all stand, for a failure's message. */
  told(): string {
    const clients = [...this.authors.map(({ client }) => client), this.siblingClient];
    const lines = clients.map((client) => {
      const { pending } = debug(client).info();
      return JSON.stringify({ status: client.status.value, pending });
    });
    const made = this.authors.map(({ updates, script }) => `${updates.length} of ${script.length}`);
    const first = `made ${made.join(' and ')}, gate ${this.#gate}`;
    return [first, ...lines, this.server.said].join('\n');
  }

  // The run.

  async play(): Promise<void> {
    await this.server.start();
    const { victim, encodings } = this.plan;
    for (const author of this.authors) author.begin(this.#client(author.writer, newId()), false);
    this.siblingClient = this.#client(victim, newId(), encodings[2]);
    this.sibling.follow(this.siblingClient);
    const attached = ({ status }: Client): boolean => status.value.phase === 'live';
    await this.until('all are attached', () => this.#clients().every(attached));
    for (const [index, fault] of this.plan.faults.entries()) {
      this.#open(fault.at);
      await this.until(`transaction ${fault.at}`, () => this.#made >= fault.at);
      // What comes next is written while this goes wrong.
      this.#open(this.plan.faults[index + 1]?.at ?? Infinity);
      await this.#carryOut(fault);
    }
    this.#open(Infinity);
    const count = this.session.scripts[0].length + this.session.scripts[1].length;
    await this.until('all is answered', () => this.authors.every(({ done }) => done));
    const readers = [...this.authors, this.sibling];
    const whole = ({ log }: Reader): boolean => log.cursor === count && log.status.value.phase === 'live';
    await this.until('all is read', () => readers.every(whole));
    assert.equal(this.#made, count);
  }

  async end(): Promise<void> {
    for (const client of this.#clients()) client?.close();
    await this.server.remove();
  }

  #clients(): Client[] {
    return [...this.authors.map(({ client }) => client), this.siblingClient];
  }

  #open(gate: number): void {
    this.#gate = gate;
    for (const author of this.authors) author.wake();
  }

  /** `who`: 0 and 1. */
  #client(who: 0 | 1, connection: string, encoding = this.plan.encodings[who]): Client {
    const given = { token: () => token(USERS[who]), connection, encoding };
    const client = connect(this.server.url, given);
    client.status.subscribe((told) => {
      if (told.phase === 'closed' && told.reason !== 'closed') this.fail(told.error);
      // As one who presses "try now": a run is to be short.
      const wait = told.phase === 'offline' ? (told.retryAfter ?? 0) : 0;
      if (wait > HURRY) queueMicrotask(() => client.connect());
      this.ring();
    });
    return client;
  }

  async #carryOut(fault: Fault): Promise<void> {
    for (const { updates, answered } of this.authors) this.caught += updates.length - answered;
    switch (fault.what) {
      case 'cut': {
        const client = this.#clients()[fault.whom]!;
        debug(client).cut();
        this.cuts++;
        return this.until('a cut socket is back', () => client.status.value.phase === 'live');
      }
      case 'kill':
        return this.#kill();
      case 'downgrade':
        return this.#downgrade(fault.away);
    }
  }

  async #kill(): Promise<void> {
    await this.server.kill();
    await this.server.start();
    this.kills++;
  }

  async #downgrade(away: Away): Promise<void> {
    const author = this.authors[this.plan.victim];
    let { client } = author;
    const { connection } = client;
    const sibling = this.siblingClient;
    await this.until('the sibling is active', () => sibling.status.value.phase === 'live');
    await this.until('the victim is active', () => client.status.value.phase === 'live');
    let told = '';
    const off = client.status.subscribe(({ phase, reason }) => {
      if (phase === 'inactive') told = reason;
    });
    if (away === 'reload') {
      author.paused = true;
      await this.until('the page has its answers', () => author.settled);
      client.close({ leave: false });
    } else if (away !== 'attached') {
      client.disconnect();
    }
    await this.server.ask('POST', `/v1/connections/${connection}/downgrade`);
    if (away === 'attached') await this.until('it is told', () => told === 'asked');
    off();
    if (away === 'killed') await this.#kill();
    const resets = author.resets;
    if (away === 'reload') {
      client = this.#client(author.writer, connection);
      author.begin(client, true);
      author.paused = false;
    } else if (away !== 'attached') {
      client.connect();
    }
    await this.until('it is back', () => client.status.value.phase === 'live');
    const { met, source } = debug(client).info();
    assert.deepEqual([met, source], ['cloned', sibling.connection]);
    this.clones++;
    if (away === 'reload') await this.until('it is overwritten', () => author.resets > resets);
  }
}
