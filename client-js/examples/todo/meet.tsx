/**
 * Two devices side by side, to see what becomes of edits that were made apart: each strategy on a
 * row of its own.
 *
 * They are two clients that share nothing but the server; each has its log in memory.
 */

import { Suspense, useState } from 'react';
import { connect, memory, type LogClient } from 'highwater/log';
import { useRead } from 'highwater/react';
import { useOpenLog, WorkStatus } from 'highwater/react/log';
import { list, PEOPLE, setWho } from './list.js';
import { Field, Stepper, Switch, Who } from './parts.js';

const ITEM = 'milk';

interface DeviceProps {
  readonly name: string;
  readonly client: LogClient;
  readonly list: string;
}

const Device = ({ name, client, list: id }: DeviceProps) => {
  const of = useOpenLog(client, list, { list: id });
  const { view, do: act } = of;
  const title = useRead(view.title) ?? '';
  const item = useRead(view.items, (items) => items.get(ITEM));
  const who = useRead(view.who, (all) => all.get(ITEM)) ?? '';
  const { phase } = useRead(client.status);
  const [online, setOnline] = useState(true);
  const turn = (on: boolean): void => {
    setOnline(on);
    if (on) client.connect();
    else client.disconnect();
  };
  const more = (by: number): void => {
    if (!item) act.add({ id: ITEM, text: 'Milk', at: 0 });
    act.more({ id: ITEM, by });
  };
  return (
    <section className="device" data-phase={phase} aria-label={name}>
      <header>
        <h3>{name}</h3>
        <Switch label={online ? 'Online' : 'Offline'} on={online} onChange={turn} />
      </header>
      <div className="strategy">
        <Field label={`Title on ${name}`} value={title} placeholder="A title"
          onChange={view.title.set} />
      </div>
      <div className="strategy">
        <span>Milk</span><Stepper what={`milk on ${name}`} count={item?.count ?? 1} onStep={more} />
      </div>
      <div className="strategy">
        <span>Who</span>
        <Who what={`milk on ${name}`} value={who} people={PEOPLE}
          onChange={(name) => setWho(of, ITEM, name)} />
      </div>
      <WorkStatus client={client} />
    </section>
  );
};

/** A device of its own: no store, tab or connection of the page is shared with it. */
const device = (server: string, token: string | undefined, name: string): LogClient =>
  connect(server, { token, user: `device-${name}`, store: memory });

const STRATEGIES = [
  ['lww', 'Title: last write wins', 'One value. Of two that were written apart, the one that ' +
    'reaches the log last stays.'],
  ['actions', 'How many: both count', '“One more” is an action, not a number: the log has both, ' +
    'and everyone adds them up in its order.'],
  ['keyed', 'Who: last write wins, per item', 'One value for each item: edits of two different ' +
    'items never meet.'],
] as const;

const Devices = ({ pair: [phone, laptop], id }: {
  readonly pair: readonly [LogClient, LogClient]; readonly id: string;
}) => (
  <div className="devices">
    <Device name="Ana’s phone" client={phone} list={id} />
    <ul className="strategies">
      {STRATEGIES.map(([name, what, why]) => (
        <li key={name}><h4>{what} <code>{name}</code></h4><p>{why}</p></li>
      ))}
    </ul>
    <Device name="Ben’s laptop" client={laptop} list={id} />
  </div>
);

export const Meet = ({ server, token, list: name }: {
  readonly server: string; readonly token: string | undefined; readonly list: string;
}) => {
  // Made by the press of a button: a render may be thrown away, and its clients would go on.
  const [pair, setPair] = useState<readonly [LogClient, LogClient]>();
  const toggle = (): void => {
    pair?.forEach((one) => void one.close());
    setPair(pair ? undefined : [device(server, token, 'phone'), device(server, token, 'laptop')]);
  };
  return (
    <section className="card meet" aria-label="When two edit at once">
      <header>
        <div>
          <h2>When two edit at once</h2>
          <p>Take both devices offline, change the same things on each, and bring them back.</p>
        </div>
        <button type="button" className="plain" aria-expanded={!!pair} onClick={toggle}>
          {pair ? 'Hide' : 'Try it'}
        </button>
      </header>
      {pair && (
        <Suspense fallback={<p className="loading">Connecting two devices</p>}>
          <Devices pair={pair} id={`${name}-meet`} />
        </Suspense>
      )}
    </section>
  );
};
