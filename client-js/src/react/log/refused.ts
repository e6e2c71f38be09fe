/**
 * The inbox of refused work: each edit that the server refused, or that never came there, with its
 * reason, what was there, what was meant, and what may be done about it.
 *
 * Promise: nothing leaves it but by its user's hand. Where something cannot be copied or tried
 * again, it says so and shows the text.
 */

import type { ReactElement, ReactNode } from 'react';
import type { LogClient, RefusedAction } from '../../log/index.js';
import { createElement, useRef, useState } from '../hooks.js';
import { useRead } from '../read.js';

export interface RefusedWords {
  readonly title: string;
  readonly before: string;
  readonly after: string;
  /** Nothing stood there, or it was to be taken away. */
  readonly nothing: string;
  readonly retry: string;
  readonly copy: string;
  readonly copied: string;
  readonly drop: string;
  /** It is not on the device: it would go with the page. */
  readonly unsaved: string;
  /** Asked before it is dropped. */
  readonly sure: string;
}

export interface RefusedProps {
  readonly client: LogClient;
  /** What was done, in the app's words. Default: the action and the log. */
  readonly describe?: (one: RefusedAction) => ReactNode;
  /** A value in the app's words. Default: a text as it is, anything else as JSON. */
  readonly show?: (value: unknown, one: RefusedAction) => ReactNode;
  /** Why, in the app's words. Default: the message that came with the refusal. */
  readonly explain?: (one: RefusedAction) => ReactNode;
  /** Other words, in another language for instance. */
  readonly words?: Partial<RefusedWords>;
  readonly className?: string;
}

const WORDS: RefusedWords = {
  title: 'Not taken', before: 'There', after: 'Yours', nothing: 'nothing', retry: 'Try again',
  copy: 'Copy', copied: 'Copied', drop: 'Drop', sure: 'Drop for good?',
  unsaved: 'In this page only, until the device has room',
};

interface ItemProps extends RefusedProps {
  readonly one: RefusedAction;
  readonly say: RefusedWords;
  /** It goes: the focus is to go somewhere. */
  readonly leaves: () => void;
}

const part = (name: string, ...children: ReactNode[]): ReactElement =>
  createElement('div', { className: `hw-refused-${name}` }, ...children);

const asText = (value: unknown): string =>
  typeof value === 'string' ? value : JSON.stringify(value, null, 1);

const Item = ({ one, say, leaves, describe, show = asText, explain }: ItemProps): ReactElement => {
  const [sure, setSure] = useState(false);
  const [copied, setCopied] = useState(false);
  // What it has to say: why it could not be tried again, or the text that could not be copied.
  const [told, setTold] = useState('');
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(one.copy());
      setCopied(true);
    } catch {
      setTold(one.copy());
    }
  };
  const retry = (): void => {
    try {
      one.retry();
      leaves();
    } catch (error) {
      setTold((error as Error).message);
    }
  };
  const drop = (): void => {
    if (!sure) return setSure(true);
    one.drop();
    leaves();
  };
  const button = (name: string, text: string, onClick: () => void): ReactElement =>
    createElement('button', {
      type: 'button', className: `hw-refused-${name}`, onClick,
      onBlur: name === 'drop' ? () => setSure(false) : undefined,
    }, text);
  const value = (name: string, what: unknown): ReactElement => part(
    name,
    createElement('dt', null, name === 'before' ? say.before : say.after),
    createElement('dd', null, what === undefined ? say.nothing : show(what, one)),
  );
  return createElement(
    'li', { className: 'hw-refused-item', 'data-code': one.reason.code },
    part('what', describe ? describe(one) : `${one.action} (${one.log})`),
    part('why', explain ? explain(one) : one.reason.message || one.reason.code),
    createElement(
      'dl', null,
      one.before !== undefined && value('before', one.before), value('after', one.after),
    ),
    !one.saved && part('unsaved', say.unsaved),
    told && createElement('pre', { className: 'hw-refused-told', role: 'alert' }, told),
    part(
      'do',
      button('retry', say.retry, retry),
      button('copy', copied ? say.copied : say.copy, () => void copy()),
      button('drop', sure ? say.sure : say.drop, drop),
    ),
  );
};

/**
 * The refused and stranded edits of `client`, also of earlier page loads: a `section` of the class
 * `hw-refused`, nothing where there are none. Each is an `li.hw-refused-item` with the code as
 * `data-code`, and three buttons.
 */
export const Refused = (props: RefusedProps): ReactElement => {
  const { client, words, className } = props;
  const refused = useRead(client.refused);
  const root = useRef<HTMLElement>(null);
  const say = { ...WORDS, ...words };
  // The button that was pressed goes with its item: whoever goes by keyboard stays in the list.
  const leaves = (): void => {
    const { current } = root;
    if (!current?.contains(current.ownerDocument.activeElement)) return;
    current.focus();
  };
  return createElement(
    'section',
    {
      className: className ? `hw-refused ${className}` : 'hw-refused', ref: root, tabIndex: -1,
      'aria-label': say.title, 'aria-live': 'polite', hidden: !refused.length,
    },
    refused.length > 0 && createElement('h2', null, `${say.title} (${refused.length})`),
    refused.length > 0 && createElement(
      'ul', null,
      refused.map((one) => createElement(Item, { ...props, key: one.id, one, say, leaves })),
    ),
  );
};
