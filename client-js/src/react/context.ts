/** The client that the components below it use. */

import type { FunctionComponentElement, ProviderProps, ReactNode } from 'react';
import type { Client } from '../client.js';
import { createContext, createElement, useContext } from './hooks.js';

const Context = /* @__PURE__ */ createContext<Client | undefined>(undefined);

/** Gives `client` to all below. A new user is a new client: what is below opens its logs there. */
export const HighwaterProvider = ({ client, children }: {
  readonly client: Client;
  readonly children?: ReactNode;
}): FunctionComponentElement<ProviderProps<Client | undefined>> =>
  createElement(Context.Provider, { value: client }, children);

/** The client of the nearest `HighwaterProvider`. Throws where there is none. */
export const useClient = (): Client => {
  const client = useContext(Context);
  if (!client) throw Error('no HighwaterProvider');
  return client;
};
