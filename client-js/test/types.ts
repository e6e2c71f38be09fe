/**
 * What the types refuse. Nothing of this runs: `npm run typecheck` fails where a line that is marked
 * as an error is none, or another one is.
 */

import { connect, HighwaterError, json, latest, view, type Codec, type Entry, type LogStatus, type Read, type Status } from '../src/index.js';
import { highwater, signToken, type Grant } from '../src/server.js';

interface Todo {
  readonly text: string;
}
const client = connect('http://localhost', { autoConnect: false });
const todos = client.log<Todo>('todos', { codec: json, start: { last: 50 } });

export const codes = (error: HighwaterError): boolean[] => [
  error.code === 'denied', error.code === 'queue_full', error.code === 'code_77',
  // @ts-expect-error: a code that is misspelt.
  error.code === 'denid',
];

export const phases = (status: Status, log: LogStatus): boolean[] => [
  status.phase === 'live', status.phase === 'needs-auth', log.phase === 'catching-up',
  // @ts-expect-error: a phase that is misspelt.
  status.phase === 'life',
  // @ts-expect-error: that of a log.
  status.phase === 'loading',
  status.phase === 'offline' && status.reason === 'asked',
  // @ts-expect-error: no reason for that.
  status.phase === 'offline' && status.reason === 'lag',
];

export const entries = (): void => {
  todos.on('records', ({ records }) => records.map((entry: Entry<Todo>) => entry.payload?.text.length));
  // @ts-expect-error: no such event.
  todos.on('record', () => {});
  void todos.append({ key: 'a', payload: { text: 'x' } }, { ifHead: 3 });
  // @ts-expect-error: another type.
  void todos.append({ payload: { txt: 'x' } });
  // @ts-expect-error: the name of the wire.
  void todos.append({ payload: { text: 'x' } }, { if_head: 3 });
  // @ts-expect-error: without a codec a payload is text or bytes.
  void client.log('plain').append({ payload: { text: 'x' } });
  // @ts-expect-error: nothing would make values of what comes.
  client.log<Todo>('todos');
  // @ts-expect-error: no such start.
  client.log('plain', { start: 'latest' });
};

export const reads = (): (string | undefined)[] => {
  const board = latest(todos);
  const texts: Read<readonly string[] | undefined> = view(todos, (all: readonly string[], { payload }) => [...all, payload?.text ?? ''], []);
  const one: Read<Entry<Todo> | undefined> = board.get('a');
  return [texts.value?.[0], one.value?.payload?.text, board.value?.get('a')?.payload?.text];
};

export const dates: Codec<Date> = {
  encode: (date) => date.toISOString(),
  decode: (payload) => new Date(`${payload}`),
};

export const backend = (): void => {
  const server = highwater({ url: 'http://localhost' });
  // @ts-expect-error: a right that is misspelt.
  const grants: Grant[] = [{ logs: '**', can: ['write'] }];
  // @ts-expect-error: no user.
  signToken({ secret: 'x', grants });
  // @ts-expect-error: a duration without its unit.
  signToken({ secret: 'x', user: 'a', grants, expiresIn: '15' });
  // @ts-expect-error: without a codec a payload is text or bytes.
  void server.append('a', { payload: { a: 1 } });
  // @ts-expect-error: logs or a user, not both.
  void server.notify({ logs: ['a'], user: 'b', record: { payload: '' } });
  // @ts-expect-error: a code that is misspelt.
  server.append('a', { payload: '' }).catch((error: HighwaterError) => error.code === 'denid');
};
