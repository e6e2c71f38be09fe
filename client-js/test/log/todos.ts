/** The definitions that tests of the log use: a list of things to do, and a board of values. */

import { action, keyed, KeyMap, log, lww } from '../../src/log/index.js';

export interface Todo {
  readonly id: string;
  readonly text: string;
  readonly done: boolean;
}

type Checked = { value: { id: string; text: string } } | { issues: [{ message: string }] };

const text = {
  '~standard': {
    validate: (value: unknown): Checked => {
      const { id, text } = value as { id?: unknown; text?: unknown };
      return typeof id === 'string' && typeof text === 'string'
        ? { value: { id, text } }
        : { issues: [{ message: 'id and text: texts' }] };
    },
  },
};

export const todos = log('lists/:list/todos', {
  actions: {
    add: action(text, {
      inverse: ({ id }) => ['remove', { id }],
    }),
    toggle: action<{ id: string }>({ inverse: (payload) => ['toggle', payload] }),
    rename: action<{ id: string; text: string }>({
      coalesce: ({ id }) => id,
      inverse: ({ id }, { byId }) => {
        const before = byId.get(id);
        return before && ['rename', { id, text: before.text }];
      },
    }),
    remove: action<{ id: string }>(),
    ping: action<{ n: number }>({ maxAge: 1000 }),
    now: action<void>({ offline: 'reject' }),
  },
}).views((view) => ({
  byId: view(KeyMap.of<Todo>(), {
    add: (map, { id, text }) => map.set(id, { id, text, done: false }),
    toggle: (map, { id }) => map.update(id, (one) => one && { ...one, done: !one.done }),
    rename: (map, { id, text }) => map.update(id, (one) => one && { ...one, text }),
    remove: (map, { id }) => map.delete(id),
  }),
  count: view(0, { add: (count) => count + 1, remove: (count) => count - 1 }),
}));

export const board = log('boards/:board').views(() => ({
  title: lww<string>('title'),
  cards: keyed<{ text: string }>('card'),
}));
