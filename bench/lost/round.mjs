/**
 * One round: a server and three clients of a product, one scenario, and what came of it.
 *
 * Promise: it is judged after the faults are over, when everybody has been given a minute to come
 * back and all answers that come have come; all that it started is ended.
 */

import { setTimeout as wait } from 'node:timers/promises';
import { judge, Ledger } from './ledger.mjs';
import { Clients, freePort, Server } from './processes.mjs';
import { Proxy } from './proxy.mjs';
import { Dice } from './dice.mjs';

const WRITERS = ['a', 'b'];
const READERS = ['a', 'b', 'c'];
/** How long a reader may take to come back, and what is under way to arrive, ms. */
const BACK = 60_000;
const ARRIVE = 15_000;

export class Round {
  ledger = new Ledger();
  #numbers = { a: 0, b: 0 };
  #timers = [];
  #notes = [];
  /** Written before all readers were there. */
  early = [];

  constructor(product, scenario, seed) {
    this.product = product;
    this.scenario = scenario;
    this.proxies = [];
    // Each has dice of its own, so that faults do not depend on how fast a product is.
    this.dice = new Dice(seed);
    this.proxyDice = READERS.map((_, at) => [new Dice(seed + 10 + at), new Dice(seed + 30 + at)]);
    this.writerDice = WRITERS.map((_, at) => new Dice(seed + 20 + at));
  }

  /** The faults and the judgement, once `begin` is done. */
  async play() {
    try {
      await this.scenario.run(this);
      for (const proxy of this.proxies) proxy.calm();
      const last = await this.#settle();
      const { keeps, read } = this.product;
      const kept = read ? await read({ port: this.server.port, room: 'updates' }) : [];
      const { early } = this;
      const found = judge(this.ledger, { keeps, kept, last, early });
      return { found, notes: this.#notes, storedTwice: kept.length - new Set(kept).size };
    } finally {
      await this.end();
    }
  }

  async end() {
    this.#stop();
    for (const proxy of this.proxies) proxy.close();
    await Promise.all([this.awake?.remove(), this.sleeper?.remove()]);
    await this.server?.remove();
  }

  /** Starts all, until everybody shows what the others write. */
  async begin() {
    this.server = new Server(this.product, await freePort());
    await this.server.start();
    const ports = {};
    for (const [at, who] of READERS.entries()) {
      ports[who] = this.server.port;
      if (!this.scenario.proxied) continue;
      const proxy = new Proxy(this.server.port, ...this.proxyDice[at]);
      this.proxies.push(proxy);
      ports[who] = await proxy.listen();
    }
    const { a, b, c } = ports;
    const note = (told) => this.#note(told);
    this.awake = new Clients(this.product, 'updates', { a, b }, note);
    this.sleeper = new Clients(this.product, 'updates', { c }, note);
    await Promise.all([this.awake.ready, this.sleeper.ready]);
    this.early = await this.#settle();
  }

  #note(told) {
    const { kind, who, id, why } = told;
    if (kind === 'complete') return;
    this.ledger.note(told);
    if (['told', 'anew', 'refused'].includes(kind)) this.#notes.push({ kind, who, id, why });
  }

  #write(who) {
    const id = `${who}:${this.#numbers[who]++}`;
    this.awake.write(who, id);
    return id;
  }

  /** Both write from now on, one to three updates at random times so many ms apart. */
  writing(from, to) {
    WRITERS.forEach((who, at) => {
      const dice = this.writerDice[at];
      const next = () => {
        for (let more = dice.between(1, 4); more > 0; more--) this.#write(who);
        this.#timers[at] = setTimeout(next, dice.between(from, to));
      };
      next();
    });
  }

  #stop() {
    for (const timer of this.#timers) clearTimeout(timer);
  }

  /** Nobody writes any more, and what is under way may arrive and be answered. */
  async pause() {
    this.#stop();
    await this.#answers();
    await wait(1000);
  }

  async #answers() {
    const open = () => [...this.ledger.made.values()].some((made) =>
      !made.acked && !made.refused);
    const until = Date.now() + ARRIVE;
    while (this.product.acks && open() && Date.now() < until) await wait(100);
  }

  /** Whether all readers show all of these before the time is over. */
  async #allShow(ids, patience) {
    const shown = (who, id) => this.ledger.reader(who).some((event) => event.id === id);
    for (const until = Date.now() + patience; Date.now() < until; await wait(250)) {
      if (ids.every((id) => READERS.every((who) => shown(who, id)))) return true;
    }
    return false;
  }

  /** Writes now and then until everybody shows something of it; answers what was written so. */
  async #settle() {
    const last = [];
    const unseen = () => READERS.some((who) => WRITERS.some((writer) => {
      const mine = last.filter((id) => id.startsWith(`${writer}:`));
      return !this.ledger.reader(who).some(({ id }) => mine.includes(id));
    }));
    for (const until = Date.now() + BACK; Date.now() < until; await wait(500)) {
      if (last.length > 2 && !unseen()) break;
      last.push(...WRITERS.map((who) => this.#write(who)));
    }
    await this.#allShow(last.slice(-2), ARRIVE);
    await this.pause();
    return last;
  }
}
