/** The feed: the newest frames in words; between two steps, like ones share a line. */

import type { ClientFrame, ServerFrame } from '../src/frames.js';
import { make, write } from './dom.js';
import { nameOf } from './names.js';

const MOST = 60;

/** What a frame is about: its reason and its numbers, those that it has. */
const words = ({ body }: ServerFrame | ClientFrame): string => {
  const { met, reason, source, code, cursor, base, items, records, answers } = body as any;
  const from = source && `from ${nameOf(source)}`;
  const many = (items ?? records ?? answers)?.length;
  const at = cursor ?? (records ? base : undefined);
  const parts: unknown[] = [met, reason, from, code, many, at === undefined ? at : `at ${at}`];
  return parts.filter((word) => word !== undefined).join(' ');
};

/** Steps in the life of the connection; the rest is daily traffic. */
const STEPS = /hello|welcome|state|subscribed|reset|gap|bye|leave/;

export class Feed {
  readonly #list: HTMLElement;
  /** The lines of daily traffic since the last step, by way and name. */
  readonly #run = new Map<string, { line: HTMLElement; times: number }>();

  constructor(list: HTMLElement) {
    this.#list = list;
  }

  frame(way: '←' | '→', frame: ServerFrame | ClientFrame): void {
    const { name } = frame;
    if (name === 'ping' || name === 'pong') return;
    const text = words(frame);
    const before = this.#run.get(way + name);
    if (before) {
      const [, title, said] = before.line.children;
      write(title!, `${name} ×${++before.times}`);
      write(said!, text);
      return;
    }
    const step = STEPS.test(name);
    const line = make(
      'li', { className: step ? 'step' : '' },
      make('i', {}, way), make('b', {}, name), make('span', {}, text),
    );
    if (step) this.#run.clear();
    else this.#run.set(way + name, { line, times: 1 });
    this.#list.prepend(line);
    while (this.#list.childElementCount > MOST) this.#list.lastElementChild!.remove();
  }
}
