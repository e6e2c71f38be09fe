// Names of members that only the client's own sources use: in what is shipped they are short, which
// an app's bundler cannot do by itself. The tests run with the same short names, so one that is on
// the wire or in a string fails there; the build refuses one that the public types name.
// Beside those listed it is every name that begins with `_`: such a member is private to its class.
import { readdirSync, readFileSync } from 'node:fs';

const NAMES = `
  act action announced answered ask asking author begun blob bulk byte chance claim config core
  deadline decided deliver drop era fixed flown flush followed given greeting history holds kept
  landed mine moved named newId out pause poll put queue raw renew rest safe saw say sent settle
  settled sought stay take ticket tokens told tried varint vouched wait wake weight welcomed
  wishes worked
`.trim().split(/\s+/);

/** For esbuild. */
export const mangleProps = new RegExp(`^(${NAMES.join('|')}|_[a-z]\\w*)$`);

/** In the order that was found to compress best; any other is as right, and a little larger. */
const SHORT = 'DeotuicsvbpaNqmjfMSyhLzZndgrCxVHl$_GTEOwABFXJQKIkUWYRP';

/**
 * For esbuild: what is short for what. Two names are short for the same where no object has both:
 * every type is written in one source, so they are never in one source (a subclass has what its
 * base has, too). So that there is one letter for most of them, those first that occur most.
 */
export const mangleCache = (() => {
  const read = (file) => readFileSync(`src/${file}`, 'utf8');
  const base = read('emitter.ts');
  const uses = {};
  const taken = {};
  const cache = {};
  for (const file of readdirSync('src').sort()) {
    const text = read(file).replace(/\/\*[^]*?\*\/|\/\/.*/g, '');
    const words = (text.includes('extends Emitter') ? base + text : text).match(/\w+/g) ?? [];
    for (const word of words) if (mangleProps.test(word)) (uses[word] ??= []).push(file);
  }
  for (const name of Object.keys(uses).sort((a, b) => uses[b].length - uses[a].length)) {
    const letter = [...SHORT].find((one) => !uses[name].some((file) => taken[file + one]));
    if (!letter) continue; // It gets two, from esbuild.
    for (const file of uses[name]) taken[file + letter] = true;
    cache[name] = letter;
  }
  return cache;
})();

/** Those of the names that an app could use, by the types in that folder. */
export const published = (folder) => {
  const read = (name) => readFileSync(`${folder}/${name}.d.ts`, 'utf8');
  const [delivery] = read('delivery').split('export interface Own');
  const [, stored] = /export interface Stored \{([^}]*)\}/.exec(read('writer'));
  const [states] = read('states').split('export interface Effects');
  const whole = ['index', 'view', 'emitter', 'errors', 'frames'].map(read);
  const types = [...whole, delivery, stored, states].join('\n').replace(/\/\*[^]*?\*\//g, '');
  return NAMES.filter((name) => new RegExp(`\\b${name}\\b`).test(types));
};
