// A Chromium that keeps its profile on disk and can be killed, and a page that has the store.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { mangleCache, mangleProps } from '../scripts/internal.mjs';
import { cutTorn, tear } from './torn.mjs';
import { ARGS, DEADLINE, executable } from './world.mjs';

const script = async () => {
  const contents = "export { indexedDb as open } from './src/log/indexeddb.ts'";
  const stdin = { contents, resolveDir: '.', loader: 'ts' };
  const form = { bundle: true, format: 'iife', globalName: 'made', write: false };
  const { outputFiles } = await build({ stdin, ...form, mangleCache, mangleProps });
  return `${outputFiles[0].text}; globalThis.open = made.open;`;
};

/** Serves the page; the origin stays while this runs, whatever browser comes. */
export const serve = async () => {
  const page = `<!doctype html><title>store</title><script>${await script()}</script>`;
  const server = createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html; charset=utf-8').end(page);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
};

/** Where a browser can be driven: it says so among what else it says. */
const listening = (child) =>
  new Promise((resolve, reject) => {
    let said = '';
    child.stderr.on('data', (text) => {
      said += text;
      const [, at] = /DevTools listening on (ws:\S+)\s/.exec(said) ?? [];
      if (at) resolve(at);
    });
    child.once('exit', () => reject(new Error(`Chromium ended: ${said}`)));
  });

export class Profile {
  #folder = mkdtempSync(join(tmpdir(), 'highwater-profile-'));
  #child;
  #browser;
  #more;

  /** `more`: arguments of the browser besides. */
  constructor(...more) {
    this.#more = more;
  }

  /** Starts a browser on what the one before has left; `options` of how it is driven. */
  async start(options = {}) {
    // Left by one that was killed: a new one would take it for alive.
    for (const name of ['SingletonLock', 'SingletonCookie', 'SingletonSocket']) {
      rmSync(join(this.#folder, name), { force: true });
    }
    const where = [`--user-data-dir=${this.#folder}`, '--remote-debugging-port=0'];
    const args = [...ARGS, ...where, ...this.#more];
    // In a group of its own: all its processes end with it.
    const alone = { stdio: ['ignore', 'ignore', 'pipe'], detached: true };
    this.#child = spawn(executable(), [...args, 'about:blank'], alone);
    this.#browser = await chromium.connectOverCDP(await listening(this.#child), options);
    return this;
  }

  get context() {
    return this.#browser.contexts()[0];
  }

  /** A new tab; `prepare` is done with it before it goes to that address. */
  async page(url, prepare = () => {}) {
    const page = await this.context.newPage();
    page.setDefaultTimeout(DEADLINE);
    await prepare(page);
    await page.goto(url);
    return page;
  }

  get version() {
    return this.#browser.version();
  }

  /**
   * As when the power of its process goes: no handler runs, nothing is flushed. `torn`: in the
   * middle of a write; else what such a kill leaves is cut off (`torn.mjs`).
   */
  async kill(torn = false) {
    if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    process.kill(-this.#child.pid, 'SIGKILL');
    await gone;
    if (torn) return tear(this.#folder);
    const cut = cutTorn(this.#folder);
    if (cut) console.log(`killed in the middle of a write: ${cut} bytes of it`);
  }

  async close() {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10 });
  }
}
