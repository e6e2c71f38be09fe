"""Runs the client of docs/client.md: against the vectors, and against a server, with cuts."""

import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from client import Closed, WebSocket
from server import Server

ROOT = Path(__file__).resolve().parent.parent.parent


def program():
    """The blocks of the document, put together."""
    text = (ROOT / 'docs/client.md').read_text()
    blocks = re.findall(r'^```python\n(.*?)^```', text, re.M | re.S)
    space = {}
    exec(compile('\n'.join(blocks), 'docs/client.md', 'exec'), space)
    return space


REFERENCE = program()


def vectors():
    """Every frame that a server may send is taken, or is a reason to come back; none is a fault."""
    frames = json.loads((ROOT / 'tests/vectors/server.json').read_text())
    welcome = next(one for one in frames if one['name'] == 'welcome_cloned')
    handled = 0
    for one in frames:
        client = REFERENCE['Client']('00' * 15 + '01')
        client.subscribe('docs/42', 0)
        client.hello(0)
        line = lambda one: json.dumps({one['frame']: one['json']})
        if one['frame'] != 'welcome':
            client.take(line(welcome), 0)
            announced = next(one for one in frames if one['name'] == 'subscribed_latest')
            client.take(line(announced), 0)
            reset = {'log': 7, 'reason': 'new', 'base': None, 'cursor': 300, 'complete': 301}
            if one['frame'].startswith('base'):
                reset['base'] = {'rule': 'client', 'offset': 300, 'version': 1}
            client.take(json.dumps({'reset': reset}), 0)
        # Some show the layout and not good manners (tests/vectors/README.md).
        keyless = one['frame'] == 'base_records' and any(
            'key' not in kept['record']['record'] for kept in one['json']['records'])
        if one['frame'] == 'part' or keyless:
            continue
        try:
            client.take(line(one), 1)
        except REFERENCE['Lost']:
            lost = {'bye', 'records', 'gap', 'reset', 'base', 'base_records'}
            assert one['frame'] in lost, one['name']
        client.tick(2)
        handled += hasattr(client, f'on_{one["frame"]}')
    assert handled > 60, handled
    print(f'ok: {len(frames)} vectors, {handled} of them of a kind that it acts on')


class Runner:
    """A reference client on a socket that breaks."""

    def __init__(self, server, seed):
        self.server, self.random = server, random.Random(seed)
        self.client = REFERENCE['Client'](f'{self.random.getrandbits(128):032x}')
        self.socket, self.cuts = None, 0

    def write(self, frames):
        try:
            for frame in frames:
                if self.socket:
                    self.socket.send(frame)
        except Closed:
            self.cut()

    def cut(self):
        if self.socket:
            self.socket.close()
            self.cuts += 1
        self.socket = None

    def step(self):
        now = time.monotonic()
        try:
            if self.socket is None:
                self.socket = WebSocket(self.server.address, '/v1/connect', 'highwater.v1.json')
                self.write(self.client.hello(now))
            message = self.socket.receive(0.01) if self.socket else None
            for line in (message or '').split('\n'):
                if line and self.socket:
                    self.write(self.client.take(line, now))
            self.write(self.client.tick(now))
        except (Closed, ConnectionError, REFERENCE['Lost']):
            self.cut()


def until(what, runners, holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f'not within {seconds} s: {what}'
        for runner in runners:
            runner.step()


def rounds(server, seed):
    """Two clients write to one log and to keys of another; sockets break, the server is killed."""
    chance = random.Random(seed)
    runners = [Runner(server, f'{seed} {name}') for name in ('ana', 'ben')]
    names = ['docs/plain', 'latest/keys']
    for runner in runners:
        for name in names:
            runner.client.subscribe(name, time.monotonic())
    actions = []
    for n in range(400):
        runner = chance.choice(runners)
        name = chance.choice(names)
        key = f'k{chance.randrange(20)}' if name.startswith('latest') else None
        payload = None if key and chance.random() < 0.2 else f'{n} ' + 'x' * chance.randrange(400)
        action, out = runner.client.append(name, payload, time.monotonic(), key)
        actions.append(action)
        runner.write(out)
        for one in runners:
            if chance.random() < 0.5:
                one.step()
            if chance.random() < 0.02:
                one.cut()
        if n in (150, 300):
            server.stop(kill=True)
            server.start()
    clients = [runner.client for runner in runners]
    until('answers', runners, lambda: all(one.outcome for one in actions))
    stored = [one.outcome['stored'] for one in actions]
    for name in names:
        ids = {one['log'] for one in stored} & {client.logs[name].id for client in clients}
        head = 1 + max(one['offset'] for one in stored if one['log'] in ids)
        logs = [client.logs[name] for client in clients]
        until(name, runners, lambda: all(log.shown() and log.cursor == head for log in logs))
        wanted = {one.outcome['stored']['offset']: one.record['payload'] for one in actions
                  if one.outcome['stored']['log'] in ids}
        assert sorted(wanted) == list(range(head)), f'{name}: stored once, without a hole'
        for log in logs:
            if name.startswith('docs'):
                seen = {at: record.get('payload') for at, record in log.records.items()}
                assert seen == wanted, f'{name}: another content'
    keys = [{key: kept for key, kept in client.logs['latest/keys'].keys.items() if kept[1]}
            for client in clients]
    assert keys[0] == keys[1], 'the same keys'
    newest = {}
    for one in actions:
        if one.record['key']:
            at = one.outcome['stored']['offset']
            newest[one.record['key']] = max(newest.get(one.record['key'], (-1, None)),
                                            (at, one.record['payload']), key=lambda kept: kept[0])
    assert keys[0] == {key: kept for key, kept in newest.items() if kept[1]}, 'as written'
    cuts = sum(runner.cuts for runner in runners)
    assert cuts > 4, cuts
    for runner in runners:
        runner.cut()
    print(f'ok: 400 appends of two clients over {cuts} cuts and two kills, seed {seed}')


def backlog(data):
    """What was written offline goes out within the limits: none is refused, none begun anew."""
    limits = {'frame_bytes': 262_144, 'record_bytes': 100_000, 'snapshot_part_bytes': 100_000,
              'append_bytes_per_user_second': 2_000_000, 'appends_per_user_second': 2_000}
    lines = ''.join(f'{name} = {value}\n' for name, value in limits.items())
    server = Server(data, f'[limits]\n{lines}')
    try:
        runner = Runner(server, 'backlog')
        client = runner.client
        texts = [str(n) for n in range(1500)] + [str(n) * 17500 for n in range(1000, 1020)]
        actions = [client.append('docs/plain', text, 0.0)[0] for text in texts]
        # One in the middle that no frame takes.
        large = client.append('docs/plain', 'x' * 300_000, 0.0)[0]
        actions += [client.append('docs/plain', f'last {n}', 0.0)[0] for n in range(3)]
        refused = []
        take = client.take
        def watched(line, now):
            refused.extend(re.findall('"code":"([a-z_]+)"', line))
            return take(line, now)
        client.take = watched
        until('answers', [runner], lambda: all(one.outcome for one in actions + [large]))
        assert 'refused' in large.outcome, large.outcome
        offsets = [one.outcome['stored']['offset'] for one in actions]
        assert offsets == list(range(len(actions))), 'stored once, in their order'
        assert (runner.cuts, refused) == (0, []), f'{runner.cuts} cuts, refused: {refused}'
        runner.cut()
        print(f'ok: {len(actions)} appends from offline, none refused')
    finally:
        server.stop(kill=True)


def main():
    vectors()
    with tempfile.TemporaryDirectory(prefix='highwater-python-') as folder:
        backlog(f'{folder}/data')
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)
    print(f'seed {seed}; again: python3 -B reference.py PROGRAM {seed}', file=sys.stdout)
    rules = '[[rules]]\npattern = "latest/**"\nsnapshot = "latest"\n'
    with tempfile.TemporaryDirectory(prefix='highwater-python-') as folder:
        server = Server(f'{folder}/data', rules)
        try:
            rounds(server, seed)
        finally:
            server.stop(kill=True)


if __name__ == '__main__':
    main()
