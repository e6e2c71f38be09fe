/**
 * The views alone, under random interleavings of what a log tells and what is done here: what they
 * show is at every step the fold of the log's records and of the pending ones, each action once.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Entry } from '../../src/delivery.js';
import { action, log } from '../../src/log/index.js';
import { Folded, idOf, type Pending } from '../../src/log/fold.js';
import type { Stored } from '../../src/writer.js';
import { property } from './random.js';

/** A view that shows each action that was folded, in order: what is there twice is seen. */
const definition = log('logs/:log', {
  actions: { put: action<{ id: string; bad?: boolean }>() },
}).views((view) => ({
  said: view([] as readonly string[], {
    put: (list, { id, bad }) => {
      if (bad) throw new Error('a reducer that fails');
      return [...list, id];
    },
  }),
}));

interface Sent {
  readonly one: Pending;
  readonly writer: string;
  readonly seq: number;
  offset?: number;
  log?: number;
  told?: boolean;
}

const LOG = 7;

/** A log on a server, the views of it, and what the views have to show. */
class Model {
  readonly folded: Folded;
  readonly all: { id: string; entry: Entry; bad: boolean }[] = [];
  /** Not in the log yet, and those in it whose answer is due. */
  waiting: Sent[] = [];
  unanswered: Sent[] = [];
  log = LOG;
  trimmed = 0;
  cursor = 0;
  /** Until there it is to be complete; what is shown is all below `shown`, but for the holes. */
  target = 0;
  shown = 0;
  holes = new Set<number>();
  shownHoles = new Set<number>();
  shownLog: number | undefined;
  shownList: readonly string[] = [];
  work: string[] = [];
  seqs = { me: 0, you: 0, they: 0 };
  time = 0;
  attached = false;

  /** `turns`: what lies on top is folded anew one by one, when `work` is called. */
  constructor(private readonly turns = false) {
    const { actions, shape } = definition;
    this.folded = turns
      ? new Folded(actions, shape, '', () => {}, [0, 1]) : new Folded(actions, shape);
  }

  private record(id: string, bad: boolean) {
    return { kind: 'put', payload: JSON.stringify({ id, ...(bad && { bad }) }) };
  }

  add(writer: 'me' | 'you', late: boolean): void {
    const seq = ++this.seqs[writer];
    const id = idOf(writer, seq);
    // Another page's may be heard of after a later one of this page.
    this.time += 2;
    const at = late && writer === 'you' ? this.time - 3 : this.time;
    const one: Pending = { id, record: this.record(id, false), at };
    this.folded.add(one, (other) => other.at > at);
    this.waiting.push({ one, writer, seq });
  }

  private append(writer: string, seq: number, record: Pending['record'], bad = false): number {
    const offset = this.all.length;
    const entry = {
      ...record, offset, time: 1, tombstone: false, pending: false, seq,
      origin: { user: 'u', writer, connection: '' }, place: { batch: 1, index: offset },
    } as Entry;
    this.all.push({ id: idOf(writer, seq), entry, bad });
    return offset;
  }

  foreign(bad: boolean): void {
    const seq = ++this.seqs.they;
    this.append('they', seq, this.record(idOf('they', seq), bad), bad);
  }

  /** The server takes the oldest of a writer, or refuses it. */
  decide(pick: number, refused: boolean): void {
    const writers = [...new Set(this.waiting.map(({ writer }) => writer))];
    const writer = writers[pick % writers.length];
    const sent = this.waiting.find((one) => one.writer === writer);
    if (!sent) return;
    this.waiting = this.waiting.filter((one) => one !== sent);
    sent.log = this.log;
    if (!refused) sent.offset = this.append(sent.writer, sent.seq, sent.one.record);
    this.unanswered.push(sent);
  }

  answer(pick: number): void {
    const [sent] = this.unanswered.splice(pick % (this.unanswered.length || 1), 1);
    if (!sent) return;
    const { offset, one } = sent;
    sent.told = true;
    if (offset === undefined) return this.folded.drop(one.id);
    const place = { batch: 1, index: offset };
    this.folded.stored(one.id, { log: sent.log, offset, place, level: 'synced' } as Stored);
  }

  /** Law 7: answers reach a client before any reset. */
  private answers(): void {
    while (this.unanswered.length) this.answer(0);
  }

  trim(to: number): void {
    this.trimmed = Math.max(this.trimmed, Math.min(this.all.length, this.cursor + to));
  }

  deliver(count: number): void {
    if (!this.attached) return;
    const { folded } = this;
    if (this.cursor < this.trimmed) {
      for (let at = this.cursor; at < this.trimmed; at++) this.holes.add(at);
      folded.gap(this.cursor, this.trimmed);
      this.cursor = this.trimmed;
    } else {
      const fresh = this.all.slice(this.cursor, this.cursor + count);
      if (!fresh.length) return;
      this.cursor += fresh.length;
      this.fold(fresh);
      folded.records(fresh.map(({ entry }) => entry));
    }
    this.stepped();
  }

  private fold(fresh: Model['all']): void {
    for (const { id, bad, entry } of fresh) {
      if (bad) this.holes.add(entry.offset!);
      else this.work.push(id);
    }
  }

  private stepped(): void {
    const { folded } = this;
    if (!folded.complete && this.cursor >= this.target) {
      folded.show(this.log, undefined);
      this.show();
    }
    folded.step();
    if (folded.complete) this.show();
  }

  private show(): void {
    this.shown = this.cursor;
    this.shownLog = this.log;
    this.shownList = [...this.work];
    this.shownHoles = new Set(this.holes);
  }

  /** A new socket: goes on, or begins anew with the kept records, or with a base in any order. */
  attach(how: number): void {
    this.answers();
    const { folded } = this;
    this.target = this.all.length;
    const again = this.attached && how % 3 === 0;
    this.attached = true;
    if (again) {
      if (folded.complete && this.cursor < this.target) folded.behind();
      if (!folded.complete) this.stepped();
      return;
    }
    this.work = [];
    this.holes = new Set();
    this.cursor = this.trimmed;
    folded.begin(this.cursor);
    if (how % 3 === 1 && this.trimmed) {
      for (let at = 0; at < this.trimmed; at++) this.holes.add(at);
      folded.gap(0, this.trimmed);
    } else if (how % 3 === 2 || this.trimmed) this.based();
    this.stepped();
  }

  private based(): void {
    const upto = this.all.length;
    // As by keys: in no order of offsets.
    const list = [...this.all].sort((one, two) => (one.entry.offset! * 7) % 11 - (two.entry.offset! * 7) % 11);
    const half = list.length >> 1;
    for (const part of [list.slice(0, half), list.slice(half)]) {
      this.folded.base(part.map(({ entry }) => entry), upto);
      this.fold(part);
    }
    this.cursor = upto;
  }

  /** The log is deleted and made anew: what is pending goes to the new one. */
  anew(count: number): void {
    this.answers();
    this.all.length = this.trimmed = this.cursor = 0;
    this.log++;
    for (; count > 3; count--) this.foreign(false);
    this.attach(1);
  }

  check(): void {
    const { folded } = this;
    // One that is refused, or in a gap, goes with its word; a later one in the log says it too.
    for (const sent of this.ever) {
      const later = this.ever.some(({ writer, seq, offset }) =>
        writer === sent.writer && seq > sent.seq && offset !== undefined && offset < this.shown);
      const refused = sent.log !== undefined && sent.offset === undefined;
      const hidden = refused || this.shownHoles.has(sent.offset!);
      if (hidden && later && !folded.has(sent.one.id)) this.ended.add(sent);
    }
    const pending = this.expected();
    assert.deepEqual(folded.pending.map(({ id }) => id), pending, 'pending');
    const all = [...this.shownList, ...pending];
    if (this.turns) this.between(folded.values[0] as string[], all);
    else assert.deepEqual(folded.values, [all]);
    const missing = new Set<number>();
    for (const { from, to } of folded.missing) {
      assert.ok(from < to, 'an empty range');
      for (let at = from; at < to; at++) {
        assert.ok(!missing.has(at), `${at} is missing twice`);
        missing.add(at);
      }
    }
    assert.deepEqual([...missing].sort(), [...this.shownHoles].sort(), 'missing');
  }

  /** What is shown while all is folded anew: an older state, with all that was done here. */
  private between(shown: readonly string[], all: readonly string[]): void {
    assert.equal(new Set(shown).size, shown.length, `one is there twice: ${shown}`);
    for (const { one, offset, told } of this.ever) {
      if (told && offset === undefined) assert.ok(!shown.includes(one.id), `${one.id} was refused`);
    }
    for (const { one, writer } of [...this.waiting, ...this.unanswered]) {
      if (writer !== 'me' || !all.includes(one.id)) continue;
      assert.ok(shown.includes(one.id), `${one.id} is not shown`);
    }
  }

  /** Does so many turns of what is put off; all of them: it shows what there is. */
  turn(most: number): void {
    while (most && this.folded.work()) most--;
    if (!most) return;
    assert.deepEqual(this.folded.values, [[...this.shownList, ...this.expected()]]);
  }

  private readonly ever: Sent[] = [];

  /** Those that are neither refused nor in what is shown, in the order in which they were done. */
  private expected(): string[] {
    for (const one of [...this.waiting, ...this.unanswered]) {
      if (!this.ever.includes(one)) this.ever.push(one);
    }
    const left = this.ever.filter((sent) => !this.gone(sent));
    return left.sort((a, b) => a.one.at - b.one.at).map(({ one }) => one.id);
  }

  private readonly ended = new Set<Sent>();

  private gone(sent: Sent): boolean {
    if (this.ended.has(sent)) return true;
    const { offset, told, log } = sent;
    const { shownLog } = this;
    let gone = offset === undefined && told;
    if (offset !== undefined && shownLog !== undefined) {
      // One of a log that was deleted since goes as soon as that is known; of a hole nobody knows.
      const known = told || (log === shownLog && !this.shownHoles.has(offset));
      gone = known && (log === shownLog ? offset < this.shown : log! < shownLog);
    }
    if (gone) this.ended.add(sent);
    return !!gone;
  }
}

const steps = fc.array(
  fc.tuple(
    fc.constantFrom('me', 'me', 'you', 'foreign', 'foreign', 'bad', 'take', 'take', 'refuse', 'answer',
      'answer', 'deliver', 'deliver', 'deliver', 'attach', 'trim', 'anew' as const),
    fc.nat(6),
  ),
  { maxLength: 60, size: 'max' },
);

const run = (list: readonly (readonly [string, number])[], turns = false): void => {
  const model = new Model(turns);
  // What a reducer throws is reported in a turn of its own, which would end the test.
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = () => {};
  try {
    for (const [what, count] of list) {
      if (what === 'me' || what === 'you') model.add(what, count > 3);
      if (what === 'foreign' || what === 'bad') model.foreign(what === 'bad');
      if (what === 'take' || what === 'refuse') model.decide(count, what === 'refuse');
      if (what === 'answer') model.answer(count);
      if (what === 'deliver') model.deliver(1 + count);
      if (what === 'attach') model.attach(count);
      if (what === 'trim') model.trim(count);
      if (what === 'anew') model.anew(count);
      model.check();
      if (turns) model.turn(count);
    }
    if (turns) model.turn(1000);
  } finally {
    globalThis.queueMicrotask = queueMicrotask;
  }
};

test('each action shows once at every step, on what the log has', () => property(steps, run, 1500));

test('under many pending ones what is folded anew in turns comes to the same', () => {
  property(steps, (list) => run(list, true), 1500);
});

// What random runs have found.

test('holes of a base, which comes by keys, are apart and in order', () => {
  run([['foreign', 0], ['bad', 0], ['trim', 1], ['bad', 0], ['attach', 0]]);
});

test('a hole that grows is told', () => {
  run([['attach', 0], ['foreign', 0], ['foreign', 0], ['trim', 1], ['deliver', 1], ['trim', 1], ['deliver', 1]]);
});

test('an action that was stored in a gap leaves the pending with it', () => {
  run([['attach', 0], ['me', 0], ['take', 0], ['answer', 0], ['trim', 1], ['deliver', 1]]);
});

test('what was stored in a log made anew shows until that is shown', () => {
  run([['attach', 0], ['anew', 4], ['me', 0], ['take', 0], ['answer', 0], ['deliver', 2]]);
});

test('a reducer that fails at a pending action is reported once for each view', () => {
  interface Put { readonly id: string; readonly bad?: boolean }
  const actions = { put: action<Put>() };
  let how = '';
  const fails = (what: string) => (list: readonly string[], { id, bad }: Put) => {
    if (bad && how.includes(what)) throw new Error(what);
    return [...list, id];
  };
  const { shape } = log('logs/:log', { actions }).views((view) => ({
    one: view([] as readonly string[], { put: fails('one') }),
    two: view([] as readonly string[], { put: fails('two') }),
  }));
  const folded = new Folded(actions, shape, 'logs/a');
  const told: string[] = [];
  const said = (view: string): string => `logs/a: view ${view}, action put is left out: ${view}`;
  const { queueMicrotask } = globalThis;
  globalThis.queueMicrotask = (work) => {
    try {
      work();
    } catch (error) {
      told.push((error as Error).message);
    }
  };
  const put = (id: string, bad: boolean): Pending => {
    const record = { kind: 'put', payload: JSON.stringify({ id, bad }) };
    return { id: idOf('me', +id), record, at: +id };
  };
  try {
    how = 'one';
    folded.add(put('1', true));
    folded.add(put('2', false));
    assert.deepEqual(folded.values, [['2'], ['2']]);
    // Each of these has all that is pending folded anew.
    for (let offset = 0; offset < 3; offset++) {
      const record = { kind: 'put', payload: JSON.stringify({ id: `s${offset}` }) };
      const origin = { user: 'you', writer: 'you', connection: '' };
      folded.records([{ ...record, tombstone: false, origin, seq: offset + 1, offset } as never]);
      folded.show(7, undefined);
      assert.equal(folded.values[0], folded.values[0]);
    }
    assert.deepEqual(told, [said('one')]);
    how = 'two';
    folded.drop(idOf('me', 2));
    assert.deepEqual(folded.values, [['s0', 's1', 's2'], ['s0', 's1', 's2']]);
    assert.deepEqual(told, [said('one'), said('two')]);
    // It says something else now, and fails once more: that view is known to fail so.
    folded.replaced(put('1', true));
    assert.deepEqual(folded.values, [['s0', 's1', 's2'], ['s0', 's1', 's2']]);
    assert.deepEqual(told, [said('one'), said('two')]);
  } finally {
    globalThis.queueMicrotask = queueMicrotask;
  }
});
