/**
 * Histories of pages in which the whole client once failed, as small as they could be made: each
 * stays a case of `whole.test.ts`. A step is a word and its two numbers.
 */

export const CASES: readonly { readonly what: string; seed: number; steps: string }[] = [
  {
    what: 'what expired is needed until the device has it among the refused ones', seed: 762325,
    steps: `
    down 0 0, work 3 0, fail 0 0, do 0 3, do 0 0, ring 0 16
    `,
  },
  {
    what: 'a refused one that was dropped goes from the disk, also after that was full', seed: 0,
    steps: `
    work 12 0, work 6 0, do 0 0, fail 0 0, work 9 0, drop 0 0, fail 0 0
    `,
  },
  {
    what: 'a view that was kept before its gap was told lacks what was trimmed', seed: 530889,
    steps: `
    close 0 0, work 0 0, work 9 0, foreign 1 0, trim 1 1, tab 0 0, work 0 0, work 16 0, save
    0 0, down 0 0, restore 0 0
    `,
  },
  {
    what: 'a mark that was not written with its action is written later', seed: 130453,
    steps: `
    work 1 0, work 0 0, ring 0 0, tab 0 0, work 7 0, do 0 0, work 6 1, ring 0 0, do 1 0, do
    1 1, work 9 0, do 1 0, do 1 0, work 11 0, do 1 1, work 10 0, freeze 1 0, kill 0 0, work
    3 0, fail 0 0
    `,
  },
  {
    what: 'what a page refused just before it died is known to the next', seed: 181002,
    steps: `
    do 0 6, work 10 0, work 10 0, tab 0 0, work 7 0, do 1 0, do 1 0, work 12 1, kill 0 0
    `,
  },
  {
    what: 'a page that takes over sends what stands on disk, not what it heard', seed: 946354,
    steps: `
    do 0 9, do 0 9, tab 0 0, work 20 0, kill 0 0
    `,
  },
  {
    what: 'a view that another page kept of a former history is none of this one', seed: 551935,
    steps: `
    save 0 0, tab 0 0, do 1 0, work 10 0, down 0 0, work 4 0, work 20 3, tab 0 0, work 17 0,
    restore 0 0, foreign 0 0
    `,
  },
];
