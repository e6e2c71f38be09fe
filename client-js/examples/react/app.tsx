/**
 * A list that all who have it open share: what one writes shows with the others, also what was
 * written without a network, and nothing is lost where the server is killed.
 */

import { StrictMode, Suspense, useState, type FormEvent } from 'react';
import { createRoot } from 'react-dom/client';
import { connect, json, latest, type Client, type Latest, type Log } from 'highwater';
import { HighwaterProvider, useConnection, useOpen, useRead } from 'highwater/react';

interface Item {
  readonly text: string;
  readonly done: boolean;
}

interface List {
  readonly log: Log<Item>;
  readonly items: Latest<Item>;
}

/** What is open for a list. It stands outside of components: one for all that show the list. */
const list = (client: Client, { name }: { name: string }): List => {
  const log = client.log<Item>(`lists/${name}`, { codec: json });
  return { log, items: latest(log) };
};

/** How many there are: it is rendered anew when that changes, not when a text does. */
const Count = ({ name }: { name: string }) => {
  const { items } = useOpen(list, { name });
  const { all, done } = useRead(items, (map) => ({
    all: map.size,
    done: [...map.values()].filter(({ payload }) => payload?.done).length,
  }));
  const word = all === 1 ? 'item' : 'items';
  return <p className="count"><b id="count">{all}</b> {word}, {done} done</p>;
};

/** One item by its key: a change of another one does not concern it. */
const Row = ({ name, id }: { name: string; id: string }) => {
  const { log, items } = useOpen(list, { name });
  const entry = useRead(items.get(id));
  if (!entry?.payload) return null;
  const { payload, pending } = entry;
  const change = (): void => {
    void log.append({ key: id, payload: { ...payload, done: !payload.done } });
  };
  return (
    <li className={pending ? 'pending' : ''} data-key={id}>
      <label>
        <input type="checkbox" checked={payload.done} onChange={change} />
        <span>{payload.text}</span>
      </label>
      {pending && <small>not stored yet</small>}
      <button aria-label={`Remove ${payload.text}`} onClick={() => void log.append({ key: id })}>
        ×
      </button>
    </li>
  );
};

const Items = ({ name }: { name: string }) => {
  const { items } = useOpen(list, { name });
  const keys = useRead(items, (map) => [...map.keys()]);
  if (!keys.length) return <p className="empty">Nothing yet. Write, here or elsewhere.</p>;
  return <ul>{keys.map((id) => <Row key={id} name={name} id={id} />)}</ul>;
};

const Add = ({ name }: { name: string }) => {
  const { log } = useOpen(list, { name });
  const [text, setText] = useState('');
  const [refused, setRefused] = useState('');
  const add = (event: FormEvent): void => {
    event.preventDefault();
    if (!text.trim()) return;
    setText('');
    log.append({ key: crypto.randomUUID(), payload: { text: text.trim(), done: false } }).then(
      () => setRefused(''),
      (error: Error) => setRefused(error.message),
    );
  };
  return (
    <form onSubmit={add}>
      <input value={text} onChange={({ target }) => setText(target.value)}
        aria-label="New item" placeholder="What is to be done?" />
      <button>Add</button>
      {refused && <p role="alert">{refused}</p>}
    </form>
  );
};

const Status = () => {
  const { phase, text } = useConnection();
  return <output data-phase={phase}>{text}</output>;
};

const App = ({ name }: { name: string }) => {
  const [open, setOpen] = useState(true);
  return (
    <main>
      <header>
        <h1>List “{name}”</h1>
        <Status />
      </header>
      {open && (
        <Suspense fallback={<p className="loading">Loading the list</p>}>
          <Add name={name} />
          <Count name={name} />
          <Items name={name} />
        </Suspense>
      )}
      <footer>
        <button id="toggle" onClick={() => setOpen(!open)}>
          {open ? 'Close the list' : 'Open the list'}
        </button>
      </footer>
    </main>
  );
};

const asked = new URL(location.href).searchParams;
const client = connect(asked.get('server') ?? 'http://127.0.0.1:8080');
// For whoever wants to look, in the browser's console.
Object.assign(globalThis, { client });

createRoot(document.querySelector('#root')!).render(
  <StrictMode>
    <HighwaterProvider client={client}>
      <App name={asked.get('list') ?? 'home'} />
    </HighwaterProvider>
  </StrictMode>,
);
