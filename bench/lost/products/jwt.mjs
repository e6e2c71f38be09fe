/** A JWT signed with a shared secret (HS256), as two of the servers want it; never for real use. */

import { createHmac } from 'node:crypto';

export const SECRET = 'a secret for this benchmark alone, 32 bytes at least';

export const jwt = (claims) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const said = part({ alg: 'HS256', typ: 'JWT' });
  const signed = `${said}.${part({ iat: now, exp: now + 3600, ...claims })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
};
