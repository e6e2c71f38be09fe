/**
 * The panel: what the connection under the board is doing, in words and numbers.
 *
 * It reads the client and writes the page, at most once per frame; it holds nothing of its own but
 * when a state began, for the times that count down.
 */

import { debug, type Client, type Entry, type Log, type Met, type Reason, type Status } from '../src/index.js';
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

/** A status in a word and a sentence. */
const words = (status: Status, passed: number): [string, string] => {
  switch (status.phase) {
    case 'connecting':
      return ['Connecting', 'A socket is being opened.'];
    case 'live':
      return ['Active', MET[status.reason] + (status.reason === 'cloned' ? ` ${short(status.source ?? '')}.` : '')];
    case 'inactive':
      return [
        'Inactive',
        `${status.reason === 'no_slot' ? 'No slot is free' : `Downgraded: ${REASON[status.reason]}`}; ` +
          `may ask to be active ${seconds(status.retryAfter - passed)}.`,
      ];
    case 'offline':
      if (status.reason === 'asked') return ['Offline', 'Because you asked for it; the server keeps its place.'];
      if (status.reason === 'network') return ['Offline', 'There is no network; tried now and then.'];
      return ['Waiting', `${status.error!.message}; comes back ${seconds(status.retryAfter! - passed)}.`];
    default:
      return ['Stopped', `${status.error.message} (${status.reason}).`];
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
  #status: Status | undefined;
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
    private readonly log: Log,
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
    const { client, log } = this;
    const status = client.status.value;
    if (status !== this.#status) {
      this.#since = performance.now();
      this.#again = 0;
    }
    this.#status = status;
    const again = this.#again - performance.now();
    const told = status.phase === 'inactive' && again > 0 ? { ...status, retryAfter: again } : status;
    const [word, why] = words(told, told === status ? performance.now() - this.#since : 0);
    document.documentElement.dataset['state'] = status.phase;
    write(byId('state'), word);
    write(byId('why'), why);
    const { pending } = debug(client).info();
    write(byId('pill').lastElementChild!, word);
    byId('pill').title = why;
    const waits = pending ? `, ${pending} pending` : '';
    write(byId('grip').lastElementChild!, `${word} · cursor ${log.cursor} of ${log.head}${waits}`);
    this.#actions(status);
    this.#identity();
    this.#log(log);
    this.#waiting(log.pending.value);
  }

  #actions({ phase, reason }: Status): void {
    const enable = (id: string, on: boolean): void => {
      byId<HTMLButtonElement>(id).disabled = !on;
    };
    const off = phase === 'offline' && reason === 'asked';
    const over = phase === 'closed' || phase === 'needs-auth' || phase === 'update-required';
    enable('cut', phase === 'live' || phase === 'inactive');
    enable('downgrade', phase === 'live');
    enable('offline', !over);
    const back = phase === 'offline' && !off ? 'Come back now' : undefined;
    const word = phase === 'inactive' ? 'Activate' : over ? 'Start again' : back;
    enable('activate', !!word);
    byId('offline').ariaPressed = `${off}`;
    write(byId('offline'), off ? 'Go online' : 'Go offline');
    write(byId('activate'), word ?? 'Activate');
  }

  #identity(): void {
    const { client } = this;
    const { met, generation, source, user, received, acked } = debug(client).info();
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
    const complete = log.status.value.phase === 'live';
    // An inactive one learns of the head by the answers to its own actions alone.
    const head = Math.max(log.head, ...[...this.stored.values()].map((offset) => offset + 1));
    fill.style.width = `${head ? (100 * log.cursor) / head : complete ? 100 : 0}%`;
    element.dataset['complete'] = `${complete}`;
    write(facts['cursor']!, `${log.cursor}`);
    write(facts['head']!, `${head}`);
    write(facts['lag']!, `${head - log.cursor}`);
    write(facts['complete']!, complete ? 'yes' : 'not yet');
    write(facts['log id']!, `${log.id ?? '…'}`);
    write(facts['snapshot']!, log.rule);
  }

  #waiting(pending: readonly Entry[]): void {
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
