/**
 * A WebSocket as the connection wants it: frames in, frames out, and silence once it is dropped.
 *
 * It does not reconnect, wait or judge; bytes that are no frame end it like a loss.
 */

import { Ms } from './bounds.js';
import { CodecError, content, Io, type Encoding, type Message, type Sized } from './codec.js';
import { HighwaterError } from './errors.js';
import { clientFrames, serverFrames, type ClientFrame, type ServerFrame } from './frames.js';

/** What is used of a WebSocket: the browser's, Node's and that of `ws` all have it. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount?: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: any): void;
  close(code?: number): void;
  /** Of the package `ws`. */
  terminate?: () => void;
}
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocketLike;

/** The constructor given, the global one, or that of the package `ws` (Node before 22). */
export const webSocket = async (made?: WebSocketConstructor): Promise<WebSocketConstructor> => {
  const found = made ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
  if (found) return found;
  const name = 'ws'; // Not a literal in the import, so that bundlers for browsers leave it alone.
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)).WebSocket;
  } catch {
    throw new Error('no WebSocket: install "ws"');
  }
};

/** The address of a server's WebSocket, from `http:` or `ws:`, with or without the path. */
export const address = (url: string | { readonly href: string }): string => {
  let made;
  try {
    made = new URL(
      typeof url === 'string' ? url : url.href,
      (globalThis as { location?: { href: string } }).location?.href,
    );
  } catch {
    // It is no address at all.
  }
  if (!made || !/^(http|ws)s?:$/.test(made.protocol)) {
    throw new HighwaterError('bad_request', `url: ${url} is not http, https, ws, wss`);
  }
  if (made.pathname === '/') made.pathname = '/v1/connect';
  return made.href.replace(/^http/, 'ws');
};

/** What a socket tells. */
export type SocketEvent =
  | [what: 'opened']
  | [what: 'frames', frames: Sized<ServerFrame>[]]
  | [what: 'closed', code?: number, reason?: string];

/**
 * Why there is none, where nobody says more: a browser tells a page neither of a refused connection
 * nor of an answer that is no upgrade.
 */
const UNMET = 'no WebSocket: no server there, or a proxy that passes no "Upgrade" on';

/** An open or opening socket. */
export interface Socket {
  send(frame: ClientFrame): void;
  /** Bytes that went out, plus one; 0 where nothing waits to go out. */
  flown(): number;
  /** Ends it; nothing of it is told any more. */
  drop(): void;
}

/**
 * A mute peer answers no close, and its socket would keep a process alive: it is broken off.
 * Node's own WebSocket has no word for that; where its TCP socket can be had, that is ended.
 */
const abandon = (raw: any): void => {
  const timer: any = setTimeout(() => {
    raw.terminate?.();
    for (const part of Object.getOwnPropertySymbols(raw)) raw[part]?.socket?.destroy?.();
  }, Ms.GOODBYE);
  timer.unref?.();
};

export const openSocket = (
  make: WebSocketConstructor,
  url: string,
  encoding: Encoding,
  tell: (...event: SocketEvent) => void,
  most: () => number,
): Socket => {
  const raw = new make(url, [`highwater.v1.${encoding.name}`]);
  const drop = (): void => {
    raw.onopen = raw.onclose = raw.onmessage = null;
    raw.onerror = () => {}; // Of a socket that is given up; unheard, `ws` would throw it.
    raw.close(1000);
    if (!globalThis.document) abandon(raw);
  };
  const end = (code?: number, reason?: string): void => {
    drop();
    tell('closed', code, reason);
  };
  raw.binaryType = 'arraybuffer';
  let why = UNMET;
  raw.onopen = () => {
    why = 'no connection';
    tell('opened');
  };
  // Node's own tells a failed connection by this alone. A close that would follow says no more.
  raw.onerror = ({ message }) => end(0, message || why);
  raw.onclose = ({ code, reason }) => end(code, reason);
  let whole = new Io();
  /** The frames of a message, or of the pieces that together are one. */
  const read = (message: Message): Sized<ServerFrame>[] =>
    encoding.decode(serverFrames, message).flatMap((one) => {
      if (one.frame.name !== 'part') return one;
      const { last, data } = one.frame.body;
      whole.raw(content(data));
      if (whole.at > most()) throw new CodecError('over the limit');
      if (!last) return [];
      const bytes = whole.done();
      whole = new Io();
      return read(bytes);
    });
  raw.onmessage = ({ data }) => {
    let frames;
    try {
      frames = read(typeof data === 'string' ? data : new Uint8Array(data));
    } catch (error) {
      return end(0, (error as Error).message);
    }
    tell('frames', frames);
  };
  let given = 1;
  const send = (frame: ClientFrame): void => {
    const message = encoding.encode(clientFrames, frame);
    given += message.length;
    raw.send(message);
  };
  const flown = (): number => (raw.bufferedAmount ? given - raw.bufferedAmount : 0);
  return { send, flown, drop };
};
