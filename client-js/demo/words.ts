/** What a connection is doing, for people: a word, and a sentence. */

import type { Away, LogStatus, Reason, Status } from '../src/index.js';
import { nameOf, own } from './names.js';

/** Why a connection was made inactive. */
export const REASON: { [R in Reason]: string } = {
  detached: 'it was away for too long',
  lag: 'it fell too far behind',
  retention: 'the log could not keep more for it',
  retained_bytes: 'logs kept too much for its sake',
  slots: 'another of your windows took its place',
  node_slots: 'the server has no place left',
  memory: 'the server is short of memory',
  asked: 'somebody asked for it',
  left: 'its page was closed',
  no_slot: 'all your places are taken',
};

const seconds = (ms: number): string => (ms > 0 ? `in ${Math.ceil(ms / 1000)}\u00a0s` : 'now');

const WAITS = 'What you write waits here.';

/** How it caught up, once it has. */
const met = (status: Extract<Status, { phase: 'live' }>): string => {
  const { reason, source = '' } = status;
  if (reason === 'resumed') return 'Back where it was; nothing was missed.';
  if (reason === 'restored') return 'Caught up from the server.';
  if (reason !== 'cloned') return 'Sees every change at once.';
  return `Caught up from ${own.has(source) ? `${nameOf(source)}’s` : 'your other'} window.`;
};

const away = (status: Away, passed: number): [string, string] => {
  const { phase } = status;
  if (phase === 'connecting') return ['Connecting', ''];
  if (phase === 'inactive') {
    const again = seconds(status.retryAfter - passed);
    const why = `Because ${REASON[status.reason]}; asks again ${again}.`;
    return ['Paused', `${why} What you write is sent.`];
  }
  if (phase !== 'offline') return ['Stopped', `${status.error.message} (${status.reason}).`];
  if (status.reason === 'asked') return ['Cut off', WAITS];
  if (status.reason === 'network') return ['No network', WAITS];
  const again = seconds(status.retryAfter! - passed);
  return ['Connection lost, retrying', `Tries again ${again}. ${WAITS}`];
};

/** `passed`: ms since it is so. */
export const words = (status: Status, log: LogStatus, passed: number): [string, string] => {
  if (status.phase !== 'live') return away(status, passed);
  if (log.phase === 'live') return ['Live', met(status)];
  return ['Catching up', 'What was missed is coming.'];
};
