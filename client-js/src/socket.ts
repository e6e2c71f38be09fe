/**
 * A WebSocket as the connection wants it: frames in, frames out, and silence once it is dropped.
 *
 * It does not reconnect, wait or judge; bytes that are no frame end it like a loss.
 */

import {
  CodecError, content, decode, decodeText, encode, Io, type Encoding, type Sized,
} from './codec.js';
import { clientFrames, serverFrames, type ClientFrame, type ServerFrame } from './frames.js';

/** What is used of a WebSocket: the browser's, Node's and that of `ws` all have it. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount?: number;
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
    throw new Error('no WebSocket: install "ws"');
  }
};

/** The address of a server's WebSocket, from `http:` or `ws:`, with or without the path. */
export const address = (url: string | URL): string => {
  const made = new URL(url, (globalThis as { location?: { href: string } }).location?.href);
  if (made.pathname === '/') made.pathname = '/v1/connect';
  return made.href.replace(/^http/, 'ws');
};

/** What a socket tells. */
export interface SocketEvents {
  opened(): void;
  message(frames: Sized<ServerFrame>[]): void;
  closed(code?: number, reason?: string): void;
}

/** An open or opening socket. */
export interface Socket {
  send(frame: ClientFrame): void;
  /** Bytes that went out, plus one; 0 where nothing waits to go out. */
  flown(): number;
  /** Ends it; nothing of it is told any more. */
  drop(): void;
}

export const openSocket = (
  make: WebSocketConstructor,
  url: string,
  encoding: Encoding,
  events: SocketEvents,
  most: () => number,
): Socket => {
  const raw = new make(url, [`highwater.v1.${encoding}`]);
  const drop = (): void => {
    raw.onopen = raw.onclose = raw.onmessage = null;
    raw.close(1000);
  };
  raw.binaryType = 'arraybuffer';
  raw.onopen = events.opened;
  raw.onerror = () => {}; // A close always follows.
  raw.onclose = ({ code, reason }) => {
    drop();
    events.closed(code, reason);
  };
  let whole = new Io();
  /** The frames of a message, or of the pieces that together are one. */
  const read = (message: string | Uint8Array): Sized<ServerFrame>[] =>
    decode(serverFrames, message).flatMap((one) => {
      if (one.frame.name !== 'part') return one;
      const { last, data } = one.frame.body;
      whole.raw(content(data));
      if (whole.at > most()) throw new CodecError('over the limit');
      if (!last) return [];
      const bytes = whole.done();
      whole = new Io();
      return read(typeof data === 'string' ? decodeText(bytes) : bytes);
    });
  raw.onmessage = ({ data }) => {
    let frames;
    try {
      frames = read(typeof data === 'string' ? data : new Uint8Array(data));
    } catch (error) {
      drop();
      return events.closed(0, (error as Error).message);
    }
    events.message(frames);
  };
  let given = 1;
  const send = (frame: ClientFrame): void => {
    const message = encode(clientFrames, frame, encoding);
    given += message.length;
    raw.send(message);
  };
  const flown = (): number => raw.bufferedAmount ? given - raw.bufferedAmount : 0;
  return { send, flown, drop };
};
