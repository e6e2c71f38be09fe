/**
 * The one place that knows the two encodings: frames to bytes or text, and back.
 *
 * A schema is built from the parts below, fields in the order of the wire; both directions of both
 * encodings, and the TypeScript types, come from it. Any input gives a value or a `CodecError`;
 * trailing bytes of a body, unknown members and unknown kinds are skipped.
 */

/** Bytes or text that are no frame. */
export class CodecError extends Error {}

const fail = (wanted: string): never => {
  throw new CodecError(`not ${wanted}`);
};

/** Numbers are held exactly up to this one. */
const MOST = 2 ** 53 - 1;

export const text = new TextEncoder();
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes that a string takes in UTF-8. */
export const utf8Length = (value: string): number => text.encode(value).length;

/** 16 bytes as 32 lower-case hexadecimal digits. */
export const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join('');
/** Whether that is what a text is, of 16 bytes or of so many. */
export const isHex = (value: unknown, bytes = 16): value is string =>
  typeof value === 'string' && value.length === bytes * 2 && /^[0-9a-f]*$/.test(value);

/** Bytes of base64url, as a string of one unit per byte. */
export const fromBase64 = (coded: string): string =>
  atob(coded.replace(/-/g, '+').replace(/_/g, '/'));

/** A growing byte buffer. */
export class Out {
  #bytes = new Uint8Array(128);
  size = 0;

  /** Makes room for `count` bytes and says where they go. */
  #room(count: number): number {
    const at = this.size;
    this.size += count;
    if (this.size > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.size, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    return at;
  }

  byte(value: number): void {
    const at = this.#room(1);
    this.#bytes[at] = value;
  }

  raw(value: Uint8Array): void {
    const at = this.#room(value.length);
    this.#bytes.set(value, at);
  }

  blob(value: Uint8Array): void {
    this.varint(value.length);
    this.raw(value);
  }

  varint(value: number): void {
    if (value < 251) return this.byte(value);
    const width = value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    this.byte(width === 2 ? 251 : width === 4 ? 252 : 253);
    for (let index = 0; index < width; index++) {
      this.byte(value % 256);
      value = Math.floor(value / 256);
    }
  }

  done(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.size);
  }
}

/** A reader that never leaves its bytes. */
export class In {
  at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.at;
  }

  raw(count: number): Uint8Array {
    if (count > this.left) fail('long enough');
    this.at += count;
    return this.#bytes.subarray(this.at - count, this.at);
  }

  byte(): number {
    return this.raw(1)[0]!;
  }

  varint(most = MOST): number {
    let value = this.byte();
    if (value > 250) {
      const width = 2 ** (value - 250);
      // The marker says a type, and may not be wider than the one that is read.
      if (width > (most > 0xffffffff ? 8 : most > 0xffff ? 4 : 2)) fail(`a number up to ${most}`);
      const raw = this.raw(width);
      value = 0;
      for (let index = width; index--; ) value = value * 256 + raw[index]!;
    }
    return value <= most ? value : fail(`a number up to ${most}`);
  }

  blob(): Uint8Array {
    return this.raw(this.varint());
  }
}

/** How one kind of value is written and read. Both check what they are given. */
export interface Type<T> {
  put(out: Out, value: T): void;
  take(input: In): T;
}

/** The values of a type. */
export type Value<T> = T extends Type<infer V> ? V : never;

type Flat<T> = { [K in keyof T]: T[K] } & {};
type Absent<S> = { [K in keyof S]: undefined extends Value<S[K]> ? K : never }[keyof S];
type Fields = Record<string, Type<any>>;
type Struct<S extends Fields> = Flat<
  { [K in Exclude<keyof S, Absent<S>>]: Value<S[K]> } & { [K in Absent<S>]?: Value<S[K]> }
>;
type Variants = Record<string, Type<any> | 0>;
type Union<S extends Variants> = {
  [K in keyof S]: S[K] extends Type<infer V> ? { [P in K]: V } : K;
}[keyof S];

const decodeText = (bytes: Uint8Array): string => {
  try {
    return utf8.decode(bytes);
  } catch {
    return fail('UTF-8');
  }
};

/** Up to 255 as a raw byte, larger ones as a varint. */
const number = (most: number): Type<number> => ({
  put: (out, value) => {
    if (!Number.isInteger(value) || value < 0 || value > most) fail(`a number up to ${most}`);
    if (most < 256) out.byte(value);
    else out.varint(value);
  },
  take: (input) => (most < 256 ? input.byte() : input.varint(most)),
});

export const u8 = number(0xff);
export const u16 = number(0xffff);
export const u32 = number(0xffffffff);
/** A larger one is an error, never rounded. */
export const u64 = number(MOST);

export const bool: Type<boolean> = {
  put: (out, value) => out.byte(typeof value === 'boolean' ? +value : fail('a flag')),
  take: (input) => {
    const byte = input.byte();
    return byte < 2 ? byte > 0 : fail('a flag');
  },
};

export const str: Type<string> = {
  put: (out, value) => out.blob(typeof value === 'string' ? text.encode(value) : fail('a text')),
  take: (input) => decodeText(input.blob()),
};

/** So many bytes as lower-case hexadecimal digits. */
const digits = (bytes: number): Type<string> => ({
  put: (out, value) => {
    if (!isHex(value, bytes)) fail(`${bytes * 2} hex digits`);
    for (const pair of value.match(/../g)!) out.byte(parseInt(pair, 16));
  },
  take: (input) => hex(input.raw(bytes)),
});

/** 128 bits as 32 lower-case hexadecimal digits. */
export const id = digits(16);

/** Text stays text, anything else is bytes: the writer's word, carried by both encodings. */
export type Payload = string | Uint8Array;

export const payload: Type<Payload> = {
  put: (out, value) => {
    const bytes = value instanceof Uint8Array;
    out.byte(+!bytes);
    if (bytes) out.blob(value);
    else str.put(out, value);
  },
  take: (input) => (bool.take(input) ? str.take(input) : input.blob().slice()),
};

export const option = <T>(type: Type<T>): Type<T | undefined> => ({
  put: (out, value) => {
    out.byte(+(value != null));
    if (value != null) type.put(out, value);
  },
  take: (input) => (bool.take(input) ? type.take(input) : undefined),
});

export const list = <T>(type: Type<T>): Type<T[]> => ({
  put: (out, value) => {
    if (!Array.isArray(value)) fail('a list');
    out.varint(value.length);
    for (const item of value) type.put(out, item);
  },
  take: (input) => {
    let count = input.varint();
    // Every item has at least one byte, so a count past the end is found before any is made.
    if (count > input.left) fail('long enough');
    const items: T[] = [];
    while (count--) items.push(type.take(input));
    return items;
  },
});

export const pair = <T>(type: Type<T>): Type<[T, T]> => ({
  put: (out, value) => [0, 1].forEach((at) => type.put(out, value[at]!)),
  take: (input) => [type.take(input), type.take(input)],
});

/** Fields in their order; one that is absent is there as undefined. */
export const struct = <S extends Fields>(fields: S): Type<Struct<S>> => ({
  put: (out, value: any) => {
    for (const name in fields) fields[name]!.put(out, value[name]);
  },
  take: (input) => {
    const made: Record<string, unknown> = {};
    for (const name in fields) made[name] = fields[name]!.take(input);
    return made as Struct<S>;
  },
});

/** One of several; a variant without content (0) is its bare name, one with content an object. */
export const union = <S extends Variants>(variants: S): Type<Union<S>> => {
  const names = Object.keys(variants);
  return {
    put: (out, value) => {
      const bare = typeof value === 'string';
      const [name = '', more] = bare ? [value] : Object.keys(value);
      const type = Object.hasOwn(variants, name) ? variants[name] : undefined;
      if (more || type === undefined || !type !== bare) return fail(`one of ${names}`);
      out.varint(names.indexOf(name));
      if (type) type.put(out, (value as any)[name]);
    },
    take: (input) => {
      const name = names[input.varint(0xffffffff)] ?? fail(`one of ${names}`);
      const type = variants[name];
      return (type ? { [name]: type.take(input) } : name) as Union<S>;
    },
  };
};

/** The same type in memory by another form on the wire. */
export const via = <T, R>(type: Type<R>, to: (value: T) => R, from: (raw: R) => T): Type<T> => ({
  put: (out, value) => type.put(out, to(value)),
  take: (input) => from(type.take(input)),
});

/** A field by which a body has grown: what was written before that ends where it would begin. */
export const grown = <T>(type: Type<T>, without?: T): Type<T | undefined> => ({
  put: (out, value = without) => type.put(out, value as T),
  take: (input) => (input.left ? type.take(input) : without),
});

/** A point of one history: `era.batch` or `era.batch.chain`, in memory as in JSON. */
export const position: Type<string> = via(
  struct({ era: id, batch: u64, chain: option(digits(8)) }),
  (text: string) => {
    const [era, batch, chain] = text.split('.');
    return { era: era!, batch: batch ? +batch : NaN, chain };
  },
  ({ era, batch, chain }) => `${era}.${batch}${chain ? `.${chain}` : ''}`,
);

// JSON has the shape of the values in memory, but for two leaves: bytes and places. All else that
// binary checks and normalises is checked and normalised by going through it.

/** A value as JSON text. */
export const toJson = (value: unknown): string =>
  JSON.stringify(value, (name, part) => {
    if (part === undefined) return null;
    if (name === 'place') return `${part.batch}.${part.index}`;
    if (!(part instanceof Uint8Array)) return part;
    let units = '';
    for (const byte of part) units += String.fromCharCode(byte);
    return { b64: btoa(units).replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '') };
  });

const fromJson = (json: string): Record<string, unknown> =>
  JSON.parse(json, (name, part) => {
    if (name === 'place') {
      const [batch, index] = `${part}`.split('.');
      return { batch: +batch!, index: +index! };
    }
    if (typeof part?.b64 !== 'string' || !/^[\w-]*$/.test(part.b64)) return part;
    return Uint8Array.from(fromBase64(part.b64), (unit) => unit.charCodeAt(0));
  });

/** Kinds of frames: number and body, by name. */
export type Table = Record<string, readonly [number, Type<any>]>;
/** A frame of such a table. */
export type FrameOf<T extends Table> = {
  [K in keyof T]: { readonly name: K; readonly body: Value<T[K][1]> };
}[keyof T];

/** The two forms; each has a WebSocket subprotocol `highwater.v1.<encoding>`. */
export type Encoding = 'bincode' | 'json';

/** A value in binary. Throws `CodecError` where it cannot be carried. */
export const bytesOf = <T>(type: Type<T>, value: T): Uint8Array<ArrayBuffer> => {
  const out = new Out();
  type.put(out, value);
  return out.done();
};

/** One frame as a message of its own. */
export const encode = <T extends Table>(
  table: T,
  frame: FrameOf<T>,
  encoding: Encoding,
): string | Uint8Array<ArrayBuffer> => {
  const name = frame.name as string;
  const [kind, type] = table[name]!;
  const bytes = bytesOf(type, frame.body);
  if (encoding === 'json') return toJson({ [name]: type.take(new In(bytes)) }) + '\n';
  const message = new Out();
  message.varint(kind);
  message.blob(bytes);
  return message.done();
};

/** A frame with the size that flow control counts: its body, or its line in JSON, in bytes. */
export type Sized<F> = { readonly frame: F; readonly size: number };

/** The known frames of a message, in order. Throws `CodecError`. */
export const decode = <T extends Table>(
  table: T,
  message: string | Uint8Array,
): Sized<FrameOf<T>>[] => {
  const found: Sized<FrameOf<T>>[] = [];
  let at = 'a message';
  const add = (name: string, size: number, bytes: (type: Type<any>) => Uint8Array): void => {
    at = name;
    const type = table[name]![1];
    found.push({ frame: { name, body: type.take(new In(bytes(type))) } as FrameOf<T>, size });
  };
  try {
    if (typeof message === 'string') {
      for (const line of message.split('\n')) {
        if (!line.trim()) continue;
        type Members = [[string, unknown], unknown];
        const [[name, value], more] = Object.entries(fromJson(line)) as Members;
        if (more) fail('one frame');
        if (Object.hasOwn(table, name)) add(name, utf8Length(line), (type) => bytesOf(type, value));
      }
    } else {
      for (const input = new In(message); input.left; ) {
        const kind = input.varint();
        const bytes = input.blob();
        const name = Object.keys(table).find((one) => table[one]![0] === kind);
        if (name) add(name, bytes.length, () => bytes);
      }
    }
  } catch (error) {
    throw new CodecError(`${at}: ${(error as Error).message}`);
  }
  return found;
};
