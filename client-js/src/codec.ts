/**
 * Frames to bytes, and back, by schemas.
 *
 * A schema is built from the parts below, fields in the order of the wire; both directions, the
 * check of what JSON brings (`json-wire.ts`), and the TypeScript types come from it. Any input
 * gives a value or a `CodecError` that names the field; trailing bytes of a body, unknown members
 * and unknown kinds are skipped.
 */

/** Bytes or text that are no frame. */
export class CodecError extends Error {}

const fail = (wanted: string): never => {
  throw new CodecError(`not ${wanted}`);
};

/** Numbers are held exactly up to this one. */
const MOST = 2 ** 53 - 1;

/** @internal */
export const text = new TextEncoder();
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes that a string takes in UTF-8. */
export const utf8Length = (value: string): number =>
  /[^\0-\x7f]/.test(value) ? text.encode(value).length : value.length;

/** 16 bytes as 32 lower-case hexadecimal digits. */
export const hex = (bytes: ArrayLike<number>): string =>
  Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join('');
/** Whether that is what a text is, of 16 bytes or of so many. */
export const isHex = (value: unknown, bytes = 16): value is string =>
  RegExp(`^[\\da-f]{${bytes * 2}}$`).test(value as string);

/** Bytes of base64url, as a string of one unit per byte. */
export const fromBase64 = (coded: string): string =>
  atob(coded.replace(/-/g, '+').replace(/_/g, '/'));

/** The byte before a number that is not one byte: 2, 4 or 8 follow it. */
const marker = (value: number): number => (value > 0xffffffff ? 253 : value > 0xffff ? 252 : 251);

/**
 * Bytes that are written, or those given, which are read and never left. What writes and what reads
 * has the same name: it is given the value to write, which a reader does not look at, and answers
 * the value in either case.
 */
export class Io {
  at = 0;
  /** What is being written or read, for an error's message. */
  field = '';
  private _bytes: Uint8Array;

  constructor(readonly given?: Uint8Array) {
    this._bytes = given ?? new Uint8Array(128);
  }

  get rest(): number {
    return this.given!.length - this.at;
  }

  /** These bytes to write, or the number of those to read. */
  raw(value: any): ArrayLike<number> & Uint8Array {
    const { at, given } = this;
    this.at += value.length ?? value;
    if (given) return this.rest < 0 ? fail('long enough') : given.subarray(at, this.at);
    if (this.at > this._bytes.length) {
      const grown = new Uint8Array(this.at * 2);
      grown.set(this._bytes);
      this._bytes = grown;
    }
    this._bytes.set(value, at);
    return value;
  }

  byte(value?: number): number {
    return this.given ? this.given[this.at++] ?? fail('long enough') : this.raw([value])[0]!;
  }

  varint(value?: any, most = MOST): number {
    const first = this.byte(value < 251 ? value : marker(value));
    if (first < 251) return first;
    // The marker says a type, and may not be wider than the one that is read.
    if (first > marker(most)) fail('such a number');
    const length = 2 ** (first - 250);
    let sum = 0;
    for (let at = 1; at < 256 ** length; at *= 256) {
      sum += this.byte(Math.floor(value / at) % 256) * at;
    }
    return this.given ? sum : value;
  }

  blob(value?: Uint8Array): Uint8Array {
    const length = this.varint(value?.length);
    return this.raw(this.given ? length : value);
  }

  done(): Uint8Array<ArrayBuffer> {
    return this._bytes.slice(0, this.at);
  }
}

/**
 * How one kind of value is written and read. It checks what it is given, and answers it as it will
 * be read.
 */
export type Type<T> = (io: Io, value?: T) => T;

/** The values of a type. */
export type Value<T> = T extends (io: Io, value?: any) => infer V ? V : never;

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

/** Text from UTF-8; throws where it is none. */
export const decodeText = (bytes: Uint8Array): string => utf8.decode(bytes);

/** Up to 255 as a raw byte, larger ones as a varint; what is no number comes back as it is. */
const number = (most: number): Type<number> => (io, value) => {
  const got = most < 256 ? io.byte(value) : io.varint(value, most);
  return Number.isInteger(got) && got >= 0 && got <= most ? got : fail('such a number');
};

export const u8 = number(0xff);
export const u16 = number(0xffff);
export const u32 = number(0xffffffff);
/** A larger one is an error, never rounded. */
export const u64 = number(MOST);

const FLAGS = [false, true];
export const bool: Type<boolean> = (io, value) =>
  FLAGS[io.byte(FLAGS.indexOf(value!))] ?? fail('a flag');

/** What crosses no wire, and is one where `is` says so. */
export const own = <T>(is: (value: T) => unknown): Type<T> => (_, value) =>
  is(value!) ? value! : fail('a valid one');

/** What a payload holds. */
export const content = (data: Payload): Uint8Array => {
  if (typeof data !== 'string') return data;
  // UTF-8 has no half of a pair: encoded, two texts would become one.
  if (/\p{Cs}/u.test(data)) fail('a text: it has half of a character');
  return text.encode(data);
};

export const str: Type<string> = (io, value) => {
  const bytes = io.blob(io.given || typeof value === 'string' ? content(value!) : fail('a text'));
  return io.given ? decodeText(bytes) : value!;
};

/** So many bytes as lower-case hexadecimal digits. */
const digits = (bytes: number): Type<string> => (io, value) => {
  if (!io.given && !isHex(value, bytes)) fail(`${bytes * 2} hex digits`);
  return hex(io.raw(io.given ? bytes : value!.match(/../g)!.map((pair) => parseInt(pair, 16))));
};

/** 128 bits as 32 lower-case hexadecimal digits. */
export const id = digits(16);

/** Text stays text, anything else is bytes: the writer's word, carried by both encodings. */
export type Payload = string | Uint8Array;

export const payload: Type<Payload> = (io, value: any) =>
  bool(io, !(value instanceof Uint8Array)) ? str(io, value) : io.blob(value).slice();

export const option = <T>(type: Type<T>): Type<T | undefined> => (io, value) =>
  bool(io, value != null) ? type(io, value!) : undefined;

export const list = <T>(type: Type<T>): Type<T[]> => (io, value) => {
  if (!io.given && !Array.isArray(value)) fail('a list');
  const items: T[] = [];
  const count = io.varint(value?.length);
  // Every item has at least one byte: a count past the end is found after the last that is there.
  while (items.length < count) items.push(type(io, value?.[items.length]));
  return items;
};

export const pair = <T>(type: Type<T>): Type<[T, T]> => (io, value) =>
  [type(io, value?.[0]), type(io, value?.[1])];

/** Fields in their order; one that is absent is there as undefined. */
export const struct = <S extends Fields>(fields: S): Type<Struct<S>> => (io, value: any) => {
  if (io.given) value = {};
  else if (Object(value) !== value) fail('an object');
  const made: Record<string, unknown> = {};
  for (const name in fields) {
    io.field = name;
    made[name] = fields[name]!(io, value[name]);
  }
  return made as Struct<S>;
};

/** One of several; a variant without content (0) is its bare name, one with content an object. */
export const union = <S extends Variants>(
  variants: S,
  names = Object.keys(variants),
): Type<Union<S>> => (io, value: any) => {
  const bare = io.given || typeof value === 'string';
  const [which, more] = bare ? [value] : Object.keys(value);
  const name = names[io.varint(names.indexOf(which), 0xffffffff)] ?? fail(`one of ${names}`);
  const type = variants[name];
  if (more || (!io.given && !type !== bare)) fail(`one of ${names}`);
  return (type ? { [name]: type(io, value?.[name]) } : name) as Union<S>;
};

type Words<S> = S extends `${infer W} ${infer R}` ? W | Words<R> : S;

/** One of these words. */
export const word = <S extends string>(words: S): Type<Words<S>> =>
  union<any>({}, words.split(' ')) as Type<any>;

/** A field by which a body has grown: what was written before that ends where it would begin. */
export const grown = <T>(type: Type<T>, without?: T): Type<T | undefined> =>
  (io, value = without) => (!io.given || io.rest ? type(io, value) : without);

const hash = option(digits(8));

/** A point of one history: `era.batch` or `era.batch.chain`, in memory as in JSON. */
export const position: Type<string> = (io, text = '') => {
  const [era, batch, chain] = text.split('.');
  const parts = [id(io, era), u64(io, +(batch || NaN)), hash(io, chain)];
  return parts.filter((part) => part !== undefined).join('.');
};

/** Kinds of frames: number and body, by name. */
export type Table = Record<string, readonly [number, Type<any>]>;

/** Frames with these fields, numbered from there on. */
export const numbered = <F extends Record<string, Fields>>(
  kind: number,
  frames: F,
): { [K in keyof F]: readonly [number, Type<Struct<F[K]>>] } =>
  Object.fromEntries(
    Object.entries(frames).map(([name, fields]) => [name, [kind++, struct(fields)]]),
  ) as any;
/** A frame of such a table. */
export type FrameOf<T extends Table> = {
  [K in keyof T]: { readonly name: K; readonly body: Value<T[K][1]> };
}[keyof T];

/** One message of a socket. */
export type Message = string | Uint8Array;

/** A frame with the size that flow control counts: its body, or its line in JSON, in bytes. */
export type Sized<F> = { readonly frame: F; readonly size: number };

/** How frames cross the socket: `binary`, where nothing else is given, or `jsonWire`. */
export interface Encoding {
  /** Of the WebSocket's subprotocol `highwater.v1.<name>`. */
  readonly name: 'bincode' | 'json';
  /** One frame as a message of its own. Throws `CodecError` where it cannot be carried. */
  encode<T extends Table>(table: T, frame: FrameOf<T>): string | Uint8Array<ArrayBuffer>;
  /** The known frames of a message, in order. Throws `CodecError`. */
  decode<T extends Table>(table: T, message: Message): Sized<FrameOf<T>>[];
  /** Bytes of a value in a frame, of which `binary` are so many in binary. */
  weigh(value: unknown, binary: number): number;
}

/** What was written, where it could be; else throws `CodecError`, which names the field. */
export const written = <T>(type: Type<T>, value: T, field = ''): { io: Io; value: T } => {
  const io = new Io();
  io.field = field;
  try {
    return { io, value: type(io, value) };
  } catch (error) {
    throw new CodecError(`${io.field}: ${(error as Error).message}`);
  }
};

/** A value in binary. Throws `CodecError` where it cannot be carried. */
export const bytesOf = <T>(type: Type<T>, value: T): Uint8Array<ArrayBuffer> =>
  written(type, value).io.done();

/** The form that is used where no other is given. */
export const binary: Encoding = {
  name: 'bincode',
  encode: (table, frame) => {
    const [kind, type] = table[frame.name as string]!;
    const message = new Io();
    message.varint(kind);
    message.blob(bytesOf(type, frame.body));
    return message.done();
  },
  decode: (table, message) => {
    const found: Sized<any>[] = [];
    let at = 'a message';
    let io: Io | undefined;
    try {
      if (typeof message === 'string') fail('in binary');
      for (const input = new Io(message as Uint8Array); input.rest; ) {
        const kind = input.varint();
        const bytes = input.blob();
        for (const name in table) {
          if (table[name]![0] !== kind) continue;
          at = name;
          io = new Io(bytes);
          found.push({ frame: { name, body: table[name]![1](io) }, size: bytes.length });
        }
      }
    } catch (error) {
      throw new CodecError(`${at}${io ? '.' + io.field : ''}: ${(error as Error).message}`);
    }
    return found;
  },
  weigh: (_, bytes) => bytes,
};
