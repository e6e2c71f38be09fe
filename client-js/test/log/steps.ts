/** Pages of one device that a test works step by step. */

import { test } from 'node:test';
import { Books } from './books.js';
import { settled } from './page.js';

export const play = (name: string, work: (books: Books) => Promise<void>): void => {
  test(name, async () => {
    const books = new Books(1);
    try {
      await work(books);
    } finally {
      books.end();
      await settled();
    }
  });
};

/** Until there is nothing of that to do. */
export const all = async (step: () => boolean): Promise<void> => {
  do await settled();
  while (step());
};
