/** The demo: a shared board of notes over one log, and the machinery that carries it. */

import { connect, HighwaterError, type Answers } from '../src/index.js';
import { Board } from './board.js';
import { byId } from './dom.js';
import { Feed } from './feed.js';
import { Mine } from './mine.js';
import { Panel } from './panel.js';
import { tapped } from './tap.js';

const feed = new Feed();
/** The token in force, which the pages of a user share, for what is asked by HTTP. */
let token: string | undefined;

/** Says what went wrong, for a while. */
let silence: ReturnType<typeof setTimeout> | undefined;
const tell = (problem: unknown): void => {
  const word = byId('word');
  word.hidden = false;
  const code = problem instanceof HighwaterError ? `${problem.code}: ` : '';
  word.textContent = code + (problem instanceof Error ? problem.message : `${problem}`);
  clearTimeout(silence);
  silence = setTimeout(() => (word.hidden = true), 6000);
};

/** What an answer tells is kept until the log shows it; an inactive connection waits for that. */
const stored = new Map<number, number>();
const answered = ({ writer, answers }: Answers): void => {
  if (writer !== client.writer) return;
  const oldest = log.pending[0]?.seq ?? Infinity;
  for (const seq of stored.keys()) if (seq < oldest) stored.delete(seq);
  for (const { seq, outcome } of answers) if ('stored' in outcome) stored.set(seq, outcome.stored.offset);
  board.answered();
  panel.touch();
};

const client = connect(location.origin, {
  WebSocket: tapped({
    in: (frame) => {
      if (frame.name === 'welcome') {
        token = frame.body.token ?? token;
        // Another history: its numbers begin anew.
        if (frame.body.other_history) stored.clear();
      }
      if (frame.name === 'answers') answered(frame.body);
      if (frame.name === 'refused') panel.refused(frame.body.refusal.retry_after);
      feed.frame('←', frame);
    },
    out: (frame) => {
      if (frame.name === 'hello') token = frame.body.token;
      feed.frame('→', frame);
    },
  }),
});
const log = client.subscribe('demo/board');
const board = new Board(log, stored, tell);
const panel = new Panel(client, stored);
const mine = new Mine(
  () => ({ token, user: client.debug.info().user, connection: client.connection }),
  tell,
);

client.on('state', (state) => {
  if (state.state === 'waiting') feed.line('·', 'socket', `lost: ${state.error.message}`);
  if (state.state === 'offline') feed.line('·', 'socket', `none, ${state.reason}`);
  if (state.state === 'active' || state.state === 'inactive') void mine.look().catch(() => {});
  const { state: is } = state;
  board.idle(is === 'connecting' || is === 'active' ? '' : 'The board comes with the next active connection.');
  panel.touch();
});
for (const event of ['records', 'reset', 'base', 'gap', 'complete', 'behind', 'pending'] as const) {
  log.on(event, () => panel.touch());
}
log.on('refused', tell);
log.on('ended', ({ reason }) => tell(new Error(`the subscription ended: ${reason}`)));

byId('cut').onclick = () => client.debug.cut();
byId('offline').onclick = () => {
  const { state } = client;
  client.debug.setOffline(!(state.state === 'offline' && state.reason === 'asked'));
};
byId('downgrade').onclick = () => void mine.downgrade(client.connection).catch(tell);
byId('activate').onclick = () => {
  const { state } = client.state;
  if (state === 'stopped') client.reconnect();
  // As when somebody comes back to the page.
  else if (state === 'waiting') dispatchEvent(new Event('pageshow'));
  else client.activate();
};

/** On a phone the panel is a sheet that the grip opens. */
const grip = byId('grip');
const open = (on: boolean): void => {
  grip.ariaExpanded = `${on}`;
  byId('panel').classList.toggle('open', on);
};
grip.onclick = () => open(grip.ariaExpanded !== 'true');
addEventListener('keydown', ({ key }) => {
  if (key === 'Escape') open(false);
});

/** For the console of the browser, and for tests. */
Object.assign(globalThis, { demo: { client, log, board, mine } });
