/**
 * Whose log it is: its name on this device, and the token to begin with.
 *
 * Promise: a log is of one server, one user and one format. Where no token can be had, or none
 * soon, it is that of whoever was last here, until they leave.
 */

import { Ms } from '../bounds.js';
import type { ClientOptions } from '../client.js';
import { quiet } from '../emitter.js';
import { browserStorage, userOf } from '../identity.js';
import { address } from '../socket.js';
import { inTime } from './store.js';

/** The format of what is on the device; another one is another log. */
const FORMAT = 1;
/**
 * How long a function may take for a token before what is on the device is shown without it, ms:
 * long enough for most servers to name another user, and not long to look at nothing.
 */
const SOON = 500;

/** What an app gave, as the log on the device needs it. */
export interface Named {
  readonly name: Promise<string>;
  readonly token: ClientOptions['token'];
  /** Of a name, whom a token named that a function gave. */
  readonly whose: (name: string) => string;
  readonly forget: () => void;
  /** No token is waited for any more. */
  readonly hurry: () => void;
}

/**
 * The name of the log on this device, by server, user and format; and the token to begin with. One
 * that a function gives is asked for once, before anything is shown: another user may sit here. It
 * has half a second where somebody is known who was here, and 15 seconds else.
 */
export const nameFor = (
  url: string | { readonly href: string },
  { user, token }: Pick<ClientOptions, 'token'> & { readonly user?: string },
): Named => {
  const scope = `highwater:log:${FORMAT}:${address(url)}:`;
  if (user !== undefined || typeof token !== 'function') {
    const name = Promise.resolve(scope + (user ?? userOf(token)));
    return { name, token, whose: () => '', forget: () => {}, hurry: () => {} };
  }
  const kept = browserStorage('localStorage');
  let first: Promise<string> | undefined = Promise.resolve().then(token);
  const last = kept?.getItem(`${scope}user`) ?? '';
  // One that never answers is as one that fails.
  let hurry!: () => void;
  const late = new Promise<never>((_, fail) => inTime(hurry = fail, last ? SOON : Ms.WELCOME));
  const name = Promise.race([first, late]).then(
    (got) => {
      // What is none is told by the client under it, when that asks again.
      const whose = userOf(`${got}`.trim());
      // There may be no room for it.
      void quiet((async () => kept?.setItem(`${scope}user`, whose))());
      return scope + whose;
    },
    () => scope + last,
  );
  return {
    name, hurry,
    whose: (name) => name.slice(scope.length),
    forget: () => kept?.removeItem(`${scope}user`),
    token: () => {
      const asked = first ?? token();
      first = undefined;
      return asked;
    },
  };
};
