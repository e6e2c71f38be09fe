/** What a test waits for: conditions, never times. */

import type { Client, Log, LogEvents, Phase, Read, Status } from '../src/index.js';

/** When a read has a value that is so. */
export function when<T, S extends T>(read: Read<T>, so: (value: T) => value is S): Promise<S>;
export function when<T>(read: Read<T>, so: (value: T) => boolean): Promise<T>;
export function when<T>(read: Read<T>, so: (value: T) => boolean): Promise<T> {
  return new Promise((resolve) => {
    let off = (): void => {};
    off = read.subscribe((value) => {
      if (!so(value)) return;
      queueMicrotask(() => off());
      resolve(value);
    });
  });
}

/** When the client is in that phase: its status then. */
export const until = <P extends Phase>(
  client: Client,
  phase: P,
): Promise<Extract<Status, { phase: P }>> =>
  when(client.status, (status): status is Extract<Status, { phase: P }> => status.phase === phase);

/** When an event of a log comes that is so. */
export const event = <T, K extends keyof LogEvents<T>>(
  log: Log<T>,
  on: K,
  so: (event: LogEvents<T>[K]) => boolean = () => true,
): Promise<LogEvents<T>[K]> =>
  new Promise((resolve) => {
    const off = log.on(on, (told) => {
      if (!so(told)) return;
      off();
      resolve(told);
    });
  });

/** When all up to that offset is here. */
export const reached = async (log: Log<any>, cursor: number): Promise<void> => {
  while (log.cursor < cursor) await event(log, 'records');
};
