/**
 * "Is my work safe?", in one line: whether what was done is unsaved, on this device, or on the
 * server.
 *
 * Promise: it never says more than is known. Before the device was read it says that it looks; that
 * all is on the server it says only where nothing of this device waits.
 */

import type { ReactElement } from 'react';
import type { LogClient, Work } from '../../log/index.js';
import type { Status } from '../../states.js';
import { createElement, useSyncExternalStore } from '../hooks.js';
import { useRead } from '../read.js';
import { never } from '../open.js';

/**
 * `reading`: the device is being read. `lost`: the device keeps nothing any more, so that what
 * waits is in this page alone. `unsaved`: not on the device yet. `device`: kept, without an answer
 * of the server. `server`: all of it is there, but what was refused. `emptied`: so too, but the
 * browser had found its database damaged and emptied it: what was on this device alone, from
 * before, is gone.
 */
export type WorkState = 'reading' | 'lost' | 'unsaved' | 'device' | 'server' | 'emptied';

/** What it says in each state, of so many changes. */
export type WorkWords = { readonly [S in WorkState]: (changes: number, work: Work) => string };

export interface WorkStatusProps {
  readonly client: LogClient;
  /** Other words, in another language for instance. */
  readonly words?: Partial<WorkWords>;
  readonly className?: string;
}

const changes = (count: number): string => `${count} ${count === 1 ? 'change' : 'changes'}`;

const WORDS: WorkWords = {
  reading: () => 'Looking',
  lost: (count) => count
    ? `In this page only: ${changes(count)}`
    : 'This device keeps nothing: stay until it is sent',
  unsaved: (count, { store }) =>
    `Unsaved: ${changes(count)}${store.state === 'stuck' ? ', the device does not answer' : ''}`,
  device: (count, { store }) =>
    `${store.kind === 'disk' ? 'On this device' : 'In this page'}: ${changes(count)} to send`,
  server: (_, { refused }) => `On the server${refused ? `, ${refused} not taken` : ''}`,
  emptied: () => 'This device lost what was not sent: look whether your last changes are there',
};

const stateOf = ({ unsaved, waiting, refused, store }: Work, { phase }: Status): WorkState => {
  if (store.state === 'lost') return waiting + refused ? 'lost' : 'server';
  if (unsaved) return 'unsaved';
  if (waiting) return 'device';
  // The client connects when it has read the device, and not before.
  if (phase === 'connecting') return 'reading';
  return store.error ? 'emptied' : 'server';
};

/**
 * Where the user's work is: an `output` of the class `hw-work`, with the state as `data-state`, the
 * client's phase as `data-phase`, and how many were refused as `data-refused`.
 */
export const WorkStatus = ({ client, words, className }: WorkStatusProps): ReactElement => {
  const work = useRead(client.work);
  const status = useRead(client.status);
  const serving = useSyncExternalStore(never, () => false, () => true);
  const state = serving ? 'reading' : stateOf(work, status);
  const { unsaved, waiting, refused } = work;
  const count = state === 'unsaved' ? unsaved : waiting + (state === 'lost' ? refused : 0);
  return createElement('output', {
    className: className ? `hw-work ${className}` : 'hw-work',
    'data-state': state, 'data-phase': status.phase, 'data-refused': work.refused,
  }, (words?.[state] ?? WORDS[state])(count, work));
};
