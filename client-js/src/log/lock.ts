/**
 * One process at a time has a file: a lock beside it, which names the process.
 *
 * Promise: of those that ask at the same time one has it; a process that was killed keeps nobody
 * out. Who had it and lost it can tell.
 */

import { link, readFile, rename, unlink, writeFile } from 'node:fs/promises';

/** When a process began, where the system tells: numbers of processes come again. */
const begun = async (pid: string): Promise<string> => {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // Its name, in brackets, may have blanks.
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? '';
};

/** Whether the process that a lock names runs. What is half was never a lock. */
const runs = async (text: string): Promise<boolean> => {
  const [pid = '', since = ''] = text.split(' ');
  if (!+pid) return false;
  try {
    process.kill(+pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const now = await begun(pid);
  return !since || !now || since === now;
};

const unless = (...codes: string[]) => (error: NodeJS.ErrnoException): undefined => {
  if (!codes.includes(error.code ?? '')) throw error;
};

export interface Lock {
  /** Whether it is ours still. */
  held(): Promise<boolean>;
  release(): Promise<void>;
}

/** Throws, with what to do, where another process has it. */
export const lock = async (file: string): Promise<Lock> => {
  const path = `${file}.lock`;
  const token = crypto.randomUUID();
  const own = `${path}.${token}`;
  const mine = `${process.pid} ${await begun(`${process.pid}`)} ${token}`;
  // It is there as a whole or not at all: a link to what is written already.
  await writeFile(own, mine, { mode: 0o600 });
  try {
    for (;;) {
      if ((await link(own, path).then(() => 'ours', unless('EEXIST'))) === 'ours') break;
      const text = await readFile(path, 'utf8').catch(unless('ENOENT'));
      if (text === undefined) continue;
      if (await runs(text)) throw inUse(file, path, text);
      await takeAway(path, `${own}.old`, text);
    }
  } finally {
    await unlink(own);
  }
  const held = async (): Promise<boolean> =>
    (await readFile(path, 'utf8').catch(unless('ENOENT'))) === mine;
  const release = async (): Promise<void> => {
    if (await held()) await unlink(path);
  };
  return { held, release };
};

/** Takes a dead one away. Of several that see it one succeeds; a live one is put back. */
const takeAway = async (path: string, aside: string, seen: string): Promise<void> => {
  await rename(path, aside).catch(unless('ENOENT'));
  const text = await readFile(aside, 'utf8').catch(unless('ENOENT'));
  if (text === undefined) return;
  if (text !== seen) await link(aside, path).catch(unless('EEXIST'));
  await unlink(aside);
};

const inUse = (file: string, path: string, text: string): Error => {
  const [pid = ''] = text.split(' ');
  const who = +pid === process.pid ? 'this process' : `process ${pid}`;
  return new Error(
    `${file} is in use by ${who}. One store at a time can have it: close that one first, ` +
      `or take another folder. Where that process has nothing to do with it, remove ${path}`,
  );
};
