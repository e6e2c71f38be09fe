/** All bounds of this client, of time and of size, in one place. */

/** Milliseconds. */
export const enum Ms {
  /** The wait before coming back: a random part of a bound that doubles from here to there. */
  BACK_FROM = 500,
  BACK_TO = 20_000,
  /** From opening a socket, or asking for a token, to what must follow. */
  WELCOME = 15_000,
  /** From our close to the peer's; then the socket is broken off. */
  GOODBYE = 1_000,
  /** From a ping to any sign of life. */
  PONG = 5_000,
  /** A timer later than this was frozen with its page, and what came meanwhile is not read yet. */
  FROZEN = 2_000,
  /** Anything new is acknowledged within this. */
  ACK = 800,
  /** A socket that lived so long after its `Welcome` was a good one. */
  STEADY = 10_000,
  /** A new token is not asked for sooner than this after the last. */
  REFRESH = 1_000,
  /** Shortest and longest wait bound before a transient refusal is tried again. */
  RETRY_FROM = 100,
  RETRY_TO = 10_000,
  /** A refused round is sent again once all of it was answered, or after this much more. */
  ROUND = 5_000,
  /** The longest that timers can wait. */
  LONGEST = 2 ** 31 - 1,
}

/** Sizes and counts. */
export const enum Most {
  /** Bytes of a base that a client made; a longer one ends the log. */
  BASE = 64 << 20,
  /** The smallest `frame_bytes` that a server may set, for the time before it has told its own. */
  FRAME = 65_536,
  /** Bytes that a frame has around its list, without a token and positions. */
  AROUND_LIST = 512,
  /** Bytes that a log has around its name, in JSON. */
  AROUND_NAME = 128,
  /** Bytes that an item has around its record: numbers, a name of 255 bytes, JSON's own. */
  AROUND_RECORD = 512,
  /** Bytes of a position, in JSON. */
  POSITION = 72,
  /** Ids or cursors in one frame. */
  IDS = 1000,
  /** Items in one frame. */
  ITEMS = 1024,
  /** Writers that `hello` names. */
  WRITERS = 16,
  /** Connection ids kept for one user and server. */
  CONNECTIONS = 32,
  /** Batches of one shard: a batch keeps the upper 8 of its 53 bits for the shard. */
  BATCHES = 2 ** 45,
}
