/**
 * The board: what the view shows, as notes that can be written on and moved.
 *
 * A note is the newest record of its key; a tombstone takes it away. What is under the user's hands
 * (a text being written, a note being dragged) is not overwritten before it was sent. Payloads come
 * from anybody, so they are read as data and bounded.
 */

import { latest, type Entry, type Log, type Stored } from '../src/index.js';
import { badge, byId, make, write } from './dom.js';

export interface Note {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  readonly color: number;
}

const COLORS = ['Sand', 'Foam', 'Sky', 'Coral', 'Slate'];
const WIDTH = 1600;
const HEIGHT = 1000;
const NOTE = { width: 208, height: 150 };
const MOST_NOTES = 500;
const MOST_TEXT = 1000;
/** How far an arrow key moves a note, px. */
const STEP = 16;
/** From a keystroke to its append, and between two appends of a drag, ms. */
const TYPING = 250;
const DRAGGING = 80;

const clamp = (value: unknown, most: number): number =>
  Math.min(Math.max(0, Math.round(Number(value)) || 0), most);

const fit = ({ text, x, y, color }: { [K in keyof Note]?: unknown }): Note => ({
  text: `${text ?? ''}`.slice(0, MOST_TEXT),
  x: clamp(x, WIDTH - NOTE.width),
  y: clamp(y, HEIGHT - NOTE.height),
  color: clamp(color, COLORS.length - 1),
});

/** A note from a payload of unknown origin. */
const read = (payload: string | Uint8Array | undefined): Note => {
  try {
    const text = typeof payload === 'string' ? payload : new TextDecoder().decode(payload);
    return fit({ ...JSON.parse(text) });
  } catch {
    return fit({ text: '(not a note)' });
  }
};

/** Where own actions were stored that the log does not show yet, by sequence. */
export type Answered = ReadonlyMap<number, number>;

/** A note in the page. */
interface Card {
  readonly element: HTMLElement;
  readonly area: HTMLTextAreaElement;
  readonly foot: HTMLElement;
  readonly paint: HTMLButtonElement;
  note: Note;
  entry: Entry;
  /** What the user has written or moved and not yet sent. */
  draft: Partial<Note> | undefined;
  timer: ReturnType<typeof setTimeout> | undefined;
}

export class Board {
  readonly view;
  readonly #cards = new Map<string, Card>();
  readonly #sheet = byId('sheet');
  readonly #frame = byId('board');
  #fresh: string | undefined;

  constructor(
    private readonly log: Log,
    private readonly stored: Answered,
    private readonly tell: (problem: unknown) => void,
  ) {
    this.view = latest(log);
    this.view.subscribe(() => this.#show());
    byId('add').onclick = () => this.add();
    this.#pan();
  }

  /** Stores a note; resolves when it is durable. */
  change(key: string, note: Note): Promise<Stored> {
    return this.log.append({ key, payload: JSON.stringify(fit(note)) });
  }

  remove(key: string): Promise<Stored> {
    return this.log.append({ key });
  }

  /** Puts an empty note in the middle of what is seen, and the cursor into it. */
  add(): void {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.#frame;
    const near = (middle: number): number => middle + (Math.random() - 0.5) * 160;
    const x = near(scrollLeft + (clientWidth - NOTE.width) / 2);
    const y = near(scrollTop + (clientHeight - NOTE.height) / 2);
    const key = crypto.randomUUID();
    this.#fresh = key;
    const color = Math.floor(Math.random() * (COLORS.length - 1));
    this.#keep(this.change(key, { text: '', x, y, color }));
  }

  #keep(stored: Promise<Stored>): void {
    stored.catch(this.tell);
  }

  // What is shown.

  #show(): void {
    const notes = this.view.value;
    if (!notes) return;
    for (const [key, card] of this.#cards) {
      if (notes.has(key)) continue;
      clearTimeout(card.timer);
      card.element.remove();
      this.#cards.delete(key);
    }
    for (const [key, entry] of notes) {
      let card = this.#cards.get(key);
      if (!card) {
        if (this.#cards.size >= MOST_NOTES) continue;
        card = this.#card(key, entry);
        this.#cards.set(key, card);
        this.#sheet.append(card.element);
      }
      card.entry = entry;
      card.note = read(entry.payload);
      this.#draw(card);
    }
    this.#room(notes.size);
    this.idle('');
    const fresh = this.#fresh && this.#cards.get(this.#fresh);
    if (fresh) {
      this.#fresh = undefined;
      fresh.area.focus();
    }
    document.dispatchEvent(new CustomEvent('shown'));
  }

  /** Says when the board is full, and how many notes of others it cannot show. */
  #room(notes: number): void {
    const full = notes >= MOST_NOTES;
    byId<HTMLButtonElement>('add').disabled = full;
    const word = byId('full');
    word.hidden = !full;
    const more = notes - this.#cards.size;
    write(word, `The board is full${more ? `: ${more} more not shown` : ''}`);
  }

  /** Answers came: says so on the notes. */
  answered(): void {
    for (const card of this.#cards.values()) if (card.entry.pending) this.#draw(card);
  }

  /** A word where no note is; `why` there is nothing to show yet. */
  idle(why: string): void {
    const empty = byId('empty');
    const notes = this.view.value;
    empty.hidden = notes ? notes.size > 0 : !why;
    write(empty.firstElementChild!, notes ? 'An empty board' : 'Nothing to show yet');
    write(empty.lastElementChild!, notes ? 'Add a note, then open a second window beside this one.' : why);
  }

  #draw({ element, area, foot, paint, note, draft, entry }: Card): void {
    const { text, x, y, color } = { ...note, ...draft };
    element.style.translate = `${x}px ${y}px`;
    element.dataset['color'] = `${color}`;
    element.dataset['offset'] = `${entry.offset ?? ''}`;
    element.classList.toggle('pending', entry.pending);
    element.classList.toggle('draft', !!draft);
    if (area.value !== text) {
      const { selectionStart, selectionEnd } = area;
      area.value = text;
      if (document.activeElement === area) area.setSelectionRange(selectionStart, selectionEnd);
    }
    paint.ariaLabel = `Colour: ${COLORS[color]}`;
    const { connection } = entry.origin;
    const at = entry.offset ?? this.stored.get(entry.seq);
    const word = at === undefined ? `pending ${entry.seq}` : entry.pending ? `stored #${at}` : `#${at}`;
    if (foot.dataset['word'] === word + connection) return;
    foot.dataset['word'] = word + connection;
    foot.replaceChildren(badge(connection), make('span', {}, word));
  }

  #card(key: string, entry: Entry): Card {
    const grip = make('button', { type: 'button', className: 'grip', ariaLabel: 'Move note: arrow keys' });
    const paint = make('button', { type: 'button', className: 'paint' });
    const bin = make('button', { type: 'button', className: 'bin', ariaLabel: 'Delete note' }, '×');
    const area = make('textarea', { ariaLabel: 'Text of note', maxLength: MOST_TEXT, spellcheck: false });
    const foot = make('footer');
    const bar = make('div', { className: 'bar' }, grip, paint, bin);
    const element = make('article', { className: 'note' }, bar, area, foot);
    element.dataset['key'] = key;
    const note = read(entry.payload);
    const card: Card = { element, area, foot, paint, note, entry, draft: undefined, timer: undefined };
    area.placeholder = 'Write…';
    area.oninput = () => this.#edit(card, { text: area.value }, TYPING);
    area.onblur = () => this.#send(card);
    bin.onclick = () => this.#keep(this.remove(key));
    paint.onclick = () => this.#edit(card, { color: (card.note.color + 1) % COLORS.length }, 0);
    this.#drag(card, grip);
    return card;
  }

  // What the user does.

  /** Notes what was done, shows it at once and sends it when `wait` ms are over. */
  #edit(card: Card, change: Partial<Note>, wait: number): void {
    card.draft = { ...card.draft, ...change };
    this.#draw(card);
    if (!wait) return this.#send(card);
    card.timer ??= setTimeout(() => this.#send(card), wait);
  }

  #send(card: Card): void {
    clearTimeout(card.timer);
    card.timer = undefined;
    const { draft, element, note } = card;
    if (!draft) return;
    card.draft = undefined;
    const changed = fit({ ...note, ...draft });
    if (JSON.stringify(changed) === JSON.stringify(note)) return this.#draw(card);
    this.#keep(this.change(element.dataset['key']!, changed));
  }

  /** By pointer: mouse, pen or finger; by arrow keys. */
  #drag(card: Card, grip: HTMLElement): void {
    let from: { x: number; y: number } | undefined;
    const move = (x: number, y: number, wait: number): void => {
      const to = fit({ ...card.note, x, y });
      this.#edit(card, { x: to.x, y: to.y }, wait);
    };
    grip.onpointerdown = ({ pointerId, clientX, clientY, button }) => {
      if (button) return;
      const { x, y } = { ...card.note, ...card.draft };
      from = { x: x - clientX, y: y - clientY };
      grip.setPointerCapture(pointerId);
      card.element.classList.add('held');
    };
    // All of a finger's way is the drag's: without this the browser takes its end for a fling, and
    // the next tap, anywhere, for what stops it.
    grip.addEventListener('touchstart', (event) => event.preventDefault(), { passive: false });
    grip.onpointermove = ({ clientX, clientY }) => {
      // While an earlier position waits for its answer, the newest is kept and no queue grows.
      if (from) move(from.x + clientX, from.y + clientY, card.entry.pending ? 4 * DRAGGING : DRAGGING);
    };
    grip.onpointerup = grip.onpointercancel = () => {
      from = undefined;
      card.element.classList.remove('held');
      this.#send(card);
    };
    grip.onkeydown = (event) => {
      const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[
        event.key
      ] ?? [0, 0];
      if (!dx && !dy) return;
      event.preventDefault();
      const { x, y } = { ...card.note, ...card.draft };
      move(x + dx! * STEP, y + dy! * STEP, DRAGGING);
    };
  }

  /** The board itself moves under a mouse; fingers scroll it by themselves. */
  #pan(): void {
    const frame = this.#frame;
    let from: { x: number; y: number } | undefined;
    frame.onpointerdown = ({ target, pointerType, pointerId, clientX, clientY }) => {
      if (pointerType !== 'mouse' || (target !== frame && target !== this.#sheet)) return;
      from = { x: frame.scrollLeft + clientX, y: frame.scrollTop + clientY };
      frame.setPointerCapture(pointerId);
    };
    frame.onpointermove = ({ clientX, clientY }) => {
      if (from) frame.scrollTo(from.x - clientX, from.y - clientY);
    };
    frame.onpointerup = frame.onpointercancel = () => {
      from = undefined;
    };
  }
}

/** What a pending action does, in a word for people. */
export const deed = ({ payload }: Entry): string => {
  if (payload === undefined) return 'delete';
  const { text, x, y } = read(payload);
  return `${text.trim().slice(0, 24) || 'empty note'} at ${x}, ${y}`;
};
