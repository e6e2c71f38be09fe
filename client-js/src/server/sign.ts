/**
 * Signs the tokens that a node believes.
 *
 * Promise: a token that is made here is believed by a node that has the key, and says what was
 * meant: an unknown right, a bad pattern or a weak key throws instead.
 */

import { createHmac, createPrivateKey, sign, type KeyObject } from 'node:crypto';
import { asError } from '../errors.js';
import { count, maybe, members, pattern, text, userName, wrong } from './check.js';

/** What may be done with a log; none implies another. `admin` on `**` operates the node too. */
export type Right = 'read' | 'append' | 'snapshot' | 'signal' | 'admin' | 'delivered';

/** Rights on the logs that a pattern means. */
export interface Grant {
  /** A name in which a segment may be `*`, and the last `**`: `docs/42/**`. */
  readonly logs: string;
  readonly can: readonly Right[];
}

/** Seconds, or a number with s, m, h or d: `'15m'`. */
export type Duration = number | `${number}${'s' | 'm' | 'h' | 'd'}`;

/** A private key by Node's `crypto`. */
export interface PrivateKey {
  readonly type: string;
  readonly asymmetricKeyType?: string | undefined;
}

export interface TokenOptions {
  /**
   * The secret that the node shares (HS256), at least 32 bytes. Newlines at its end do not count,
   * as in the node's `secret_file`.
   */
  readonly secret?: string | Uint8Array | undefined;
  /** Or a private key: PEM, or a `KeyObject`; Ed25519, P-256 or RSA of at least 2,048 bits. */
  readonly key?: string | Uint8Array | PrivateKey | undefined;
  /** Names the key, where the node has several. */
  readonly keyId?: string | undefined;
  /** Whose connections and writers these are: 1 to 128 bytes, no control characters. */
  readonly user: string;
  /** At most 64; what is not granted is denied. */
  readonly grants: readonly Grant[];
  /** How long it counts, at least a second; default `'10m'`. */
  readonly expiresIn?: Duration | undefined;
  /** Whom it is for, where the node asks for that. */
  readonly audience?: string | readonly string[] | undefined;
  /** Its own name, to revoke it by: at most 255 bytes. */
  readonly id?: string | undefined;
}

const RIGHTS: readonly Right[] = ['read', 'append', 'snapshot', 'signal', 'admin', 'delivered'];
const OPTIONS = ['secret', 'key', 'keyId', 'user', 'grants', 'expiresIn', 'audience', 'id'];
const UNITS = { s: 1, m: 60, h: 3_600, d: 86_400 };
/** Bytes of a token that a node reads. */
const LONGEST = 32 << 10;

/**
 * A JWT for that user. Throws `bad_request` (or `bad_name` for a pattern) that names the field.
 *
 * `signToken({ secret, user: 'ana', grants: [{ logs: 'docs/**', can: ['read', 'append'] }] })`
 */
export const signToken = (options: TokenOptions): string => {
  members('', options, OPTIONS);
  const { keyId, user, grants, expiresIn = '10m', audience, id } = options;
  const signer = signerOf(options);
  const iat = Math.floor(Date.now() / 1000);
  const claims = {
    sub: userName('user', user),
    iat,
    exp: iat + seconds(expiresIn),
    aud: maybe(audience, audienceOf),
    jti: maybe(id, (name) => text('id', name, 1, 255)),
    grants: grantsOf(grants),
  };
  const kid = maybe(keyId, (name) => text('keyId', name, 1, 255));
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const content = `${part({ alg: signer.alg, typ: 'JWT', kid })}.${part(claims)}`;
  const token = `${content}.${signer.sign(Buffer.from(content)).toString('base64url')}`;
  return token.length <= LONGEST ? token : wrong('grants', `a token has at most ${LONGEST} bytes`);
};

const seconds = (given: Duration): number => {
  if (typeof given === 'number') return count('expiresIn', given, 1);
  const [, number, unit] = /^(\d+)([smhd])$/.exec(given) ?? [];
  if (!unit) return wrong('expiresIn', "seconds, or a number with s, m, h or d, as '15m'");
  return count('expiresIn', +number! * UNITS[unit as keyof typeof UNITS], 1);
};

const audienceOf = (audience: string | readonly string[]): string | readonly string[] => {
  if (typeof audience === 'string') return text('audience', audience, 1, 1024);
  if (!Array.isArray(audience)) return wrong('audience', 'a text or a list');
  return audience.map((one, at) => text(`audience[${at}]`, one, 1, 1024));
};

const grantsOf = (grants: readonly Grant[]): Grant[] => {
  if (!Array.isArray(grants) || grants.length > 64) return wrong('grants', 'a list of at most 64');
  return (grants as readonly Grant[]).map((grant, at) => {
    const field = `grants[${at}]`;
    members(field, grant, ['logs', 'can']);
    const logs = pattern(`${field}.logs`, grant.logs);
    if (!Array.isArray(grant.can)) return wrong(`${field}.can`, 'a list of rights');
    for (const [n, right] of grant.can.entries()) {
      if (!RIGHTS.includes(right)) wrong(`${field}.can[${n}]`, `one of ${RIGHTS.join(', ')}`);
    }
    return { logs, can: [...new Set(grant.can)] };
  });
};

interface Signer {
  readonly alg: string;
  readonly sign: (content: Buffer) => Buffer;
}

const signerOf = ({ secret, key }: TokenOptions): Signer => {
  if ((secret === undefined) === (key === undefined)) wrong('secret, key', 'give one of them');
  return secret === undefined ? keySigner(privateKey(key!)) : secretSigner(secret);
};

const secretSigner = (secret: string | Uint8Array): Signer => {
  if (typeof secret !== 'string' && !(secret instanceof Uint8Array))
    wrong('secret', 'text or bytes');
  const bytes = Buffer.from(secret as string);
  let end = bytes.length;
  while (end > 0 && (bytes[end - 1] === 10 || bytes[end - 1] === 13)) end--;
  if (end < 32) wrong('secret', 'at least 32 bytes');
  const used = bytes.subarray(0, end);
  return { alg: 'HS256', sign: (content) => createHmac('sha256', used).update(content).digest() };
};

const privateKey = (key: string | Uint8Array | PrivateKey): KeyObject => {
  let made: KeyObject;
  try {
    const given = typeof key !== 'string' && !(key instanceof Uint8Array);
    made = given ? (key as KeyObject) : createPrivateKey(key as string);
  } catch (error) {
    return wrong('key', `no private key: ${asError('bad_request', error).message}`);
  }
  return made?.type === 'private' ? made : wrong('key', 'no private key');
};

const keySigner = (key: KeyObject): Signer => {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  switch (key.asymmetricKeyType) {
    case 'ed25519':
      return { alg: 'EdDSA', sign: (content) => sign(null, content, key) };
    case 'ec':
      if (namedCurve !== 'prime256v1') wrong('key', `the curve P-256, not ${namedCurve}`);
      // JWTs hold the two numbers of a signature side by side, not as DER.
      return {
        alg: 'ES256',
        sign: (content) => sign('sha256', content, { key, dsaEncoding: 'ieee-p1363' }),
      };
    case 'rsa':
      if (modulusLength! < 2048) wrong('key', 'RSA of at least 2048 bits');
      return { alg: 'RS256', sign: (content) => sign('sha256', content, key) };
    default:
      return wrong('key', `Ed25519, P-256 or RSA, not ${key.asymmetricKeyType}`);
  }
};
