/**
 * Requests to a node, over networks as they are.
 *
 * Promise: an answer is taken for the node's only if it is; a body that broke off says so; every
 * attempt ends by itself; a call that waits to try again ends with its signal.
 */

import { codeNumber, HighwaterError, isTransient, wantsToken, type Code } from '../errors.js';
import { fromJson } from '../json-wire.js';
import { callback, wrong } from './check.js';
import type { CallOptions, Signal } from './types.js';

/** Milliseconds. */
const enum Ms {
  /** From asking to the head of the answer (beyond what the node is to wait), and between parts. */
  ANSWER = 30_000,
  TOKEN = 15_000,
  /** An attempt has so long, however soon its call is to be given up. */
  LEAST = 1_000,
  /** A token that served a call for so long was good. */
  GOOD = 1_000,
  /** A token that ends sooner is not used any more. */
  TOKEN_LEFT = 60_000,
  /** Bounds of the wait before another try, a random part of which is waited. */
  RETRY_FROM = 50,
  RETRY_TO = 2_000,
  LONGEST = 2 ** 31 - 1,
}

/** What gives a token: itself, or a function that is called when one is needed. */
export type TokenSource = string | (() => string | Promise<string>);

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Below the node's address, without a slash at its beginning. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | undefined;
  readonly signal?: Signal | undefined;
  /** The log's id, and a position, that the answer has to fit. */
  readonly logId?: number | undefined;
  readonly position?: string | undefined;
  /** Milliseconds that the node was asked to wait. */
  readonly wait?: number;
  /** Milliseconds that its call goes on trying, beyond that. */
  readonly within?: number;
}

/** When an attempt ends. */
type Ending = Pick<Call, 'signal' | 'within'>;

export interface Reply {
  readonly headers: { get(name: string): string | null };
  readonly bytes: Uint8Array;
  /** It broke off: `bytes` is what came. */
  readonly cut: boolean;
  readonly position: string;
}

/** A refusal with what else the node said. */
export class Refused extends HighwaterError {
  constructor(
    code: Code,
    message: string,
    retryAfter: number,
    readonly body: Readonly<Record<string, any>>,
    readonly status: number,
  ) {
    super(code, message, retryAfter);
  }
}

export const utf8 = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** An answer that is one JSON object. */
export const bodyOf = (reply: Reply): Record<string, any> => {
  try {
    if (!reply.cut) return fromJson(utf8(reply.bytes));
  } catch {
    // It broke off where nothing told so.
  }
  throw new HighwaterError('lost', 'the answer broke off', 0, true);
};

/** The end of a call that its caller gave up. */
export const ended = (signal: Signal | undefined, maybeStored = false): HighwaterError => {
  const error = new HighwaterError('closed', 'the signal ended the call', 0, maybeStored);
  error.cause = signal?.reason;
  return error;
};

/** Waits so long, or until the signal ends it; rejects then. */
export const pause = (ms: number, signal: Signal | undefined): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(ended(signal));
    const over = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', over);
      if (signal?.aborted) reject(ended(signal));
      else resolve();
    };
    const timer = setTimeout(over, Math.min(ms, Ms.LONGEST));
    signal?.addEventListener('abort', over);
  });

/** Whether the same may be sent again. */
const passes = (code: Code): boolean =>
  (isTransient(code) && !['sequence_gap', 'other_history', 'token_expired'].includes(code)) ||
  ['lost', 'shutting_down', 'sockets', 'silent', 'failed', 'timeout'].includes(code);

/** Whether it may have been carried out all the same. */
const unsure = ({ code, maybeStored }: HighwaterError): boolean =>
  maybeStored || ['unknown_outcome', 'failed', 'silent'].includes(code);

/** Nobody was reached. */
const UNSENT = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'];

/** A failure of the network, or of what stands between. */
const lost = (call: Call, message: string, retryAfter = 0, unsent = false): HighwaterError =>
  new HighwaterError('lost', message, retryAfter, !unsent && call.method !== 'GET');

/** How long one call goes on trying. */
export class Patience {
  /** Something that was sent may have been carried out, and nobody said. */
  unsure = false;
  private __since = Date.now();
  private __tries = 0;

  constructor(private readonly __options: CallOptions & { readonly giveUpAfter: number }) {}

  get signal(): Signal | undefined {
    return this.__options.signal;
  }

  /** Milliseconds that the next attempt may take. */
  get left(): number {
    return Math.max(Ms.LEAST, this.__since + this.__options.giveUpAfter - Date.now());
  }

  /** Something got through: the time begins anew. */
  progress(): void {
    this.__since = Date.now();
    this.__tries = 0;
  }

  /**
   * After a failure: resolves when the same may be tried again; rejects where that is of no use, or
   * where it has lasted too long. A rate is waited out whatever it takes.
   */
  async wait(error: unknown): Promise<void> {
    if (!(error instanceof HighwaterError)) throw error;
    this.unsure ||= unsure(error);
    if (!passes(error.code)) throw this.final(error);
    const bound = Math.min(Ms.RETRY_FROM * 2 ** this.__tries++, Ms.RETRY_TO);
    const ms = error.retryAfter || Math.ceil(bound * (0.5 + Math.random() / 2));
    const lasted = Date.now() + ms - this.__since;
    if (error.code !== 'rate' && lasted > this.__options.giveUpAfter) throw this.final(error);
    try {
      await pause(ms, this.signal);
    } catch {
      throw ended(this.signal, this.unsure);
    }
  }

  /** The error that the caller gets where it is not known what came of it. */
  doubtful(error: HighwaterError): HighwaterError {
    this.unsure = true;
    return this.final(error);
  }

  /** The error that the caller gets. */
  final(error: HighwaterError): HighwaterError {
    if (this.unsure) (error as { maybeStored: boolean }).maybeStored = true;
    return error;
  }
}

/** What a JWT says, unchecked: the node checks it. */
const claimsOf = (token: string | undefined): { exp?: unknown; sub?: unknown } => {
  try {
    return JSON.parse(Buffer.from(token!.split('.')[1]!, 'base64url').toString()) ?? {};
  } catch {
    return {};
  }
};

/** When it ends, in milliseconds since 1970. */
const endOf = (token: string): number => {
  const { exp } = claimsOf(token);
  return typeof exp === 'number' ? exp * 1000 : Infinity;
};

const checkedToken = (token: unknown): string => {
  const trimmed = typeof token === 'string' ? token.trim() : '';
  return /^[\x21-\x7e]+$/.test(trimmed) ? trimmed : wrong('token', 'not a token', 'unauthorized');
};

/** Asks for a token when none is held, one ends within a minute, or was refused; once at a time. */
class Tokens {
  private __held: string | undefined;
  private __until = 0;
  private __asked: Promise<string> | undefined;

  constructor(private readonly __source: TokenSource | undefined) {
    if (typeof __source === 'string') this.__held = checkedToken(__source);
    else if (__source !== undefined) callback('token', __source);
  }

  async get(): Promise<string | undefined> {
    const source = this.__source;
    if (typeof source !== 'function') return this.__held;
    if (this.__held !== undefined && Date.now() < this.__until) return this.__held;
    return (this.__asked ??= this.__ask(source).finally(() => (this.__asked = undefined)));
  }

  /** Whether there is another one to be had. */
  refused(token: string | undefined): boolean {
    if (typeof this.__source !== 'function') return false;
    if (this.__held === token) this.__held = undefined;
    return true;
  }

  private async __ask(source: () => string | Promise<string>): Promise<string> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${Ms.TOKEN} ms`)), Ms.TOKEN);
    });
    try {
      const token = checkedToken(await Promise.race([source(), late]));
      const now = Date.now();
      // One that lives less than two minutes is used for half of its time.
      const left = endOf(token) - now;
      this.__until = now + Math.max(left - Ms.TOKEN_LEFT, left / 2);
      return (this.__held = token);
    } catch (error) {
      if (error instanceof HighwaterError) throw error;
      throw new HighwaterError('lost', `token: ${(error as Error)?.message ?? error}`);
    } finally {
      clearTimeout(timer);
    }
  }
}

const baseOf = (url: unknown): URL => {
  let made: URL;
  try {
    made = new URL(`${url}`);
  } catch {
    return wrong('url', `not an address: ${url}`);
  }
  if (!/^https?:$/.test(made.protocol)) wrong('url', `${made.protocol} is none of http, https`);
  if (made.username || made.password)
    wrong('url', 'a user or password in it is not sent: give a token');
  if (made.search || made.hash) wrong('url', 'the address of a node has no ? and no #');
  if (!made.pathname.endsWith('/')) made.pathname += '/';
  return made;
};

export class Http {
  private readonly __base: URL;
  private readonly __tokens: Tokens;

  constructor(
    url: unknown,
    token: TokenSource | undefined,
    private readonly __giveUpAfter: number,
  ) {
    this.__base = baseOf(url);
    this.__tokens = new Tokens(token);
  }

  patience({ signal, giveUpAfter = this.__giveUpAfter }: CallOptions = {}): Patience {
    return new Patience({ signal, giveUpAfter });
  }

  /** The user that the token names; none under `--dev`. */
  async user(options: CallOptions): Promise<string> {
    const patience = this.patience(options);
    for (;;) {
      try {
        const { signal } = options;
        const token = await this.__token({ signal, within: patience.left });
        return `${claimsOf(token).sub ?? ''}`;
      } catch (error) {
        await patience.wait(error);
      }
    }
  }

  /** Sends the same until it is answered: for what may be carried out twice. */
  async send(call: Call, options: CallOptions): Promise<Reply> {
    const patience = this.patience(options);
    for (;;) {
      try {
        const reply = await this.attempt({
          ...call, signal: options.signal, within: patience.left,
        });
        if (!reply.cut) return reply;
        throw lost(call, 'the answer broke off');
      } catch (error) {
        // Its name may lead to a new log by then, which nobody wants deleted.
        const decided = call.method !== 'DELETE' || !unsure(error as HighwaterError);
        if (!decided) throw patience.doubtful(error as HighwaterError);
        await patience.wait(error);
      }
    }
  }

  /** The same, for an answer that is one JSON object. */
  async json(call: Call, options: CallOptions): Promise<Record<string, any>> {
    return bodyOf(await this.send(call, options));
  }

  /**
   * Sends it; once more where the token was refused and another is to be had. One that was good for
   * a while, whose end broke off a wait, was not refused: the next one may end in a wait, too.
   */
  async attempt(call: Call): Promise<Reply> {
    for (let refused = false; ; ) {
      const token = await this.__token(call);
      const sent = Date.now();
      try {
        return await this.__once(call, token);
      } catch (error) {
        const { code } = error as HighwaterError;
        const good = Date.now() - sent >= Ms.GOOD;
        if (!wantsToken(code) || (refused && !good)) throw error;
        if (!this.__tokens.refused(token)) throw error;
        refused = !good;
      }
    }
  }

  /** A function that gives tokens may be slow: its call ends in its own time all the same. */
  private async __token({ signal, within = Infinity }: Ending): Promise<string | undefined> {
    const got = untilEnded(this.__tokens.get(), signal);
    if (within >= Ms.TOKEN) return got;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      const error = new HighwaterError('lost', `token: no answer within ${within} ms`);
      timer = setTimeout(() => reject(error), within);
    });
    return Promise.race([got, late]).finally(() => clearTimeout(timer));
  }

  private async __once(call: Call, token: string | undefined): Promise<Reply> {
    const { method, body, signal, logId, position } = call;
    if (signal?.aborted) throw ended(signal);
    const url = new URL(`v1/${call.path}`, this.__base);
    for (const [name, value] of Object.entries(call.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, `${value}`);
    }
    const headers = {
      ...call.headers,
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(logId !== undefined && { 'highwater-log': `${logId}` }),
      ...(position !== undefined && { 'highwater-position': position }),
    };
    const deadline = new Deadline(signal);
    try {
      deadline.within(Math.min(Ms.ANSWER, call.within ?? Infinity) + (call.wait ?? 0));
      const given = body as string | Uint8Array<ArrayBuffer> | undefined;
      const own = { signal: deadline.signal, redirect: 'manual' as const };
      const init = { method, headers, body: given, ...own };
      const answer = await fetch(url, init);
      const reply = await received(answer, deadline);
      if (signal?.aborted) throw ended(signal, method !== 'GET');
      return judged(call, answer.status, reply);
    } catch (error) {
      if (error instanceof HighwaterError) throw error;
      if (signal?.aborted) throw ended(signal, method !== 'GET');
      const { cause } = error as { cause?: { code?: string } };
      throw lost(call, reasonOf(error as Error, deadline), 0, UNSENT.includes(`${cause?.code}`));
    } finally {
      deadline.done();
    }
  }
}

/** The token may be long in coming: the call ends with its signal all the same. */
const untilEnded = async <T>(work: Promise<T>, signal: Signal | undefined): Promise<T> => {
  if (!signal) return work;
  const stop = new AbortController();
  const over = (): void => stop.abort();
  signal.addEventListener('abort', over);
  try {
    if (signal.aborted) throw ended(signal);
    const gone = new Promise<never>((_, reject) => {
      stop.signal.addEventListener('abort', () => reject(ended(signal)));
    });
    return await Promise.race([work, gone]);
  } finally {
    signal.removeEventListener('abort', over);
  }
};

/** Ends an attempt with the call's signal, or where nothing comes. */
class Deadline {
  late = 0;
  private readonly __stop = new AbortController();
  private __timer: ReturnType<typeof setTimeout> | undefined;
  private readonly __over = (): void => this.__stop.abort();

  constructor(private readonly __signal: Signal | undefined) {
    __signal?.addEventListener('abort', this.__over);
  }

  get signal(): AbortSignal {
    return this.__stop.signal;
  }

  within(ms: number): void {
    clearTimeout(this.__timer);
    this.__timer = setTimeout(() => {
      this.late = ms;
      this.__stop.abort();
    }, ms);
  }

  done(): void {
    clearTimeout(this.__timer);
    this.__signal?.removeEventListener('abort', this.__over);
  }
}

/** All that comes of an answer, also of one that breaks off. */
const received = async (answer: Response, deadline: Deadline): Promise<Reply> => {
  const parts: Uint8Array[] = [];
  let cut = false;
  try {
    for await (const part of (answer.body ?? []) as AsyncIterable<Uint8Array>) {
      parts.push(part);
      deadline.within(Ms.ANSWER);
    }
  } catch {
    cut = true;
  }
  const { headers } = answer;
  const position = headers.get('highwater-position') ?? '';
  return { headers, bytes: Buffer.concat(parts), cut, position };
};

const judged = (call: Call, status: number, reply: Reply): Reply => {
  if (status >= 200 && status < 300 && reply.position) return reply;
  const refusal = !reply.cut && refusalIn(status, reply.bytes);
  if (refusal) throw refusal;
  if (status >= 300 && status < 400) {
    wrong('url', `it leads on to ${reply.headers.get('location')}: give that address`);
  }
  if (status === 413) throw new Refused('too_large', 'a proxy takes no body so large', 0, {}, 413);
  const passing =
    status < 300 ||
    [408, 429, 502, 503, 504].includes(status) ||
    (status >= 520 && status <= 530) ||
    reply.cut;
  const message = `something else than the node answered, with status ${status}`;
  if (!passing) throw new Refused('bad_request', `url: ${message}`, 0, {}, status);
  throw lost(call, message, retryAfter(reply.headers.get('retry-after')));
};

/** The node's own refusal, if that is what came. */
const refusalIn = (status: number, bytes: Uint8Array): Refused | undefined => {
  try {
    const body = fromJson(utf8(bytes)) as Record<string, any>;
    const { code, message, retryAfter: ms } = body;
    if (typeof code !== 'string' || !(codeNumber(code) > 0)) return undefined;
    return new Refused(code as Code, `${message ?? code}`, Number(ms) || 0, body, status);
  } catch {
    return undefined;
  }
};

/** Milliseconds from seconds, or from a date. */
const retryAfter = (header: string | null): number => {
  if (!header) return 0;
  const ms = /^\d+$/.test(header) ? +header * 1000 : Date.parse(header) - Date.now();
  return ms > 0 ? ms : 0;
};

const reasonOf = (error: Error, deadline: Deadline): string => {
  if (deadline.late) return `no answer within ${deadline.late} ms`;
  const { message } = (error.cause ?? error) as Error;
  return message || error.message;
};
