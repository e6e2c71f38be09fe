/** The example with Express, started for real: login, token, an append that happens once. */

import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import { connect, json } from '../../src/index.js';
import { SECRET, Server } from '../server.js';
import { reached } from '../when.js';

const example = resolve('../examples/express');

/** Why it cannot be installed, in words; nothing where it is. */
const missing = (): string | undefined => {
  if (existsSync(join(example, 'node_modules', 'express'))) return undefined;
  const { status, stderr } = spawnSync('npm', ['ci'], { cwd: example, encoding: 'utf8' });
  return status === 0 ? undefined : `express could not be installed: ${stderr.slice(-300)}`;
};

class App {
  private _process!: ChildProcess;
  url = '';

  async start(context: TestContext, server: Server, port = 0): Promise<this> {
    const env = {
      ...process.env,
      HIGHWATER_URL: server.url,
      HIGHWATER_SECRET: SECRET,
      PORT: `${port}`,
    };
    this._process = spawn(process.execPath, ['app.mjs'], {
      cwd: example,
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    context.after(() => this._process.kill('SIGKILL'));
    const lines = createInterface(this._process.stdout!);
    const [line] = (await once(lines, 'line')) as [string];
    this.url = line.replace('listening on ', '');
    return this;
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    const gone = once(this._process, 'exit');
    this._process.kill(signal);
    return (await gone)[0] as number | null;
  }

  async login(name: string): Promise<string> {
    const answer = await this.post('/login', { name });
    assert.equal(answer.status, 200);
    return answer.headers.get('set-cookie')!.split(';')[0]!;
  }

  post(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
    const all = { 'content-type': 'application/json', connection: 'close', ...headers };
    return fetch(this.url + path, { method: 'POST', body: JSON.stringify(body), headers: all });
  }
}

test('a guest book with Express', { skip: missing() ?? false }, async (context) => {
  const server = new Server('[server]\nallowed_origins = ["http://127.0.0.1:3000"]\n');
  context.after(() => server.remove());
  await server.start();
  const app = await new App().start(context, server);

  assert.equal((await fetch(`${app.url}/token`)).status, 401);
  assert.equal(
    (await app.post('/messages', { text: 'x' }, { 'idempotency-key': 'a' })).status,
    401,
  );
  assert.equal((await app.post('/login', { name: 'a b' })).status, 400);
  let cookie = await app.login('ana');
  const page = await (await fetch(app.url)).text();
  assert.match(page, /import { connect, json } from '\/highwater.js'/);
  const script = await fetch(`${app.url}/highwater.js`);
  assert.match(script.headers.get('content-type')!, /javascript/);
  assert.match(await script.text(), /export\s*{/);

  // The same message twice, with a kill of the app between, and once more while the node is away.
  const send = (text: string, key: string): Promise<Response> =>
    app.post('/messages', { text }, { cookie, 'idempotency-key': key });
  const first = await send('hello', 'one');
  assert.equal(first.status, 201);
  await app.end('SIGKILL');
  await app.start(context, server);
  cookie = await app.login('ana');
  assert.deepEqual(await (await send('hello', 'one')).json(), await first.json());
  assert.equal((await send('other', 'one')).status, 422);
  assert.equal((await send('', 'two')).status, 400);
  await server.kill();
  const waiting = send('again', 'two');
  await server.start();
  assert.equal((await waiting).status, 201);
  await server.kill();
  const given = await send('late', 'three');
  assert.deepEqual([given.status, given.headers.get('retry-after')], [503, '1']);
  await server.start();
  assert.equal((await send('late', 'three')).status, 201);

  // What the page does with its token.
  const { url, log: name } = (await (await fetch(`${app.url}/where`)).json()) as Record<
    string,
    string
  >;
  const token = async (): Promise<string> =>
    (await fetch(`${app.url}/token`, { headers: { cookie } })).text();
  const client = connect(url!, { token });
  context.after(() => client.close());
  const log = client.log<{ from: string; text: string }>(name!, {
    codec: json,
    start: { last: 50 },
  });
  const seen: string[] = [];
  log.on('records', ({ records }) => {
    for (const { payload } of records) seen.push(`${payload!.from}: ${payload!.text}`);
  });
  await reached(log, 3);
  assert.deepEqual(seen, ['ana: hello', 'ana: again', 'ana: late']);
  await assert.rejects(log.append({ payload: { from: 'x', text: 'y' } }), { code: 'denied' });
  client.close();
  assert.equal(await app.end('SIGTERM'), 0, 'nothing keeps it from ending');
});
