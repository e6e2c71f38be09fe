/** The user's connections as the server lists them, each with a button that downgrades it. */

import { byId, make, tell } from './dom.js';
import { badge, nameOf, own } from './names.js';
import { REASON } from './words.js';

interface Listed {
  readonly id: string;
  readonly active: boolean;
  readonly attached: boolean;
  readonly visible: boolean;
  readonly reason?: keyof typeof REASON;
  readonly since: number;
}

/** Most connections shown. */
const MOST = 8;

const word = ({ active, attached, visible, reason }: Listed): string => {
  if (!active) return `paused${reason ? `: ${REASON[reason]}` : ''}`;
  if (!attached) return 'away; its place is kept';
  return visible ? 'connected' : 'connected, hidden';
};

export class Mine {
  /** `away`: those of this page that have no socket, which the server may not know yet. */
  constructor(
    private readonly who: () => { token: string | undefined; user: string | undefined },
    private readonly away: (id: string) => boolean,
  ) {
    byId('look').onclick = () => void this.look().catch(tell);
  }

  /** Asks the server; nothing is changed. */
  async look(): Promise<void> {
    const { user } = this.who();
    if (!user) return;
    const answer = await this.ask(`connections?user=${encodeURIComponent(user)}&limit=100`);
    const { connections } = (await answer.json()) as { connections: Listed[] };
    // Those of this page first, then those that have a socket; the newest ones to have changed.
    const rank = ({ id, attached, since }: Listed): string =>
      own.has(id) ? `0${nameOf(id)}` : `${attached ? 1 : 2}${1e15 - since}`;
    const shown = connections.sort((a, b) => (rank(a) < rank(b) ? -1 : 1)).slice(0, MOST);
    byId('mine').replaceChildren(...shown.map((one) => this.#line(one)));
  }

  #line(one: Listed): HTMLElement {
    const { id, active } = one;
    const here = { ...one, attached: one.attached && !this.away(id) };
    const button = make('button', { disabled: !active }, 'Pause');
    button.ariaLabel = `Pause ${nameOf(id)}`;
    button.onclick = () => void this.downgrade(id).catch(tell);
    const line = make('li', {}, badge(id), make('span', {}, word(here)), button);
    line.dataset['connection'] = id;
    return line;
  }

  /** Asks the server to take the connection's channel away. */
  async downgrade(id: string): Promise<void> {
    await this.ask(`connections/${id}/downgrade`, 'POST');
    await this.look();
  }

  /** Asks the server by HTTP. */
  async ask(path: string, method = 'GET'): Promise<Response> {
    const { token } = this.who();
    const headers: HeadersInit = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(`/v1/${path}`, { method, headers });
    if (response.ok) return response;
    const why = (await response.text()).slice(0, 200);
    throw Object.assign(new Error(why), { code: response.status });
  }
}
