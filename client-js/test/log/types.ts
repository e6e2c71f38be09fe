/** What the types of a log take and refuse. Nothing of this runs: see `../types.ts`. */

import { action, connect, keyed, log, lww, type KeyMap } from '../../src/log/index.js';

const given = log('a/:x/b/:y', {
  actions: {
    perhaps: action<{ a?: string } | undefined>(), clear: action(), say: action<string>(),
  },
}).views((view) => ({
  letters: view(0, { say: (count, text, { time }) => count + text.length + time }),
  title: lww<string>('title'),
  cards: keyed<number>('card'),
}));

export const open = (): void => {
  const one = connect('http://localhost').open(given, { x: '1', y: '2' });
  one.do.perhaps();
  one.do.perhaps({ a: 'b' });
  one.do.clear();
  one.do.say('x');
  const letters: number | undefined = one.view.letters.value;
  const title: string | null | undefined = one.view.title.value;
  const cards: KeyMap<number> | undefined = one.view.cards.value;
  void [letters, title, cards];
  // @ts-expect-error: another payload.
  one.do.say(1);
  // @ts-expect-error: it has none.
  one.do.clear(1);
  // @ts-expect-error: a parameter is missing.
  connect('http://localhost').open(given, { x: '1' });
  log('p', { actions: { say: action<string>() } }).views((view) => ({
    // @ts-expect-error: there is no such action.
    letters: view(0, { sya: (count) => count }),
  }));
};
