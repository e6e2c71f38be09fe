// A guest book: who is logged in gets a token, reads the log in the page by the plain client, and
// writes by a route of this app, which appends once however often the request comes.
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import express from 'express';
import { highwater, HighwaterError, json, signToken } from 'highwater/server';

const { HIGHWATER_URL = 'http://127.0.0.1:8080', HIGHWATER_SECRET, PORT = '3000' } = process.env;
if (!HIGHWATER_SECRET) throw new Error('set HIGHWATER_SECRET to the secret of the node');

const BOOK = 'guestbook';
const sign = (user, can, expiresIn) =>
  signToken({ secret: HIGHWATER_SECRET, user, grants: [{ logs: BOOK, can }], expiresIn });
const server = highwater({
  url: HIGHWATER_URL,
  token: () => sign('guestbook-app', ['append'], '10m'),
  giveUpAfter: 5_000, // a request of a browser waits no longer
});

const app = express();
app.use(express.json());

// Your own login goes here: this one believes every name, and forgets it with the process.
const sessions = new Map();
app.post('/login', (request, response) => {
  const { name } = request.body ?? {};
  if (typeof name !== 'string' || !/^\w{1,40}$/.test(name))
    return response.status(400).json({ message: 'name: 1 to 40 letters' });
  const session = randomUUID();
  sessions.set(session, name);
  response.cookie('session', session, { httpOnly: true, sameSite: 'strict' }).json({ name });
});
const user = (request, response, next) => {
  const [, session] = /(?:^|; )session=([\w-]+)/.exec(request.headers.cookie ?? '') ?? [];
  response.locals.user = sessions.get(session);
  if (!response.locals.user) return response.status(401).json({ message: 'log in first' });
  next();
};

// The page asks here before its token ends; it may read and no more.
app.get('/token', user, (_, response) => {
  response.type('text').send(sign(response.locals.user, ['read'], '15m'));
});
app.get('/where', (_, response) => response.json({ url: HIGHWATER_URL, log: BOOK }));

// The page sends the same key until it has an answer; so a message is in the log once.
app.post('/messages', user, async (request, response) => {
  const key = request.get('idempotency-key');
  const { text } = request.body ?? {};
  if (!key || key.length > 100)
    return response.status(400).json({ message: 'Idempotency-Key: needed' });
  if (typeof text !== 'string' || !text)
    return response.status(400).json({ message: 'text: needed' });
  const record = { kind: 'message', payload: { from: response.locals.user, text } };
  const once = { codec: json, idempotencyKey: `${response.locals.user}:${key}` };
  const { offset } = await server.append(BOOK, record, once);
  response.status(201).json({ offset });
});

app.get('/highwater.js', (_, response) => {
  // All of the client in one file, for a page without a bundler.
  response.sendFile(fileURLToPath(new URL('highwater.js', import.meta.resolve('highwater'))));
});
app.get('/', (_, response) => response.sendFile(fileURLToPath(new URL('page.html', import.meta.url))));

app.use((error, _, response, next) => {
  if (!(error instanceof HighwaterError)) return next(error);
  const { code, message, retryAfter } = error;
  if (code === 'sequence_reused') return response.status(422).json({ code, message });
  if (code === 'too_large') return response.status(413).json({ code, message });
  // Whether it is stored is not known or it is not: with the same key it may be sent again.
  const seconds = Math.max(1, Math.ceil(retryAfter / 1000));
  response.status(503).set('retry-after', `${seconds}`).json({ code, message });
});

const listener = app.listen(Number(PORT), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${listener.address().port}`);
});
process.once('SIGTERM', () => listener.close());
