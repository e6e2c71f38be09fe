/**
 * What is done to a server and its clients while they write: `kill`, `sleep`, `cut` and `restore`.
 *
 * Promise: a scenario ends with all faults over and everybody let through; what differs between
 * products is nothing but their own server and client. Two clients, `a` and `b`, write and read;
 * `c`, in a process of its own, reads.
 */

import { setTimeout as wait } from 'node:timers/promises';

/** Longer than any product waits for a silent client; y-websocket's server does up to 60 s. */
export const SLEEP = 66_000;

/** Between the beginnings of two kills, so that who starts fast is not written to for less. */
const SLOT = 4500;

/** `kill -9` three times while both write; the server is started again after up to a second. */
const kill = async (round) => {
  round.writing(10, 40);
  for (let times = 0; times < 3; times++) {
    const slot = wait(SLOT);
    await wait(round.dice.between(700, 2500));
    await round.server.kill();
    await wait(round.dice.between(50, 1000));
    await round.server.start();
    await slot;
  }
  await round.pause();
};

/** `c` is stopped, as a laptop that is closed, for longer than anybody waits for it. */
const sleep = async (round) => {
  round.writing(60, 140);
  await wait(1500);
  round.sleeper.signal('SIGSTOP');
  await wait(SLEEP);
  round.sleeper.signal('SIGCONT');
  await wait(500);
  await round.pause();
};

/** Each client's network is cut at random bytes, and dark for up to four seconds, twice. */
const cut = async (round) => {
  round.writing(10, 40);
  await wait(700);
  const broken = round.proxies.map(async (proxy) => {
    proxy.cut(500, 12_000);
    for (let times = 0; times < 2; times++) {
      await wait(proxy.dice.between(1000, 4000));
      proxy.dark();
      await wait(proxy.dice.between(1000, 4000));
      proxy.light();
    }
    await wait(1000);
    proxy.calm();
  });
  await Promise.all(broken);
  await round.pause();
};

/**
 * The server's data is put back to a copy. `a` and `b` have seen and written what came after the
 * copy; `c` was cut off in the middle of that, and comes back when more was written since.
 */
const restore = async (round) => {
  const [, , far] = round.proxies;
  round.writing(10, 40);
  await wait(2500);
  await round.pause();
  await round.server.kill();
  round.server.copy();
  await round.server.start();
  round.writing(10, 40);
  await wait(2500);
  far.down();
  await wait(1500);
  await round.pause();
  await round.server.kill();
  round.server.restore();
  await round.server.start();
  round.writing(10, 40);
  await wait(2500);
  far.up();
  await wait(1500);
  await round.pause();
};

/** By name: what is done, and whether clients are reached through proxies of ours. */
export const SCENARIOS = {
  kill: { run: kill, proxied: false, title: 'kill -9' },
  sleep: { run: sleep, proxied: false, title: 'sleep' },
  cut: { run: cut, proxied: true, title: 'cut' },
  restore: { run: restore, proxied: true, title: 'restore' },
};
