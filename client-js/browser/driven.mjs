// Browsers without a driver: the page itself asks the test what to do, and says what came of it. So
// any browser that opens an address can be tested, with a profile on disk and killed as a whole.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { servePages } from './log-world.mjs';

const PATIENCE = 30_000;
const PREFERENCES = {
  'browser.aboutwelcome.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'browser.sessionstore.resume_from_crash': false,
  // The test opens and closes tabs by scripts.
  'dom.disable_open_during_load': false,
  'dom.allow_scripts_to_close_windows': true,
};

const first = (...paths) => paths.find((path) => path && existsSync(path));
const apis = ['webkit2gtk-4.1', 'webkit2gtk-4.0', 'webkitgtk-6.0'];
const libraries = ['x86_64', 'aarch64'].flatMap((machine) =>
  apis.map((api) => `/usr/lib/${machine}-linux-gnu/${api}/MiniBrowser`));

/** How each is started on a folder; `path` is none where it is not installed. */
export const BROWSERS = {
  Firefox: {
    path: first(process.env.FIREFOX, '/usr/bin/firefox-esr', '/usr/bin/firefox'),
    args: (folder, url) => {
      const lines = Object.entries(PREFERENCES).map(([name, value]) =>
        `user_pref("${name}", ${value});`);
      writeFileSync(join(folder, 'user.js'), lines.join('\n'));
      return ['--headless', '--no-remote', '--profile', folder, url];
    },
  },
  WebKit: {
    path: existsSync('/usr/bin/Xvfb') ? first(process.env.WEBKIT, ...libraries) : undefined,
    screen: true,
    args: (_, url) => ['--javascript-can-open-windows-automatically=true', url],
  },
};

/** In the page: asks, does, and says, until it is gone. */
const drive = async () => {
  const tab = new URLSearchParams(location.search).get('tab');
  for (;;) {
    const { id, code } = await (await fetch(`/next?tab=${tab}`)).json();
    const said = { id };
    try {
      said.result = await (0, eval)(code);
    } catch (error) {
      said.error = `${error.stack ?? error}`;
    }
    await fetch('/said', { method: 'POST', body: JSON.stringify(said) });
  }
};

/** The pages, and what is to be done in each tab. */
export const serveDriven = async () => {
  const [tabs, waiting] = [new Map(), new Map()];
  let ids = 0;
  const of = (tab) => {
    if (!tabs.has(tab)) tabs.set(tab, { due: [], asks: undefined });
    return tabs.get(tab);
  };
  const pump = (one) => {
    if (!one.asks || !one.due.length) return;
    one.asks.end(JSON.stringify(one.due.shift()));
    one.asks = undefined;
  };
  const pages = await servePages(`(${drive})()`, (path, query, request, answer) => {
    if (path === '/next') {
      const one = of(query.get('tab'));
      one.asks = answer;
      pump(one);
    } else if (path === '/said') {
      void text(request).then((body) => {
        const { id, result, error } = JSON.parse(body);
        if (error) waiting.get(id)?.reject(new Error(error));
        else waiting.get(id)?.resolve(result);
        answer.end();
      });
    } else return false;
    return true;
  });
  /** Does it in that tab, once that asks; answers what came of it. */
  const ask = (tab, code) => new Promise((resolve, reject) => {
    const id = ++ids;
    waiting.set(id, { resolve, reject });
    setTimeout(() => reject(new Error(`${tab} did not answer: ${code}`)), PATIENCE).unref();
    of(tab).due.push({ id, code });
    pump(of(tab));
  });
  return { ...pages, ask };
};

const screen = async () => {
  const child = spawn('Xvfb', ['-displayfd', '3', '-nolisten', 'tcp'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  });
  const [number] = await once(child.stdio[3], 'data');
  return { child, display: `:${`${number}`.trim()}` };
};

export class Driven {
  #folder = mkdtempSync(join(tmpdir(), 'highwater-driven-'));
  #browser;
  #child;
  #screen;

  constructor(browser) {
    this.#browser = browser;
  }

  /** Starts it on what the one before has left, at that address. */
  async start(url) {
    const { path, args } = this.#browser;
    if (this.#browser.screen) this.#screen ??= await screen();
    const home = {
      HOME: this.#folder, XDG_DATA_HOME: join(this.#folder, 'data'),
      XDG_CACHE_HOME: join(this.#folder, 'cache'), XDG_CONFIG_HOME: join(this.#folder, 'config'),
      DISPLAY: this.#screen?.display, NO_AT_BRIDGE: '1', WEBKIT_DISABLE_COMPOSITING_MODE: '1',
    };
    this.#child = spawn(path, args(this.#folder, url), {
      stdio: process.env.SHOW ? 'inherit' : 'ignore', detached: true,
      env: { ...process.env, ...home },
    });
  }

  async kill() {
    if (!this.#child || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    process.kill(-this.#child.pid, 'SIGKILL');
    await gone;
  }

  async close() {
    await this.kill();
    this.#screen?.child.kill();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10 });
  }
}
