/** The user's connections as the server lists them, each with a button that downgrades it. */

import { badge, byId, make } from './dom.js';

interface Listed {
  readonly id: string;
  readonly active: boolean;
  readonly attached: boolean;
  readonly visible: boolean;
  readonly reason?: string;
  readonly generation: number;
}

/** Most connections shown: the newest ones to have changed. */
const MOST = 12;

export class Mine {
  constructor(
    private readonly who: () => { token: string | undefined; user: string | undefined; connection: string },
    private readonly tell: (problem: unknown) => void,
  ) {
    byId('look').onclick = () => void this.look().catch(tell);
  }

  /** Asks the server; nothing is changed. */
  async look(): Promise<void> {
    const { user, connection } = this.who();
    if (!user) return;
    const { connections } = (await this.#ask(`?user=${encodeURIComponent(user)}&limit=100`)) as {
      connections: (Listed & { since: number })[];
    };
    const shown = connections
      .sort((a, b) => Number(b.attached) - Number(a.attached) || b.since - a.since)
      .slice(0, MOST);
    byId('mine').replaceChildren(
      ...shown.map(({ id, active, attached, visible, reason, generation }) => {
        const where = `${attached ? (visible ? 'attached' : 'attached, hidden') : 'detached'}, generation ${generation}`;
        const state = active ? 'active' : `inactive${reason ? `: ${reason}` : ''}`;
        const button = make('button', { type: 'button', disabled: !active }, 'Downgrade');
        button.ariaLabel = `Downgrade ${id.slice(0, 6)}`;
        button.onclick = () => void this.downgrade(id).catch(this.tell);
        const line = make(
          'li',
          {},
          badge(id),
          make('b', {}, state),
          button,
          make('span', {}, `${where}${id === connection ? ', this window' : ''}`),
        );
        line.dataset['connection'] = id;
        return line;
      }),
    );
  }

  /** Asks the server to take the connection's channel away. */
  async downgrade(id: string): Promise<void> {
    await this.#ask(`/${id}/downgrade`, 'POST');
    await this.look();
  }

  async #ask(path: string, method = 'GET'): Promise<unknown> {
    const { token } = this.who();
    const headers: HeadersInit = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(`/v1/connections${path}`, { method, headers });
    if (response.ok) return response.json();
    throw new Error(`the server answered ${response.status}: ${(await response.text()).slice(0, 200)}`);
  }
}
