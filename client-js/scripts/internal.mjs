// Names of members that only the client's own sources use: in what is shipped they are short, which
// an app's bundler cannot do by itself. The tests run with the same short names, so one that is on
// the wire or in a string fails there; the build refuses one that the public types name.
import { readFileSync } from 'node:fs';

const NAMES = `
  act announced answered ask begun blob byte claim config core deadline decided deliver drop era fixed flown flush
  holds history kept landed moved newId out pause poll put raw renew safe saw sent
  settled sought stay take told tokens tried varint wait wake weight welcomed
`.trim().split(/\s+/);

/** For esbuild. */
export const mangleProps = new RegExp(`^(${NAMES.join('|')})$`);

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
