/** What a connection waits for, and for how long. */

/** Bounds of the wait before coming back, ms: a random part of a bound that doubles. */
export const BACKOFF = { from: 500, to: 20_000 };
/** From opening a socket, or asking for a token, to what must follow, ms. */
export const WELCOME = 15_000;
/** From a ping to any sign of life, ms. */
export const PONG = 5_000;
/** A timer later than this was frozen with its page, and what came meanwhile is not read yet. */
export const FROZEN = 2_000;
/** Anything new is acknowledged within this, ms. */
export const ACK = 800;
/** A socket that lived so long after its `Welcome` was a good one, ms. */
export const STEADY = 10_000;
/** A new token is not asked for sooner than this after the last, ms. */
export const REFRESH = 1_000;

/**
 * `retry`: time to come back. `welcome`: the token or the socket took too long. `ping`: too quiet,
 * ask. `pong`: no sign of life. `ack`: acknowledge. `activate`: ask to be active. `refresh`: get a
 * new token. `subscribe`: send again what was refused.
 */
export type Timer =
  | 'retry' | 'welcome' | 'ping' | 'pong' | 'ack' | 'activate' | 'refresh' | 'subscribe';
