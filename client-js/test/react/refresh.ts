/** Fast refresh, as bundlers do it. Imported before React's renderer, which looks for it once. */

import runtime from 'react-refresh/runtime';

runtime.injectIntoGlobalHook(globalThis);

/** The module that has this component was changed, and its `key` with its hooks. */
export const refresh = (name: string, component: unknown, key: string): void => {
  runtime.register(component, name);
  runtime.setSignature(component, key);
  runtime.performReactRefresh();
};
