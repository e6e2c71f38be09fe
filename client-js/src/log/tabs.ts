/**
 * The other pages of the same log: whose writer is whose, and what they have done meanwhile.
 *
 * Promise: a writer has one holder; when its page is dead, one that waits for it has it. A page
 * that is frozen keeps what it holds. Messages are hints between pages that live: what counts
 * stands in the store, and is read there.
 */

import type { Locks } from '../identity.js';

/** Takes a lock as long as the page lives, or until it is let go. */
export type Hold = (name: string) => {
  /** When it is had; false where it was let go before. */
  readonly had: Promise<boolean>;
  readonly release: () => void;
};

/** By Web Locks. `had` answers false where it was let go before it was had. */
export const holdBy = (locks: Locks): Hold => (name) => {
  let release = (): void => {};
  const over = new Promise<void>((resolve) => (release = resolve));
  let answer: (had: boolean) => void;
  const had = new Promise<boolean>((resolve) => (answer = resolve));
  const given = new AbortController();
  // A lock that is not had yet is waited for: it comes when the page that holds it is dead.
  locks
    .request(name, { signal: given.signal } as object, () => {
      answer(true);
      return over;
    })
    .catch(() => answer(false));
  return {
    had,
    release: () => {
      release();
      given.abort();
    },
  };
};

/** Within this process alone: whoever asks first has it, the next when that is done. */
export const holdHere = (): Hold => {
  const held = new Map<string, Promise<void>>();
  return (name) => {
    let release = (): void => {};
    const over = new Promise<void>((resolve) => (release = resolve));
    const before = held.get(name) ?? Promise.resolve();
    held.set(name, before.then(() => over));
    return { had: before.then(() => true), release };
  };
};

/** Says things to the other pages, and hears what they say. */
export interface Tabs<M> {
  say(message: M): unknown;
  close(): void;
}

/** By a BroadcastChannel, where there is one. */
export const tabs = <M>(name: string, heard: (message: M) => void): Tabs<M> => {
  if (typeof BroadcastChannel === 'undefined') return { say: () => {}, close: () => {} };
  const channel = new BroadcastChannel(name);
  channel.onmessage = ({ data }: { data: M }) => heard(data);
  // A Node process is not kept alive for it.
  (channel as { unref?: () => void }).unref?.();
  // What was on its way to disk at the end is told behind it: that is not to throw.
  let open = true;
  return {
    say: (message) => open && channel.postMessage(message),
    close: () => {
      open = false;
      channel.close();
    },
  };
};
