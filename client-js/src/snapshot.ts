/**
 * Puts a state that this client folded to the server, for readers of a log under the rule `client`.
 */

import { HighwaterError } from './errors.js';
import type { Handle, Log } from './handle.js';

export interface Snapshot {
  /** The state includes all accepted records below this offset, and none of the pending ones. */
  readonly offset: number;
  /** Of its format, as the app counts it. */
  readonly version: number;
  readonly data: Uint8Array;
}

/** Bytes of one part: what every server takes. */
const PART = 262_144;
/** Bytes that a part has around its data. */
const AROUND = 512;
/** How often it is begun anew: after a cut, or where another upload took its place in the queue. */
const TRIES = 5;

/**
 * Resolves when the snapshot is durable. A lost socket and `snapshot_parts` begin it anew, `rate`
 * is waited out; it rejects with any other reason (`snapshot_behind`: there is a newer one,
 * `denied`, `snapshot_rule`, `inactive`, ...), and with the last one after five tries.
 */
export const putSnapshot = async <T>(log: Log<T>, snapshot: Snapshot): Promise<void> => {
  const { offset, version, data } = snapshot;
  const whole = [offset, version].every((count) => Number.isSafeInteger(count) && count >= 0);
  if (!whole || !(data instanceof Uint8Array)) {
    throw new HighwaterError('bad_request', 'offset, version: numbers from 0; data: bytes');
  }
  const handle = log as Handle<T>;
  for (let tries = 1; ; tries++) {
    await live(handle);
    try {
      return await upload(handle, snapshot);
    } catch (error) {
      const { code } = error as HighwaterError;
      const again = code === 'lost' || code === 'snapshot_parts' || code === 'stale';
      if (!again || tries >= TRIES) throw error;
    }
  }
};

/** When the log is announced on a socket; rejects where it is over. */
const live = (log: Handle<any>): Promise<void> =>
  new Promise((resolve, reject) => {
    let off = (): void => {};
    const look = (): void => {
      const status = log.status.value;
      const over = ['closed', 'needs-auth', 'update-required', 'inactive'].includes(status.phase);
      if (!over && !log.shared.announced) return;
      queueMicrotask(() => off());
      if (!over) return resolve();
      const code = status.phase === 'inactive' ? 'inactive' : 'closed';
      reject(('error' in status && status.error) || new HighwaterError(code, status.reason));
    };
    off = log.status.subscribe(look);
  });

/** Sends all parts under one number, and those again that were refused for now. */
const upload = (log: Handle<any>, { offset, version, data }: Snapshot): Promise<void> =>
  new Promise((resolve, reject) => {
    const { core, shared } = log;
    // It may have been cut since it was looked at.
    if (!shared.announced) return reject(new HighwaterError('lost', 'no socket'));
    const frame = core.greeting!.limits.frameBytes - AROUND;
    // JSON has four letters for three bytes.
    const json = core.config.encoding.name === 'json';
    const size = Math.min(PART, json ? Math.floor(frame / 4) * 3 : frame);
    const parts = Math.max(1, Math.ceil(data.length / size));
    let timer: ReturnType<typeof setTimeout> | undefined;
    let request = 0;
    const send = (from: number): void => {
      timer = undefined;
      for (let part = from; part < parts; part++) {
        core.say('putSnapshot', {
          request, log: shared.id!, offset, version, part, last: part === parts - 1,
          data: data.slice(part * size, (part + 1) * size),
        });
      }
      core.wake();
    };
    const answered = (_: number, error?: HighwaterError): void => {
      if (error?.code === 'rate') {
        // The parts behind the one that it names were not looked at, and are refused alike.
        request = core.ticket(answered, request);
        const from = +(/part (\d+)/.exec(error.message)?.[1] ?? 0);
        timer ??= setTimeout(send, error.retryAfter, from < parts ? from : 0);
        return;
      }
      clearTimeout(timer);
      if (error) reject(error);
      else resolve();
    };
    request = core.ticket(answered);
    send(0);
  });
