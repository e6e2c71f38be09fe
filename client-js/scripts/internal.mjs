// Names of members that only the client's own sources use: in what is shipped they are short, which
// an app's bundler cannot do by itself. The tests run with the same short names, so one that is on
// the wire or in a string fails there; the build refuses one that the public types name.
// Beside those listed it is every name that begins with `_`: such a member is private to its class.
import { readdirSync, readFileSync } from 'node:fs';

const NAMES = `
  act announced answered ask asking author begun blob bulk byte chance config core
  decided deliver drop flown followed given greeting hold holders holds landed mine moved named
  newId own poll queue raw rest safe saw say saying settle settled shared stay silence ticket tokens
  told touched tried varint vouched wake watched weigh welcomed whole widen worked
`.trim().split(/\s+/);

/** For esbuild. */
export const mangleProps = new RegExp(`^(${NAMES.join('|')}|_[a-z]\\w*)$`);

/** Types that no app sees: of parts that it reaches through none of the exports. */
const HIDDEN =
  /^(bounds|codec|commits|connection|delivery|history|identity|json-wire|states|subs|tokens|writer)/;
/** From here on a file has types of its own parts alone. */
const INNER = /export declare class Handle<[^]*|export interface SocketEvents [^]*/;

/** Those of the names that an app could use, by the types in that folder. */
export const published = (folder) => {
  const files = readdirSync(folder).filter((name) => name.endsWith('.d.ts') && !HIDDEN.test(name));
  const types = files.map((name) => readFileSync(`${folder}/${name}`, 'utf8').replace(INNER, ''));
  const code = types.join('\n').replace(/\/\*[^]*?\*\/|"[^"]*"/g, '');
  return NAMES.filter((name) => new RegExp(`\\b${name}\\b`).test(code));
};
