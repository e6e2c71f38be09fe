/**
 * A TCP proxy on loopback that breaks what goes through it, at places that a seed gives.
 *
 * Promise: without a fault it changes no byte and holds back no more than one chunk; a cut ends
 * both sides by a reset in the middle of what was under way, and what it still held is lost.
 */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Proxy {
  #to;
  #bytes;
  #pairs = new Set();
  /** Bytes after which a connection is cut: from and to; undefined: never. */
  #cuts;
  #dark = false;
  #down = false;
  cutsMade = 0;

  /** `dice` are for whoever times its faults, `bytes` for the bytes of its cuts. */
  constructor(to, dice, bytes) {
    this.#to = to;
    this.dice = dice;
    this.#bytes = bytes;
    this.server = createServer({ pauseOnConnect: true }, (socket) => this.#joined(socket));
  }

  async listen() {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return this.server.address().port;
  }

  /** From now on each connection is cut after so many bytes, both ways together. */
  cut(from, to) {
    this.#cuts = { from, to };
    for (const pair of this.#pairs) pair.left = this.#budget();
  }

  /** Nothing goes through and nothing is refused, until `light`, which ends what was held. */
  dark() {
    this.#dark = true;
    for (const { near, far } of this.#pairs) {
      near.pause();
      far.pause();
    }
  }

  light() {
    this.#dark = false;
    this.#breakAll();
  }

  /** Nobody gets through, and is refused, until `up`. */
  down() {
    this.#down = true;
    this.#breakAll();
  }

  up() {
    this.#down = false;
  }

  /** No more faults. */
  calm() {
    this.#cuts = undefined;
    for (const pair of this.#pairs) pair.left = Infinity;
    if (this.#dark) this.light();
    this.up();
  }

  close() {
    this.server.close();
    this.#breakAll();
  }

  #budget() {
    if (!this.#cuts) return Infinity;
    return this.#bytes.between(this.#cuts.from, this.#cuts.to);
  }

  #breakAll() {
    for (const pair of this.#pairs) this.#break(pair);
  }

  #break(pair) {
    this.#pairs.delete(pair);
    for (const socket of [pair.near, pair.far]) socket.resetAndDestroy();
  }

  #joined(near) {
    if (this.#down) {
      near.on('error', () => undefined);
      near.resetAndDestroy();
      return;
    }
    const far = connect(this.#to, '127.0.0.1');
    const pair = { near, far, left: this.#budget() };
    this.#pairs.add(pair);
    this.#pass(pair, near, far);
    this.#pass(pair, far, near);
    if (!this.#dark) near.resume();
    else far.pause();
  }

  #pass(pair, from, to) {
    from.setNoDelay(true);
    from.on('data', (chunk) => {
      if (chunk.length >= pair.left) {
        this.cutsMade += 1;
        const part = chunk.subarray(0, pair.left);
        pair.left = Infinity;
        from.pause();
        // What belongs to the part goes out first; the rest never does.
        to.write(part, () => this.#break(pair));
        return;
      }
      pair.left -= chunk.length;
      if (to.write(chunk)) return;
      from.pause();
      to.once('drain', () => this.#dark || from.resume());
    });
    from.on('end', () => to.end());
    from.on('error', () => this.#break(pair));
    from.on('close', () => {
      this.#pairs.delete(pair);
      to.destroySoon();
    });
  }
}
