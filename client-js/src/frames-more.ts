/** Frames of the protocol that this client does not send, or need not read; not in its bundle. */

import { bool, grown, id, payload, struct, u32, u64 } from './codec.js';
import { clientFrames, serverFrames } from './frames.js';

const PutSnapshot = struct({
  request: u32, log: u64, offset: u64, version: u32, part: u32, last: bool, data: payload,
});
const Retire = struct({ writer: id, request: grown(u32, 0) });

/** All frames that a client may send. */
export const allClientFrames = {
  ...clientFrames,
  put_snapshot: [12, PutSnapshot],
  retire: [13, Retire],
} as const;

/** All frames that a server may send. */
export const allServerFrames = { ...serverFrames, done: [67, struct({ request: u32 })] } as const;
