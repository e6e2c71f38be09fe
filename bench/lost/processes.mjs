/**
 * The processes of a run, and the ports they listen on.
 *
 * Promise: only what was started here is ended, by its own handle, and all of it when the run ends,
 * however it ends.
 */

import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

/** Longest time from the start of a server until it listens, ms. */
const PATIENCE = 60_000;
const LINES = 20;

const living = new Set();
const folders = new Set();

const keep = (child) => {
  living.add(child);
  child.once('exit', () => living.delete(child));
  return child;
};

const end = async (child) => {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
};

const endAll = () => {
  for (const child of living) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
};
process.on('exit', endAll);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** What a process said last, for the message when it fails. */
const listen = (child) => {
  const said = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      said.push(...text.split('\n').filter(Boolean));
      said.splice(0, said.length - LINES);
    });
  }
  return said;
};

/** A port that is free now; nothing else on the machine is asked to leave it alone. */
export const freePort = async () => {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
};

const answers = (port) => new Promise((resolve) => {
  const socket = connect(port, '127.0.0.1');
  socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
  socket.once('connect', () => socket.destroy());
});

/** A server with a folder of its own, on one port however often it is started. */
export class Server {
  folder = mkdtempSync(join(tmpdir(), 'highwater-lost-'));
  #child;
  #said = [];

  constructor(product, port) {
    this.product = product;
    this.port = port;
    folders.add(this.folder);
  }

  async start() {
    const { command, args, env } = this.product.server({ port: this.port, folder: this.folder });
    const child = keep(spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] }));
    this.#child = child;
    this.#said = listen(child);
    let failed;
    child.once('error', (error) => (failed = error));
    for (const until = Date.now() + PATIENCE; !(await answers(this.port)); await wait(20)) {
      if (failed || child.exitCode !== null || Date.now() > until) {
        const said = [failed?.message, ...this.#said].filter(Boolean).join('\n');
        throw new Error(`${this.product.name}: its server did not start: ${said}`);
      }
    }
  }

  /** SIGKILL: it says and writes nothing any more. */
  async kill() {
    const child = this.#child;
    if (child?.exitCode !== null) throw new Error(`the server had ended: ${this.#said.join('\n')}`);
    await end(child);
  }

  /** A copy of its data, and such a copy put back; only while it is down. */
  copy() {
    this.#move('data', 'copy');
  }

  restore() {
    this.#move('copy', 'data');
  }

  #move(from, to) {
    const [source, target] = [join(this.folder, from), join(this.folder, to)];
    rmSync(target, { recursive: true, force: true });
    // A server that keeps nothing has no folder.
    try {
      cpSync(source, target, { recursive: true });
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
    }
  }

  async remove() {
    await end(this.#child);
    rmSync(this.folder, { recursive: true, force: true });
    folders.delete(this.folder);
  }
}

/** A process with clients, each `who` at a port; hands each note to `note`. */
export class Clients {
  constructor(product, room, ports, note) {
    const wanted = Object.entries(ports).map(([who, port]) => `${who}:${port}`);
    const args = [product.file, room, ...wanted];
    const program = new URL('client.mjs', import.meta.url);
    this.child = keep(fork(program, args, { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] }));
    this.said = listen(this.child);
    this.ready = new Promise((resolve, reject) => {
      this.child.on('message', (told) => (told.kind === 'ready' ? resolve() : note(told)));
      this.child.once('exit', (code) => reject(new Error(`clients of ${product.name} ended ` +
        `(${code}): ${this.said.join('\n')}`)));
    });
  }

  write(who, id) {
    this.child.send({ who, id });
  }

  signal(signal) {
    this.child.kill(signal);
  }

  async remove() {
    this.ready.catch(() => undefined);
    await end(this.child);
  }
}
