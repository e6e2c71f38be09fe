// A real server for the browser tests: its own data folder, a port of its own, killed for real.
import { spawn } from 'node:child_process';
import {
  cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const START = 20_000;
/** Without what would configure the server besides its flags. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('HIGHWATER_')));

const binary = () => {
  const given = process.env.HIGHWATER_BIN;
  const built = ['debug', 'release'].map((kind) =>
    fileURLToPath(new URL(`../../target/${kind}/highwater`, import.meta.url)),
  );
  const found = (given ? [given] : built).find(existsSync);
  if (!found) throw new Error('there is no server to test: run "cargo build", or set HIGHWATER_BIN to its path');
  return found;
};

export class Server {
  #child;
  #folder = mkdtempSync(join(tmpdir(), 'highwater-browser-'));
  #sets;
  #log = '';
  url = '';

  /** `limits`: names and values of the section; `config`: what else its file is to say. */
  constructor(limits = {}, config = '') {
    writeFileSync(join(this.#folder, 'highwater.toml'), config);
    this.#sets = Object.entries(limits).flatMap(([name, value]) => ['--set', `limits.${name}=${value}`]);
  }

  /** What signs tokens that it believes. */
  get secret() {
    return readFileSync(join(this.#folder, 'data', 'dev-secret'), 'utf8').trim();
  }

  /** Starts it, the second time on the port of the first. */
  async start() {
    const listen = this.url ? new URL(this.url).host : '127.0.0.1:0';
    const data = join(this.#folder, 'data');
    const config = join(this.#folder, 'highwater.toml');
    const where = ['--config', config, '--listen', listen, '--data', data];
    const child = spawn(binary(), ['serve', '--dev', ...where, ...this.#sets], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
    });
    this.#child = child;
    // A test that is broken off leaves no server behind.
    process.once('exit', () => child.kill('SIGKILL'));
    child.stderr.on('data', (text) => (this.#log = (this.#log + text).slice(-8_000)));
    this.url = await new Promise((resolve, reject) => {
      let said = '';
      const fail = (why) => {
        clearTimeout(late);
        reject(new Error(`the server ${why}:\n${this.#log}`));
      };
      const late = setTimeout(fail, START, `was not ready within ${START} ms`);
      child.on('exit', (code) => fail(`ended with ${code}`));
      child.stdout.on('data', (text) => {
        const [, url] = /listening on (\S+)\n/.exec((said += text)) ?? [];
        if (!url) return;
        clearTimeout(late);
        resolve(url);
      });
    });
    return this;
  }

  /** A copy of its data, made while it is down; it goes on afterwards. */
  async backup() {
    await this.kill();
    const copy = join(this.#folder, 'backup');
    cpSync(join(this.#folder, 'data'), copy, { recursive: true });
    await this.start();
    return copy;
  }

  /** Its data is lost; it starts from that copy, or with nothing. */
  async restore(copy) {
    const data = join(this.#folder, 'data');
    await this.kill();
    rmSync(data, { recursive: true });
    if (copy) cpSync(copy, data, { recursive: true });
    await this.start();
  }

  /** Appends a whole note, of the old kind, as a back end does. */
  note(log, key, text) {
    return this.append(log, key, JSON.stringify({ text, x: 20, y: 400, color: 0 }));
  }

  /** Appends a record as a back end does. */
  async append(log, key, payload) {
    const body = JSON.stringify({ key, payload });
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${this.url}/v1/logs/${log}`, { method: 'POST', headers, body });
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  }

  /** Whether its process has ended. */
  get dead() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** SIGKILL: nothing is said, nothing is finished. */
  async kill() {
    if (this.dead) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }

  /** Its process stands still, and its sockets with it: nobody is told. */
  pause() {
    this.#child.kill('SIGSTOP');
  }

  /** It goes on. */
  resume() {
    this.#child.kill('SIGCONT');
  }

  /** Ends it as an operator would, and takes its data away. */
  async stop() {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    if (!this.dead) {
      this.#child.kill('SIGTERM');
      const hung = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(hung);
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Every record of the log, as the server has stored it. */
  async records(log) {
    const records = [];
    for (;;) {
      const response = await fetch(`${this.url}/v1/logs/${log}?from=${records.length}&limit=1000`);
      if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
      const lines = (await response.text()).split('\n').filter(Boolean).map((line) => JSON.parse(line));
      if (!lines.length) return records;
      records.push(...lines);
    }
  }

  /** The row of a connection. */
  async connection(id) {
    const response = await fetch(`${this.url}/v1/connections/${id}`);
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    return response.json();
  }
}
