/**
 * Where a writer and a follower keep what has to outlive the process.
 *
 * Promise of `fileStorage`: when `save` resolves, the value survives `kill -9` and loss of power;
 * whenever the process dies, `load` finds a whole value, the last or the one before.
 */

import { open, readFile, rename } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { HighwaterError } from '../errors.js';
import { wrong } from './check.js';

/** Keeps one value; it is JSON throughout. */
export interface Storage<T> {
  /** The value that was saved last; none: `undefined`. */
  load(): Promise<T | undefined> | T | undefined;
  /** Resolves when the value is durable; a value that was half written is never loaded. */
  save(value: T): Promise<void> | void;
}

/**
 * Keeps a value as JSON in a file, readable by its owner alone; its folder has to be there.
 * A file that holds anything else rejects `load` with `bad_request`, since to begin anew there
 * would append again what was stored.
 */
export const fileStorage = <T>(path: string): Storage<T> => {
  if (typeof path !== 'string' || !path) wrong('path', 'not a path');
  const file = resolve(path);
  let last: Promise<void> = Promise.resolve();
  const write = async (value: T): Promise<void> => {
    const draft = `${file}.new`;
    const handle = await open(draft, 'w', 0o600);
    try {
      await handle.writeFile(JSON.stringify(value));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, file);
    await syncFolder(dirname(file));
  };
  return {
    load: async () => {
      let text;
      try {
        text = await readFile(file, 'utf8');
      } catch (error) {
        if ((error as { code?: string }).code === 'ENOENT') return undefined;
        throw error;
      }
      try {
        return JSON.parse(text) as T;
      } catch {
        throw new HighwaterError('bad_request', `path: ${path} holds no JSON`);
      }
    },
    // One after the other: two at once would write into one draft.
    save: (value) => (last = last.catch(() => {}).then(() => write(value))),
  };
};

/** A new name in a folder is durable once the folder is; Windows knows no such thing. */
const syncFolder = async (folder: string): Promise<void> => {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
};

/** Keeps a value for the life of the process: for tests, and for what may begin anew. */
export const memoryStorage = <T>(): Storage<T> => {
  let text: string | undefined;
  return {
    load: () => (text === undefined ? undefined : (JSON.parse(text) as T)),
    save: (value) => void (text = JSON.stringify(value)),
  };
};

/** Something that loads, and saves where it has to. */
export const checkStorage = (field: string, value: Partial<Storage<any>>, saves: boolean): void => {
  if (typeof value?.load !== 'function') wrong(`${field}.load`, 'not a function');
  const { save } = value;
  if (typeof save !== 'function' && (saves || save !== undefined)) {
    wrong(`${field}.save`, 'not a function');
  }
};
