/**
 * The panel: what the connection under the board is doing, in words and numbers.
 *
 * It reads the client and writes the page, at most once per frame; it holds nothing of its own but
 * when a state began, for the times that count down.
 */

import type { Client, ConnectionState, Log, Met, Reason } from '../src/index.js';
import { deed, type Answered } from './board.js';
import { badge, byId, make, short, write } from './dom.js';

const MOST_PENDING = 6;

const MET: { [M in Met]: string } = {
  fresh: 'Met as new: nobody to clone, nothing held.',
  resumed: 'Resumed where it was.',
  cloned: 'Overwritten by a clone of',
  restored: 'Restored from its own row and the newest snapshot.',
  waiting: 'Attached, waiting for a slot.',
};

const REASON: { [R in Exclude<Reason, 'no_slot'>]: string } = {
  detached: 'it was without a socket for too long',
  lag: 'it lagged too far behind',
  retention: 'a log could keep no more for it',
  retained_bytes: 'logs kept too much for its sake',
  slots: 'another of your windows took its slot',
  node_slots: 'the server was short of slots',
  memory: 'the server was short of memory',
  asked: 'somebody asked for it',
  left: 'its page left',
};

const seconds = (ms: number): string => (ms > 0 ? `in ${(ms / 1000).toFixed(1)}\u00a0s` : 'any moment');

/** A state in a word and a sentence. */
const words = (state: ConnectionState, passed: number): [string, string] => {
  switch (state.state) {
    case 'connecting':
      return ['Connecting', 'A socket is being opened.'];
    case 'active':
      return ['Active', MET[state.met] + (state.met === 'cloned' ? ` ${short(state.source ?? '')}.` : '')];
    case 'waiting':
      return ['Waiting', `${state.error.message}; comes back ${seconds(state.after - passed)}.`];
    case 'inactive':
      return [
        'Inactive',
        `${state.reason === 'no_slot' ? 'No slot is free' : `Downgraded: ${REASON[state.reason]}`}; ` +
          `may ask to be active ${seconds(state.after - passed)}.`,
      ];
    case 'offline':
      return ['Offline', state.reason === 'asked' ? 'Because you asked for it; the server keeps its place.' : 'There is no network; tried now and then.'];
    case 'stopped':
      return ['Stopped', `${state.error.message} (${state.error.code}).`];
  }
};

/** How a log stands, as a level under its head. */
interface Gauge {
  readonly element: HTMLElement;
  readonly fill: HTMLElement;
  readonly facts: { [name: string]: HTMLElement };
}

const list = (names: readonly string[], into: HTMLElement): { [name: string]: HTMLElement } =>
  Object.fromEntries(
    names.map((name) => {
      const value = make('dd');
      into.append(make('div', {}, make('dt', {}, name), value));
      return [name, value];
    }),
  );

export class Panel {
  #since = performance.now();
  #state: ConnectionState | undefined;
  /** When an inactive one that was refused may ask again. */
  #again = 0;
  #queued = false;
  readonly #gauges = new Map<string, Gauge>();
  readonly #facts = list(
    ['connection', 'met', 'generation', 'writer', 'source', 'unacknowledged'],
    byId('facts'),
  );
  /** Which connection the facts show, so that its badge is made once. */
  #badges = '';
  #pending = '';

  constructor(
    private readonly client: Client,
    private readonly stored: Answered,
  ) {
    setInterval(() => this.paint(), 200);
    this.paint();
  }

  /** It asked to be active and was told to wait. */
  refused(after: number): void {
    this.#again = performance.now() + after;
    this.touch();
  }

  /** Something changed. */
  touch(): void {
    if (this.#queued) return;
    this.#queued = true;
    // Not by animation frame: a hidden page has none, and a test may look at one.
    queueMicrotask(() => {
      this.#queued = false;
      this.paint();
    });
  }

  paint(): void {
    const { client } = this;
    const { state } = client;
    if (state !== this.#state) {
      this.#since = performance.now();
      this.#again = 0;
    }
    this.#state = state;
    const again = this.#again - performance.now();
    const told = state.state === 'inactive' && again > 0 ? { ...state, after: again } : state;
    const [word, why] = words(told, told === state ? performance.now() - this.#since : 0);
    document.documentElement.dataset['state'] = state.state;
    write(byId('state'), word);
    write(byId('why'), why);
    const [log] = client.logs;
    const { pending } = client.debug.info();
    write(byId('pill').lastElementChild!, word);
    byId('pill').title = why;
    const waits = pending ? `, ${pending} pending` : '';
    write(byId('grip').lastElementChild!, `${word} · cursor ${log?.cursor ?? 0} of ${log?.head ?? 0}${waits}`);
    this.#actions(state);
    this.#identity();
    for (const one of client.logs) this.#log(one);
    this.#waiting(client.logs.flatMap(({ pending }) => [...pending]));
  }

  #actions({ state }: ConnectionState): void {
    const enable = (id: string, on: boolean): void => {
      byId<HTMLButtonElement>(id).disabled = !on;
    };
    const off = state === 'offline' && this.client.state.state === 'offline' && this.client.state.reason === 'asked';
    enable('cut', state === 'active' || state === 'inactive');
    enable('downgrade', state === 'active');
    enable('offline', state !== 'stopped');
    const word = { inactive: 'Activate', stopped: 'Start again', waiting: 'Come back now' }[state as string];
    enable('activate', !!word);
    byId('offline').ariaPressed = `${off}`;
    write(byId('offline'), off ? 'Go online' : 'Go offline');
    write(byId('activate'), word ?? 'Activate');
  }

  #identity(): void {
    const { client } = this;
    const { met, generation, source, user, received, acked } = client.debug.info();
    const facts = this.#facts;
    if (this.#badges !== `${client.connection} ${source}`) {
      this.#badges = `${client.connection} ${source}`;
      facts['connection']!.replaceChildren(client.connection ? badge(client.connection) : '…');
      facts['source']!.replaceChildren(source ? badge(source) : 'none');
    }
    write(facts['generation']!, `${generation ?? '…'}`);
    write(facts['met']!, met ?? '…');
    write(facts['writer']!, short(client.writer));
    write(facts['unacknowledged']!, `${received - acked} B`);
    write(byId('user'), user ?? '…');
  }

  #log(log: Log): void {
    let gauge = this.#gauges.get(log.name);
    if (!gauge) {
      const fill = make('i');
      const facts = make('dl');
      const element = make('article', {}, make('h4', {}, log.name), make('div', { className: 'gauge' }, fill), facts);
      gauge = { element, fill, facts: list(['cursor', 'head', 'lag', 'complete', 'log id', 'snapshot'], facts) };
      this.#gauges.set(log.name, gauge);
      byId('logs').append(element);
    }
    const { fill, facts, element } = gauge;
    // An inactive one learns of the head by the answers to its own actions alone.
    const head = Math.max(log.head, ...[...this.stored.values()].map((offset) => offset + 1));
    fill.style.width = `${head ? (100 * log.cursor) / head : log.complete ? 100 : 0}%`;
    element.dataset['complete'] = `${log.complete}`;
    write(facts['cursor']!, `${log.cursor}`);
    write(facts['head']!, `${head}`);
    write(facts['lag']!, `${head - log.cursor}`);
    write(facts['complete']!, log.complete ? 'yes' : 'not yet');
    write(facts['log id']!, `${log.id ?? '…'}`);
    write(facts['snapshot']!, log.rule);
  }

  #waiting(pending: Log['pending']): void {
    write(byId('count'), `${pending.length}`);
    const first = pending.slice(0, MOST_PENDING).map((entry) => ({ entry, at: this.stored.get(entry.seq) }));
    const key = first.map(({ entry, at }) => [entry.seq, at]).join() + pending.length;
    if (key === this.#pending) return;
    this.#pending = key;
    const lines = first.map(({ entry, at }) =>
      make('li', {}, make('b', {}, `${entry.seq}`), at === undefined ? deed(entry) : `stored at ${at}, not yet delivered`),
    );
    if (pending.length > MOST_PENDING) lines.push(make('li', {}, `and ${pending.length - MOST_PENDING} more`));
    byId('pending').replaceChildren(...lines);
  }
}
