/** What a demo or a curious person may look at, and break. */

import type { Client } from './client.js';
import type { Welcome } from './frames.js';

export interface Debug {
  /** Breaks the socket as a network would. */
  cut(): void;
  /**
   * How it was last met (`met`, `generation`, `source`, `user`), the bytes of delivery worked off
   * and acknowledged since, and the number of actions without an answer.
   */
  info(): Partial<Omit<Welcome, 'token'>> & { received: number; acked: number; pending: number };
}

export const debug = (client: Client): Debug => ({
  cut: () => client.cut(),
  info: () => {
    const { greeting, worked: received, acked, author } = client.core;
    const { token, ...told } = { token: undefined, ...greeting };
    return { ...told, received, acked, pending: author.queue.size };
  },
});
