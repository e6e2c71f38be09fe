/**
 * What was written, what its writer was told, and what each reader was shown: the judge of a round.
 *
 * Promise: it looks at nothing but the notes; each update that is missing, repeated or out of order
 * is counted once for each reader, and what a reader was told of is never counted as silence.
 * An update is called `writer:number`; numbers of a writer grow by the order of writing.
 */

/** What is counted, and what the table calls it. */
export const COUNTS = {
  written: 'written',
  acked: 'acknowledged',
  refused: 'refused',
  lostStored: 'acknowledged, lost at the server',
  lostUntold: 'never answered, lost',
  missed: 'missed, in silence',
  missedTold: 'missed, told',
  repeats: 'repeats',
  disorder: 'out of order',
  unkept: 'shown but gone, in silence',
  unkeptTold: 'shown but gone, told',
  away: 'readers not back',
};

const writerOf = (id) => id.slice(0, id.indexOf(':'));
const numberOf = (id) => Number(id.slice(id.indexOf(':') + 1));

export class Ledger {
  /** Each update: when it was made, and what its writer was told. */
  made = new Map();
  /** What each reader was shown and told, in order. */
  readers = new Map();

  reader(who) {
    if (!this.readers.has(who)) this.readers.set(who, []);
    return this.readers.get(who);
  }

  /** `kind`: sent, acked or refused of an update; shown, told or anew of a reader. */
  note({ kind, who, id, at }) {
    if (kind === 'sent') this.made.set(id, { at, acked: false, refused: false });
    else if (kind === 'acked' || kind === 'refused') this.made.get(id)[kind] = true;
    else if (kind === 'shown' || kind === 'told' || kind === 'anew') {
      this.reader(who).push({ kind, id, at });
    } else throw new Error(`no such note: ${kind}`);
  }
}

/**
 * What one reader was shown: all of it, what is on show in the end, and what came wrongly. After
 * `anew` the app was told to drop what it shows, so what comes then is no repeat; but it is owed
 * again all that there is. Only `told`, the word that something was missed, excuses what lacks.
 */
const shownTo = (events) => {
  const found = { all: new Set(), now: new Set(), repeats: [], disorder: [], toldAt: -Infinity };
  let highest = new Map();
  for (const { kind, id, at } of events) {
    if (kind === 'told') found.toldAt = at;
    if (kind === 'anew') {
      found.now = new Set();
      highest = new Map();
    }
    if (kind !== 'shown') continue;
    const [writer, number] = [writerOf(id), numberOf(id)];
    if (found.now.has(id)) found.repeats.push(id);
    else if (number < (highest.get(writer) ?? -1)) found.disorder.push(id);
    highest.set(writer, Math.max(number, highest.get(writer) ?? -1));
    found.all.add(id);
    found.now.add(id);
  }
  return found;
};

/** What readers ought to see: what the server keeps, or where that is not all, what it took. */
const truth = (ledger, views, keeps, kept) => {
  if (keeps === 'all') return kept;
  const acked = [...ledger.made].filter(([, { acked: so }]) => so).map(([id]) => id);
  return new Set([...acked, ...kept, ...[...views.values()].flatMap(({ all }) => [...all])]);
};

/**
 * `keeps`: whether the server keeps `all`, a `cache` or `nothing`. `kept`: what it holds in the
 * end. `last`: updates that were written when all faults were over; who shows none of a writer's is
 * not back, and what it misses is not called a loss. `early`: what was written before all readers
 * were there, which nobody who hands on and keeps nothing owes them.
 */
export const judge = (ledger, { keeps, kept = [], last = [], early = [] }) => {
  const found = Object.fromEntries(Object.keys(COUNTS).map((count) => [count, []]));
  const holds = new Set(kept);
  const views = new Map([...ledger.readers].map(([who, events]) => [who, shownTo(events)]));
  const seen = new Set([...views.values()].flatMap(({ all }) => [...all]));
  for (const [id, { acked, refused }] of ledger.made) {
    found.written.push(id);
    if (acked) found.acked.push(id);
    else if (refused) found.refused.push(id);
    else if (!holds.has(id) && (keeps === 'all' || !seen.has(id))) found.lostUntold.push(id);
    if (acked && keeps !== 'nothing' && !holds.has(id)) found.lostStored.push(id);
  }
  const due = truth(ledger, views, keeps, holds);
  if (keeps !== 'all') for (const id of early) due.delete(id);
  const writers = new Set(last.map(writerOf));
  for (const [who, view] of views) {
    const back = [...writers].every((writer) =>
      last.some((id) => writerOf(id) === writer && view.now.has(id)));
    if (!back) found.away.push(who);
    const told = (id) => ledger.made.get(id).at <= view.toldAt;
    const name = (id) => `${who}<${id}`;
    for (const id of back ? due : []) {
      if (!view.now.has(id)) found[told(id) ? 'missedTold' : 'missed'].push(name(id));
    }
    for (const id of keeps === 'all' && back ? view.all : []) {
      if (holds.has(id)) continue;
      // What is shown no more was taken back with a word.
      found[told(id) || !view.now.has(id) ? 'unkeptTold' : 'unkept'].push(name(id));
    }
    found.repeats.push(...view.repeats.map(name));
    found.disorder.push(...view.disorder.map(name));
  }
  return found;
};
