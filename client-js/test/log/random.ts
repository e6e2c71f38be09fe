/**
 * Properties under random input: a fixed small share of runs each time, more where it is asked for.
 *
 * `RUNS=20` takes twenty times as many; `SEED=… [AT=…]` runs what failed once more. A failure
 * prints both, with the smallest input that was found.
 */

import fc from 'fast-check';

/** Twenty times as many runs: `RUNS=20`. */
const FACTOR = +(process.env['RUNS'] ?? 1);

const options = (runs: number, fixed?: number): fc.Parameters<any> => {
  const { RUNS, SEED, AT: path } = process.env;
  const seed = SEED ?? (RUNS ? undefined : fixed);
  return {
    numRuns: Math.ceil(runs * FACTOR),
    ...(seed !== undefined && { seed: +seed }),
    ...(path !== undefined && { path }),
    endOnFailure: process.env['SHRINK'] === '0',
    interruptAfterTimeLimit: +(process.env['MOST'] ?? 600_000),
  };
};

const judge = (out: fc.RunDetails<any>): void => {
  if (!out.failed) return;
  const again = `SEED=${out.seed} AT=${out.counterexamplePath} npm test <file>`;
  const error = out.errorInstance as Error;
  const input = fc.stringify(out.counterexample?.[0]);
  error.message = `${error.message}\nafter ${out.numRuns} runs; again: ${again}\ninput: ${input}`;
  throw error;
};

export const property = <T>(of: fc.Arbitrary<T>, holds: (input: T) => void, runs: number): void => {
  judge(fc.check(fc.property(of, holds), options(runs)));
};

export const asyncProperty = async <T>(
  of: fc.Arbitrary<T>, holds: (input: T) => Promise<void>, runs: number, fixed?: number,
): Promise<void> => {
  judge(await fc.check(fc.asyncProperty(of, holds), options(runs, fixed)));
};
