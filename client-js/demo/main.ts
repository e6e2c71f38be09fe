/**
 * The demo: two windows of one user on one board, each with a connection of its own, and a guide
 * through what they withstand; or one window alone, at `/demo?window`.
 */

import { byId, tell, write } from './dom.js';
import { Guide } from './guide.js';
import { Mine } from './mine.js';
import { Pane } from './pane.js';

const alone = location.search === '?window';
const panes: Pane[] = [];
let guide: Guide | undefined;

let queued = false;
/** Something changed: looks once for all of a turn. */
const changed = (): void => {
  if (queued) return;
  queued = true;
  queueMicrotask(() => {
    queued = false;
    guide?.check();
    const word = guide?.title ?? byId('windows').querySelector('.state')!.textContent!;
    write(byId('grip').lastElementChild!, word);
  });
};

const first = new Pane(alone ? 'This window' : 'Ana', {}, changed);
panes.push(first);
const away = (id: string): boolean =>
  panes.some(({ client, near }) => client.connection === id && !near);
const mine = new Mine(() => ({ token: first.token, user: first.debug.info().user }), away);
const look = (): void => void mine.look().catch(() => {});

if (alone) byId('guide').remove();
else {
  // Another window of the same user: it begins when the server has said who that is.
  const token = (): string => first.token ?? '';
  const second = new Pane('Ben', { user: 'ben', autoConnect: false, token }, changed);
  panes.push(second);
  const stop = first.client.status.subscribe(() => {
    if (!first.near) return;
    second.client.connect();
    queueMicrotask(() => stop());
  });
  guide = new Guide(first, second, () => mine.ask('dev/kill', 'POST'));
}

for (const { client } of panes) {
  client.status.subscribe(() => {
    const near = panes.some((pane) => pane.near);
    // Without any connection the list is what was last heard.
    byId('own').classList.toggle('stale', !near);
    if (near) look();
  });
}
for (const pane of panes) {
  pane.downgrade = () => void mine.downgrade(pane.client.connection).catch(tell);
}
// The times that count down.
setInterval(() => panes.forEach((pane) => pane.paint()), 500);

/** On a phone the side is a sheet that the grip opens. */
const grip = byId('grip');
const open = (on: boolean): void => {
  grip.ariaExpanded = `${on}`;
  byId('side').classList.toggle('open', on);
};
grip.onclick = () => open(grip.ariaExpanded !== 'true');
addEventListener('keydown', ({ key }) => {
  if (key === 'Escape') open(false);
});

/** For the console of the browser, and for tests. */
Object.assign(globalThis, { demo: { ...first, panes, mine, guide } });
