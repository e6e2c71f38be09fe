/**
 * The board: what the view shows, as notes that can be written on and moved.
 *
 * Promise: what is under the user's hands (a text being written, a note being dragged) is sent
 * before it is overwritten, also where another deletes the note meanwhile; each field by itself.
 * A note keeps its element as long as it is there, so that the focus stays where it was.
 */

import { latest, type Log, type Stored } from '../src/index.js';
import { make, part, tell, write } from './dom.js';
import { badge, nameOf } from './names.js';
import {
  COLORS, fit, HIGH, MOST_TEXT, notesOf, recordsOf, SHEET_HIGH, SHEET_WIDE, WIDE,
  type Note, type Shown,
} from './notes.js';

const MOST_NOTES = 500;
/** How far an arrow key moves a note, and between two notes of a cascade, px. */
const STEP = 16;
const CASCADE = 28;
/** From a keystroke to its append, and between two appends of a drag, ms. */
const TYPING = 250;
const DRAGGING = 80;

const ARROWS: { [key: string]: [number, number] } = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
};

/** A note in the page; names that begin so are short in what is built. */
interface Card {
  readonly id: string;
  readonly _element: HTMLElement;
  readonly _area: HTMLTextAreaElement;
  readonly _foot: HTMLElement;
  readonly _paint: HTMLButtonElement;
  note: Shown;
  /** What the user has written or moved and not yet sent. */
  _draft: Partial<Note> | undefined;
  _timer: ReturnType<typeof setTimeout> | undefined;
}

export class Board {
  readonly view;
  /** The notes as they are shown. */
  notes: ReadonlyMap<string, Shown> = new Map();
  readonly #cards = new Map<string, Card>();
  readonly #sheet: HTMLElement;
  readonly #frame: HTMLElement;
  /** Deleted here, the newest last. */
  readonly #gone: { id: string; note: Note }[] = [];
  /** The note that gets the focus as soon as it is shown. */
  #fresh: string | undefined;

  constructor(
    private readonly root: HTMLElement,
    private readonly log: Log,
    private readonly shown: () => void,
  ) {
    this.#frame = part(root, '.board');
    this.#sheet = part(root, '.sheet');
    this.view = latest(log);
    this.view.subscribe(() => this.#show());
    part(root, '.add').onclick = () => this.add();
    part(root, '.undo').onclick = () => this.undo();
    root.onkeydown = (event) => {
      const { key, ctrlKey, metaKey, target } = event;
      if (key !== 'z' || !(ctrlKey || metaKey) || target instanceof HTMLTextAreaElement) return;
      event.preventDefault();
      this.undo();
    };
  }

  /** Stores these fields of a note; resolves when all are durable. */
  change(id: string, fields: Partial<Note>): Promise<Stored[]> {
    return Promise.all(recordsOf(id, fields).map((record) => this.log.append(record)));
  }

  /** Takes a note away; all that is known of it. */
  remove(id: string): Promise<Stored[]> {
    const { keys = [] } = this.notes.get(id) ?? {};
    return Promise.all(keys.map((key) => this.log.append({ key })));
  }

  /** Puts an empty note where none is yet, as far as is seen, and the cursor into it. */
  add(): void {
    if (this.notes.size >= MOST_NOTES) return;
    const id = crypto.randomUUID();
    const color = this.notes.size % (COLORS.length - 1);
    this.#make(id, { text: '', ...this.#place(), color });
  }

  /** The note that was deleted last comes back; what was written on it since stays. */
  undo(): void {
    const last = this.#gone.pop();
    part(this.root, '.undo').hidden = !this.#gone.length;
    if (!last) return;
    if (!this.notes.has(last.id)) return this.#make(last.id, last.note);
    this.#cards.get(last.id)?._area.focus();
  }

  #make(id: string, note: Note): void {
    this.#fresh = id;
    this.change(id, note).catch(tell);
    this.#focus();
  }

  #delete(card: Card): void {
    clearTimeout(card._timer);
    const { text, x, y, color } = { ...card.note, ...card._draft };
    card._timer = card._draft = undefined;
    this.#gone.push({ id: card.id, note: { text, x, y, color } });
    const undo = part(this.root, '.undo');
    undo.hidden = false;
    undo.focus();
    this.remove(card.id).catch(tell);
  }

  /** The first place in sight that is free, else a step beside the last of a cascade. */
  #place(): { x: number; y: number } {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.#frame;
    const others = [...this.#cards.values()].map(({ note, _element }) => ({
      x: note.x, y: note.y, high: _element.offsetHeight,
    }));
    const left = scrollLeft + STEP;
    const top = scrollTop + STEP;
    const right = Math.min(scrollLeft + clientWidth, SHEET_WIDE) - WIDE;
    const bottom = Math.min(scrollTop + clientHeight, SHEET_HIGH) - HIGH;
    for (let y = top; y <= Math.max(top, bottom); y += STEP) {
      for (let x = left; x <= Math.max(left, right); x += STEP) {
        const covers = others.some((other) =>
          Math.abs(other.x - x) < WIDE + 8 &&
          y < other.y + other.high + 8 && other.y < y + HIGH + 8);
        if (!covers) return { x, y };
      }
    }
    const spot = { x: left, y: top };
    const near = (other: Note): boolean =>
      Math.abs(other.x - spot.x) < CASCADE && Math.abs(other.y - spot.y) < CASCADE;
    while ([...this.notes.values()].some(near) && spot.y < SHEET_HIGH) {
      spot.x += CASCADE;
      spot.y += CASCADE;
    }
    return spot;
  }

  // What is shown.

  #show(): void {
    const records = this.view.value;
    if (!records) return;
    this.notes = notesOf(records);
    for (const [id, card] of this.#cards) if (!this.notes.has(id)) this.#drop(card);
    for (const [id, note] of this.notes) {
      let card = this.#cards.get(id);
      if (!card) {
        if (this.#cards.size >= MOST_NOTES) continue;
        card = this.#card(id, note);
        this.#cards.set(id, card);
        this.#sheet.append(card._element);
      }
      card.note = note;
      this.#draw(card);
    }
    this.#room(this.notes.size);
    this.idle('');
    this.#focus();
    this.root.dispatchEvent(new CustomEvent('shown', { bubbles: true }));
    this.shown();
  }

  /** It was deleted, by another perhaps; what was being written on it brings it back. */
  #drop(card: Card): void {
    if (card._draft?.text !== undefined) return this.#send(card, true);
    clearTimeout(card._timer);
    const focused = card._element.contains(document.activeElement);
    card._element.remove();
    this.#cards.delete(card.id);
    if (focused) this.#frame.focus();
  }

  #focus(): void {
    const fresh = this.#fresh && this.#cards.get(this.#fresh);
    if (!fresh) return;
    this.#fresh = undefined;
    fresh._area.focus();
  }

  /** Says when the board is full, and how many notes of others it cannot show. */
  #room(notes: number): void {
    const full = notes >= MOST_NOTES;
    part<HTMLButtonElement>(this.root, '.add').disabled = full;
    const word = part(this.root, '.full');
    word.hidden = !full;
    const more = notes - this.#cards.size;
    write(word, `The board is full${more ? `: ${more} more not shown` : ''}`);
  }

  /** A word where no note is; `why` there is nothing to show yet. */
  idle(why: string): void {
    const empty = part(this.root, '.empty');
    const known = this.view.value;
    empty.hidden = known ? this.notes.size > 0 : !why;
    write(empty.firstElementChild!, known ? 'An empty board' : 'Nothing to show yet');
    write(empty.lastElementChild!, known ? 'Add a note: every window shows it.' : why);
  }

  #draw(card: Card): void {
    const { _element: element, _area: area, _foot: foot, note } = card;
    const { text, x, y, color } = { ...note, ...card._draft };
    element.style.translate = `${x}px ${y}px`;
    element.dataset['color'] = `${color}`;
    element.style.setProperty('--note', `var(--note-${color})`);
    element.dataset['offset'] = note.pending ? '' : `${note.entry.offset}`;
    element.classList.toggle('pending', note.pending);
    element.classList.toggle('draft', !!card._draft);
    if (area.value !== text) {
      const { selectionStart, selectionEnd } = area;
      area.value = text;
      if (document.activeElement === area) area.setSelectionRange(selectionStart, selectionEnd);
    }
    card._paint.ariaLabel = `Colour: ${COLORS[color]}`;
    const { connection } = note.entry.origin;
    const word = note.pending ? 'waits' : 'saved';
    const said = word + connection + nameOf(connection);
    if (foot.dataset['said'] === said) return;
    foot.dataset['said'] = said;
    foot.replaceChildren(badge(connection), make('span', {}, word));
  }

  #card(id: string, note: Shown): Card {
    const grip = make('button', {
      className: 'grip', ariaLabel: 'Move note: arrow keys',
    });
    const paint = make('button', { className: 'paint' });
    const bin = make('button', { className: 'bin', ariaLabel: 'Delete note' }, '×');
    const area = make('textarea', { ariaLabel: 'Text of note', maxLength: MOST_TEXT });
    const foot = make('footer');
    const bar = make('div', { className: 'bar' }, grip, paint, bin);
    const element = make('article', { className: 'note', ariaLabel: 'Note' }, bar, area, foot);
    element.dataset['key'] = id;
    const card: Card = {
      id, _element: element, _area: area, _foot: foot, _paint: paint, note,
      _draft: undefined, _timer: undefined,
    };
    area.placeholder = 'Write…';
    area.spellcheck = false;
    area.oninput = () => this.#edit(card, { text: area.value }, TYPING);
    area.onblur = () => this.#send(card);
    bin.onclick = () => this.#delete(card);
    paint.onclick = () => this.#edit(card, { color: (card.note.color + 1) % COLORS.length }, 0);
    this.#drag(card, grip);
    return card;
  }

  // What the user does.

  /** Notes what was done, shows it at once and sends it when `wait` ms are over. */
  #edit(card: Card, change: Partial<Note>, wait: number): void {
    card._draft = { ...card._draft, ...change };
    this.#draw(card);
    if (!wait) return this.#send(card);
    card._timer ??= setTimeout(() => this.#send(card), wait);
  }

  /** Sends what differs, or all of the draft: a deleted note has none of it any more. */
  #send(card: Card, anew = false): void {
    clearTimeout(card._timer);
    card._timer = undefined;
    const { _draft: draft, note } = card;
    if (!draft) return;
    card._draft = undefined;
    const { text, x, y, color } = fit({ ...note, ...draft });
    const moved = anew || x !== note.x || y !== note.y;
    const changed = {
      ...(moved && { x, y }),
      ...((anew || color !== note.color) && { color }),
      ...((anew || text !== note.text) && { text }),
    };
    if (!Object.keys(changed).length) return this.#draw(card);
    this.change(card.id, changed).catch(tell);
  }

  /** By pointer: mouse, pen or finger; by arrow keys. */
  #drag(card: Card, grip: HTMLElement): void {
    let from: { x: number; y: number } | undefined;
    const move = (x: number, y: number, wait: number): void => {
      const to = fit({ x, y });
      this.#edit(card, { x: to.x, y: to.y }, wait);
    };
    grip.onpointerdown = ({ pointerId, clientX, clientY, button }) => {
      if (button) return;
      const { x, y } = { ...card.note, ...card._draft };
      from = { x: x - clientX, y: y - clientY };
      grip.setPointerCapture(pointerId);
      card._element.classList.add('held');
    };
    // All of a finger's way is the drag's: without this the browser takes its end for a fling, and
    // the next tap, anywhere, for what stops it.
    grip.addEventListener('touchstart', (event) => event.preventDefault(), { passive: false });
    grip.onpointermove = ({ clientX, clientY }) => {
      // While an earlier place waits for its answer, the newest is kept and no queue grows.
      const wait = card.note.pending ? 4 * DRAGGING : DRAGGING;
      if (from) move(from.x + clientX, from.y + clientY, wait);
    };
    grip.onpointerup = grip.onpointercancel = () => {
      from = undefined;
      card._element.classList.remove('held');
      this.#send(card);
    };
    grip.onkeydown = (event) => {
      if (event.key === 'Delete') return this.#delete(card);
      const way = ARROWS[event.key];
      if (!way) return;
      event.preventDefault();
      const { x, y } = { ...card.note, ...card._draft };
      move(x + way[0] * STEP, y + way[1] * STEP, DRAGGING);
    };
  }
}
