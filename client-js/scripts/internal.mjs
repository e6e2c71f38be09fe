// Names of members that only the client's own sources use: in what is shipped they are short, which
// an app's bundler cannot do by itself. The tests run with the same short names, so one that is on
// the wire or in a string fails there; the build refuses one that the public types name.
// Beside those listed it is every name that begins with `_`: such a member is private to its class.
import { readdirSync, readFileSync } from 'node:fs';

const NAMES = `
  act ages anew announced answered ask asking author begun bells bits blind blob bulk byte came
  chance changed coalesced config connected core counts decided defined deliver discard flown
  folded followed found freeAll freed given gone greeting heard helped hold holders holds inbox
  known landed lasts late ledger marked mine moved muted named newId own poll queue raw rebased
  recall recalled rest runs safe saw say saying says sees settle settled shared shows silence soon
  stage stands stay ticket tokens told touched tried turns undoing unkept unmarked unwatch urge
  varint vouched wake watched weigh welcomed whole widen withdraw worked writerOf
`.trim().split(/\s+/);

/** For esbuild. */
export const mangleProps = new RegExp(`^(${NAMES.join('|')}|_[a-z]\\w*)$`);

/**
 * For esbuild: what is short for what. Two names are short for the same where no object has both:
 * every type is written in one source, so they are never in one source (a subclass has what its
 * base has, too). So there is one letter for most of them, the first for those that occur most.
 */
export const mangleCache = (() => {
  const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ$_';
  const read = (file) => readFileSync(file, 'utf8');
  const base = read('src/emitter.ts');
  const uses = {};
  const taken = {};
  const cache = {};
  // Those of `server/` take no part: they run in Node, where length is nothing, and begin with `__`.
  // The demo is built together with the client, from sources of its own.
  const inRoom = (room) => readdirSync(room).filter((name) => name.endsWith('.ts'))
    .map((name) => `${room}/${name}`);
  const files = ['src', 'src/log', 'demo'].flatMap(inRoom);
  for (const file of files.sort()) {
    const text = read(file).replace(/\/\*[^]*?\*\/|\/\/.*/g, '');
    const words = (/extends (Emitter|Source)/.test(text) ? base + text : text).match(/\w+/g) ?? [];
    for (const word of words) if (mangleProps.test(word)) (uses[word] ??= []).push(file);
  }
  for (const name of Object.keys(uses).sort((a, b) => uses[b].length - uses[a].length)) {
    const letter = [...letters].find((one) => !uses[name].some((file) => taken[file + one]));
    if (!letter) continue; // It gets two, from esbuild.
    for (const file of uses[name]) taken[file + letter] = true;
    cache[name] = letter;
  }
  return cache;
})();

/** Types that no app sees: of parts that it reaches through none of the exports. */
const HIDDEN = RegExp(
  '^(bounds|codec|commits|connection|delivery|history|identity|json-wire|nodes|states|subs|tokens|' +
    'writer|log/(delivered|fold|kept|ledger|lock|keeper|marks|packs|records|rows|run|runs|shelf|signals|tabs|' +
    'undo))',
);
/** From here on a file has types of its own parts alone. */
const INNER = RegExp(
  'export declare class (Handle<|Open |Inbox )[^]*|' +
    'export (type SocketEvent|interface InboxOptions) [^]*',
);

/** Those of the names that an app could use, by the types in that folder. */
export const published = (folder) => {
  const all = readdirSync(folder, { recursive: true });
  const files = all.filter((name) => name.endsWith('.d.ts') && !HIDDEN.test(name));
  const types = files.map((name) => readFileSync(`${folder}/${name}`, 'utf8').replace(INNER, ''));
  const code = types.join('\n').replace(/\/\*[^]*?\*\/|"[^"]*"|'[^']*'/g, '');
  return NAMES.filter((name) => new RegExp(`\\b${name}\\b`).test(code));
};
