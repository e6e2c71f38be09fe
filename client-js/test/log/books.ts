/**
 * A device, a server and the books of what was done: what a run of the whole client has to leave.
 *
 * Laws: what was saved is in the log once or among the refused ones, never both and never neither;
 * of texts that gave way to one another the last that was saved is, and each at most once; what was
 * told as expired is in no log; a writer's actions are in the order in which they were done; nothing
 * goes out that is not on disk with its mark; the server is let forget no outcome that is not on
 * disk; in the end all pages show what the log says, and nothing is pending.
 */

import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { action, keyed, log } from '../../src/log/index.js';
import { keyOf, type ActionRow, type RefusedRow, type WriterRow } from '../../src/log/rows.js';
import type { Draft } from '../../src/frames.js';
import type { Receipt } from '../../src/log/receipt.js';
import { FakeServer, type Kept } from './fake-server.js';
import { Device, Page, settled, type Ways } from './page.js';

interface Word {
  readonly n: number;
  readonly no?: string | undefined;
}

const append = (list: readonly number[], { n }: Word): readonly number[] => [...list, n];
export const lists = log('lists/:id', {
  actions: {
    put: action<Word>(), brief: action<Word>({ maxAge: 3000 }),
    name: action<Word>({ coalesce: () => 'name' }),
  },
}).views((view) => ({
  list: view([] as readonly number[], { put: append, brief: append, name: append }),
}));
const clicks = log('clicks/:id', { urgency: 'low', actions: { put: action<Word>() } })
  .views((view) => ({ list: view([] as readonly number[], { put: append }) }));
const boards = log('boards/:id').views(() => ({ cards: keyed<Word>('card') }));

export const NAMES = ['lists/a', 'clicks/a', 'boards/a'];

const opens = {
  'lists/a': (page: Page) => page.client.open(lists, { id: 'a' }),
  'clicks/a': (page: Page) => page.client.open(clicks, { id: 'a' }),
  'boards/a': (page: Page) => page.client.open(boards, { id: 'a' }),
};
type Logs = { [K in keyof typeof opens]: ReturnType<(typeof opens)[K]> };

/** Something that was done, with all that gave way to one another. */
interface Deed {
  readonly all: number[];
  readonly log: string;
  readonly page: Page;
  /** The server will refuse it; that it has may be seen before it is told. */
  readonly no: boolean;
  saved?: boolean;
  accepted?: boolean;
  rejected?: string;
  /** It was sent anew by its user: it is where that is in the order. */
  again?: boolean;
  /** Its user let it go, or the log that had it was deleted. */
  gone?: boolean;
}

const wordOf = (payload: unknown): Word => JSON.parse(
  typeof payload === 'string' ? payload : new TextDecoder().decode(payload as Uint8Array),
) as Word;

export class Books {
  readonly server: FakeServer = new FakeServer({
    oldest: (writer, oldest) => this.oldest(writer, oldest),
    retired: (writer) => this.oldest(writer, Infinity),
    sent: (writer, item) => {
      // One that asks how far its writer is, and is never taken.
      if (item.seq === Number.MAX_SAFE_INTEGER) return;
      const { disk } = this.device;
      const { sent } = (disk.all.get(`w/${writer}`) ?? { sent: 0 }) as WriterRow;
      const row = disk.all.get(keyOf(writer, item.seq)) as ActionRow | undefined;
      assert.ok(this.device.ever.has(keyOf(writer, item.seq)), `${item.seq} was never on disk`);
      // It may have its outcome by now: what was on its way then says the same.
      if (!row) return;
      assert.ok(sent >= item.seq, `${writer} sent ${item.seq}, marked up to ${sent}`);
      const plain = (value: object): unknown => JSON.parse(JSON.stringify(value));
      assert.ok(isDeepStrictEqual(plain(row.record), plain(item.record)), 'another than was saved');
      assert.deepEqual(plain(row.to), plain(item.to));
    },
  });
  readonly device: Device;
  readonly logs = new Map<Page, Logs>();
  readonly hidden = new Set<Page>();
  readonly deeds = new Map<number, Deed>();
  /** What was ever on disk as an action. */
  get written(): ReadonlySet<number> {
    return new Set(this.device.words.map(({ record }) => this.number(record)));
  }

  private readonly last = new Map<Receipt, Deed>();
  private count = 0;
  /** Cards that were set once, and are there to be taken away; and what took them away. */
  private readonly single: string[] = [];
  private readonly taken = new Map<string, number>();
  /** In the server's logs that were deleted. */
  private readonly deleted: Kept[] = [];
  /** Of the server's history something may be lost, or a log was deleted. */
  private torn = false;

  /** `quick`: its users do several things in one tick. */
  constructor(seed: number, private readonly ways: Ways & { quick?: boolean } = {}) {
    this.device = new Device(this.server, seed, ways);
  }

  get pages(): Page[] {
    return this.device.pages;
  }

  /** A new tab. */
  open(): Page {
    const page = new Page(this.device);
    page.does(() => this.logs.set(page, {
      'lists/a': opens['lists/a'](page), 'clicks/a': opens['clicks/a'](page),
      'boards/a': opens['boards/a'](page),
    }));
    return page;
  }

  private oldest(writer: string, oldest: number): void {
    for (const key of this.device.disk.all.keys()) {
      const [room, of, seq] = key.split('/');
      if (room !== 'a' || of !== writer) continue;
      assert.ok(+seq! >= oldest, `${writer} lets go ${seq}, whose outcome is on no disk`);
    }
  }

  do(page: Page, name: string, how: number): void {
    const logs = this.logs.get(page);
    if (!page.runs || !logs || this.hidden.has(page)) return;
    if (!this.ways.quick) return page.does(() => this.does(page, name, logs, how));
    // Of several kinds, some of them in several logs; or of one kind, such as give way to the next.
    const at = NAMES.indexOf(name);
    const [stride, turn] = how < 10 ? [1, +(how > 5)] : [5, 0];
    page.does(() => page.client.batch(() => {
      for (let time = 0; time <= how % 4; time++) {
        this.does(page, NAMES[(at + time * turn) % 3]!, logs, how + time * stride);
      }
    }));
  }

  private does(page: Page, name: string, logs: Logs, how: number): void {
    const n = ++this.count;
    const word = { n, ...(how % 7 === 6 && { no: 'no' }) };
    const receipt = name === 'boards/a' ? this.card(logs['boards/a'].view.cards, word, how)
      : name === 'clicks/a' ? logs['clicks/a'].do.put(word)
        : logs['lists/a'].do[how % 5 === 3 ? 'brief' : how % 5 === 4 ? 'name' : 'put'](word);
    const known = this.last.get(receipt);
    if (known) {
      known.all.push(n);
      return void this.deeds.set(n, known);
    }
    const deed: Deed = { all: [n], log: name, page, no: !!word.no };
    this.last.set(receipt, deed);
    this.deeds.set(n, deed);
    receipt.saved.then((kind) => (deed.saved = kind === 'disk'), () => {});
    receipt.accepted.then(
      () => (deed.accepted = true),
      ({ code }: { code: string }) => (deed.rejected = code),
    );
  }

  private card(cards: Logs['boards/a']['view']['cards'], word: Word, how: number): Receipt {
    const single = this.single[0];
    if (how % 5 === 4 && single) {
      this.single.shift();
      this.taken.set(`card/${single}`, word.n);
      return cards.delete(single);
    }
    if (how % 5 !== 3 || word.no) return cards.set(`${how % 3}`, word);
    this.single.push(`single${word.n}`);
    return cards.set(`single${word.n}`, word);
  }

  /** Which of those that were done it is: one that takes a card away says no number. */
  private number({ key, payload }: Draft): number {
    return payload === undefined ? this.taken.get(key!)! : wordOf(payload).n;
  }

  // The server's troubles.

  restore(): void {
    this.torn = this.server.restore() || this.torn;
  }

  trim(name: string, count: number): void {
    this.server.trim(name, count);
    this.torn = true;
  }

  remove(name: string): void {
    const log = this.server.remove(name);
    if (!log) return;
    this.torn = true;
    this.deleted.push(...log.records);
  }

  // The refused ones.

  decide(page: Page, pick: number, again: boolean): void {
    const { value } = page.client.refused;
    const one = value[pick % value.length];
    // Two pages that decide at the same time are their user's affair.
    const calm = this.pages.every(({ jobs, heard }) => !jobs.length && !heard.length);
    if (!page.runs || !one || !calm || !this.device.disk.all.has(one.id)) return;
    const taken = one.after === undefined && this.taken.get(one.key!);
    const deed = this.deeds.get(taken || (one.after as Word).n)!;
    page.does(() => (again ? one.retry() : one.drop()));
    if (again) deed.again = true;
    else deed.gone = true;
  }

  // Its laws.

  private numbers(records: readonly Kept[]): number[] {
    const ours = records.filter(({ origin }) => origin.user === 'ada');
    return ours.map(({ record }) => this.number(record));
  }

  /**
   * What the device knows will not be sent: it is among the refused ones, or about to be. The page
   * that found it out tells that last. Before, another may see it in the list of the refused ones,
   * or by a later action of that writer in the log; and its views are without it from then on.
   */
  private over(): ReadonlySet<number> {
    const { disk } = this.device;
    const refused = (disk.read('r/') as [string, RefusedRow][]).map(([, { item }]) => item);
    const waiting = (disk.read('a/') as [string, ActionRow][]).map(([, row]) => row);
    const items = [...refused, ...waiting.filter(({ until }) => until === 0)];
    return new Set(items.map(({ record }) => this.number(record)));
  }

  /** At every step. */
  check(): void {
    // What a full disk refused is reported, and tried again.
    const error = this.device.errors.find((one) => !/the disk is full$/.test((one as Error).message));
    if (error) throw error as Error;
    const over = this.over();
    for (const [page, logs] of this.logs) {
      if (!page.runs || this.hidden.has(page)) continue;
      for (const name of ['lists/a', 'clicks/a'] as const) {
        const list = logs[name].view.list.value ?? [];
        const own = list.filter((n) => n > 0);
        // Of another history the word may come before that of its page, which numbers all anew.
        if (!this.torn) assert.equal(new Set(own).size, own.length, `${name} shows one twice: ${own}`);
        for (const deed of new Set(this.deeds.values())) {
          if (deed.page !== page || deed.log !== name || deed.rejected || deed.again) continue;
          if (deed.no || deed.all.length > 1) continue;
          // Of a log made anew, or another history, something may be shown no more.
          if (this.torn) continue;
          const n = deed.all.at(-1)!;
          if (over.has(n)) continue;
          assert.ok(own.includes(n), `${name} does not show ${n}, but ${own}`);
        }
      }
    }
  }

  /** All goes on until nothing is left to do. */
  async quiet(): Promise<void> {
    this.server.busy = 0;
    for (const page of this.pages) this.show(page);
    if (![...this.logs.keys()].some(({ dead }) => !dead)) this.open();
    await settled();
    const end = this.device.now + 300_000;
    for (let rounds = 0; ; rounds++) {
      assert.ok(rounds < 20_000 && this.device.now < end, `it never rests: ${this.waits()}`);
      let busy = false;
      for (const page of [...this.pages]) {
        busy = [page.disk(), page.up(), page.down(), page.hears()].some(Boolean) || busy;
      }
      await settled();
      this.check();
      if (busy) continue;
      for (const page of this.logs.keys()) this.reopen(page);
      // What could not be written is tried again soon.
      const waits = this.waits();
      const rang = this.device.ring(waits.length ? 300_000 : 3000);
      if (!rang && !waits.length) return;
      if (!rang) assert.fail(`nothing goes on: ${waits}`);
      // What it has begun is there to be done in the next round.
      await settled();
    }
  }

  /** One whose log was deleted is opened once more. */
  private reopen(page: Page): void {
    const logs = this.logs.get(page)!;
    if (page.dead) return;
    for (const name of NAMES as (keyof Logs)[]) {
      if (logs[name].status.value.phase !== 'closed') continue;
      page.does(() => {
        logs[name].release();
        logs[name] = opens[name](page) as never;
      });
    }
  }

  private waits(): string[] {
    const left = [...this.device.disk.all.keys()].filter((key) => key.startsWith('a/'));
    return [...left, ...this.pending()];
  }

  private pending(): string[] {
    return [...this.logs].flatMap(([page, logs], at) => {
      if (page.dead) return [];
      const { unsaved, waiting } = page.client.work.value;
      return [
        ...(unsaved || waiting ? [`page ${at}: ${unsaved} unsaved, ${waiting} waiting`] : []),
        ...(page.client.status.value.phase === 'live' ? [] : [`page ${at} is ${page.client.status.value.phase}`]),
        ...NAMES.flatMap((name) => {
          const { status, pending } = logs[name as keyof Logs];
          const how = status.value.phase;
          return how === 'live' && !pending.value ? [] : [`page ${at} ${name} ${how}: ${pending.value} pending`];
        }),
      ];
    });
  }

  show(page: Page): void {
    page.thaw();
    if (!this.hidden.delete(page)) return;
    page.does(() => {
      const { _room, plain } = page.client as any;
      void _room.ledger.again();
      plain.connect();
    });
  }

  close(page: Page): void {
    if (!page.runs || !this.logs.delete(page)) return;
    page.does(() => void page.client.close().then(() => page.kill()));
  }

  hide(page: Page): void {
    if (!page.runs || !this.logs.has(page)) return;
    page.does(() => {
      const { _room, plain } = page.client as any;
      _room.ledger.leave();
      plain.disconnect();
    });
    this.hidden.add(page);
    page.frozen = true;
  }

  /** In the end. */
  settle(): void {
    const { logs } = this.server.state;
    const kept = [...logs.values()].flatMap(({ records }) => records);
    const stored = this.numbers(kept);
    const rows = this.device.disk.read('r/') as [string, RefusedRow][];
    const refused = rows.map(([, { item }]) => this.number(item.record));
    const lost = new Set(this.numbers(this.deleted));
    const { written } = this;
    for (const deed of new Set(this.deeds.values())) {
      const { all, saved, gone, rejected, again } = deed;
      const count = (list: number[], n: number): number => list.filter((one) => one === n).length;
      for (const n of all) {
        const [once, said] = [count(stored, n), count(refused, n)];
        const text = `${n} of ${all} (${deed.log}): ${once} in the log, ${said} refused`;
        assert.ok(once + said <= 1, text);
        if (rejected === 'expired' && !again) assert.equal(once, 0, text);
        // A full disk may have refused the last, when what gave way to it had been saved.
        if (n !== all.findLast((one) => written.has(one) || refused.includes(one))) continue;
        if (saved && !gone && !all.some((one) => lost.has(one))) assert.equal(once + said, 1, text);
      }
    }
    // In another history one writer takes up what several had left.
    if (!this.torn) this.ordered(kept);
    for (const page of this.pages) if (this.logs.has(page)) this.shown(page, refused.length);
  }

  private ordered(kept: readonly Kept[]): void {
    const last = new Map<string, number>();
    const known = new Set<Deed>();
    for (const { record, origin } of [...kept].sort((a, b) => a.batch - b.batch)) {
      if (origin.user !== 'ada') continue;
      const n = this.number(record);
      const deed = this.deeds.get(n)!;
      if (deed.again) continue;
      // What gave way to it was sent by another page: then it stands where it was done itself.
      const at = known.has(deed) ? n : deed.all[0]!;
      known.add(deed);
      const before = last.get(origin.writer) ?? 0;
      assert.ok(at > before, `${origin.writer} has ${at} after ${before}`);
      last.set(origin.writer, at);
    }
  }

  private shown(page: Page, refused: number): void {
    const logs = this.logs.get(page)!;
    assert.equal(page.client.refused.value.length, refused, 'refused, as the page knows');
    for (const name of ['lists/a', 'clicks/a'] as const) {
      const lacks = logs[name].incomplete.value;
      const { records, start } = this.server.log(name);
      const want = records
        .filter((_, at) => !lacks.some(({ from, to }) => from <= at && at < to))
        .map(({ record }) => wordOf(record.payload).n);
      assert.ok(lacks.every(({ to }) => to <= start), 'it lacks what is there');
      assert.deepEqual(logs[name].view.list.value, want, name);
    }
    const cards = new Map<string, Word>();
    for (const { record } of this.server.log('boards/a').records) {
      const id = record.key!.slice(5);
      if (record.payload === undefined) cards.delete(id);
      else cards.set(id, wordOf(record.payload));
    }
    assert.deepEqual(new Map(logs['boards/a'].view.cards.value!), cards);
  }

  end(): void {
    for (const page of [...this.pages]) page.kill();
    this.device.end();
  }
}
