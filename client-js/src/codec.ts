/**
 * The one place that knows the two encodings: frames to bytes or text, and back.
 *
 * A schema is built from the parts below, fields in the order of the wire; both directions of both
 * encodings, and the TypeScript types, come from it. Any input gives a value or a `CodecError`;
 * trailing bytes of a body, unknown members and unknown kinds are skipped.
 */

/** Bytes or text that are no frame. */
export class CodecError extends Error {
  override readonly name = 'CodecError';
}

const fail = (what: string): never => {
  throw new CodecError(what);
};

const text = new TextEncoder();
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes that a string takes in UTF-8. */
export const utf8Length = (value: string): number => {
  let bytes = value.length;
  for (let at = 0; at < value.length; at++) {
    const unit = value.charCodeAt(at);
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1;
  }
  return bytes;
};

/** A growing byte buffer. */
export class Out {
  private bytes = new Uint8Array(128);
  size = 0;

  /** Makes room for `count` bytes and says where they go. */
  private room(count: number): number {
    const at = this.size;
    this.size += count;
    if (this.size > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.size, this.bytes.length * 2));
      grown.set(this.bytes);
      this.bytes = grown;
    }
    return at;
  }

  byte(value: number): void {
    const at = this.room(1);
    this.bytes[at] = value;
  }

  raw(value: Uint8Array): void {
    const at = this.room(value.length);
    this.bytes.set(value, at);
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
    return this.bytes.slice(0, this.size);
  }
}

/** A reader that never leaves its bytes. */
export class In {
  at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  get left(): number {
    return this.bytes.length - this.at;
  }

  raw(count: number): Uint8Array {
    if (count > this.left) fail('it ends too early');
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  byte(): number {
    return this.raw(1)[0]!;
  }

  varint(most = Number.MAX_SAFE_INTEGER): number {
    let value = this.byte();
    if (value > 250) {
      const width = [2, 4, 8][value - 251] ?? fail('a number has an unknown width');
      const raw = this.raw(width);
      value = 0;
      for (let index = width; index--; ) value = value * 256 + raw[index]!;
    }
    return value <= most ? value : fail(`a number is larger than ${most}`);
  }

  blob(): Uint8Array {
    return this.raw(this.varint());
  }
}

/** How one kind of value is written and read, in both encodings. */
export interface Type<T> {
  put(out: Out, value: T): void;
  take(input: In): T;
  /** To the JSON form; `undefined` leaves the member out. */
  dump(value: T): unknown;
  /** From the JSON form; `undefined` where the member is absent. */
  load(value: unknown): T;
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

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const members = (value: unknown): Record<string, unknown> =>
  isObject(value) ? value : fail('an object is missing');
const string = (value: unknown): string =>
  typeof value === 'string' ? value : fail('a text is missing');
const same = (value: unknown): unknown => value;
const decodeText = (bytes: Uint8Array): string => {
  try {
    return utf8.decode(bytes);
  } catch {
    return fail('a text is not UTF-8');
  }
};

const number = (most: number, raw = false): Type<number> => {
  const check = (value: unknown): number =>
    Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most
      ? (value as number)
      : fail(`${value} is no number from 0 to ${most}`);
  return {
    put: (out, value) => (raw ? out.byte(check(value)) : out.varint(check(value))),
    take: (input) => (raw ? input.byte() : input.varint(most)),
    dump: check,
    load: check,
  };
};

export const u8 = number(0xff, true);
export const u16 = number(0xffff);
export const u32 = number(0xffffffff);
/** Held exactly up to 2^53-1; a larger one is an error, never rounded. */
export const u64 = number(Number.MAX_SAFE_INTEGER);

export const bool: Type<boolean> = {
  put: (out, value) => out.byte(+value),
  take: (input) => {
    const byte = input.byte();
    return byte < 2 ? byte > 0 : fail('a flag is neither 0 nor 1');
  },
  dump: same,
  load: (value) => (typeof value === 'boolean' ? value : fail('a flag is missing')),
};

export const str: Type<string> = {
  put: (out, value) => out.blob(text.encode(value)),
  take: (input) => decodeText(input.blob()),
  dump: same,
  load: string,
};

/** 128 bits as 32 lower-case hexadecimal digits. */
export const id: Type<string> = {
  put: (out, value) => {
    for (const pair of id.load(value).match(/../g)!) out.byte(parseInt(pair, 16));
  },
  take: (input) => Array.from(input.raw(16), (byte) => (byte + 256).toString(16).slice(1)).join(''),
  dump: same,
  load: (value) =>
    /^[0-9a-f]{32}$/.test(string(value)) ? (value as string) : fail('an id has 32 hex digits'),
};

/** Text stays text, anything else is bytes: the writer's word, carried by both encodings. */
export type Payload = string | Uint8Array;

export const payload: Type<Payload> = {
  put: (out, value) => {
    const isText = typeof value === 'string';
    out.byte(+isText);
    out.blob(isText ? text.encode(value) : value);
  },
  take: (input) => (bool.take(input) ? decodeText(input.blob()) : input.blob().slice()),
  dump: (value) => {
    if (typeof value === 'string') return value;
    let binary = '';
    for (const byte of value) binary += String.fromCharCode(byte);
    return { b64: btoa(binary).replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '') };
  },
  load: (value) => {
    if (typeof value === 'string') return value;
    const coded = string(members(value).b64);
    if (!/^[\w-]*$/.test(coded) || coded.length % 4 === 1) fail('b64 is base64url without padding');
    const binary = atob(coded.replace(/-/g, '+').replace(/_/g, '/'));
    return Uint8Array.from(binary, (unit) => unit.charCodeAt(0));
  },
};

export const option = <T>(type: Type<T>): Type<T | undefined> => ({
  put: (out, value) => {
    out.byte(+(value !== undefined));
    if (value !== undefined) type.put(out, value);
  },
  take: (input) => (bool.take(input) ? type.take(input) : undefined),
  dump: (value) => (value === undefined ? value : type.dump(value)),
  load: (value) => (value == null ? undefined : type.load(value)),
});

/** A member that may be absent in JSON; `make` gives its value then. */
export const or = <T>(type: Type<T>, make: () => T): Type<T> => ({
  ...type,
  load: (value) => (value === undefined ? make() : type.load(value)),
});

export const list = <T>(type: Type<T>): Type<T[]> => ({
  put: (out, value) => {
    out.varint(value.length);
    for (const item of value) type.put(out, item);
  },
  take: (input) => {
    // Every item has at least one byte, so a count past the end is found before any is made.
    let count = input.varint(input.left);
    const items: T[] = [];
    while (count--) items.push(type.take(input));
    return items;
  },
  dump: (value) => value.map(type.dump),
  load: (value) => (Array.isArray(value) ? value.map(type.load) : fail('a list is missing')),
});

export const pair = (type: Type<string>): Type<[string, string]> => ({
  put: (out, value) => value.forEach((item) => type.put(out, item)),
  take: (input) => [type.take(input), type.take(input)],
  dump: same,
  load: (value) =>
    Array.isArray(value) && value.length === 2
      ? [type.load(value[0]), type.load(value[1])]
      : fail('a pair is missing'),
});

export const struct = <S extends Fields>(fields: S): Type<Struct<S>> => {
  const names = Object.keys(fields);
  const collect = (read: (type: Type<any>, name: string) => unknown): any => {
    const made: Record<string, unknown> = {};
    for (const name of names) {
      const value = read(fields[name]!, name);
      if (value !== undefined) made[name] = value;
    }
    return made;
  };
  return {
    put: (out, value: any) => names.forEach((name) => fields[name]!.put(out, value[name])),
    take: (input) => collect((type) => type.take(input)),
    dump: (value: any) => collect((type, name) => type.dump(value[name])),
    load: (value) => {
      const from = members(value);
      return collect((type, name) => type.load(from[name]));
    },
  };
};

/** One of several; a variant without content (0) is its bare name, one with content an object. */
export const union = <S extends Variants>(variants: S): Type<Union<S>> => {
  const names = Object.keys(variants);
  const split = (value: unknown): [string, any] => {
    const [name, body] = typeof value === 'string' ? [value] : Object.entries(members(value))[0] ?? [''];
    const known = Object.hasOwn(variants, name) && !variants[name] === (typeof value === 'string');
    return known ? [name, body] : fail(`"${name}" is none of ${names}`);
  };
  return {
    put: (out, value) => {
      const [name, body] = split(value);
      out.varint(names.indexOf(name));
      (variants[name] as Type<any> | 0 || undefined)?.put(out, body);
    },
    take: (input) => {
      const name = names[input.varint()] ?? fail('an unknown variant');
      const type = variants[name] as Type<any> | 0;
      return (type ? { [name]: type.take(input) } : name) as Union<S>;
    },
    dump: (value) => {
      const [name, body] = split(value);
      const type = variants[name] as Type<any> | 0;
      return type ? { [name]: type.dump(body) } : name;
    },
    load: (value) => {
      const [name, body] = split(value);
      const type = variants[name] as Type<any> | 0;
      return (type ? { [name]: type.load(body) } : name) as Union<S>;
    },
  };
};

/** The same type in memory and in binary, with a JSON form of its own. */
export const coded = <T>(
  type: Type<any>,
  to: (value: T) => any,
  from: (raw: any) => T,
  dump: (value: T) => unknown,
  load: (value: unknown) => T,
): Type<T> => ({
  put: (out, value) => type.put(out, to(value)),
  take: (input) => from(type.take(input)),
  dump,
  load,
});

/** Kinds of frames: number and body, by name. */
export type Table = Record<string, readonly [number, Type<any>]>;
/** A frame of such a table. */
export type FrameOf<T extends Table> = {
  [K in keyof T]: { readonly name: K; readonly body: Value<T[K][1]> };
}[keyof T];

/** The two forms; each has a WebSocket subprotocol `highwater.v1.<encoding>`. */
export type Encoding = 'bincode' | 'json';

/** One frame as a message of its own. */
export const encode = <T extends Table>(
  table: T,
  frame: FrameOf<T>,
  encoding: Encoding,
): string | Uint8Array<ArrayBuffer> => {
  const name = frame.name as string;
  const [kind, type] = table[name]!;
  if (encoding === 'json') return JSON.stringify({ [name]: type.dump(frame.body) }) + '\n';
  const body = new Out();
  type.put(body, frame.body);
  const message = new Out();
  message.varint(kind);
  message.blob(body.done());
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
  const add = (name: string, size: number, read: (type: Type<any>) => unknown): void => {
    try {
      found.push({ frame: { name, body: read(table[name]![1]) } as FrameOf<T>, size });
    } catch (error) {
      fail(`${name}: ${(error as Error).message}`);
    }
  };
  if (typeof message === 'string') {
    for (const line of message.split('\n')) {
      if (!line.trim()) continue;
      let entries: [string, unknown][] = [];
      try {
        entries = Object.entries(members(JSON.parse(line)));
      } catch {
        // Told below, together with an object of none or many members.
      }
      if (entries.length !== 1) fail('a line is an object with one member, the name of the frame');
      const [name, body] = entries[0]!;
      if (Object.hasOwn(table, name)) add(name, utf8Length(line), (type) => type.load(body));
    }
    return found;
  }
  const names = new Map(Object.keys(table).map((name) => [table[name]![0], name]));
  for (const input = new In(message); input.left; ) {
    const kind = input.varint();
    const body = input.blob();
    const name = names.get(kind);
    if (name) add(name, body.length, (type) => type.take(new In(body)));
  }
  return found;
};
