/**
 * The guide: steps that show the promise, each ticked off when it has truly happened.
 *
 * It looks at what the two windows show and at the state of their connections, whenever either
 * changes. A step whose ground is gone (the connection came back too early) leads back to the one
 * before it.
 */

import { byId, make, write } from './dom.js';
import { written } from './notes.js';
import type { Pane } from './pane.js';

/** Its members' names are short in what is built. */
interface Step {
  readonly _title: string;
  readonly _text: string;
  /** What a button of the step does, with the button's name. */
  readonly _act?: readonly [name: string, work: () => void];
  _done(): boolean;
  /** It cannot be done any more: the step before it must be done again. */
  _undone?(): boolean;
}

const KILL = 'pkill -9 -f "highwater serve"';

export class Guide {
  #at = 0;
  /** The texts of all notes as the step found them. */
  #before = new Map<string, string>();
  /** What was written meanwhile, by note: it must be there in the end. */
  #kept = new Map<string, string>();
  /** Nothing answers at the server's address. */
  #dead = false;
  #asking = false;
  readonly #steps: readonly Step[];
  readonly #lines: HTMLElement[];

  /**
   * `kill` asks the server to kill itself. It rejects with a code where the server does not know
   * how to; without an answer it may well be dead.
   */
  constructor(
    private readonly ana: Pane,
    private readonly ben: Pane,
    private readonly kill: () => Promise<unknown>,
  ) {
    this.#steps = [...this.#cutting(), ...this.#killing()];
    this.#lines = this.#steps.map((step) => this.#line(step));
    byId('steps').append(...this.#lines);
    byId('again').onclick = () => this.#go(0);
    this.#go(0);
  }

  /** Where it stands: a title, for where there is room for no more. */
  get title(): string {
    const step = this.#steps[this.#at];
    return step ? `Step ${this.#at + 1} of ${this.#steps.length}` : 'Nothing was lost';
  }

  /** Something changed: perhaps this was the step. */
  check(): void {
    const step = this.#steps[this.#at];
    if (!step) return;
    if (step._done()) this.#go(this.#at + 1);
    else if (step._undone?.()) this.#go(this.#at - 1);
  }

  #cutting(): Step[] {
    const { ana, ben } = this;
    return [
      {
        _title: 'Write in Ana’s window',
        _text: 'Ben’s shows it as you type.',
        _act: ['Add a note for Ana', () => ana.board.add()],
        _done: () => this.#wrote(ana).some(([id, text]) => this.#text(ben, id) === text),
      },
      {
        _title: 'Cut Ana’s connection',
        _text: 'As a tunnel would. Her window stays as it is.',
        _act: ['Cut it', () => ana.client.disconnect()],
        _done: () => ana.cut,
      },
      {
        _title: 'Write in Ben’s window',
        _text: 'And in Ana’s, if you like: hers waits until she is back.',
        _act: ['Add a note for Ben', () => ben.board.add()],
        _done: () => {
          const missed = this.#wrote(ben).filter(([id, text]) => this.#text(ana, id) !== text);
          for (const [id, text] of missed) this.#kept.set(id, text);
          return ana.cut && missed.length > 0;
        },
        _undone: () => !ana.cut,
      },
      {
        _title: 'Let Ana come back',
        _text: 'She is given all that she has missed, once and in order.',
        _act: ['Come back', () => ana.client.connect()],
        _done: () => this.#whole(),
      },
    ];
  }

  #killing(): Step[] {
    const { ana, ben } = this;
    return [
      {
        _title: 'Kill the server',
        _text: 'With kill -9, in the middle of its work.',
        _act: ['Kill it', () => void this.kill().catch((why) => why.code && this.#say())],
        _done: () => this.#down() && this.#gone(),
      },
      {
        _title: 'Write while it is gone',
        _text: 'In both windows. It waits, with a dashed frame.',
        _done: () => [ana, ben].some((pane) => this.#waits(pane)),
        _undone: () => ana.calm && ben.calm,
      },
      {
        _title: 'Start it again',
        _text: 'In the terminal, as you did before. Both come back by themselves.',
        _done: () => {
          for (const pane of [ana, ben]) this.#waits(pane);
          return this.#whole();
        },
      },
    ];
  }

  // What the steps look at.

  #text(pane: Pane, id: string): string | undefined {
    return pane.board.notes.get(id)?.text;
  }

  /** What that window has written and stored since the step began. */
  #wrote(pane: Pane): [string, string][] {
    return [...pane.board.notes].flatMap(([id, { text, entry, pending }]) => {
      const mine = entry.origin.connection === pane.client.connection && !pending;
      return mine && text && text !== this.#before.get(id) ? [[id, text] as [string, string]] : [];
    });
  }

  /** Whether texts of that window wait; they are kept in mind. */
  #waits({ log }: Pane): boolean {
    const texts = log.pending.value.map(written).filter((one) => !!one);
    for (const { id, text } of texts) this.#kept.set(id, text);
    return texts.length > 0;
  }

  /** Both are back and show the same, with all that was written meanwhile. */
  #whole(): boolean {
    const { ana, ben } = this;
    if (!ana.calm || !ben.calm || ana.board.notes.size !== ben.board.notes.size) return false;
    const same = [...ana.board.notes].every(([id, { text }]) => this.#text(ben, id) === text);
    return same && [...this.#kept.keys()].every((id) => !!this.#text(ana, id));
  }

  /** Both have lost the server, neither by its own wish. */
  #down(): boolean {
    return [this.ana, this.ben].every((pane) => pane.phase === 'offline' && !pane.cut);
  }

  /** Whether nobody answers at the server's address, as far as is known; asks again. */
  #gone(): boolean {
    if (this.#dead || this.#asking) return this.#dead;
    this.#asking = true;
    const known = (dead: boolean): void => {
      [this.#asking, this.#dead] = [false, dead];
      if (dead) this.check();
    };
    fetch('/healthz').then(() => known(false), () => known(true));
    return false;
  }

  // What is shown.

  #line({ _title: title, _text: text, _act: act }: Step): HTMLElement {
    const line = make('li', {}, make('b', {}, title), make('p', {}, text));
    if (!act) return line;
    const button = make('button', {}, act[0]);
    button.onclick = act[1];
    line.append(button);
    return line;
  }

  /** The server does not kill itself: says how to. */
  #say(): void {
    const line = this.#lines[this.#at];
    if (!line || line.querySelector('code')) return;
    line.append(make('p', { className: 'how' }, 'In a terminal: ', make('code', {}, KILL)));
  }

  #go(to: number): void {
    this.#at = to;
    this.#dead = false;
    if (to === 0 || to === 4) this.#kept.clear();
    const boards = [...this.ana.board.notes, ...this.ben.board.notes];
    this.#before = new Map(boards.map(([id, { text }]) => [id, text]));
    this.#lines.forEach((line, at) => {
      line.className = at < to ? 'past' : at === to ? 'now' : '';
      if (at === to) line.setAttribute('aria-current', 'step');
      else line.removeAttribute('aria-current');
    });
    const over = to === this.#steps.length;
    byId('again').hidden = !over;
    const step = this.#steps[to];
    const count = this.ana.board.notes.size;
    const notes = `${count} ${count === 1 ? 'note' : 'notes'}`;
    const all = `Nothing was lost: ${notes}, the same in both windows.`;
    write(byId('told'), step ? `Next: ${step._title}` : all);
    byId('guide').classList.toggle('over', over);
  }
}
