/** Canaries of the judge: a made-up loss, repeat, disorder and told gap is each found as that. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COUNTS, judge, Ledger } from './ledger.mjs';

/** A ledger of lines such as `sent a:1`, `r shown a:1`, `r told`; a line is a tick of the clock. */
const ledgerOf = (text) => {
  const ledger = new Ledger();
  text.trim().split('\n').forEach((line, at) => {
    const words = line.trim().split(' ');
    const known = ['sent', 'acked', 'refused'].includes(words[0]);
    const [who, kind, id] = known ? [undefined, ...words] : words;
    ledger.note({ who, kind, id, at });
  });
  return ledger;
};

/** What is counted beside `written` and `acked`, without the zeros. */
const odd = (text, options) => {
  const found = judge(ledgerOf(text), options);
  assert.deepEqual(Object.keys(found), Object.keys(COUNTS));
  const rest = Object.entries(found).filter(([count, { length }]) =>
    length > 0 && !['written', 'acked'].includes(count));
  return Object.fromEntries(rest);
};

const WRITTEN = 'sent a:1\nacked a:1\nsent a:2\nacked a:2\n';
const all = { keeps: 'all', kept: ['a:1', 'a:2'], last: ['a:2'] };

test('all is well', () => {
  assert.deepEqual(odd(`${WRITTEN} r shown a:1\n r shown a:2`, all), {});
});

test('lost on the server: what the writer was told is kept apart', () => {
  const shown = 'r shown a:1\nr shown a:2';
  const kept = ['a:2'];
  assert.deepEqual(
    odd(WRITTEN + shown, { ...all, kept }),
    { lostStored: ['a:1'], unkept: ['r<a:1'] },
  );
  const mute = 'sent a:1\nsent a:2\nr shown a:2';
  assert.deepEqual(odd(mute, { ...all, kept }), { lostUntold: ['a:1'] });
  const refused = 'sent a:1\nrefused a:1\nsent a:2\nacked a:2\nr shown a:2';
  assert.deepEqual(odd(refused, { ...all, kept }), { refused: ['a:1'] });
});

test('lost on the way, in silence', () => {
  assert.deepEqual(odd(`${WRITTEN}r shown a:2`, all), { missed: ['r<a:1'] });
});

test('a gap that is told is no silence, but only for what was before it', () => {
  assert.deepEqual(odd(`${WRITTEN}r told\nr shown a:2`, all), { missedTold: ['r<a:1'] });
  const early = 'r told\nsent a:1\nacked a:1\nsent a:2\nacked a:2\nr shown a:2';
  assert.deepEqual(odd(early, all), { missed: ['r<a:1'] });
});

test('a repeat; one after the app was told to begin anew is none', () => {
  const once = `${WRITTEN}r shown a:1\nr shown a:2\n`;
  assert.deepEqual(odd(`${once}r shown a:1`, all), { repeats: ['r<a:1'] });
  assert.deepEqual(odd(`${once}r told\nr shown a:2`, all), { repeats: ['r<a:2'] });
  assert.deepEqual(odd(`${once}r anew\nr shown a:1\nr shown a:2`, all), {});
});

test('who begins anew is owed all again', () => {
  const text = `${WRITTEN}r shown a:1\nr anew\nr shown a:2`;
  assert.deepEqual(odd(text, all), { missed: ['r<a:1'] });
});

test('out of order, of one writer', () => {
  assert.deepEqual(odd(`${WRITTEN}r shown a:2\nr shown a:1`, all), { disorder: ['r<a:1'] });
  const two = 'sent b:1\nsent a:1\nacked a:1\nacked b:1\nr shown a:1\nr shown b:1';
  assert.deepEqual(odd(two, { ...all, kept: ['a:1', 'b:1'], last: ['a:1', 'b:1'] }), {});
});

test('shown, but the server has it no more: in silence, told, or taken back', () => {
  const once = `${WRITTEN}r shown a:1\nr shown a:2\n`;
  const kept = ['a:2'];
  const lostStored = ['a:1'];
  assert.deepEqual(odd(once, { ...all, kept }), { lostStored, unkept: ['r<a:1'] });
  assert.deepEqual(odd(`${once}r told`, { ...all, kept }), { lostStored, unkeptTold: ['r<a:1'] });
  assert.deepEqual(
    odd(`${once}r anew\nr shown a:2`, { ...all, kept }),
    { lostStored, unkeptTold: ['r<a:1'] },
  );
});

test('who is not back misses nothing, and is named', () => {
  assert.deepEqual(odd(`${WRITTEN}r shown a:1`, all), { away: ['r'] });
});

test('a server that keeps nothing owes what it took, and what another reader was shown', () => {
  const text = 'sent a:1\nacked a:1\nsent a:2\nsent a:3\nq shown a:2\nq shown a:3\nr shown a:3';
  assert.deepEqual(
    odd(text, { keeps: 'nothing', last: ['a:3'] }),
    { missed: ['q<a:1', 'r<a:1', 'r<a:2'] },
  );
  assert.deepEqual(
    odd(text, { keeps: 'nothing', last: ['a:3'], early: ['a:1'] }),
    { missed: ['r<a:2'] },
  );
});

test('a cache that forgot what was told stored is said to have lost it', () => {
  const text = `${WRITTEN}r shown a:1\nr shown a:2`;
  assert.deepEqual(odd(text, { keeps: 'cache', kept: ['a:2'], last: ['a:2'] }), {
    lostStored: ['a:1'],
  });
});
