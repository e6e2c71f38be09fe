/**
 * Properties under random input: a fixed small share of runs each time, more where it is asked for.
 *
 * `RUNS=20` takes twenty times as many; `SEED=… [AT=…]` runs what failed once more. A failure
 * prints both, with the smallest input that was found. After `MOST` ms no other run is begun, and
 * the property fails: it says how many were left. A run that has begun is never left on its own: it
 * would go on beside those of the next test.
 */

import fc from 'fast-check';

/** Twenty times as many runs: `RUNS=20`. */
const FACTOR = +(process.env['RUNS'] ?? 1);

const options = (runs: number): fc.Parameters<any> => {
  const { SEED: seed, AT: path } = process.env;
  return {
    numRuns: Math.ceil(runs * FACTOR),
    ...(seed !== undefined && { seed: +seed }),
    ...(path !== undefined && { path }),
    endOnFailure: process.env['SHRINK'] === '0',
  };
};

const judge = (out: fc.RunDetails<any>, left: number): void => {
  if (!out.failed && left) throw new Error(`cut off by time: ${left} of ${out.numRuns} runs left`);
  if (!out.failed) return;
  const again = `SEED=${out.seed} AT=${out.counterexamplePath} npm test <file>`;
  const error = out.errorInstance as Error;
  const input = fc.stringify(out.counterexample?.[0]);
  error.message = `${error.message}\nafter ${out.numRuns} runs; again: ${again}\ninput: ${input}`;
  throw error;
};

/** Whether another run may begin; and how many could not. */
const clock = (): { over: () => boolean; left: number } => {
  const end = performance.now() + +(process.env['MOST'] ?? 550_000);
  const is = { left: 0, over: () => performance.now() > end && !!++is.left };
  return is;
};

export const property = <T>(of: fc.Arbitrary<T>, holds: (input: T) => void, runs: number): void => {
  const time = clock();
  const each = (input: T): void => (time.over() ? undefined : holds(input));
  judge(fc.check(fc.property(of, each), options(runs)), time.left);
};

export const asyncProperty = async <T>(
  of: fc.Arbitrary<T>, holds: (input: T) => Promise<void>, runs: number,
): Promise<void> => {
  const time = clock();
  const each = async (input: T): Promise<void> => (time.over() ? undefined : holds(input));
  judge(await fc.check(fc.asyncProperty(of, each), options(runs)), time.left);
};
