/**
 * What the tests of the server's side share: a proxy with faults, random choices that can be
 * replayed, and a program that is killed.
 *
 * Promise: a fault is decided for each request by the test, never by time.
 */

import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type Server as Plain } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

/** What a proxy does with a request. */
export type Fault =
  | 'pass'
  /** Answers by itself, the node is not asked. */
  | { status: number; headers?: Record<string, string>; body?: string }
  /** Asks the node, and breaks off before its answer. */
  | 'lose'
  /** Passes so many bytes of the body on, and breaks off; the length was told. */
  | { cut: number }
  /** The same as HTTP/1.0 does it, without a length: the end of the connection is the end. */
  | { old: number };

export class Proxy {
  /** How many requests came. */
  asked = 0;
  /** Addresses of those, oldest first. */
  readonly paths: string[] = [];
  private readonly _plain: Plain;

  constructor(
    private readonly _to: () => string,
    public fault: (path: string, asked: number) => Fault = () => 'pass',
  ) {
    this._plain = createServer((from, to) => {
      const parts: Buffer[] = [];
      from.on('data', (part: Buffer) => parts.push(part));
      from.on('end', () => {
        const path = from.url!;
        this.paths.push(path);
        const fault = this.fault(path, this.asked++);
        if (typeof fault === 'object' && 'status' in fault) {
          to.writeHead(fault.status, fault.headers);
          return to.end(fault.body ?? '<html>a page of the proxy</html>');
        }
        const { method, headers } = from;
        const asked = request(this._to() + path, { method, headers }, (answer) => {
          void this._answer(fault, answer, to);
        });
        asked.on('error', () => to.destroy());
        asked.end(Buffer.concat(parts));
      });
    });
  }

  private async _answer(
    fault: Exclude<Fault, { status: number }>,
    answer: IncomingMessage,
    to: import('node:http').ServerResponse,
  ): Promise<void> {
    const parts: Buffer[] = [];
    try {
      for await (const part of answer) parts.push(part as Buffer);
    } catch {
      return void to.destroy();
    }
    const body = Buffer.concat(parts);
    const { 'transfer-encoding': _, connection: __, ...headers } = answer.headers;
    if (fault === 'lose') return void to.destroy();
    if (fault === 'pass') {
      to.writeHead(answer.statusCode!, { ...headers, 'content-length': body.length });
      return void to.end(body);
    }
    if ('cut' in fault) {
      to.writeHead(answer.statusCode!, { ...headers, 'content-length': body.length });
      if (body.length <= fault.cut) return void to.end(body);
      return void to.write(body.subarray(0, fault.cut), () => to.destroy());
    }
    const { 'content-length': ___, ...rest } = headers;
    const lines = Object.entries(rest).map(([name, value]) => `${name}: ${value}\r\n`);
    const head = `HTTP/1.0 ${answer.statusCode} -\r\n${lines.join('')}\r\n`;
    to.socket!.end(Buffer.concat([Buffer.from(head), body.subarray(0, fault.old)]));
  }

  get url(): string {
    return `http://127.0.0.1:${(this._plain.address() as AddressInfo).port}`;
  }

  async start(context: TestContext): Promise<this> {
    this._plain.listen(0, '127.0.0.1');
    await once(this._plain, 'listening');
    context.after(() => {
      this._plain.closeAllConnections();
      this._plain.close();
    });
    return this;
  }
}

/** Random numbers from a seed (mulberry32); the test says how to run it again. */
export class Chance {
  readonly seed: number;
  private _state: number;

  constructor(context: TestContext, file: string) {
    this.seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    this._state = this.seed;
    context.diagnostic(`seed ${this.seed}; again: SEED=${this.seed} npm test -- ${file}`);
  }

  next(): number {
    this._state = (this._state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this._state ^ (this._state >>> 15), 1 | this._state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number below that. */
  below(most: number): number {
    return Math.floor(this.next() * most);
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)]!;
  }
}

/** A folder that goes with the test. */
export const folder = (context: TestContext): string => {
  const made = mkdtempSync(join(tmpdir(), 'highwater-server-'));
  context.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
};

/** A program beside the tests, as a process of its own; each line that it prints is told. */
export class Child {
  readonly lines: string[] = [];
  private readonly _process: ChildProcess;
  private readonly _gone: Promise<unknown[]>;
  private _errors = '';
  private _look: () => void = () => {};

  constructor(context: TestContext, name: string, ...args: string[]) {
    // This module is bundled into the test's own file, beside which the program is.
    const program = fileURLToPath(new URL(`./${name}.child.mjs`, import.meta.url));
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const options = { env, stdio: ['ignore', 'pipe', 'pipe'] as ('ignore' | 'pipe')[] };
    this._process = spawn(process.execPath, ['--enable-source-maps', program, ...args], options);
    this._gone = once(this._process, 'exit');
    createInterface(this._process.stdout!).on('line', (line) => {
      this.lines.push(line);
      this._look();
    });
    this._process.stderr!.on('data', (part) => (this._errors += part));
    this._process.once('exit', () => this._look());
    context.after(() => this.kill());
  }

  /** When it has printed so many lines, or has ended. */
  async printed(lines: number): Promise<void> {
    while (this.lines.length < lines && this._process.exitCode === null) {
      await new Promise<void>((done) => (this._look = done));
    }
  }

  /** SIGKILL, unless it has ended by itself; answers whether it had. */
  async kill(): Promise<boolean> {
    if (this._process.exitCode === null) this._process.kill('SIGKILL');
    await this._gone;
    return this._process.exitCode === 0;
  }

  /** When it has ended by itself, well. */
  async done(): Promise<void> {
    await this._gone;
    assert.equal(this._process.exitCode, 0, this._errors);
  }
}

export const upTo = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, at) => from + at);
