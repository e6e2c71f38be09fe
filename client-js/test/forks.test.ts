/**
 * Promise 15 at random: one client, and a server whose history forks, by seeds.
 *
 * The server here is a small model of the protocol. It is cut off, killed, restored to any of its
 * backups, made anew; logs are deleted and made anew; answers are lost; slots are missing. In the
 * end all actions are answered, each log is shown as it is held, own actions are in it once, in
 * their order, and each in the log that it was made for. Other handles of the logs come, seek and
 * go meanwhile: each is told all that it asked for, once and in order, whatever the others do.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Code, HighwaterError } from '../src/errors.js';
import type { ClientFrame, Open, Outcome, Start } from '../src/frames.js';
import { view } from '../src/view.js';
import type { Stored } from '../src/writer.js';
import { OTHER, text, World, type TestLog } from './world.js';

const SEEDS = 200;
const LOGS = ['a', 'b', 'c'];

type Body<K extends ClientFrame['name']> = Extract<ClientFrame, { name: K }>['body'];
interface Row {
  id: number;
  made: string;
  records: { payload: string; writer: string; seq: number; batch: number }[];
}
interface State {
  /** Eras that are over, and the last batch of each. */
  eras: Map<string, number>;
  era: string;
  batch: number;
  ids: number;
  logs: Map<string, Row>;
  writers: Map<string, { mark: number; outcomes: Map<number, Outcome> }>;
}

class Fork {
  readonly #random: (below: number) => number;
  readonly #newId: () => string;
  readonly backups: State[] = [];
  state: State;
  readonly world: World;
  attached = false;
  active = false;
  calm = false;
  /** What the client has open, by name, and how far it was sent. */
  sent = new Map<string, number>();
  /** Where the log of each action was made, by the client's word when it made it. */
  readonly made = new Map<string, string | undefined>();
  #read = 0;
  #other = false;

  constructor(seed: number) {
    let state = seed * 7919 + 1;
    // Of a linear congruential generator the upper bits.
    this.#random = (below) => Math.floor((state = (state * 1_103_515 + 12_345) % 2 ** 31) / 256) % below;
    let ids = 0;
    this.#newId = () => (++ids + 2 ** 40).toString(16).padStart(32, '0');
    this.world = new World({
      newId: this.#newId, chance: () => this.#random(1000) / 1000, maxPending: 10_000,
    });
    this.state = this.#empty();
  }

  #empty(): State {
    return {
      eras: new Map(), era: this.#newId(), batch: 0, ids: 0, logs: new Map(), writers: new Map(),
    };
  }

  /** One in so many; nothing goes wrong any more once it is calm. */
  chance(one: number): boolean {
    return !this.calm && this.#random(one) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.#random(list.length)]!;
  }

  get #position(): string {
    return `${this.state.era}.${this.state.batch}`;
  }

  row(name: string): Row {
    const { logs } = this.state;
    if (!logs.has(name)) {
      this.state.batch++;
      logs.set(name, { id: ++this.state.ids, made: this.#position, records: [] });
    }
    return logs.get(name)!;
  }

  store(row: Row, payload: string, writer: string, seq: number): number {
    row.records.push({ payload, writer, seq, batch: ++this.state.batch });
    return row.records.length - 1;
  }

  // What happens to the server.

  /** The socket ends, and the client comes back when it likes. */
  cut(): void {
    if (this.attached) this.world.core.closed(this.world.now, 1006);
    this.attached = this.active = false;
    this.sent.clear();
    this.world.settle();
    this.world.sent.length = this.#read = 0;
  }

  backup(): void {
    this.backups.push(structuredClone(this.state));
  }

  /** It ends, and starts with that state, in a new era. */
  restart(state = this.state): void {
    this.cut();
    this.state = structuredClone(state);
    this.state.eras.set(this.state.era, this.state.batch);
    this.state.era = this.#newId();
  }

  /**
   * To a backup; what came after it is gone for good. (An action that was stored where nobody heard
   * of it, and refused or stored elsewhere since, would be met again.)
   */
  restore(): void {
    if (!this.backups.length) return;
    this.backups.length = 1 + this.#random(this.backups.length);
    this.restart(this.backups.at(-1));
  }

  renew(): void {
    this.cut();
    this.backups.length = 0;
    this.state = this.#empty();
  }

  // What it answers.

  #ours(positions: readonly string[]): boolean {
    return positions.every((position) => {
      const [era, batch] = position.split('.');
      const last = era === this.state.era ? this.state.batch : this.state.eras.get(era!);
      return last !== undefined && +batch! <= last;
    });
  }

  /** Works off what the client has sent, until it says no more. */
  serve(): void {
    for (;;) {
      const { effects } = this.world;
      if (!this.attached && effects.lastIndexOf('connect') > effects.lastIndexOf('disconnect')) {
        effects.length = 0;
        this.world.core.opened(this.world.now);
        this.world.settle();
      }
      const gone = this.attached && this.world.status.phase === 'offline' && this.world.status.error;
      assert.ok(!gone, `it goes by itself: ${gone && gone.message}`);
      const frame = this.world.sent[this.#read++];
      if (!frame) {
        this.#read--;
        return;
      }
      if (frame.name === 'hello') this.#hello(frame.body);
      if (frame.name === 'append') this.#append(frame.body);
      if (frame.name === 'ping') this.world.tell('pong', { nonce: frame.body.nonce });
      if (frame.name === 'activate') this.#activate(frame.body);
      if (frame.name === 'seek') this.#seek(frame.body);
      if (frame.name === 'unsubscribe') this.#unsubscribe(frame.body);
      if (frame.name === 'subscribe') for (const open of frame.body.open) this.#open(open, frame.body.request, false);
    }
  }

  #hello({ positions, writers, open }: Body<'hello'>): void {
    this.attached = true;
    this.#other = !this.#ours(positions!);
    const marks = writers.map(({ writer }) => ({ writer, mark: this.state.writers.get(writer)?.mark ?? 0 }));
    const waiting = this.chance(4);
    this.world.welcome({
      positions: [this.#position], otherHistory: this.#other, writers: marks, met: waiting ? 'waiting' : 'resumed',
    });
    if (this.chance(8)) return this.cut();
    for (const { writer, oldest } of writers) {
      const row = this.state.writers.get(writer);
      const kept = [...(row?.outcomes ?? [])].filter(([seq]) => seq >= oldest);
      if (!kept.length) continue;
      const answers = kept.map(([seq, outcome]) => ({ seq, outcome }));
      if (this.chance(2)) this.#answer(writer, answers.splice(0, 1));
      this.#answer(writer, answers);
    }
    if (waiting) {
      return this.world.tell('state', {
        active: false, met: 'waiting', reason: 'no_slot', activateAfter: 50, generation: 2, source: undefined,
      });
    }
    this.active = true;
    for (const one of open) this.#open(one, 0, this.#other);
  }

  #activate({ open, request }: Body<'activate'>): void {
    if (this.chance(3)) {
      const refusal = { code: 'slots', message: 'none', retryAfter: 50 };
      return this.world.tell('refused', { request, name: undefined, refusal });
    }
    this.active = true;
    this.world.tell('state', {
      active: true, met: 'restored', reason: undefined, activateAfter: 0, generation: 3, source: undefined,
    });
    for (const one of open) this.#open(one, 0, false);
  }

  #seek({ request, log, to }: Body<'seek'>): void {
    const [name, row] = [...this.state.logs].find(([, { id }]) => id === log) ?? [];
    if (!name || !this.sent.has(name)) {
      const refusal = { code: 'unknown_log', message: 'none', retryAfter: 0 };
      return this.world.tell('refused', { request, name: undefined, refusal });
    }
    const head = row!.records.length;
    const cursor = to === 'end' ? head : 0;
    this.sent.set(name, cursor);
    const { made } = row!;
    this.world.announce(name, log, { request, made, head, cursor, complete: head, reset: true });
    this.world.tell('reset', { log, reason: 'asked', base: undefined, cursor, complete: head });
    this.deliver();
  }

  #unsubscribe({ request, logs }: Body<'unsubscribe'>): void {
    for (const log of logs) {
      const [name] = [...this.state.logs].find(([, { id }]) => id === log) ?? [];
      if (name) this.sent.delete(name);
      this.world.tell('unsubscribed', { request, log, reason: 'asked' });
    }
  }

  #open({ name, have, start }: Open, request: number, other: boolean): void {
    const row = this.row(name);
    const { id, made } = row;
    const head = row.records.length;
    const goes = have && !other && have.log === id && have.next <= head;
    const end = !have && start === 'end';
    const cursor = goes ? have.next : end ? head : 0;
    this.sent.set(name, cursor);
    this.world.announce(name, id, { request, made, head, cursor, complete: head, reset: !goes && !end });
    if (!goes && !end) {
      const reason = other && have ? 'other_history' : !have ? 'new' : have.log === id ? 'past_head' : 'other_log';
      this.world.tell('reset', { log: id, reason, base: undefined, cursor: 0, complete: head });
    }
    this.deliver();
  }

  /** What was appended and not yet sent. */
  deliver(): void {
    if (!this.active) return;
    for (const [name, from] of this.sent) {
      const row = this.state.logs.get(name);
      const fresh = row?.records.slice(from) ?? [];
      if (!fresh.length) continue;
      this.sent.set(name, from + fresh.length);
      const records = fresh.map(({ payload, seq, batch }, origin) => ({
        place: { batch, index: 0 }, time: 1, origin, seq, record: text(payload),
      }));
      const origins = fresh.map(({ writer }) => ({ ...OTHER, writer }));
      this.world.tell('records', { log: row!.id, base: from, origins, records });
    }
  }

  #answer(writer: string, answers: { seq: number; outcome: Outcome }[]): void {
    if (!answers.length) return;
    const mark = this.state.writers.get(writer)?.mark ?? 0;
    this.world.tell('answers', { writer, mark, answers, positions: [this.#position] });
  }

  #append({ writer, oldest, items, positions, made }: Body<'append'>): void {
    const refused = (code: Code): Outcome => ({ refused: { code, message: code, retryAfter: 10 } });
    assert.ok(this.#ours(positions!), 'it does not send what it saw elsewhere after it was told');
    const { writers } = this.state;
    if (!writers.has(writer)) writers.set(writer, { mark: 0, outcomes: new Map() });
    const row = writers.get(writer)!;
    for (const seq of row.outcomes.keys()) if (seq < oldest) row.outcomes.delete(seq);
    const answers = items.map(({ seq, prev, to, record }) => {
      const kept = row.outcomes.get(seq);
      if (seq <= row.mark) return { seq, outcome: kept ?? refused('sequence_old') };
      if (prev !== row.mark) return { seq, outcome: refused('sequence_gap') };
      if (this.chance(20)) return { seq, outcome: refused('rate') };
      const payload = record.payload as string;
      const stated = 'log' in to ? made!.find(({ log }) => log === to.log)?.position : undefined;
      assert.equal(stated, this.made.get(payload), `${payload}: the log it was made on`);
      const logs = [...this.state.logs.entries()];
      const name = 'name' in to ? to.name : logs.find(([, { id, made }]) => id === to.log && made === stated)?.[0];
      row.mark = seq;
      let outcome = refused('epoch');
      if (name !== undefined) {
        const log = this.row(name);
        const offset = this.store(log, payload, writer, seq);
        outcome = { stored: { log: log.id, offset, place: { batch: this.state.batch, index: 0 }, level: 'synced' } };
      }
      row.outcomes.set(seq, outcome);
      return { seq, outcome };
    });
    if (this.chance(6)) return this.cut(); // The answers are lost.
    if (this.chance(2)) this.deliver();
    this.#answer(writer, answers);
    this.deliver();
  }
}

/** One of several parts of an app that follow a log, and what it was told since its last reset. */
interface Part {
  readonly log: TestLog;
  readonly whole: boolean;
  readonly told: { offset: number; payload: string }[];
}

const part = (world: World, name: string, start: Start): Part => {
  const log = world.open(name, { start, grace: start === 'end' ? 0 : 700 });
  const told: Part['told'] = [];
  log.on('reset', () => told.splice(0));
  log.on('records', ({ records }) => {
    for (const { offset, payload } of records) {
      const last = told.at(-1)?.offset ?? offset! - 1;
      assert.equal(offset, last + 1, `${name}: each once and in order`);
      told.push({ offset: offset!, payload: payload as string });
    }
  });
  return { log, whole: start !== 'end', told };
};

const play = async (seed: number): Promise<number> => {
  const fork = new Fork(seed);
  const { world } = fork;
  const heard = new Map<string, string[]>();
  const shown = LOGS.map((name) => {
    const log = world.open(name);
    log.on('reset', () => heard.set(name, []));
    log.on('records', ({ records }) => {
      heard.set(name, [...(heard.get(name) ?? []), ...records.map(({ payload }) => payload as string)]);
    });
    return view(log, (all: string[], { payload }) => [...all, payload as string], []);
  });
  const actions: Promise<Stored | HighwaterError>[] = [];
  world.core.start(world.now);
  world.settle();
  let others = 0;
  const parts: Part[] = [];
  const steps: [number, () => void][] = [
    [30, () => {
      const name = fork.pick(LOGS);
      const payload = `${name} mine ${actions.length}`;
      fork.made.set(payload, world.core.followed.named.get(name)?.made?.position);
      actions.push(world.append(name, text(payload)).catch((error: HighwaterError) => error));
    }],
    [10, () => {
      const name = fork.pick(LOGS);
      fork.store(fork.row(name), `${name} other ${others++}`, OTHER.writer, others);
      fork.deliver();
    }],
    [4, () => parts.push(part(world, fork.pick(LOGS), fork.pick(['state', 'earliest', 'end'])))],
    [2, () => parts.length && parts.splice(parts.indexOf(fork.pick(parts)), 1)[0]!.log.release()],
    [2, () => parts.length && fork.pick(parts).log.seek('state')],
    [10, () => world.pass(500)],
    [5, () => fork.cut()],
    [3, () => fork.backup()],
    [2, () => fork.restart()],
    [3, () => fork.restore()],
    [1, () => fork.renew()],
    [1, () => {
      fork.cut(); // Who is attached would be told by a frame that this model has not.
      fork.state.logs.delete(fork.pick(LOGS));
    }],
  ];
  const bag = steps.flatMap(([weight, step]) => Array.from({ length: weight }, () => step));
  for (let round = 0; round < 120; round++) {
    fork.pick(bag)();
    if (!fork.chance(3)) fork.serve();
  }
  fork.calm = true;
  const rests = (): boolean =>
    fork.active && !world.core.author.queue.size &&
    [...world.core.followed.named.values()].every(({ complete, mine }) => complete && !mine.size);
  for (let round = 0; !rests(); round++) {
    assert.ok(round < 2000, `${world.core.author.queue.size} are never answered, ${world.status.phase}`);
    world.pass(500);
    fork.serve();
  }
  const outcomes = await Promise.all(actions);
  for (const [at, name] of LOGS.entries()) {
    const held = (fork.state.logs.get(name)?.records ?? []).map(({ payload }) => payload);
    assert.deepEqual(heard.get(name) ?? [], held, `what was delivered of ${name}`);
    assert.deepEqual(shown[at]!.value, held, `what is shown of ${name}`);
    assert.ok(held.every((payload) => payload.startsWith(name)), `${name} holds what was made for it`);
    const mine = held.filter((payload) => payload.includes('mine')).map((payload) => +payload.split(' ')[2]!);
    assert.deepEqual(mine, [...new Set(mine)].sort((a, b) => a - b), `own actions of ${name}, once and in order`);
    for (const number of mine) assert.ok('offset' in outcomes[number]!, `${number} is stored, and said to be`);
  }
  for (const { log, told, whole } of parts) {
    const held = (fork.state.logs.get(log.name)?.records ?? []).map(({ payload }) => payload);
    const seen = told.map(({ payload }) => payload);
    assert.equal(log.status.value.phase, 'live', log.name);
    if (whole) assert.deepEqual(seen, held, `what a handle of ${log.name} was told`);
    else if (seen.length) assert.deepEqual(seen, held.slice(told[0]!.offset));
  }
  for (const outcome of outcomes) {
    assert.ok('offset' in outcome || outcome.code === 'epoch', `not refused but for its log: ${JSON.stringify(outcome)}`);
  }
  return actions.length;
};

const only = process.env['SEED'];
test(`histories that fork: ${only ? `seed ${only}` : `${SEEDS} seeds`}`, async () => {
  let actions = 0;
  for (const seed of only ? [+only] : Array.from({ length: SEEDS }, (_, at) => at + 1)) {
    try {
      actions += await play(seed);
    } catch (error) {
      throw new Error(`SEED=${seed} npm test -- forks: ${(error as Error).message}`, { cause: error });
    }
  }
  assert.ok(only || actions > SEEDS * 20, `${actions} actions`);
});
