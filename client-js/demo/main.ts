/** The demo: a shared board of notes over one log, and the machinery that carries it. */

import type { Answers } from '../src/frames.js';
import { connect, debug, HighwaterError } from '../src/index.js';
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
  const oldest = log.pending.value[0]?.seq ?? Infinity;
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
        if (frame.body.otherHistory) stored.clear();
      }
      if (frame.name === 'answers') answered(frame.body);
      if (frame.name === 'refused') panel.refused(frame.body.refusal.retryAfter);
      feed.frame('←', frame);
    },
    out: (frame) => {
      if (frame.name === 'hello') token = frame.body.token;
      feed.frame('→', frame);
    },
  }),
});
const probe = debug(client);
const log = client.log('demo/board');
const board = new Board(log, stored, tell);
const panel = new Panel(client, log, stored);
const mine = new Mine(
  () => ({ token, user: probe.info().user, connection: client.connection }),
  tell,
);

client.status.subscribe((status) => {
  const { phase, reason } = status;
  if (phase === 'offline') {
    feed.line('·', 'socket', reason === 'lost' ? `lost: ${status.error!.message}` : `none, ${reason}`);
  }
  if (phase === 'live' || phase === 'inactive') void mine.look().catch(() => {});
  const soon = phase === 'connecting' || phase === 'live';
  board.idle(soon ? '' : 'The board comes with the next active connection.');
  panel.touch();
});
log.pending.subscribe(() => panel.touch());
for (const event of ['records', 'reset', 'base', 'gap', 'complete', 'behind'] as const) {
  log.on(event, () => panel.touch());
}
log.on('refused', tell);
log.on('ended', ({ reason }) => tell(new Error(`the subscription ended: ${reason}`)));

byId('cut').onclick = () => probe.cut();
/** Offline because the user asked for it. */
const asked = (): boolean => {
  const { phase, reason } = client.status.value;
  return phase === 'offline' && reason === 'asked';
};
byId('offline').onclick = () => (asked() ? client.connect() : client.disconnect());
byId('downgrade').onclick = () => void mine.downgrade(client.connection).catch(tell);
byId('activate').onclick = () => {
  if (client.status.value.phase === 'inactive') client.activate();
  else client.connect();
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
Object.assign(globalThis, { demo: { client, log, board, mine, debug: probe } });
