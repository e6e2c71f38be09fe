/**
 * Logs of a client with a log on the device, open as long as a component shows them.
 *
 * Promise: as with `useOpen`, one opening for a client, a definition and the content of parameters
 * and options, whoever shows it. It suspends only until the device was read: what is there is shown
 * without a server, and where nothing is, an app that is offline can be written in all the same.
 */

import type {
  Actions, Definition, LogClient, Opened, OpenOptions, Params, Views,
} from '../../log/index.js';
import type { Read } from '../../emitter.js';
import { useEffect, useState, useSyncExternalStore } from '../hooks.js';
import { find, never, type Held } from '../open.js';

type AnyDefinition = Definition<any, any, any>;
type Given = { readonly params: any; readonly options: OpenOptions | undefined };
type Opener = (client: LogClient, given: Given) => { readonly log: Held; readonly opened: unknown };

/** In these it is known that the device holds nothing of the log, and the server will not soon. */
const WITHOUT = /^(offline|inactive|needs-auth|update-required)$/;

/** The handle, whose status says `live` as soon as there is something to render with. */
const held = ({ name, status, view, release }: Opened<any, any>): Held & { name: string } => {
  const reads: Read<unknown>[] = [status, ...(Object.values(view) as Read<unknown>[])];
  const now = (): Held['status']['value'] => {
    const { value } = status;
    const some = reads.some((read) => read !== status && read.value !== undefined);
    return some || WITHOUT.test(value.phase) ? { phase: 'live', reason: '' } : value;
  };
  return {
    name, release,
    status: {
      get value() {
        return now();
      },
      subscribe: (watcher) => {
        const offs: (() => void)[] = [];
        let over = false;
        // Once it is there nobody asks any more: no view is folded for this alone.
        const tell = (): void => {
          if (over) return;
          const at = now();
          over = at.phase === 'live' || at.phase === 'closed';
          if (over) queueMicrotask(() => offs.splice(0).forEach((off) => off()));
          watcher(at);
        };
        for (const read of reads) offs.push(read.subscribe(tell));
        return () => offs.splice(0).forEach((off) => off());
      },
    },
  };
};

const openers = /* @__PURE__ */ new WeakMap<AnyDefinition, Opener>();

/** What opens logs of that definition: the same one each time, since openings are told by it. */
const openerOf = (definition: AnyDefinition): Opener => {
  let opener = openers.get(definition);
  if (!opener) {
    opener = (client, { params, options }) => {
      const opened = client.open(definition, params, options);
      return { log: held(opened), opened };
    };
    openers.set(definition, opener);
  }
  return opener;
};

/**
 * The log that `client.open(definition, params, options)` opens, open as long as the component is
 * mounted; all components that open the same share one handle, and its undo. Suspends until what
 * is on the device was read, and, where nothing is there, until the server has told or is out of
 * reach; views have no value then, and actions go. Throws the reason where the log is refused.
 *
 * The definition stands outside of the component. Nobody but this hook releases the handle.
 */
export const useOpenLog = <N extends string, A extends Actions, V extends Views>(
  client: LogClient,
  definition: Definition<N, A, V>,
  params: Params<N> & Readonly<Record<string, string>>,
  options?: OpenOptions,
): Opened<A, V> => {
  const [, again] = useState({});
  const serving = useSyncExternalStore(never, () => false, () => true);
  const opening = find(client, openerOf(definition), { params, options }, undefined);
  useEffect(() => opening._mount(again), [opening]);
  return (opening._read(serving) as ReturnType<Opener>).opened as Opened<A, V>;
};
