/**
 * What a back end does with a node, in one object.
 *
 * Promise: every call checks what it is given before anything is sent, names the field that is
 * wrong, tries again what may be, and ends with its signal; nothing is kept open between calls, so
 * that a process ends when it has no more to do.
 */

import { createHash } from 'node:crypto';
import type { Payload } from '../codec.js';
import { HighwaterError, isTransient } from '../errors.js';
import type { Codec } from '../payload.js';
import { MOST, refusalOf, sendBatch, storedOf } from './batch.js';
import * as check from './check.js';
import { follow, type FollowOptions } from './follow.js';
import { bodyOf, Http, Refused, type TokenSource } from './http.js';
import * as logs from './logs.js';
import { read, readState, type ReadOptions, type State } from './read.js';
import { lineOf, type NewRecord } from './records.js';
import type { Storage } from './storage.js';
import type { CallOptions, Entry, Outcome, Stored } from './types.js';
import { freshId, Writer, type WriterState } from './writer.js';

export interface HighwaterOptions {
  /** The node's address, `http:` or `https:`; it may have a path that a proxy takes away. */
  readonly url: string | { readonly href: string };
  /**
   * A token, or what gives one: it is asked when none is held, when at most a minute is left, and
   * where one was refused. None: for a node under `--dev`.
   */
  readonly token?: TokenSource | undefined;
  /** Milliseconds without anything getting through after which a call rejects; default 60,000. */
  readonly giveUpAfter?: number | undefined;
}

export interface AppendOptions<T = Payload> extends CallOptions {
  /** Numbers the records, and goes on doing so after a restart. */
  readonly writer?: Writer | undefined;
  /**
   * Or a name for this append, 1 to 1,024 bytes: the same records under the same key, of the same
   * user to the same log, are stored once, by whichever process, also much later. Other records
   * under that key reject with `sequence_reused`.
   */
  readonly idempotencyKey?: string | undefined;
  /** Store it only if the head is there: else `conflict`. For one record. */
  readonly ifHead?: number | undefined;
  /** Store it only in the log of that id: else `epoch`. */
  readonly logId?: number | undefined;
  readonly codec?: Codec<T> | undefined;
}

/** Of several records one was refused: `results` tells of each. */
export class AppendError extends HighwaterError {
  /** @internal */
  constructor(
    { code, message, retryAfter }: HighwaterError,
    /** Where each is, or why it is not, in order. */
    readonly results: readonly Outcome[],
  ) {
    super(code, message, retryAfter);
  }
}

/** Who gets a notification. */
export type Whom =
  | { readonly logs: readonly string[]; readonly user?: undefined }
  | { readonly user: string; readonly logs?: undefined };

/** Where a notification is, and how many connections are subscribed there. */
export interface Notified extends Stored {
  /** The log's name. */
  readonly name: string;
  readonly reached: {
    readonly attached: number;
    readonly detached: number;
    readonly inactive: number;
    /** There are others, which were not looked at. */
    readonly more: boolean;
  };
}

/** Whom a revocation names: a user, or one token by its id. */
export type Revoked = (
  | { readonly user: string; readonly token?: undefined }
  | { readonly token: string; readonly user?: undefined }
) & {
  /** Of a user, only tokens made before then (ms since 1970); default: now. */
  readonly before?: number | undefined;
};

const CALL = ['signal', 'giveUpAfter'];
const APPEND = [...CALL, 'writer', 'idempotencyKey', 'ifHead', 'logId', 'codec'];
const READ = [...CALL, 'from', 'limit', 'codec', 'logId', 'position', 'onGap'];

const checkCall = (options: CallOptions, names: readonly string[] = CALL): void => {
  check.members('', options, names);
  check.signal(options.signal);
  check.patience(options.giveUpAfter);
};

export class Highwater {
  private readonly __http: Http;
  /** Writers of this process that have nothing on the way. */
  private readonly __spare: { id: string; next: number }[] = [];

  /** @internal */
  constructor(options: HighwaterOptions) {
    check.members('', options, ['url', 'token', 'giveUpAfter']);
    const { url, token, giveUpAfter = 60_000 } = options;
    check.patience(giveUpAfter);
    this.__http = new Http((url as { href: string })?.href ?? url, token, giveUpAfter);
  }

  /**
   * A writer that goes on after a restart, by what its storage keeps. One process at a time: where
   * another opens the same storage, this one rejects with `fenced`.
   */
  async writer(options: { readonly storage: Storage<WriterState> }): Promise<Writer> {
    check.members('', options, ['storage']);
    return new Writer(this.__http, options.storage).open();
  }

  /**
   * Appends a record, or up to 1,024, exactly once: resolves when they are durable. Without a
   * writer and a key that holds for this call, which sends them again until they are answered.
   *
   * Rejects with what refused it (`denied`, `too_large`, `conflict`, `epoch`, ...), as an
   * `AppendError` for a list; with `lost` and the like where nothing got through for `giveUpAfter`,
   * and `closed` where its signal ended it: `maybeStored` says whether it may be stored.
   */
  append(log: string, record: NewRecord, options?: AppendOptions): Promise<Stored>;
  append(
    log: string,
    records: readonly NewRecord[],
    options?: AppendOptions,
  ): Promise<readonly Stored[]>;
  append<T>(
    log: string,
    record: NewRecord<T>,
    options: AppendOptions<T> & { readonly codec: Codec<T> },
  ): Promise<Stored>;
  append<T>(
    log: string,
    records: readonly NewRecord<T>[],
    options: AppendOptions<T> & { readonly codec: Codec<T> },
  ): Promise<readonly Stored[]>;
  async append<T>(
    log: string,
    given: NewRecord<T> | readonly NewRecord<T>[],
    options: AppendOptions<T> = {},
  ): Promise<Stored | readonly Stored[]> {
    check.logName('log', log);
    checkCall(options, APPEND);
    const { writer, idempotencyKey, ifHead, logId, codec } = options;
    check.codec('codec', codec);
    check.maybe(logId, (id) => check.count('logId', id));
    check.maybe(ifHead, (head) => check.count('ifHead', head));
    const many = Array.isArray(given);
    const records = (many ? given : [given]) as readonly NewRecord<T>[];
    if (!records.length || records.length > MOST) check.wrong('records', `1 to ${MOST} at once`);
    if (ifHead !== undefined && records.length > 1) check.wrong('ifHead', 'for one record');
    const field = (at: number): string => (many ? `records[${at}]` : 'record');
    const lines = records.map((record, at) => lineOf(field(at), record, codec));
    const batch = { log, logId, ifHead, lines };
    const call = { signal: options.signal, giveUpAfter: options.giveUpAfter };
    const outcomes = await this.__append(batch, call, writer, idempotencyKey);
    const refused = outcomes.find((outcome) => outcome instanceof HighwaterError);
    if (refused) throw many ? new AppendError(refused as HighwaterError, outcomes) : refused;
    return many ? (outcomes as Stored[]) : (outcomes[0] as Stored);
  }

  private async __append(
    batch: Parameters<Writer['add']>[0],
    call: CallOptions,
    writer: Writer | undefined,
    key: string | undefined,
  ): Promise<Outcome[]> {
    if (writer !== undefined) {
      if (!(writer instanceof Writer)) check.wrong('writer', 'not one that writer() gave');
      if (key !== undefined) check.wrong('idempotencyKey', 'a writer numbers the records already');
      return writer.add(batch, call);
    }
    if (key !== undefined) {
      check.text('idempotencyKey', key, 1, 1024);
      // A writer is one user's: another back end may use the same key.
      const names = JSON.stringify([await this.__http.user(call), batch.log, key]);
      const named = createHash('sha256').update(names).digest('hex');
      // Each key is a writer of its own, with these records as its first.
      return sendBatch(this.__http, named.slice(0, 32), { ...batch, first: 1 }, call);
    }
    return this.__numbered(batch.lines.length, (id, first) =>
      sendBatch(this.__http, id, { ...batch, first }, call),
    );
  }

  /** With numbers of a writer that nobody else uses meanwhile; one that did well is used again. */
  private async __numbered<R>(
    many: number,
    work: (id: string, first: number) => Promise<R>,
  ): Promise<R> {
    const spare = this.__spare.pop();
    const one = spare ?? { id: freshId(), next: 1 };
    try {
      const done = await work(one.id, one.next);
      this.__spare.push({ id: one.id, next: one.next + many });
      return done;
    } catch (error) {
      // A server that was restored does not know what this writer sent before, and another user's
      // token came: nothing of this call is stored by that, so it may have other numbers.
      const { code, maybeStored } = error as HighwaterError;
      const foreign = code === 'sequence_gap' || code === 'unknown_writer';
      if (!spare || !foreign || maybeStored) throw error;
    }
    this.__spare.length = 0;
    return this.__numbered(many, work);
  }

  /**
   * The records of a log from `from` on, up to the head as it stands when it begins. Ends the
   * loop with the reason where it cannot go on: `epoch`, `other_history`, `denied`, `bad_offset`.
   */
  read<T = Payload>(log: string, options: ReadOptions<T> = {}): AsyncIterableIterator<Entry<T>> {
    check.logName('log', log);
    checkCall(options, READ);
    const { from = 'start', limit, logId, position, codec, onGap } = options;
    if (from !== 'start') check.count('from', from);
    check.maybe(limit, (most) => check.count('limit', most));
    check.maybe(logId, (id) => check.count('logId', id));
    check.maybe(position, (text) => check.position('position', text));
    check.maybe(onGap, (told) => check.callback('onGap', told));
    check.codec('codec', codec);
    return read(this.__http, log, options);
  }

  /**
   * The state of a log under the rule `latest` or `client`, as a server-rendered page begins with
   * it. Rejects with `not_found` where no rule keeps one, or none was put yet.
   */
  async state<T = Payload>(
    log: string,
    options: CallOptions & { readonly codec?: Codec<T> | undefined } = {},
  ): Promise<State<T>> {
    check.logName('log', log);
    checkCall(options, [...CALL, 'codec']);
    check.codec('codec', options.codec);
    return readState(this.__http, log, options);
  }

  /** The logs that the token may read, by name: all, or those whose names begin so. */
  logs(
    options: CallOptions & { readonly prefix?: string | undefined } = {},
  ): AsyncIterableIterator<logs.LogInfo> {
    checkCall(options, [...CALL, 'prefix']);
    check.maybe(options.prefix, (prefix) => check.text('prefix', prefix, 0, 255));
    return logs.list(this.__http, options.prefix, options);
  }

  /**
   * Makes a log, with pages of so many records where that is said; takes `admin` on it. One that is
   * there stays as it is. Where the node makes logs by itself an append does that too.
   */
  async createLog(
    log: string,
    options: CallOptions & { readonly pageSize?: number | undefined } = {},
  ): Promise<logs.Created> {
    check.logName('log', log);
    checkCall(options, [...CALL, 'pageSize']);
    check.maybe(options.pageSize, (size) => check.count('pageSize', size));
    return logs.create(this.__http, log, options.pageSize, options);
  }

  /**
   * Keeps nothing below that offset; takes `admin`. Rejects with `trim_rule` where the state of the
   * log would need it.
   */
  async trimLog(log: string, offset: number, options: CallOptions = {}): Promise<logs.Trimmed> {
    check.logName('log', log);
    check.count('offset', offset);
    checkCall(options);
    return logs.trim(this.__http, log, offset, options);
  }

  /**
   * Deletes a log; takes `admin`. Its name may be given to a new log. It is sent once: where the
   * answer is lost it rejects with `maybeStored`, since who sends it again may meet a new log.
   */
  async deleteLog(log: string, options: CallOptions = {}): Promise<{ readonly log: number }> {
    check.logName('log', log);
    checkCall(options);
    return logs.remove(this.__http, log, options);
  }

  /**
   * Puts the state of all records below `offset`, under the rule `client`; takes `snapshot`.
   * Resolves when it is durable; `snapshot_behind`: there is one at that offset, or a newer one.
   */
  async putSnapshot(
    log: string,
    snapshot: logs.NewSnapshot,
    options: CallOptions = {},
  ): Promise<void> {
    check.logName('log', log);
    check.members('snapshot', snapshot, ['offset', 'version', 'data']);
    check.count('snapshot.offset', snapshot.offset);
    check.maybe(snapshot.version, (one) => check.count('snapshot.version', one, 0, 2 ** 32 - 1));
    if (!(snapshot.data instanceof Uint8Array)) check.wrong('snapshot.data', 'not bytes');
    checkCall(options);
    return logs.put(this.__http, log, snapshot, options);
  }

  /**
   * Hands over the records of a log, and goes on for ever; resolves when its signal ends it. See
   * `FollowOptions` for what is kept and told. It tries again for ever, unless
   * `giveUpAfter` is given.
   */
  follow<T = Payload>(log: string, options: FollowOptions<T>): Promise<void> {
    return Promise.resolve().then(() => follow(this.__http, log, options));
  }

  /**
   * One record to each of up to 1,000 logs, or to a user's own (`users/NAME/inbox`), exactly once,
   * and who is subscribed there. Where one is refused it rejects with an `AppendError`.
   */
  async notify<T = Payload>(
    whom: Whom & { readonly record: NewRecord<T>; readonly codec?: Codec<T> | undefined },
    options: CallOptions = {},
  ): Promise<readonly Notified[]> {
    check.members('whom', whom, ['logs', 'user', 'record', 'codec']);
    checkCall(options);
    const { logs, user, record } = whom;
    if ((logs === undefined) === (user === undefined))
      check.wrong('logs, user', 'give one of them');
    if (logs === undefined) check.userName('user', user);
    else check.logNames('logs', logs, 1000);
    check.codec('codec', whom.codec);
    const line = lineOf('record', record, whom.codec);
    const body = JSON.stringify({ ...(logs ? { logs } : { user }), record: JSON.parse(line) });
    return this.__numbered(logs?.length ?? 1, (id, first) =>
      this.__notify(id, first, body, options),
    );
  }

  private async __notify(
    writer: string,
    seq: number,
    body: string,
    options: CallOptions,
  ): Promise<readonly Notified[]> {
    const patience = this.__http.patience(options);
    const query = { writer, seq, oldest: seq };
    for (;;) {
      try {
        const headers = { 'content-type': 'application/json' };
        const { signal } = options;
        const call = { method: 'POST', path: 'notify', query, headers, body, signal } as const;
        const reply = await this.__http.attempt({ ...call, within: patience.left });
        return (bodyOf(reply)['results'] as Record<string, any>[]).map(notifiedOf);
      } catch (error) {
        const results = error instanceof Refused && (error.body['results'] as any[] | undefined);
        // Refused for good, some of them: there is no more to be had by sending it again.
        const final = results && !isPassing(error as Refused);
        if (final) throw new AppendError(error as Refused, results.map(outcomeOf));
        await patience.wait(error);
      }
    }
  }

  /** Subscribes a user: every connection of it gets these logs, as far as its own token goes. */
  async subscribeUser(
    user: string,
    logs: readonly string[],
    options: CallOptions = {},
  ): Promise<{ readonly reached: readonly string[] }> {
    check.logNames('logs', logs, 1000);
    return this.__users(user, 'subscribe', { logs: logs.map((name) => ({ name })) }, options);
  }

  /** Undoes it, and ends the subscriptions of every connection of the user to these logs. */
  async unsubscribeUser(
    user: string,
    logs: readonly string[],
    options: CallOptions = {},
  ): Promise<{ readonly reached: readonly string[]; readonly unknown: readonly string[] }> {
    check.logNames('logs', logs, 1000);
    return this.__users(user, 'unsubscribe', { logs }, options);
  }

  private async __users(
    user: string,
    what: string,
    body: object,
    options: CallOptions,
  ): Promise<{ reached: readonly string[]; unknown: readonly string[] }> {
    const path = `users/${encodeURIComponent(check.userName('user', user))}/${what}`;
    const { reached = [], unknown = [] } = await this.__post(path, body, options);
    return { reached, unknown };
  }

  /** Ends what a user, or one token, may do; takes `admin` on `**`. Resolves when it is durable. */
  async revoke(
    whom: Revoked,
    options: CallOptions = {},
  ): Promise<{
    /** Sockets that were closed on the node that was asked. */
    readonly closed: number;
  }> {
    check.members('whom', whom, ['user', 'token', 'before']);
    const { user, token, before } = whom;
    if ((user === undefined) === (token === undefined)) {
      check.wrong('user, token', 'give one of them');
    }
    check.maybe(user, (name) => check.userName('user', name));
    check.maybe(token, (id) => check.text('token', id, 1, 255));
    check.maybe(before, (time) => check.count('before', time));
    const { closed = 0 } = await this.__post('revocations', { user, token, before }, options);
    return { closed };
  }

  private async __post(path: string, body: object, options: CallOptions): Promise<any> {
    checkCall(options);
    const headers = { 'content-type': 'application/json' };
    const call = { method: 'POST', path, headers, body: JSON.stringify(body) } as const;
    return this.__http.json(call, options);
  }
}

const outcomeOf = (result: Record<string, any>): Outcome => refusalOf(result) ?? storedOf(result);

const notifiedOf = (result: Record<string, any>): Notified => {
  const { name, reached } = result;
  return { ...storedOf(result), name, reached };
};

/** Whether one of the records was refused for now. */
const isPassing = ({ body }: Refused): boolean =>
  (body['results'] as any[]).some((result) => {
    const code = refusalOf(result)?.code;
    return code !== undefined && isTransient(code);
  });

/**
 * What a back end does with a node; nothing is sent until a method is called.
 *
 * `const server = highwater({ url: 'http://127.0.0.1:8080', token })`. Throws `bad_request` that
 * names the field where an option is wrong.
 */
export const highwater = (options: HighwaterOptions): Highwater => new Highwater(options);
