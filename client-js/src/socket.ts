/**
 * A WebSocket as the connection wants it: frames in, frames out, and silence once it is dropped.
 *
 * It does not reconnect, wait or judge; bytes that are no frame end it like a loss.
 */

import { decode, encode, type Encoding } from './codec.js';
import { clientFrames, serverFrames, type ClientFrame } from './frames.js';
import type { Input } from './connection.js';

/** What is used of a WebSocket: the browser's, Node's and that of `ws` all have it. */
export interface WebSocketLike {
  binaryType: string;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
}
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** The constructor given, the global one, or that of the package `ws` (Node before 22). */
export const webSocket = async (given?: WebSocketConstructor): Promise<WebSocketConstructor> => {
  const found = given ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
  if (found) return found;
  const name = 'ws'; // Not a literal in the import, so that bundlers for browsers leave it alone.
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)).WebSocket;
  } catch {
    throw new Error('there is no WebSocket here: install the package "ws", or give one in options');
  }
};

/** The address of a server's WebSocket, from `http:` or `ws:`, with or without the path. */
export const address = (url: string | URL): string => {
  const made = new URL(url, (globalThis as { location?: { href: string } }).location?.href);
  made.protocol = made.protocol.replace(/^http/, 'ws');
  if (made.pathname === '/') made.pathname = '/v1/connect';
  return made.href;
};

export class Socket {
  private readonly raw: WebSocketLike;

  constructor(
    make: WebSocketConstructor,
    url: string,
    private readonly encoding: Encoding,
    private readonly input: (inputs: Input[]) => void,
  ) {
    this.raw = new make(url, [`highwater.v1.${encoding}`]);
    this.raw.binaryType = 'arraybuffer';
    this.raw.onopen = () => input([{ type: 'opened' }]);
    this.raw.onclose = ({ code, reason }) => this.end(code, reason);
    this.raw.onerror = () => {}; // A close always follows.
    this.raw.onmessage = ({ data }) => this.message(data);
  }

  private message(data: string | ArrayBuffer): void {
    let inputs: Input[];
    try {
      const frames = decode(serverFrames, typeof data === 'string' ? data : new Uint8Array(data));
      inputs = frames.map(({ frame, size }) => ({ type: 'frame', frame, size }));
    } catch (error) {
      this.drop();
      return this.input([{ type: 'closed', reason: (error as Error).message }]);
    }
    this.input(inputs);
  }

  private end(code: number, reason: string): void {
    this.drop();
    this.input([{ type: 'closed', code, reason }]);
  }

  send(frame: ClientFrame): void {
    this.raw.send(encode(clientFrames, frame, this.encoding));
  }

  /** Ends it; nothing of it is told any more. */
  drop(): void {
    this.raw.onopen = this.raw.onclose = this.raw.onmessage = null;
    this.raw.onerror = () => {};
    this.raw.close(1000);
  }
}
