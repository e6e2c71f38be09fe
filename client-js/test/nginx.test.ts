/**
 * The client through a real nginx, with its defaults and as `docs/security.md` shows it.
 *
 * Promise: whatever ends or is cut on the way (server, nginx, either of the links), each client
 * gets every record once and in order, and each append is answered and stored once; all come back
 * by themselves. What is random is of one seed, `SEED`, and `ROUNDS` cuts for each block. Where
 * there is no nginx all of it is skipped, and says so.
 */

import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import { WebSocket } from 'ws';
import {
  connect, debug, latest, type Client, type ClientOptions, type Log, type Status,
} from '../src/index.js';
import { documented, least, NEEDS, Nginx, plain, PROGRAM } from './nginx.js';
import { Server, token } from './server.js';
import { Wire } from './wire.js';

// All that is used of the client's own names.
const openLog = (client: Client, name: string): Log => client.log(name);

const LOG = 'logs/a';
const BOARD = 'boards/a';
/** Bytes a second, and what is long on such a link. */
const RATE = 15_000;
const BIG = 'x'.repeat(500_000);
const KEYS = 1500;
/** What takes longer never comes, ms. */
const PATIENCE = 120_000;
/** What `proxy_read_timeout` is by itself, ms. */
const NGINX_WAITS = 60_000;
const SEED = Number(process.env['SEED'] ?? 1);
const ROUNDS = Number(process.env['ROUNDS'] ?? 40);
/** The lines of a `server` block that leads to that port. */
type Block = (port: number) => string;
const BLOCKS: Record<string, Block> = {
  'the least block': least,
  "the documents' block": documented,
};
const CONFIG = `
[[rules]]
pattern = "boards/**"
snapshot = "latest"

[limits]
drain_ms = 200
`;

const randomOf = (seed: number): (() => number) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
};

// The client takes a random part of a bound before it comes back; here a small part, so that it
// comes back by itself, and soon.
const chance = randomOf(SEED);
Math.random = () => chance() / 50;

const until = async (so: () => boolean): Promise<void> => {
  for (const end = performance.now() + PATIENCE; !so(); await after(5)) {
    assert.ok(performance.now() < end, `waited for ${so}`);
  }
};
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** A server, nginx before it, and links on both sides of that. */
class Stage {
  private constructor(
    readonly server: Server, readonly back: Wire, readonly nginx: Nginx, readonly front: Wire,
  ) {}

  static async set(context: TestContext, block: Block, config = CONFIG): Promise<Stage> {
    const server = await new Server(config).start();
    context.after(() => server.remove());
    const back = await Wire.to(Number(new URL(server.url).port));
    context.after(() => back.close());
    const nginx = await Nginx.start(block(back.port));
    context.after(() => nginx.remove());
    const front = await Wire.to(nginx.port);
    context.after(() => front.close());
    return new Stage(server, back, nginx, front);
  }
}

/** One client, which notes all that it is given and told. */
class Hand {
  readonly client: Client;
  readonly log: Log;
  readonly offsets: number[] = [];
  readonly payloads: unknown[] = [];
  readonly answers: [payload: string, offset: number][] = [];
  /** Why it had no socket, and how often. */
  readonly losses = new Map<string, number>();
  readonly states: Status[] = [];
  /** What may not come of a log whose records are all kept. */
  readonly astray: string[] = [];
  #count = 0;

  constructor(
    context: TestContext, readonly name: string, url: string,
    { log = LOG, ...options }: ClientOptions & { log?: string } = {},
  ) {
    this.client = connect(url, { token: token(name), ...options });
    context.after(() => this.client.close());
    this.client.status.subscribe((status) => {
      this.states.push(status);
      if (status.phase !== 'offline') return;
      const word = `${status.error?.code}: ${status.error?.message}`;
      this.losses.set(word, (this.losses.get(word) ?? 0) + 1);
    });
    this.log = openLog(this.client, log);
    this.log.on('records', ({ records }) => {
      this.offsets.push(...records.map(({ offset }) => offset!));
      this.payloads.push(...records.map(({ payload }) => payload));
    });
    for (const on of ['reset', 'gap', 'refused', 'ended'] as const) {
      this.log.on(on, (event) => {
        if ((event as { reason?: string }).reason === 'new') return;
        this.astray.push(`${on} ${JSON.stringify(event)}`);
      });
    }
  }

  get phase(): Status['phase'] {
    return this.client.status.value.phase;
  }

  get lost(): number {
    return [...this.losses.values()].reduce((sum, times) => sum + times, 0);
  }

  /** Appends so many records at once; done when each is answered. */
  async write(count: number, pad = ''): Promise<void> {
    await Promise.all(upTo(count).map(async () => {
      const payload = `${this.name} ${this.#count++}${pad}`;
      const { offset } = await this.log.append({ payload });
      this.answers.push([payload, offset]);
    }));
  }

  /** When it was lost once more than that, and is back. */
  back(lost: number): Promise<void> {
    return until(() => this.lost > lost && this.phase === 'live');
  }
}

/** Appends by all of them as long as something goes on. */
const during = async (hands: Hand[], work: () => Promise<void>): Promise<void> => {
  let goesOn = true;
  const writes = hands.map(async (hand) => {
    while (goesOn) await hand.write(5);
  });
  try {
    await work();
  } finally {
    goesOn = false;
  }
  await Promise.all(writes);
};

/** Holds what each was given and answered against what is stored. */
const check = async (
  context: TestContext, server: Server, hands: Hand[], pad = '',
): Promise<void> => {
  const stored = await server.payloads(LOG);
  assert.equal(new Set(stored).size, stored.length, 'stored once');
  const answers = hands.flatMap((hand) => hand.answers);
  assert.equal(answers.length, stored.length, 'what is stored is answered');
  for (const [payload, offset] of answers) assert.equal(stored[offset], payload);
  for (const { name, log, offsets, payloads, answers, astray, losses } of hands) {
    await until(() => log.cursor >= stored.length);
    assert.deepEqual(offsets, upTo(stored.length), `${name} has each record once, in order`);
    assert.deepEqual(payloads, stored);
    assert.deepEqual(astray, []);
    const own = [...answers].sort(([, a], [, b]) => a - b).map(([payload]) => payload);
    const words = own.map((payload) => payload.replace(pad, ''));
    assert.deepEqual(words, upTo(own.length).map((at) => `${name} ${at}`), 'own order is kept');
    context.diagnostic(`${name}, of ${stored.length}: ${JSON.stringify([...losses])}`);
  }
};

/** A link of 15 kB a second, each way. */
const slow = async (context: TestContext, port: number): Promise<Wire> => {
  const wire = await Wire.to(port);
  context.after(() => wire.close());
  wire.rate = RATE;
  return wire;
};

/** That block, with so many seconds of patience. */
const patient = (block: Block, seconds: number): Block => (port) => {
  const line = `proxy_read_timeout ${seconds}s;`;
  const lines = block(port);
  const other = /proxy_read_timeout \d+s;/;
  return other.test(lines) ? lines.replace(other, line) : lines.replace('{', `{ ${line}`);
};

type Trouble = (stage: Stage) => Promise<unknown>;
const TROUBLES: Trouble[] = [
  ({ server }) => server.kill().then(() => server.start()),
  ({ server }) => server.stop().then(() => server.start()),
  ({ nginx }) => nginx.stop().then(() => nginx.start()),
  ({ nginx }) => nginx.reload(),
];

type Case = (context: TestContext, block: Block) => Promise<void>;

/** Each trouble three times while both append; after each both come back by themselves. */
const rides: Case = async (context, block) => {
  const stage = await Stage.set(context, block);
  const hands = ['ada', 'bob'].map((name) => new Hand(context, name, stage.front.url));
  for (const _ of upTo(3)) {
    for (const trouble of TROUBLES) {
      await Promise.all(hands.map((hand) => hand.write(3)));
      const before = hands.map(({ lost }) => lost);
      await during(hands, async () => {
        await trouble(stage);
        await Promise.all(hands.map((hand, at) => hand.back(before[at]!)));
      });
    }
  }
  await check(context, stage.server, hands);
};

/** So many cuts while both append, at random places of what goes over both links. */
const isCut: Case = async (context, block) => {
  context.diagnostic(`again: SEED=${SEED} ROUNDS=${ROUNDS} npm test -- nginx`);
  const { server, front, back } = await Stage.set(context, block);
  const random = randomOf(SEED);
  for (const wire of [front, back]) {
    // From the middle of the handshake to some hundred records.
    wire.lasts = () => Math.floor(100 * 1000 ** random());
    wire.harsh = () => random() < 0.5;
  }
  const hands = ['ada', 'bob'].map((name) => new Hand(context, name, front.url));
  await during(hands, async () => {
    await until(() => front.cuts + back.cuts >= ROUNDS);
    for (const wire of [front, back]) {
      wire.lasts = () => Infinity;
      wire.cut();
    }
  });
  context.diagnostic(`cut ${front.cuts} times before nginx, ${back.cuts} behind it`);
  assert.ok(hands.every(({ lost }) => lost > 0));
  await check(context, server, hands);
};

/** A record that takes half a minute. */
const isSlow: Case = async (context, block) => {
  const { server, front, nginx } = await Stage.set(context, block);
  const link = await slow(context, nginx.port);
  const writer = new Hand(context, 'ada', front.url);
  await writer.write(1, BIG);
  const reader = new Hand(context, 'bob', link.url);
  // Much goes up at the same time.
  const up = BIG.slice(0, 200_000);
  await reader.client.append('logs/b', { payload: up });
  await until(() => reader.log.cursor === 1);
  await Promise.all([writer.write(3), reader.write(3)]);
  await check(context, server, [writer, reader], BIG);
  assert.deepEqual(await server.payloads('logs/b'), [up]);
  assert.equal(reader.lost, 0, 'at the first go');
};

/** A base that is cut four times does not begin anew. */
const takesUp: Case = async (context, block) => {
  const { front, nginx } = await Stage.set(context, block);
  const writer = connect(front.url, { token: token('ada') });
  context.after(() => writer.close());
  await Promise.all(upTo(KEYS).map((at) => writer.append(BOARD, {
    key: `key ${at}`, payload: `${at}`.padEnd(60, '.'),
  })));
  const shown = async (name: string, url: string): Promise<Hand> => {
    const reader = new Hand(context, name, url, { log: BOARD });
    const board = latest(reader.log);
    await until(() => board.value?.size === KEYS);
    return reader;
  };
  const before = front.bytes;
  await shown('bob', front.url);
  const whole = front.bytes - before;
  const link = await slow(context, nginx.port);
  link.lasts = () => whole / 4;
  const { lost } = await shown('eve', link.url);
  context.diagnostic(`${whole} bytes at one go, ${link.bytes} with ${link.cuts} cuts`);
  assert.ok(link.cuts >= 4 && lost >= 4);
  assert.ok(link.bytes < 1.5 * whole, 'it is taken up where it was');
};

/** Nginx that waits less long than a ping takes to come cuts what is quiet; nothing is lost. */
const isPatient: Case = async (context, block) => {
  const config = `${CONFIG}ping_interval_ms = 2000\n`;
  const stage = await Stage.set(context, patient(block, 1), config);
  const { server, back, front, nginx } = stage;
  const hands = ['ada', 'bob'].map((name) => new Hand(context, name, front.url));
  for (const times of [1, 2, 3]) {
    await until(() => hands.every(({ lost }) => lost >= times));
    await Promise.all(hands.map((hand) => hand.write(2)));
  }
  // Longer than one interval is enough where both sides ask: nothing is cut any more.
  await nginx.reload(patient(block, 4)(back.port));
  await Promise.all(hands.map((hand) => hand.write(2)));
  const [before, since] = [hands.map(({ lost }) => lost), performance.now()];
  await until(() => performance.now() > since + 9000);
  assert.deepEqual(hands.map(({ lost }) => lost), before);
  await check(context, server, hands);
};

/** Nothing comes through until nginx has all three lines; then all goes on by itself. */
const isMended = async (context: TestContext): Promise<void> => {
  const { server, back, front, nginx } = await Stage.set(context, plain);
  const hands = ['ada', 'bob'].map((name) => new Hand(context, name, front.url));
  const written = Promise.all(hands.map((hand) => hand.write(3)));
  const refused = async (): Promise<void> => {
    const before = hands.map(({ lost }) => lost);
    // Of two losses one at least is of an attempt that began after the reload.
    await until(() => hands.every(({ lost }, at) => lost >= before[at]! + 2));
    assert.ok(hands.every(({ states }) => states.every(({ phase }) => phase !== 'live')));
  };
  await refused();
  for (const line of NEEDS) {
    await nginx.reload(least(back.port, NEEDS.filter((other) => other !== line)));
    await refused();
  }
  await nginx.reload(least(back.port));
  await written;
  await check(context, server, hands);
};

/**
 * A `ping` waits behind what goes up, and where buffers on the way take that at once (a kernel, a
 * VPN), the client cannot see that it moves; the server hears it, and sees no need for a `ping`.
 */
const isHeard = async (context: TestContext): Promise<void> => {
  const config = `${CONFIG}ping_interval_ms = 4000\n`;
  const { server, nginx } = await Stage.set(context, least, config);
  const link = await slow(context, nginx.port);
  const hand = new Hand(context, 'ada', link.url);
  await hand.write(1);
  let done = false;
  const written = hand.write(1, BIG.slice(0, 200_000)).then(() => (done = true));
  await until(() => done || hand.lost > 0);
  assert.deepEqual([...hand.losses], [], 'it moves all the time');
  await written;
  assert.equal((await server.payloads(LOG)).length, 2);
};

const CASES: Record<string, Case> = {
  'server and nginx end and come back': rides,
  'links are cut anywhere': isCut,
  '500 kB on a link of 15 kB a second': isSlow,
  'a base of many keys, on a slow link that is cut': takesUp,
  'nginx with less patience than pings need': isPatient,
};

const suite = PROGRAM ? describe : describe.skip;
if (!PROGRAM) console.log('left out: there is no nginx; scripts/nginx.sh gets one (Debian)');

suite('through nginx', { concurrency: 16, timeout: 180_000 }, () => {
  for (const [name, block] of Object.entries(BLOCKS)) {
    for (const [what, run] of Object.entries(CASES)) {
      test(`${name}: ${what}`, (context) => run(context, block));
    }
  }

  test('a plain proxy_pass, and one line too few: no socket, until it is mended', isMended);

  test('an upload alone on a slow link', isHeard);

  test('a plain proxy_pass: the client says what is wrong', async (context) => {
    const { front } = await Stage.set(context, plain);
    const hand = new Hand(context, 'ada', front.url);
    await until(() => hand.lost > 0);
    assert.match([...hand.losses.keys()].join(), /WebSocket|upgrade|400/);
  });

  test("the patience of nginx, and of the documents' block, is over two pings", async (context) => {
    const { front, nginx } = await Stage.set(context, documented);
    const hand = new Hand(context, 'ada', front.url);
    await hand.write(1);
    const twice = 2 * debug(hand.client).info().pingInterval!;
    const [, seconds] = /proxy_read_timeout (\d+)s;/.exec(documented(nginx.port)) ?? [];
    assert.ok(twice < NGINX_WAITS, 'so nothing is cut with the defaults of both');
    assert.ok(twice < Number(seconds) * 1000);
  });

  test("the documents' block: a page from a port that is not 443", async (context) => {
    const { nginx } = await Stage.set(context, documented);
    const Page = class extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols, { origin: nginx.url });
      }
    };
    const hand = new Hand(context, 'ada', nginx.url, { WebSocket: Page as never });
    await until(() => ['live', 'offline', 'closed'].includes(hand.phase));
    assert.equal(hand.phase, 'live', 'its origin is that of its `Host`');
  });
});
