/** What a component reads: rendered for what it reads and for nothing else. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Source } from '../../src/emitter.js';
import { useRead } from '../../src/react/index.js';
import { flushSync, Page } from './page.js';

/** A value that a test changes. */
const cell = <T,>(first: T): { read: Source<T>; set: (next: T) => void } => {
  let now = first;
  const read = new Source(() => now);
  const set = (next: T): void => {
    now = next;
    read.changed();
  };
  return { read, set };
};

test('a component shows what a read shows, and each change of it', async () => {
  const { read, set } = cell('one');
  const Shown = () => <>{useRead(read)}</>;
  const page = new Page().render(<Shown />);
  await page.shows('one');
  set('two');
  await page.shows('two');
  page.unmount();
  assert.equal(read.watched, false, 'nothing watches after it went');
});

test('what is selected is compared by its parts: the same is not rendered again', async () => {
  const { read, set } = cell<Record<string, number[]>>({ a: [1, 2], b: [9] });
  let renders = 0;
  const Sum = () => {
    renders++;
    const { first, list } = {
      first: useRead(read, ({ a }) => ({ first: a![0] })).first,
      list: useRead(read, ({ a }) => [...a!]),
    };
    return <>{`${first}: ${list.join()}`}</>;
  };
  const page = new Page();
  flushSync(() => page.render(<Sum />));
  assert.equal(page.text, '1: 1,2');
  flushSync(() => set({ a: [1, 2], b: [10] }));
  flushSync(() => set({ a: [1, 2], b: [11] }));
  assert.equal(renders, 1);
  flushSync(() => set({ a: [1, 3], b: [11] }));
  assert.deepEqual([page.text, renders], ['1: 1,3', 2]);
  flushSync(() => set({ a: [1], b: [] }));
  assert.deepEqual([page.text, renders], ['1: 1', 3]);
});

test('a missing part is not an undefined one, and a class is not its parts', async () => {
  const { read, set } = cell<unknown>({ a: undefined });
  let renders = 0;
  const Kind = () => {
    const value = useRead(read, (value) => value);
    renders++;
    return <>{`${renders} ${value instanceof Date ? +value : JSON.stringify(value)}`}</>;
  };
  const page = new Page().render(<Kind />);
  await page.shows('1 {}');
  set({ b: undefined });
  await page.shows('2 {}');
  set(new Date(1));
  await page.shows('3 1');
  set(new Date(2));
  await page.shows('4 2');
});

test('what is not known yet is not selected from', async () => {
  const { read, set } = cell<number[] | undefined>(undefined);
  const Count = () => {
    const count = useRead(read, ({ length }) => length);
    return <>{count === undefined ? 'not known' : `${count}`}</>;
  };
  const page = new Page().render(<Count />);
  await page.shows('not known');
  set([]);
  await page.shows('0');
});

test('another read, or another selector, is shown at once', async () => {
  const [one, two] = [cell('one'), cell('two')];
  const Shown = ({ read, upper }: { read: Source<string>; upper: boolean }) =>
    <>{useRead(read, (text) => (upper ? text.toUpperCase() : text))}</>;
  const page = new Page().render(<Shown read={one.read} upper={false} />);
  await page.shows('one');
  page.render(<Shown read={one.read} upper />);
  await page.shows('ONE');
  page.render(<Shown read={two.read} upper />);
  await page.shows('TWO');
  two.set('three');
  await page.shows('THREE');
  assert.deepEqual([one.read.watched, two.read.watched], [false, true]);
});
