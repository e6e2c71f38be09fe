/**
 * What a list is: its actions, and what is shown of them. Three ways for edits to meet, in one log.
 *
 * `items` is folded from actions in the log's order: what two do to one item both counts. `title`
 * is one value, `who` one for each item: the newest that reaches the log stays.
 */

import { action, keyed, KeyMap, log, lww, type Meta, type Opened } from 'highwater/log';

export interface Item {
  readonly id: string;
  readonly text: string;
  readonly done: boolean;
  readonly count: number;
  /** When it was added: the order on the page. */
  readonly at: number;
  /** Something of it is not on the server yet. */
  readonly pending: boolean;
}
type Items = KeyMap<Item>;

const change = (items: Items, id: string, by: (item: Item) => Partial<Item>, { pending }: Meta) =>
  items.update(id, (item) => item && { ...item, ...by(item), pending });

export const list = log('lists/:list/todos', {
  actions: {
    add: action<{ id: string; text: string; at: number }>({
      inverse: ({ id }) => ['remove', { ids: [id] }],
    }),
    check: action<{ id: string; done: boolean }>({
      inverse: ({ id, done }) => ['check', { id, done: !done }],
    }),
    rename: action<{ id: string; text: string }>({
      inverse: ({ id }, { items }: { items: Items }) => {
        const before = items.get(id);
        return before && ['rename', { id, text: before.text }];
      },
    }),
    /** So many more: what two add at the same time adds up, where two values would not. */
    more: action<{ id: string; by: number }>({
      inverse: ({ id, by }) => ['more', { id, by: -by }],
    }),
    remove: action<{ ids: readonly string[] }>({
      inverse: ({ ids }, { items }: { items: Items }) =>
        ['restore', { items: ids.map((id) => items.get(id)).filter((item) => item) }],
    }),
    restore: action<{ items: readonly Item[] }>({
      inverse: ({ items }) => ['remove', { ids: items.map(({ id }) => id) }],
    }),
    /** Rings with everybody, now: of no use when it comes late. */
    ring: action<{ by: string }>({ maxAge: 10_000 }),
  },
}).views((view) => ({
  items: view(KeyMap.of<Item>(), {
    add: (items, { id, text, at }, { pending }) =>
      items.has(id) ? items : items.set(id, { id, text, at, done: false, count: 1, pending }),
    check: (items, { id, done }, meta) => change(items, id, () => ({ done }), meta),
    rename: (items, { id, text }, meta) => change(items, id, () => ({ text }), meta),
    more: (items, { id, by }, meta) =>
      change(items, id, ({ count }) => ({ count: Math.max(1, count + by) }), meta),
    remove: (items, { ids }) => ids.reduce((left, id) => left.delete(id), items),
    restore: (items, { items: back }, { pending }) =>
      back.reduce((all, item) => all.set(item.id, { ...item, pending }), items),
  }),
  rings: view(0, { ring: (rings) => rings + 1 }),
  title: lww<string>('title'),
  who: keyed<string>('who'),
}));

export const PEOPLE = ['Ana', 'Ben', 'Cleo'];

/** As they are shown. */
export const inOrder = (items: Items): Item[] =>
  [...items.values()].sort((one, two) => one.at - two.at || (one.id < two.id ? -1 : 1));

/** The list as it is open. */
export type List = Opened<typeof list.actions, typeof list.shape>;

/** Nobody: the item has no such value any more. */
export const setWho = ({ view: { who } }: List, id: string, name: string): void =>
  void (name ? who.set(id, name) : who.delete(id));
