/**
 * A TCP link of the tests' own: it cuts where it is told to, and carries no more than it is told.
 *
 * Promise: bytes pass unaltered and in order up to the cut, and nothing passes after it; both ends
 * of a connection go together, by FIN or by RST. Of a slow one few bytes are on their way in here;
 * what the kernel holds before it is some hundred kB, more than on most real links.
 */

import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { setTimeout as after } from 'node:timers/promises';

/** Bytes of a piece on a slow link. */
const PIECE = 1024;

/** What a connection may still do. */
interface Lease {
  left: number;
  cut(): void;
}

export class Wire {
  /** Asked for each new connection: after how many bytes, both ways together, it is cut. */
  lasts: () => number = () => Infinity;
  /** Whether a cut is an RST; else a FIN. */
  harsh: () => boolean = () => false;
  /** Bytes a second, each way. */
  rate = Infinity;
  /** How many connections were cut here, and how many bytes have passed. */
  cuts = 0;
  bytes = 0;
  readonly #open = new Set<Lease>();
  readonly #server: Server;

  private constructor(readonly to: number) {
    this.#server = createServer((socket) => this.#join(socket));
  }

  /** One that leads to that port of this machine. */
  static async to(port: number): Promise<Wire> {
    const wire = new Wire(port);
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    return wire;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Cuts all that is open. */
  cut(): void {
    for (const lease of [...this.#open]) lease.cut();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }

  #join(near: Socket): void {
    const far = connect(this.to, '127.0.0.1');
    const cut = (): void => {
      if (!this.#open.delete(lease)) return;
      this.cuts++;
      for (const socket of [near, far]) {
        // Node cannot reset what it shuts down already: its handle would stay, and the process.
        if (this.harsh() && !socket.writableEnded) socket.resetAndDestroy();
        else socket.destroy();
      }
    };
    const lease: Lease = { left: Math.ceil(this.lasts()), cut };
    this.#open.add(lease);
    for (const socket of [near, far]) socket.setNoDelay(true).on('error', () => {});
    // Where one side breaks, neither is of use; an end in order is handed on.
    for (const [from, to] of [[near, far], [far, near]] as const) {
      from.on('close', (broke) => broke && to.destroy());
    }
    const ways = [this.#carry(near, far, lease), this.#carry(far, near, lease)];
    void Promise.all(ways).then(() => {
      this.#open.delete(lease);
      near.destroy();
      far.destroy();
    });
  }

  async #carry(from: Socket, to: Socket, lease: Lease): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; at += PIECE) {
          const piece = chunk.subarray(at, at + Math.min(PIECE, lease.left));
          lease.left -= piece.length;
          this.bytes += piece.length;
          if (this.rate !== Infinity) await after((1000 * piece.length) / this.rate);
          if (!to.writable) return;
          if (!to.write(piece)) await drained(to);
          if (lease.left <= 0) return lease.cut();
        }
      }
      to.end();
    } catch {
      to.destroy(); // It broke, or was cut.
    }
  }
}

/** When more may be written, or nothing more at all. */
const drained = (socket: Socket): Promise<void> =>
  new Promise((ready) => {
    for (const name of ['drain', 'close']) socket.once(name, ready);
  });
