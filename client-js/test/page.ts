/** What a page has of its browser, played by the test: storages and Web Locks in memory. */

import type { Locks, Storage } from '../src/identity.js';

export const memory = (): Storage & { kept: Map<string, string> } => {
  const kept = new Map<string, string>();
  return {
    kept,
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
};

/** Exclusive locks, in the order of the requests. */
export const locksOf = (): Locks => {
  const held = new Map<string, Promise<unknown>>();
  const request: Locks['request'] = async (name, { ifAvailable }, work) => {
    if (ifAvailable && held.has(name)) return work(null);
    while (held.has(name)) await held.get(name);
    const done = Promise.resolve().then(() => work({ name }));
    held.set(name, done);
    try {
      return await done;
    } finally {
      held.delete(name);
    }
  };
  return { request };
};

/** A lock is let go a moment later. */
export const moment = (): Promise<void> => new Promise((done) => setImmediate(done));
