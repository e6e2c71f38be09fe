/**
 * Logs that are open while components show them, in StrictMode, against a real server: what is
 * asked of it and let go, and what is shown on the way.
 */

import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { Activity, Component, startTransition, Suspense, type ReactNode } from 'react';
import {
  connect, debug, json, latest, view, type Client, type ClientOptions, type HighwaterError,
  type Latest, type Log, type View,
} from '../../src/index.js';
import { useConnection, useOpen, useRead } from '../../src/react/index.js';
import { Server, token } from '../server.js';
import { until } from '../when.js';
import { Page } from './page.js';

const server = new Server('[[rules]]\npattern = "boards/**"\nsnapshot = "latest"\n');
let back: Client;
before(async () => {
  await server.start();
  back = connect(server.url, { token: token('back') });
});
after(async () => {
  back.close();
  await server.remove();
});

interface Note { readonly text: string }
interface Board { readonly log: Log<Note>; readonly notes: Latest<Note> }

let opened = 0;
const board = (client: Client, { id }: { id: string }): Board => {
  opened++;
  const log = client.log<Note>(`boards/${id}`, { codec: json, grace: 0 });
  return { log, notes: latest(log) };
};
const put = (id: string, key: string): Promise<unknown> =>
  back.append(`boards/${id}`, { key, payload: JSON.stringify({ text: key }) });

let users = 0;
/** A client of its own, the names of the logs that it asked for, the ids of those it let go. */
const client = (context: TestContext, options: ClientOptions = {}): {
  one: Client; asked: string[]; left: number[];
} => {
  opened = 0;
  const one = connect(server.url, { token: token(`user-${++users}`), ...options });
  context.after(() => one.close());
  const asked: string[] = [];
  const left: number[] = [];
  const { core } = one;
  const out = core.out.bind(core);
  core.out = (...output) => {
    const [effect, frame] = output;
    if (effect === 'send' && (frame.name === 'hello' || frame.name === 'subscribe')) {
      asked.push(...frame.body.open.map(({ name }) => name));
    }
    if (effect === 'send' && frame.name === 'unsubscribe') left.push(...frame.body.logs);
    out(...output);
  };
  return { one, asked, left };
};

/** When the server has these logs for it, and no others. */
const subscribed = async ({ connection }: Client, ...names: string[]): Promise<void> => {
  for (;;) {
    const answer = await server.ask('GET', `/v1/connections/${connection}`);
    const { subscriptions } = await answer.json() as { subscriptions: { name: string }[] };
    if (`${subscriptions.map(({ name }) => name).sort()}` === `${names.sort()}`) return;
  }
};

const List = ({ id }: { id: string }) => {
  const { notes } = useOpen(board, { id });
  return <>{`[${useRead(notes, (all) => [...all.keys()].sort()).join()}]`}</>;
};
const Count = ({ id }: { id: string }) => {
  const { notes } = useOpen(board, { id });
  return <>{useRead(notes, ({ size }) => size)}</>;
};
const Loading = ({ children }: { children: ReactNode }) =>
  <Suspense fallback="loading">{children}</Suspense>;

test('two components share one subscription, let go after the second', async (context) => {
  const { one, asked, left } = client(context);
  await put('shared', 'a');
  const page = new Page();
  page.strict(one, <Loading><List id="shared" /> <Count id="shared" /></Loading>);
  await page.shows('[a] 1');
  await put('shared', 'b');
  await page.shows('[a,b] 2');
  assert.deepEqual(page.seen, ['loading', '[a] 1', '[a,b] 2']);
  assert.deepEqual([opened, asked], [1, ['boards/shared']]);
  await subscribed(one, 'boards/shared');

  page.strict(one, <Loading><Count id="shared" /></Loading>);
  await page.shows('2');
  assert.deepEqual(left, []);
  page.unmount();
  await subscribed(one);
  assert.deepEqual([opened, asked.length, left.length], [1, 1, 1]);
});

test('what suspended and was never mounted is let go by itself', async (context) => {
  const { one, asked, left } = client(context);
  const page = new Page().strict(one, <Loading><List id="never" /></Loading>);
  await page.shows('loading');
  page.unmount();
  await until(one, 'live');
  await subscribed(one, 'boards/never');
  await subscribed(one);
  assert.deepEqual([opened, asked, left.length], [1, ['boards/never'], 1]);
});

test('who waits longer than a lease takes the next of the same', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { one } = client(context, { autoConnect: false });
  const waits: (() => void)[] = [];
  let renders = 0;
  const Waiting = () => {
    renders++;
    try {
      return <>{useRead(useOpen(board, { id: 'long' }).notes, ({ size }) => size)}</>;
    } finally {
      // Not before the next lease is taken: React may yield between two components.
      for (const go of waits.splice(0)) go();
    }
  };
  const page = new Page().strict(one, <Loading><Waiting /></Loading>);
  await page.shows('loading');
  const held = (): number => one.core.followed.named.get('boards/long')?.holders.size ?? 0;
  for (let lease = 0; lease < 4; lease++) {
    const again = new Promise<void>((go) => waits.push(go));
    const before = renders;
    context.mock.timers.tick(5000);
    await again;
    assert.ok(renders > before);
    assert.deepEqual([opened, held()], [1, 1]);
  }
  page.unmount();
  context.mock.timers.tick(5000);
  assert.equal(held(), 1);
  context.mock.timers.tick(5000);
  assert.equal(held(), 0);
});

interface Listed { readonly list: readonly { readonly a: string; readonly b?: number }[] }
const nested = (client: Client, { list }: Listed): Board => {
  opened++;
  const log = client.log<Note>(`boards/${list[0]!.a}`, { codec: json, grace: 0 });
  return { log, notes: latest(log) };
};
const Nested = ({ turned, b }: { turned?: boolean; b: number }) => {
  const { notes } = useOpen(nested, { list: [turned ? { b, a: 'nested' } : { a: 'nested', b }] });
  return <>{useRead(notes, ({ size }) => size)}</>;
};

test('parameters of the same content are the same, in whatever order', async (context) => {
  const { one } = client(context);
  const page = new Page().strict(one, <Loading><Nested b={1} /><Nested b={1} turned /></Loading>);
  await page.shows('00');
  assert.equal(opened, 1);
  page.strict(one, <Loading><Nested b={1} /><Nested b={2} turned /></Loading>);
  await page.shows('00');
  await put('nested', 'a');
  await page.shows('11');
  assert.equal(opened, 2);
  page.unmount();
});

test('in a transition the old is shown until the new is whole', async (context) => {
  const { one, left } = client(context);
  await put('old', 'old');
  await put('new', 'new');
  const page = new Page().strict(one, <Loading><List id="old" /></Loading>);
  await page.shows('[old]');
  startTransition(() => void page.strict(one, <Loading><List id="new" /></Loading>));
  await page.shows('[new]');
  assert.deepEqual(page.seen, ['loading', '[old]', '[new]']);
  await subscribed(one, 'boards/new');
  assert.equal(left.length, 1);
  page.unmount();
});

test('what was whole once never suspends again: cut, offline', async (context) => {
  const { one, asked } = client(context);
  await put('away', 'a');
  let log!: Log<Note>;
  const Away = () => {
    ({ log } = useOpen(board, { id: 'away' }));
    return <><List id="away" /> {useConnection().text}</>;
  };
  const page = new Page().strict(one, <Loading><Away /></Loading>);
  await page.shows('[a] live');
  debug(one).cut();
  await page.shows('[a] reconnecting');
  await page.shows('[a] live');
  one.disconnect();
  await page.shows('[a] offline');
  const stored = log.append({ key: 'mine', payload: { text: 'mine' } });
  await page.shows('[a,mine] offline');
  await put('away', 'b');
  one.connect();
  await page.shows('[a,b,mine] live');
  await stored;
  assert.equal(page.seen.filter((text) => text.includes('loading')).length, 1);
  assert.deepEqual([...new Set(asked)], ['boards/away']);
  assert.equal(opened, 1);
  page.unmount();
});

class Caught extends Component<{ children: ReactNode }, { error?: HighwaterError }> {
  override state: { error?: HighwaterError } = {};
  static getDerivedStateFromError = (error: HighwaterError) => ({ error });
  override render(): ReactNode {
    return this.state.error ? `refused: ${this.state.error.code}` : this.props.children;
  }
}

test('what the server refuses is thrown, for an error boundary', async (context) => {
  const little = token('nobody', [{ logs: 'public/**', can: ['read'] }]);
  const { one } = client(context, { token: little });
  const page = new Page();
  page.strict(one, <Caught><Loading><List id="secret" /></Loading></Caught>);
  await page.shows('refused: denied');
  assert.equal(opened, 1, 'it is asked for once, however often React tries');
  page.unmount();
});

test('hidden for long it is let go; shown again it is opened anew', async (context) => {
  const { one, asked } = client(context);
  await put('hidden', 'a');
  const show = (mode: 'hidden' | 'visible') =>
    <Activity mode={mode}><Loading><List id="hidden" /></Loading></Activity>;
  const page = new Page().strict(one, show('visible'));
  await page.shows('[a]');
  page.strict(one, show('hidden'));
  await subscribed(one);
  await put('hidden', 'b');
  page.strict(one, show('visible'));
  await page.shows('[a,b]');
  await subscribed(one, 'boards/hidden');
  assert.deepEqual([opened, asked.length], [2, 2]);
  page.unmount();
});

const counted = (client: Client): { log: Log; total: View<number> } => {
  const log = client.log('counts/all');
  return { log, total: view(log, (sum, { payload }) => sum + +`${payload}`, 0) };
};
const bare = (client: Client): Log => client.log('counts/all');

test('a definition may have another view, or none; a log has a status', async (context) => {
  const { one } = client(context);
  for (const payload of ['1', '2']) await back.append('counts/all', { payload });
  const Total = () => {
    const total: number = useRead(useOpen(counted).total);
    const log = useOpen(bare);
    return <>{`${total} ${log.cursor} ${useConnection(log).reason}`}</>;
  };
  const page = new Page().strict(one, <Loading><Total /></Loading>);
  await page.shows('3 2 complete');
  page.unmount();
});

test('another client, as after a login, opens its own logs', async (context) => {
  const { one } = client(context);
  const { one: two } = client(context);
  await put('login', 'a');
  const page = new Page().strict(one, <Loading><List id="login" /></Loading>);
  await page.shows('[a]');
  page.strict(two, <Loading><List id="login" /></Loading>);
  await put('login', 'b');
  await page.shows('[a,b]');
  await subscribed(two, 'boards/login');
  await subscribed(one);
  page.unmount();
});

test('a definition inside of a component is refused by name', async (context) => {
  const { one } = client(context);
  let message = '';
  class Reason extends Component<{ children: ReactNode }> {
    override state = { failed: false };
    static getDerivedStateFromError = () => ({ failed: true });
    override componentDidCatch({ message: why }: Error): void {
      message = why;
    }
    override render(): ReactNode {
      return this.state.failed ? 'failed' : this.props.children;
    }
  }
  const Inside = () => {
    const { notes } = useOpen((client) => board(client, { id: 'inside' }));
    return <>{useRead(notes, ({ size }) => size)}</>;
  };
  const page = new Page().strict(one, <Reason><Loading><Inside /></Loading></Reason>);
  await page.shows('failed');
  assert.match(message, /boards\/inside belongs outside of the component/);
  page.unmount();
  await subscribed(one);
});
