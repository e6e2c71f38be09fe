/**
 * A to-do list that is there without a network: what is written stands in a log on the device
 * first, shows at once, and goes to the server when there is one. There is no request in it.
 */

import { StrictMode, Suspense, useEffect, useState, type FormEvent } from 'react';
import { createRoot } from 'react-dom/client';
import { connect, type LogClient, type RefusedAction } from 'highwater/log';
import { useConnection, useRead } from 'highwater/react';
import { Refused, useOpenLog, WorkStatus } from 'highwater/react/log';
import { inOrder, list, PEOPLE, setWho, type Item, type List } from './list.js';
import { Meet } from './meet.js';
import { Field, Icon, Stepper, Switch, Who } from './parts.js';

const Row = ({ item, of }: { item: Item; of: List }) => {
  const { id, text, done, count, pending } = item;
  const who = useRead(of.view.who, (all) => all.get(id)) ?? '';
  return (
    <li className={pending ? 'pending' : ''} data-id={id}>
      <input type="checkbox" checked={done} aria-label={text}
        onChange={() => of.do.check({ id, done: !done })} />
      <Field className={done ? 'text done' : 'text'} label={`Text of ${text}`} value={text}
        onChange={(text) => of.do.rename({ id, text })} />
      <span className="more">
        {pending && <span className="badge"><Icon name="wait" />to send</span>}
        <Stepper what={text} count={count} onStep={(by) => of.do.more({ id, by })} />
        <Who what={text} value={who} people={PEOPLE} onChange={(name) => setWho(of, id, name)} />
        <button type="button" className="quiet" aria-label={`Remove ${text}`}
          onClick={() => of.do.remove({ ids: [id] })}><Icon name="remove" /></button>
      </span>
    </li>
  );
};

const Add = ({ of }: { of: List }) => {
  const [text, setText] = useState('');
  const [problem, setProblem] = useState('');
  const add = (event: FormEvent): void => {
    event.preventDefault();
    const what = text.trim();
    if (!what) return;
    try {
      of.do.add({ id: crypto.randomUUID(), text: what, at: Date.now() });
      setText('');
      setProblem('');
    } catch (error) {
      // Nothing was shown or sent: what was typed stays where it is.
      setProblem((error as Error).message);
    }
  };
  return (
    <form className="add" onSubmit={add}>
      <input value={text} onChange={({ target }) => setText(target.value)}
        aria-label="New item" placeholder="What is to be done?" enterKeyHint="done" />
      <button>Add</button>
      {problem && <p role="alert">{problem}</p>}
    </form>
  );
};

const Tools = ({ of }: { of: List }) => {
  const rings = useRead(of.view.rings) ?? 0;
  return (
    <span className="tools">
      <button type="button" className="quiet" disabled={!useRead(of.canUndo)} onClick={of.undo}
        aria-label="Undo" title="Undo"><Icon name="undo" /></button>
      <button type="button" className="quiet" disabled={!useRead(of.canRedo)} onClick={of.redo}
        aria-label="Redo" title="Redo"><Icon name="redo" /></button>
      <button type="button" className="quiet bell" key={rings} data-rings={rings} title="Ring"
        aria-label={`Ring for everyone, rung ${rings} times`}
        onClick={() => of.do.ring({ by: 'me' })}><Icon name="bell" /></button>
    </span>
  );
};

const ListCard = ({ client, name }: { client: LogClient; name: string }) => {
  const of: List = useOpenLog(client, list, { list: name });
  const items = useRead(of.view.items, inOrder) ?? [];
  const title = useRead(of.view.title) ?? '';
  const { phase } = useRead(of.status);
  const done = items.filter((item) => item.done);
  const clear = (): void => void of.do.remove({ ids: done.map(({ id }) => id) });
  const rows = items.map((item) => <Row key={item.id} item={item} of={of} />);
  return (
    <section className="card list" aria-label="The list" data-phase={phase}>
      <header>
        <Field className="title" label="Title" value={title} placeholder="Untitled list" empty
          onChange={of.view.title.set} />
        <Tools of={of} />
      </header>
      <div className="progress">
        <progress max={items.length || 1} value={done.length} aria-label="Done" />
        <span id="count">{done.length} of {items.length} done</span>
      </div>
      <Add of={of} />
      {items.length
        ? <ul className="items">{rows}</ul>
        : <p className="empty">Nothing to do. Write something, with or without a network.</p>}
      {done.length > 0 && (
        <button type="button" className="plain" id="clear" onClick={clear}>
          Clear what is done
        </button>
      )}
    </section>
  );
};

/** What was refused, in words of this app. */
const describe = ({ action, after }: RefusedAction): string => {
  const { text, done } = (after ?? {}) as { text?: string; done?: boolean };
  switch (action) {
    case 'add': return 'Add an item';
    case 'check': return done ? 'Check an item' : 'Uncheck an item';
    case 'rename': return `Rename an item`;
    case 'more': return 'Change how many';
    case 'remove': return 'Remove items';
    case 'restore': return 'Bring items back';
    case 'ring': return 'Ring for everyone';
    case 'title': return 'Change the title';
    case 'who': return 'Change who does it';
    default: return text ?? action;
  }
};
const show = (value: unknown): string => {
  if (typeof value !== 'object' || !value) return `${value || '(none)'}`;
  const { text, by, items, ids, done } = value as Record<string, any>;
  if (text !== undefined) return text;
  if (items) return items.map(({ text }: Item) => text).join(', ');
  if (ids) return ids.length === 1 ? 'one item' : `${ids.length} items`;
  if (done !== undefined) return done ? 'done' : 'not done';
  return typeof by === 'number' ? `${by > 0 ? '+' : '−'}${Math.abs(by)}` : 'a ring';
};
const explain = ({ reason: { code, message } }: RefusedAction): string => {
  if (code === 'denied') return 'You may not change this list.';
  if (code === 'expired') return 'It came too late: without a server for too long.';
  if (code === 'not_saved') return 'This device could not keep it: it may be full.';
  if (code === 'restored') return 'The server was restored from a backup, and has lost it.';
  return message;
};

const Network = ({ client }: { client: LogClient }) => {
  const { phase, reason, text } = useConnection(client);
  const away = phase === 'offline' && reason === 'asked';
  return (
    <Switch
      label={<><Icon name={phase === 'live' ? 'cloud' : 'cut'} />
        <span id="phase" data-phase={phase}>
          {phase === 'live' ? 'online' : away ? 'offline' : text}
        </span></>}
      on={!away}
      onChange={(on) => (on ? client.connect() : client.disconnect())}
    />
  );
};

const App = ({ client, server, token, name }: {
  client: LogClient; server: string; token: string | undefined; name: string;
}) => {
  // The page's own files are kept by a worker, so that it opens without a network too.
  useEffect(() => void navigator.serviceWorker?.register('sw.js'), []);
  return (
    <main>
      <header className="bar">
        <h1><img src="icon.svg" alt="" />Lists that stay</h1>
        <WorkStatus client={client} />
        <Network client={client} />
      </header>
      <Refused client={client} className="card" describe={describe} show={show} explain={explain} />
      <Suspense fallback={<p className="card loading">Loading</p>}>
        <ListCard client={client} name={name} />
        <Meet server={server} token={token} list={name} />
      </Suspense>
    </main>
  );
};

const asked = new URL(location.href).searchParams;
const server = asked.get('server') ?? 'http://127.0.0.1:8080';
const token = asked.get('token') ?? undefined;
const client = connect(server, { token });
// For whoever wants to look, in the browser's console.
Object.assign(globalThis, { client });

createRoot(document.querySelector('#root')!).render(
  <StrictMode>
    <App client={client} server={server} token={token} name={asked.get('list') ?? 'home'} />
  </StrictMode>,
);
