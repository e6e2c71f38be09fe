// The page that the tests of the log open: a list and a board of `test/log/todos.ts`, over the
// client's log as `globalThis.highwater` has it, from the sources or from a bundle that was kept.
// The address says which: server, token, list; `offline`: it does not connect by itself.
import { board, todos } from '../test/log/todos.ts';

const ran = performance.now();
const { connect } = globalThis.highwater;
/** Tells the test, where it listens; what was told before the browser dies, the test has. */
const tell = (...words) => globalThis.told?.(...words);

/** A client with its list and its board. */
const begin = ({ server, token, list: name, offline, ...options }) => {
  const client = connect(server, { token, autoConnect: offline === undefined, ...options });
  const list = client.open(todos, { list: name });
  const cards = client.open(board, { board: name });
  const follow = (id, receipt) => {
    receipt.saved.then((kind) => tell('saved', id, kind), () => tell('unsaved', id));
    receipt.accepted.then(() => tell('accepted', id), ({ code }) => tell('refused', id, code));
    return receipt;
  };
  const made = {
    client, list, cards, ran, follow,
    add: (id, text = `text of ${id}`) => follow(id, list.do.add({ id, text })),
    /** A value of the board, where some may only read. */
    put: (id) => follow(id, cards.view.cards.set(id, { text: `text of ${id}` })),
    state: () => ({
      ids: [...(list.view.byId.value?.keys() ?? [])].sort(),
      done: [...(list.view.byId.value?.entries() ?? [])].filter(([, { done }]) => done)
        .map(([id]) => id).sort(),
      count: list.view.count.value,
      title: cards.view.title.value,
      cards: [...(cards.view.cards.value?.keys() ?? [])].sort(),
      pending: list.pending.value + cards.pending.value,
      work: client.work.value,
      refused: client.refused.value.map(({ after, reason }) => [after, reason.code]),
      phase: client.status.value.phase,
    }),
  };
  const shown = () => {
    made.shown ??= list.view.count.value === undefined ? undefined : performance.now() - ran;
  };
  list.view.count.subscribe(shown);
  shown();
  return made;
};

globalThis.begin = begin;
globalThis.lives = [];
for (const name of ['pagehide', 'pageshow', 'freeze', 'resume']) {
  const to = name.startsWith('page') ? globalThis : document;
  to.addEventListener(name, ({ persisted }) => lives.push(`${name} ${persisted ?? ''}`.trim()));
}
const given = Object.fromEntries(new URLSearchParams(location.search));
if (given.server) globalThis.app = begin(given);
