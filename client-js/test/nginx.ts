/**
 * A real nginx, as a child process on loopback: started, reloaded, started again.
 *
 * Promise: `start` answers when it listens, `reload` when only workers of the new configuration are
 * left, `end` when none is. Where there is no nginx (`NGINX`, one that is installed, or one that
 * `scripts/nginx.sh` has unpacked), `PROGRAM` is undefined, and its tests say so.
 */

import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const runs = (program: string): boolean => {
  try {
    accessSync(program, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

const program = (): string | undefined => {
  const named = process.env['NGINX'];
  if (named) {
    assert.ok(runs(named), `NGINX names ${named}, which is no program`);
    return named;
  }
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const installed = folders.map((folder) => join(folder, 'nginx'));
  const unpacked = resolve('../target/nginx/usr/sbin/nginx');
  return [...installed, '/usr/sbin/nginx', unpacked].find(runs);
};

export const PROGRAM = program();

/** How long old workers may keep their connections after a reload, ms. */
const LINGER = 100;

/** What people write who read no document. */
export const plain = (port: number): string =>
  `location / { proxy_pass http://127.0.0.1:${port}; }`;

/** What a WebSocket needs at the least, line by line. */
export const NEEDS = [
  'proxy_http_version 1.1;',
  'proxy_set_header Upgrade $http_upgrade;',
  'proxy_set_header Connection "upgrade";',
];

/** The defaults of nginx and those lines. */
export const least = (port: number, needs = NEEDS): string =>
  `location / { proxy_pass http://127.0.0.1:${port}; ${needs.join(' ')} }`;

/** The block of the document, word for word but for the server's port. */
export const documented = (port: number): string => {
  const text = readFileSync('../docs/security.md', 'utf8');
  const [, block] = /```nginx\n(.*?)```/s.exec(text) ?? [];
  const address = 'http://127.0.0.1:8080;';
  assert.ok(block?.includes(address), 'the block is there, with the address of the example');
  return block!.replace(address, `http://127.0.0.1:${port};`);
};

/** A port that was free a moment ago. */
const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
};

export class Nginx {
  readonly #folder = mkdtempSync(join(tmpdir(), 'highwater-nginx-'));
  readonly #lines = new EventEmitter();
  #child: ChildProcess | undefined;
  /** The last of what it has logged. */
  log: string[] = [];

  private constructor(readonly port: number) {}

  /** One with those lines in its `server` block. */
  static async start(lines: string): Promise<Nginx> {
    const nginx = new Nginx(await freePort());
    nginx.#write(lines);
    await nginx.start();
    return nginx;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  #write(lines: string): void {
    const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((kind) => `${kind}_temp_path ${this.#folder}/${kind};`);
    writeFileSync(join(this.#folder, 'nginx.conf'), [
      // Else the workers of a master that is root could not enter the folder.
      process.getuid?.() === 0 ? 'user root;' : '',
      `daemon off; worker_processes 1; worker_shutdown_timeout ${LINGER}ms;`,
      `pid ${this.#folder}/pid; error_log stderr notice;`,
      'events { worker_connections 256; }',
      `http { access_log off; ${places.join(' ')}`,
      `server { listen 127.0.0.1:${this.port};`, lines, '} }', '',
    ].join('\n'));
  }

  get #given(): string[] {
    return ['-p', this.#folder, '-c', join(this.#folder, 'nginx.conf'), '-e', 'stderr'];
  }

  /** When it has logged what is like that from now on. */
  #says(like: RegExp): Promise<void> {
    return new Promise((said, failed) => {
      const look = (line: string | undefined): void => {
        if (line !== undefined && !like.test(line)) return;
        this.#lines.off('line', look);
        if (line !== undefined) said();
        else failed(new Error(`nginx ended:\n${this.log.join('\n')}`));
      };
      this.#lines.on('line', look);
    });
  }

  /** Starts it again, on its port. */
  async start(): Promise<void> {
    assert.ok(PROGRAM && !this.#child);
    const child = spawn(PROGRAM, this.#given, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    createInterface(child.stderr!)
      .on('line', (line) => {
        this.log.push(line);
        this.#lines.emit('line', line);
      })
      .on('close', () => {
        // What is left of one that was stopped says nothing of the one that runs now.
        if (this.#child === child) this.#lines.emit('line', undefined);
      });
    // It listens before it starts workers.
    await this.#says(/start worker process \d/);
  }

  /** Takes up other lines, or the same anew; what old workers still have is cut. */
  async reload(lines?: string): Promise<void> {
    if (lines !== undefined) this.#write(lines);
    const gone = this.#says(/worker process \d+ exited/);
    const { status, stderr } = spawnSync(PROGRAM!, [...this.#given, '-s', 'reload']);
    assert.equal(status, 0, `${stderr}`);
    await gone;
  }

  /** Ends it with all that it carries. */
  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGTERM');
    await gone;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
