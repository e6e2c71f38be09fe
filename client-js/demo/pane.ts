/**
 * A window: a client of its own, its board, and what its connection is doing, in words above and in
 * numbers under the hood. Two of them in one page share the user and nothing else.
 */

import { connect, debug, type ClientOptions, type Status } from '../src/index.js';
import { Board } from './board.js';
import { byId, copy, make, part, tell, write } from './dom.js';
import { Feed } from './feed.js';
import { badge, own } from './names.js';
import { tapped } from './tap.js';
import { words } from './words.js';

const FACTS = ['met', 'generation', 'cursor', 'head', 'writer'] as const;

export class Pane {
  /** The token in force, which the windows of a user share. */
  token: string | undefined;
  readonly root: HTMLElement;
  readonly client;
  readonly debug;
  readonly log;
  readonly board: Board;
  readonly #machine: HTMLElement;
  readonly #facts: { [name: string]: HTMLElement } = {};
  readonly #feed: Feed;
  #status: Status | undefined;
  #since = 0;
  /** When an inactive one that was refused may ask again. */
  #again = 0;

  /** `changed` is called after whatever it shows or does has changed. */
  constructor(readonly name: string, options: ClientOptions, changed: () => void) {
    this.root = copy('window', byId('windows'));
    this.#machine = copy('machine', byId('hood'));
    this.#feed = new Feed(part(this.#machine, '.feed'));
    this.#label();
    this.client = connect(location.origin, { ...options, WebSocket: this.#tap() });
    this.debug = debug(this.client);
    this.log = this.client.log('demo/board');
    this.board = new Board(this.root, this.log, changed);
    this.#act();
    const { client, log } = this;
    const touch = (): void => {
      if (client.connection && own.get(client.connection) !== name) this.#known();
      this.paint();
      changed();
    };
    client.status.subscribe(touch);
    log.status.subscribe(touch);
    log.pending.subscribe(touch);
    log.on('refused', tell);
    log.on('ended', ({ reason }) => tell(`The server ended this board: ${reason}`));
  }

  get phase(): Status['phase'] {
    return this.client.status.value.phase;
  }

  /** It has a socket, and the server has met it. */
  get near(): boolean {
    return this.phase === 'live' || this.phase === 'inactive';
  }

  /** Without a socket because the user asked for it. */
  get cut(): boolean {
    return this.phase === 'offline' && this.client.status.value.reason === 'asked';
  }

  /** Live, with all that there is, and nothing of its own waits. */
  get calm(): boolean {
    return this.log.status.value.phase === 'live' && !this.log.pending.value.length;
  }

  /** Cuts the connection until it is asked to come back. */
  readonly toggle = (): void => (this.cut ? this.client.connect() : this.client.disconnect());

  #label(): void {
    const { root, name } = this;
    root.id = name.toLowerCase().replace(/\W/g, '-');
    root.ariaLabel = name;
    write(part(root, 'h2'), name);
    write(part(this.#machine, 'h3'), name);
    part(root, '.board').ariaLabel = `Board: ${name}`;
    part(root, '.add').ariaLabel = `Add note: ${name}`;
    for (const fact of FACTS) {
      const value = (this.#facts[fact] = make('dd'));
      part(this.#machine, 'dl').append(make('div', {}, make('dt', {}, fact), value));
    }
  }

  #tap(): typeof WebSocket {
    return tapped({
      in: (frame) => {
        if (frame.name === 'welcome') this.token = frame.body.token ?? this.token;
        if (frame.name === 'refused') {
          this.#again = performance.now() + frame.body.refusal.retryAfter;
        }
        this.#feed.frame('←', frame);
      },
      out: (frame) => {
        if (frame.name === 'hello') this.token = frame.body.token;
        this.#feed.frame('→', frame);
      },
    });
  }

  #act(): void {
    const { root, client } = this;
    part(root, '.offline').onclick = this.toggle;
    part(this.#machine, '.cut').onclick = () => this.debug.cut();
    part(root, '.activate').onclick = () => {
      if (this.phase === 'inactive') client.activate();
      else client.connect();
    };
  }

  /** What downgrades this connection. */
  set downgrade(work: () => void) {
    part(this.#machine, '.downgrade').onclick = work;
  }

  /** Its connection's id is known: from now on it goes by this window's name. */
  #known(): void {
    for (const [id, name] of own) if (name === this.name) own.delete(id);
    own.set(this.client.connection, this.name);
    const { connection } = this.client;
    part(this.#machine, 'h3').replaceChildren(badge(connection), ` ${connection.slice(0, 6)}`);
  }

  /** Writes what it is doing. */
  paint(): void {
    const { client, log, root } = this;
    const status = client.status.value;
    const now = performance.now();
    if (status !== this.#status) [this.#status, this.#since, this.#again] = [status, now, 0];
    const again = this.#again - now;
    const refused = status.phase === 'inactive' && again > 0;
    const told = refused ? { ...status, retryAfter: again } : status;
    const [word, why] = words(told, log.status.value, refused ? 0 : now - this.#since);
    root.dataset['state'] = status.phase;
    write(part(root, '.state'), word);
    write(part(root, '.why'), why);
    const waits = log.pending.value.length;
    const count = part(root, '.count');
    count.hidden = !waits;
    write(count, `${waits} waiting`);
    this.board.idle(this.phase === 'live' ? '' : 'The board comes with the connection.');
    this.#actions(status);
    this.#inside();
  }

  #actions({ phase }: Status): void {
    const { root, cut, name } = this;
    const lost = phase === 'offline' && !cut;
    const over = !this.near && phase !== 'offline' && phase !== 'connecting';
    const offline = part<HTMLButtonElement>(root, '.offline');
    offline.disabled = over;
    write(offline, cut ? 'Come back' : 'Cut');
    offline.ariaLabel = cut ? `Come back: ${name}` : `Cut the connection: ${name}`;
    const word = phase === 'inactive' ? 'Resume' : over ? 'Start again' : lost && 'Try now';
    const activate = part<HTMLButtonElement>(root, '.activate');
    activate.hidden = !word;
    write(activate, word || 'Try now');
    for (const deed of ['.cut', '.downgrade']) {
      part<HTMLButtonElement>(this.#machine, deed).disabled = !this.near;
    }
  }

  #inside(): void {
    const { met, generation } = this.debug.info();
    const { cursor, head } = this.log;
    const writer = this.client.writer.slice(0, 6);
    const values = [met, generation, cursor, Math.max(head, cursor), writer];
    FACTS.forEach((fact, at) => write(this.#facts[fact]!, `${values[at] ?? '…'}`));
  }
}
