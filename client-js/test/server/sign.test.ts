/** Tokens that are signed here, believed by a real server; and what is refused before. */

import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { highwater, HighwaterError, signToken, type Grant } from '../../src/server.js';
import { Server } from '../server.js';

const folder = mkdtempSync(join(tmpdir(), 'highwater-keys-'));
const pem = { type: 'pkcs8', format: 'pem' } as const;
const keys = {
  EdDSA: generateKeyPairSync('ed25519').privateKey,
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey,
};
const secret = `${'s3cret'.repeat(8)}\n`;
const entries = Object.entries(keys).map(([alg, key]) => {
  const file = join(folder, `${alg}.pem`);
  writeFileSync(file, createPublicKey(key).export({ type: 'spki', format: 'pem' }));
  return `[[auth.keys]]\nalg = "${alg}"\nkid = "${alg}"\npublic_key_file = "${file}"\n`;
});
writeFileSync(join(folder, 'secret'), secret);
entries.push(
  `[[auth.keys]]\nalg = "HS256"\nkid = "HS256"\nsecret_file = "${join(folder, 'secret')}"\n`,
);
const server = new Server(entries.join(''));
before(() => server.start());
after(async () => {
  await server.remove();
  rmSync(folder, { recursive: true });
});

const grants: Grant[] = [
  { logs: 'docs/**', can: ['read', 'append'] },
  { logs: '*/inbox', can: ['read'] },
];

test('a real server believes each kind of key, as an object and as PEM', async () => {
  const tokens = Object.entries(keys).flatMap(([keyId, key]) => [
    signToken({ key, keyId, user: 'ana', grants }),
    signToken({ key: key.export(pem), keyId, user: 'ana', grants, expiresIn: 60 }),
  ]);
  tokens.push(signToken({ secret, keyId: 'HS256', user: 'ana', grants, id: 'x', audience: ['a'] }));
  for (const token of tokens) {
    const own = highwater({ url: server.url, token });
    await own.append('docs/1', { payload: 'x' });
    await assert.rejects(own.append('other', { payload: 'x' }), { code: 'denied' });
  }
  assert.equal((await server.payloads('docs/1')).length, tokens.length);
});

test('another key, and a token past its end, are refused', async () => {
  const other = generateKeyPairSync('ed25519').privateKey;
  const token = signToken({ key: other, keyId: 'EdDSA', user: 'ana', grants });
  const call = highwater({ url: server.url, token }).append('docs/1', { payload: 'x' });
  await assert.rejects(call, { code: 'unauthorized' });
});

test('the claims are those that the documents name', () => {
  const token = signToken({
    secret,
    user: 'zoë',
    grants,
    expiresIn: '15m',
    audience: 'app',
    id: 'one',
    keyId: 'k',
  });
  const [head, claims] = token
    .split('.')
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()));
  assert.deepEqual(head, { alg: 'HS256', typ: 'JWT', kid: 'k' });
  const { iat, exp, ...rest } = claims;
  assert.equal(exp - iat, 900);
  assert.ok(Math.abs(iat - Date.now() / 1000) < 5);
  assert.deepEqual(rest, { sub: 'zoë', aud: 'app', jti: 'one', grants });
});

test('what would not be believed, or would mean something else, is refused by its name', () => {
  const good = { secret, user: 'ana', grants };
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey;
  const curve = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey;
  const open = createPublicKey(keys.EdDSA);
  const cases: [string, object][] = [
    ['secret, key', { secret: undefined }],
    ['secret, key', { key: keys.EdDSA }],
    ['secret', { secret: 'short' }],
    ['secret', { secret: `${'x'.repeat(31)}\n\n` }],
    ['key', { secret: undefined, key: 'no PEM' }],
    ['key', { secret: undefined, key: weak }],
    ['key', { secret: undefined, key: curve }],
    ['key', { secret: undefined, key: open }],
    ['user', { user: '' }],
    ['user', { user: 'a\tb' }],
    ['user', { user: 'x'.repeat(129) }],
    ['grants', { grants: undefined }],
    ['grants', { grants: Array(65).fill(grants[0]) }],
    ['grants[1].logs', { grants: [grants[0], { logs: 'a/**/b', can: ['read'] }] }],
    ['grants[0].can', { grants: [{ logs: '**' }] }],
    ['grants[0].can[1]', { grants: [{ logs: '**', can: ['read', 'write'] }] }],
    ['grants[0].only', { grants: [{ logs: '**', can: ['read'], only: 'x' }] }],
    ['expiresIn', { expiresIn: 0 }],
    ['expiresIn', { expiresIn: '15 minutes' }],
    ['audience', { audience: 7 }],
    ['id', { id: '' }],
    ['expires', { expires: 7 }],
  ];
  for (const [field, change] of cases) {
    assert.throws(
      () => signToken({ ...good, ...change } as never),
      (error: HighwaterError) => {
        assert.ok(error.message.startsWith(`${field}: `), `${field}: ${error.message}`);
        return error instanceof HighwaterError;
      },
    );
  }
  for (const logs of ['**', 'a', 'a/*', '*/b/**', '~x/A.b-c_1']) {
    signToken({ ...good, grants: [{ logs, can: [] }] });
  }
});
