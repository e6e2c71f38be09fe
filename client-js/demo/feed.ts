/** The feed: the newest frames in words; between two steps, like ones share a line. */

import type { ClientFrame, ServerFrame } from '../src/frames.js';
import { byId, make, short, write } from './dom.js';

const MOST = 80;

const stored = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** What a frame says, without its name. */
const words = ({ name, body }: ServerFrame | ClientFrame): string => {
  switch (name) {
    case 'hello':
      return body.open.map(({ name, have }) => `${name} ${have ? `from ${have.next}` : 'anew'}`).join(', ');
    case 'welcome':
      return `${body.met}${body.source ? ` from ${short(body.source)}` : ''}, generation ${body.generation}`;
    case 'state':
      return body.active
        ? `active, ${body.met}${body.source ? ` from ${short(body.source)}` : ''}, generation ${body.generation}`
        : `inactive: ${body.reason}, generation ${body.generation}`;
    case 'subscribed':
      return `${body.name} is log ${body.log}, cursor ${body.cursor}, whole at ${body.complete}`;
    case 'reset':
      return `${body.reason}, from ${body.cursor}`;
    case 'baseRecords':
      return `${stored(body.records.length, 'newest record')} at ${body.offset}`;
    case 'records':
      return `${stored(body.records.length, 'record')} to ${body.base + body.records.length}`;
    case 'gap':
      return `${body.from} to ${body.to}, ${body.reason}`;
    case 'append':
      return `${stored(body.items.length, 'action')} to ${body.items.at(-1)?.seq}`;
    case 'answers':
      return body.answers
        .map(({ seq, outcome }) => `${seq} ${'stored' in outcome ? `at ${outcome.stored.offset}` : outcome.refused.code}`)
        .slice(-2)
        .join(', ');
    case 'ack':
      return `${body.received} bytes${body.cursors.map(({ next }) => `, cursor ${next}`).join('')}`;
    case 'refused':
      return `${body.refusal.code}${body.refusal.retryAfter ? `, again in ${body.refusal.retryAfter} ms` : ''}`;
    case 'unsubscribed':
      return body.reason;
    case 'visible':
      return body.visible ? 'shown' : 'hidden';
    case 'bye':
      return `${body.code}: ${body.message}`;
    default:
      return '';
  }
};

/** Steps in the life of the connection; the rest is daily traffic. */
const STEPS = new Set([
  'hello', 'welcome', 'state', 'subscribed', 'reset', 'gap', 'bye', 'leave', 'unsubscribed', 'socket',
]);

export class Feed {
  readonly #list = byId('feed');
  /** The lines of daily traffic since the last step, by way and name. */
  readonly #run = new Map<string, { line: HTMLElement; times: number }>();

  frame(way: '←' | '→', frame: ServerFrame | ClientFrame): void {
    if (frame.name === 'ping' || frame.name === 'pong') return;
    this.line(way, frame.name, words(frame));
  }

  line(way: string, name: string, text: string): void {
    const step = STEPS.has(name);
    const before = this.#run.get(way + name);
    if (before) {
      const [, title, words] = before.line.children;
      write(title!, `${name} ×${++before.times}`);
      write(words!, text);
      if (this.#list.firstChild !== before.line) this.#list.prepend(before.line);
      return;
    }
    const line = make(
      'li',
      { className: step ? 'step' : '', title: new Date().toLocaleTimeString() },
      make('i', {}, way),
      make('b', {}, name),
      make('span', {}, text),
    );
    if (step) this.#run.clear();
    else this.#run.set(way + name, { line, times: 1 });
    this.#list.prepend(line);
    while (this.#list.childElementCount > MOST) this.#list.lastElementChild!.remove();
  }
}
