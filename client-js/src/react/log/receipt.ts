/**
 * Where one action is, in one line: on this device, on the server, delivered to others.
 *
 * Promise: it says no more than is known. Delivered means that a device of theirs has it.
 */

import type { ReactElement } from 'react';
import type { Receipt, ReceiptState } from '../../log/index.js';
import { createElement } from '../hooks.js';
import { useRead } from '../read.js';

/** What it says in each state; of one that is on the server, with the users that have it. */
export type ReceiptWords = { readonly [S in ReceiptState]: (users: readonly string[]) => string };

export interface ReceiptStatusProps {
  readonly receipt: Receipt;
  /** Other words, in another language for instance. */
  readonly words?: Partial<ReceiptWords>;
  readonly className?: string;
}

const WORDS: ReceiptWords = {
  unsaved: () => 'Unsaved',
  device: () => 'On this device',
  server: (users) => (users.length ? `Delivered to ${users.join(', ')}` : 'On the server'),
  refused: () => 'Refused',
};

/**
 * Where an action is: an `output` of the class `hw-receipt`, with the state as `data-state`. To whom
 * it was delivered it says where the token has the right `delivered` on the log.
 */
export const ReceiptStatus = (
  { receipt, words, className }: ReceiptStatusProps,
): ReactElement => {
  const state = useRead(receipt.state);
  const users = useRead(receipt.deliveredTo);
  return createElement('output', {
    className: className ? `hw-receipt ${className}` : 'hw-receipt', 'data-state': state,
  }, (words?.[state] ?? WORDS[state])(users));
};
