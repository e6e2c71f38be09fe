/**
 * A real server of its own, as a child process on loopback: started, killed, started again.
 *
 * Promise: `start` answers when it listens; each has a data folder of its own, which goes with the
 * test. Nothing is skipped: where the program is missing, the test fails and says how to build it.
 */

import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

export const PROGRAM = resolve(process.env['HIGHWATER_BIN'] ?? '../target/debug/highwater');
export const SECRET = 'a secret for tests alone, 32 bytes at least';
/** Longest time from the start of the process until it listens, ms. */
const PATIENCE = 60_000;

export type Can = 'read' | 'append' | 'snapshot' | 'signal' | 'admin' | 'delivered';

/** A JWT of that user, signed as the server's configuration wants it. */
export const token = (
  sub: string,
  grants: { logs: string; can: Can[] }[] = [{ logs: '**', can: ['read', 'append', 'snapshot'] }],
  seconds = 3600,
): string => {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub, iat: now, exp: now + seconds, grants };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
};

/** For what a back end does: the rights of an operator. */
export const operator = (): string =>
  token('operator', [{ logs: '**', can: ['read', 'append', 'admin'] }]);

export class Server {
  readonly folder = mkdtempSync(join(tmpdir(), 'highwater-test-'));
  readonly #config = join(this.folder, 'highwater.toml');
  #child: ChildProcess | undefined;
  #listen = '127.0.0.1:0';
  #said: string[] = [];

  /** `more` stands in the configuration below its key. */
  constructor(more = '') {
    const missing = `${PROGRAM} is missing: run "cargo build", or set HIGHWATER_BIN`;
    assert.ok(existsSync(PROGRAM), missing);
    const key = `[[auth.keys]]\nalg = "HS256"\nsecret = "${SECRET}"\n`;
    writeFileSync(this.#config, `[auth]\n${key}\n${more}\n`);
  }

  get data(): string {
    return join(this.folder, 'data');
  }

  get url(): string {
    return `http://${this.#listen}`;
  }

  /** Starts it, on the port it had before if it had one. */
  async start(): Promise<this> {
    assert.ok(!this.#child, 'it runs already');
    const given = ['serve', '--config', this.#config, '--listen', this.#listen, '--data', this.data];
    // The server takes HIGHWATER_* for its configuration; what is set for the tests is not that.
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith('HIGHWATER_'));
    const env = Object.fromEntries(own);
    const child = spawn(PROGRAM, given, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    createInterface(child.stderr!).on('line', (line) => {
      this.#said.push(line);
      this.#said.splice(0, this.#said.length - 40);
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
    const listens = new Promise<string>((found, failed) => {
      createInterface(child.stdout!).on('line', (line) => {
        const [, where] = /^listening on http:\/\/(\S+)$/.exec(line) ?? [];
        if (where) found(where);
      });
      child.once('exit', () => failed(new Error(`the server ended: ${this.#said.join('\n')}`)));
      child.once('error', failed);
    });
    this.#listen = await listens;
    clearTimeout(timer);
    return this;
  }

  /** SIGKILL: nothing is written or said any more. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGTERM: it drains; answers its exit code. */
  async stop(): Promise<number | null> {
    return this.#end('SIGTERM');
  }

  async #end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null) return child?.exitCode ?? null;
    const gone = once(child, 'exit');
    child.kill(signal);
    return (await gone)[0] as number | null;
  }

  /** A copy of its data as it stands, made while it is down; it goes on afterwards. */
  async backup(): Promise<string> {
    await this.stop();
    const copy = join(this.folder, 'backup');
    cpSync(this.data, copy, { recursive: true });
    await this.start();
    return copy;
  }

  /** Its data is lost; it starts from that copy, or with nothing. */
  async restore(copy?: string): Promise<void> {
    await this.kill();
    rmSync(this.data, { recursive: true });
    if (copy !== undefined) cpSync(copy, this.data, { recursive: true });
    await this.start();
  }

  /** Another user appends by HTTP. */
  async append(log: string, ...payloads: string[]): Promise<void> {
    for (const payload of payloads) await this.ask('POST', `/v1/logs/${log}`, payload);
  }

  /** What the log holds. */
  async payloads(log: string): Promise<string[]> {
    const lines = (await (await this.ask('GET', `/v1/logs/${log}`)).text()).split('\n');
    return lines.filter(Boolean).map((line) => (JSON.parse(line) as { payload: string }).payload);
  }

  /** Ends it and takes its folder away. */
  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A request by HTTP as an operator; fails where it is refused. */
  async ask(method: string, path: string, body?: string): Promise<Response> {
    const headers = { authorization: `Bearer ${operator()}` };
    const given = { method, headers, ...(body !== undefined && { body }) };
    const answer = await fetch(this.url + path, given);
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer;
  }

  /** The last lines of its log, for a failure's message. */
  get said(): string {
    return this.#said.join('\n');
  }
}
