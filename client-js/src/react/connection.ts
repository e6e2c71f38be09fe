/**
 * How a connection stands, or a log on it, in words for people.
 *
 * A server knows nothing of the page's socket: what it renders, and the first render of the page,
 * say that the page connects.
 */

import type { Read } from '../emitter.js';
import type { LogStatus, Status } from '../states.js';
import { useClient } from './context.js';
import { useSyncExternalStore } from './hooks.js';

/** The phase with its reason, and `text` to show. */
export type ConnectionStatus<S = Status> = S & { readonly text: string };

/** By reason, else by phase; else the phase says it. */
const TEXT: { readonly [word: string]: string } = {
  lost: 'reconnecting',
  inactive: 'paused',
  'needs-auth': 'sign in',
};

const BEGUN: Status = { phase: 'connecting', reason: 'begun' };

/**
 * The status of the client of the provider, or of `what` (a client or a log): `phase` and `reason`,
 * and `text` in plain words. Rendered anew at each change. One place in a component calls it always
 * with or always without `what`.
 */
export function useConnection(): ConnectionStatus;
export function useConnection<S extends Status | LogStatus>(
  what: { readonly status: Read<S> },
): ConnectionStatus<S>;
export function useConnection(what: { readonly status: Read<any> } = useClient()): unknown {
  const { status } = what;
  const now = useSyncExternalStore(status.subscribe, () => status.value, () => BEGUN);
  return { ...now, text: TEXT[now.reason] ?? TEXT[now.phase] ?? now.phase };
}
