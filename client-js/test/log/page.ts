/**
 * A page with the whole client in it, on a device that the test works by hand: each socket event,
 * each answer of the disk, each lock, message and timer comes when the test says so.
 *
 * What a page has begun is known as its own by an `AsyncLocalStorage`: a page that is frozen or
 * dead does nothing more.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { Source } from '../../src/emitter.js';
import { LogClient } from '../../src/log/client.js';
import { Rows } from '../../src/log/memory.js';
import type { ActionRow } from '../../src/log/rows.js';
import type { Message } from '../../src/log/run.js';
import type { Change, Health, Kind, Row, Store } from '../../src/log/store.js';
import type { FakeServer } from './fake-server.js';
import { PackedRows } from './packed-rows.js';

const current = new AsyncLocalStorage<Page>();
const { setTimeout, clearTimeout, setImmediate } = globalThis;

/** Until nothing is left to do without an event. */
export const settled = (): Promise<void> => new Promise((done) => setImmediate(() => done()));

interface Timer {
  readonly at: number;
  readonly page: Page;
  readonly work: () => void;
}

/** How its disk is. */
export interface Ways {
  /** What is written together stands together. */
  readonly packs?: boolean;
  /** What waits for it is written together, as the keeper does; else each write for itself. */
  readonly joins?: boolean;
}

/** What all pages share: a clock, a disk, locks, a channel. */
export class Device {
  now = 1_000_000;
  readonly disk: Rows;
  /** All keys that were ever written. */
  readonly ever = new Set<string>();
  /** All actions that were ever there, as they stood. */
  readonly words: ActionRow[] = [];
  /** What was reported. */
  readonly errors: unknown[] = [];
  readonly pages: Page[] = [];
  readonly timers = new Set<Timer>();
  readonly locks = new Map<string, { page: Page; had: (had: boolean) => void; held: boolean }[]>();
  private readonly undo: (() => void)[] = [];
  private random: number;

  constructor(readonly server: FakeServer, seed: number, readonly ways: Ways = {}) {
    this.random = seed;
    this.disk = ways.packs ? new PackedRows() : new Rows();
    const put = (on: object, name: string, value: unknown): void => {
      const before = Object.getOwnPropertyDescriptor(on, name);
      Object.defineProperty(on, name, { value, configurable: true, writable: true });
      this.undo.push(() => {
        if (before) Object.defineProperty(on, name, before);
        else delete (on as any)[name];
      });
    };
    put(globalThis, 'setTimeout', (work: () => void, ms = 0, ...given: any[]) => {
      const page = current.getStore();
      if (!page) return setTimeout(work, ms, ...given);
      const timer = { at: this.now + Math.max(0, ms), page, work, unref: () => {} };
      this.timers.add(timer);
      return timer;
    });
    put(globalThis, 'clearTimeout', (timer: any) => {
      if (!this.timers.delete(timer) && !timer?.work) clearTimeout(timer);
    });
    // What a part reports is thrown in a microtask of its own.
    const { queueMicrotask } = globalThis;
    put(globalThis, 'queueMicrotask', (work: () => void) => queueMicrotask(() => {
      try {
        work();
      } catch (error) {
        if (!current.getStore()) throw error;
        this.errors.push(error);
      }
    }));
    const { now } = performance;
    const date = Date.now;
    put(performance, 'now', () => (current.getStore() ? this.now : now.call(performance)));
    put(Date, 'now', () => (current.getStore() ? this.now : date.call(Date)));
    const chance = Math.random;
    put(Math, 'random', () => (current.getStore() ? this.chance() : chance.call(Math)));
    const { crypto } = globalThis;
    const values: (bytes: any) => any = crypto.getRandomValues;
    put(crypto, 'getRandomValues', (bytes: Uint8Array) => {
      if (!current.getStore()) return values.call(crypto, bytes);
      return bytes.map((_, at, all) => (all[at] = this.chance() * 256));
    });
  }

  /** Puts all back as it was. */
  end(): void {
    for (const work of this.undo.splice(0)) work();
  }

  private chance(): number {
    this.random = (Math.imul(this.random, 1_103_515_245) + 12_345) >>> 0;
    return (this.random >>> 8) / 2 ** 24;
  }

  /** The next timer of a page that runs rings; whether there is one, within so many ms. */
  ring(within: number): boolean {
    const due = [...this.timers].filter(({ page }) => page.runs).sort((a, b) => a.at - b.at)[0];
    if (!due || due.at > this.now + within) return false;
    this.timers.delete(due);
    this.now = Math.max(this.now, due.at);
    current.run(due.page, due.work);
    return true;
  }

  hold(page: Page, name: string): { had: Promise<boolean>; release: () => void } {
    const line = this.locks.get(name) ?? [];
    this.locks.set(name, line);
    let had!: (had: boolean) => void;
    const promise = new Promise<boolean>((resolve) => (had = resolve));
    const one = { page, had, held: false };
    line.push(one);
    const release = (): void => {
      const at = line.indexOf(one);
      if (at < 0) return;
      line.splice(at, 1);
      if (!one.held) had(false);
      this.grant(name);
    };
    page.releases.push(release);
    page.does(() => this.grant(name));
    return { had: promise, release };
  }

  private grant(name: string): void {
    const [first] = this.locks.get(name) ?? [];
    if (!first || first.held) return;
    first.held = true;
    first.page.does(() => first.had(true));
  }
}

interface Job {
  readonly changes?: readonly Change[];
  readonly prefix?: string;
  readonly part?: ((rows: Row[]) => void) | undefined;
  readonly resolve: (result: any) => void;
  readonly reject: (error: Error) => void;
  stored?: boolean;
  /** What was read, and told of in part. */
  found?: Row[];
}

/** The device's disk, as one page has it. */
class PageStore implements Store {
  private readonly is: Health = { kind: 'disk', state: 'open' };
  readonly health = new Source(() => this.is);

  constructor(private readonly page: Page) {}

  read(prefix: string, _from?: string, part?: (rows: Row[]) => void): Promise<Row[]> {
    return new Promise((resolve, reject) => this.page.jobs.push({ prefix, part, resolve, reject }));
  }

  write(changes: readonly Change[]): Promise<Kind> {
    return new Promise((resolve, reject) => this.page.jobs.push({ changes, resolve, reject }));
  }

  persist(): void {}

  async close(): Promise<void> {
    await this.read('none');
  }

  wipe(): Promise<void> {
    throw new Error('not here');
  }
}

/** A socket of a page. */
export class Wire {
  binaryType = '';
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: any) => void) | null = null;
  onclose: ((event: any) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  open = false;
  over = false;
  readonly up: Uint8Array[] = [];
  readonly down: Uint8Array[] = [];
  private readonly page: Page;

  constructor() {
    this.page = current.getStore()!;
    this.page.wires.push(this);
  }

  send(data: Uint8Array): void {
    if (!this.over) this.up.push(data);
  }

  close(): void {
    this.over = true;
    // What went out before may arrive yet.
  }

  // For the server.
  take(message: Uint8Array): void {
    if (!this.over) this.down.push(message);
  }

  cut(): void {
    if (this.over) return this.gone();
    this.gone();
    this.page.does(() => this.onclose?.({ code: 1006, reason: '' }));
  }

  gone(): void {
    this.over = true;
    this.up.length = this.down.length = 0;
    const { server } = this.page.device;
    server.closed(this);
    this.page.wires.splice(this.page.wires.indexOf(this), 1);
  }
}

export class Page {
  readonly jobs: Job[] = [];
  readonly wires: Wire[] = [];
  readonly heard: Message[] = [];
  readonly releases: (() => void)[] = [];
  /** What has happened, and is to be done when it runs. */
  readonly due: (() => void)[] = [];
  frozen = false;
  dead = false;
  readonly client: LogClient;
  private hear: ((message: Message) => void) | undefined;

  constructor(readonly device: Device) {
    device.pages.push(this);
    this.client = current.run(this, () => new LogClient(
      'http://localhost', { user: 'ada', token: 'token', WebSocket: Wire as any },
      {
        open: () => new PageStore(this),
        lock: (name) => device.hold(this, name),
        tabs: (_name, heard) => {
          this.hear = heard;
          return { say: (message) => this.says(message), close: () => (this.hear = undefined) };
        },
      },
    ));
  }

  get runs(): boolean {
    return !this.frozen && !this.dead;
  }

  private says(message: Message): void {
    if (this.dead) return;
    const text = structuredClone(message);
    for (const page of this.device.pages) if (page !== this && page.hear) page.heard.push(text);
  }

  /** In this page, when it runs. */
  does(work: () => void): void {
    if (this.dead) return;
    if (this.frozen) this.due.push(work);
    else current.run(this, work);
  }

  thaw(): void {
    this.frozen = false;
    for (const work of this.due.splice(0)) this.does(work);
  }

  /** Its process is gone, or its tab closed. */
  kill(): void {
    if (this.dead) return;
    this.dead = true;
    this.device.pages.splice(this.device.pages.indexOf(this), 1);
    for (const wire of [...this.wires]) wire.gone();
    for (const release of this.releases.splice(0)) release();
    for (const timer of this.device.timers) if (timer.page === this) this.device.timers.delete(timer);
  }

  // One thing each, if there is something to do; whether there was.

  /** The disk takes or answers what it was asked for first. */
  disk(fails = false): boolean {
    const [job] = this.jobs;
    if (!job || this.dead) return false;
    if (job.changes && !job.stored) {
      if (fails) {
        this.jobs.shift();
        this.does(() => job.reject(new Error('the disk is full')));
        return true;
      }
      this.stores();
      return true;
    }
    const found = job.changes ? [] : job.found ?? this.device.disk.read(job.prefix!);
    const half = found.length >> 1;
    if (job.part && half && !job.found) {
      job.found = found;
      this.does(() => job.part!(found.slice(0, half)));
      return true;
    }
    this.jobs.shift();
    this.does(() => job.resolve(job.changes ? 'disk' : job.found ? found.slice(half) : found));
    return true;
  }

  private stores(): void {
    const { ever, disk, words, ways } = this.device;
    const other = ways.joins ? this.jobs.findIndex(({ changes }) => !changes) : 1;
    const jobs = this.jobs.slice(0, other < 0 ? undefined : other);
    const changes = jobs.flatMap(({ changes }) => changes!);
    disk.write(changes);
    for (const [key, value] of changes) {
      if (value) ever.add(key);
      const row = key.startsWith('a/') && disk.all.get(key);
      if (row) words.push(row as ActionRow);
    }
    for (const one of jobs) one.stored = true;
  }

  hears(): boolean {
    if (!this.runs || !this.heard.length) return false;
    const message = this.heard.shift()!;
    this.does(() => this.hear?.(message));
    return true;
  }

  /** The server reads a message of it. */
  up(): boolean {
    const { server } = this.device;
    for (const wire of this.wires) {
      const message = wire.up.shift();
      if (message) {
        server.read(wire, message);
        return true;
      }
      if (!wire.over) continue;
      wire.gone();
      return true;
    }
    return false;
  }

  /** It reads a message of the server. */
  down(): boolean {
    if (!this.runs) return false;
    for (const wire of this.wires) {
      if (wire.over) continue;
      if (!wire.open) {
        wire.open = true;
        this.does(() => wire.onopen?.({}));
        return true;
      }
      const data = wire.down.shift();
      if (!data) continue;
      this.does(() => wire.onmessage?.({ data }));
      return true;
    }
    return false;
  }

  cut(): void {
    for (const wire of [...this.wires]) wire.cut();
  }
}
