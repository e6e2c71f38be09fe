/**
 * The JSON form of the wire: a line for each frame, as people and other languages read it.
 *
 * An app that wants it imports it (`connect(url, { encoding: jsonWire })`); no other bundle has it.
 * JSON has the shape of the values in memory but for names, bytes and places: on the wire names are
 * `snake_case`. All else is checked and normalised as by writing it in binary.
 */

import {
  CodecError, decodeText, fromBase64, Io, utf8Length, written,
  type Encoding, type Sized,
} from './codec.js';

const snake = (name: string): string =>
  name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const camel = (name: string): string =>
  name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

const renamed = (part: object, by: (name: string) => string): object =>
  Object.fromEntries(Object.entries(part).map(([name, value]) => [by(name), value]));

/** A value as JSON text. */
export const toJson = (value: unknown): string =>
  JSON.stringify(value, (name, part) => {
    if (part === undefined) return null;
    if (name === 'place') return `${part.batch}.${part.index}`;
    if (!(part instanceof Uint8Array)) {
      return Object(part) === part && !Array.isArray(part) ? renamed(part, snake) : part;
    }
    const units = Array.from(part, (byte) => String.fromCharCode(byte)).join('');
    return { b64: btoa(units).replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '') };
  });

/** The value of a line. Throws where it is no JSON. */
export const fromJson = (json: string): Record<string, unknown> =>
  JSON.parse(json, (name, part) => {
    if (name === 'place') {
      const [batch, index] = `${part}`.split('.');
      return { batch: +batch!, index: +index! };
    }
    if (Object(part) !== part || Array.isArray(part)) return part;
    if (typeof part.b64 !== 'string' || !/^[\w-]*$/.test(part.b64)) return renamed(part, camel);
    return Uint8Array.from(fromBase64(part.b64), (unit) => unit.charCodeAt(0));
  });

/** Frames as lines of JSON. */
export const jsonWire: Encoding = {
  name: 'json',
  encode: (table, frame) => {
    const name = frame.name as string;
    return toJson({ [name]: written(table[name]![1], frame.body).value }) + '\n';
  },
  decode: (table, message) => {
    const found: Sized<any>[] = [];
    let at = 'a message';
    try {
      const text = typeof message === 'string' ? message : decodeText(message);
      for (const line of text.split('\n')) {
        if (!line.trim()) continue;
        const [[name, value], more] = Object.entries(fromJson(line)) as [[string, any], unknown];
        if (more) throw new CodecError('not one frame');
        if (!Object.hasOwn(table, name)) continue;
        at = name;
        const frame = { name, body: table[name]![1](new Io(), value) };
        found.push({ frame, size: utf8Length(line) });
      }
    } catch (error) {
      throw new CodecError(`${at}: ${(error as Error).message}`);
    }
    return found;
  },
  weigh: (value) => utf8Length(toJson(value)),
};
