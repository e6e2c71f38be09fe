/** A WebSocket that shows the frames that cross it, both ways, and changes none. */

import { binary } from '../src/codec.js';
import { clientFrames, serverFrames, type ClientFrame, type ServerFrame } from '../src/frames.js';

export interface Seen {
  in(frame: ServerFrame): void;
  out(frame: ClientFrame): void;
}

const bytes = (data: unknown): string | Uint8Array =>
  data instanceof ArrayBuffer ? new Uint8Array(data) : (data as string | Uint8Array);

export const tapped = (seen: Seen): typeof WebSocket =>
  class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('message', ({ data }) => {
        // A socket that was dropped has no listener any more; what still comes counts for nothing.
        if (!this.onmessage) return;
        for (const { frame } of binary.decode(serverFrames, bytes(data))) seen.in(frame);
      });
    }

    override send(data: string | Uint8Array<ArrayBuffer>): void {
      for (const { frame } of binary.decode(clientFrames, bytes(data))) seen.out(frame);
      super.send(data);
    }
  };
