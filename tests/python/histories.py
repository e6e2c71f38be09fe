"""One history (promise 15), with a client in another language: `python3 histories.py PROGRAM`.

Each situation has a server of its own in a folder of its own, which is restored, copied or made
anew under clients that have seen more. What they show in the end is what the log holds, and what
they sent is stored once, in the log that it was made for or in none.
"""

import shutil
import sys
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor

from client import Client
from server import Server

def words(word, start, end):
    return [f'{word} {n}' for n in range(start, end)]


def same(client, server, log):
    """The client comes to show what the log holds, each record once."""
    client.settle()
    held = server.holds(log.name)
    client.until(f'{log.shown} is {held}', lambda: log.shown == held)


def restored_and_grown(start):
    """A restored backup that has grown past what the client saw."""
    server = start()
    client = Client(server.address)
    notes = client.subscribe('notes')
    client.attach()
    client.append('notes', 'mine 0')
    server.append('notes', *words('both', 0, 5))
    same(client, server, notes)
    backup = server.backup()
    client.attach()
    server.append('notes', *words('lost', 0, 4))
    client.append('notes', 'mine, answered and lost')
    same(client, server, notes)
    assert client.others == 0, 'a restart is no other history'
    client.drop()
    late = [client.append('notes', one) for one in words('offline', 0, 3)]
    server.restore(backup)
    server.append('notes', *words('new', 0, 20))
    client.attach()
    same(client, server, notes)
    assert (client.others, notes.resets) == (1, ['new', 'other_history']), notes.resets
    assert [one.offset for one in late] == [26, 27, 28]


def answers_lost_with_the_disk(start):
    """What the backup holds of a writer is answered from it, the rest numbered anew."""
    server = start()
    client = Client(server.address)
    notes = client.subscribe('notes')
    client.attach()
    client.append('notes', 'mine 0')
    client.settle()
    mine = [client.append('notes', one) for one in words('mine', 1, 4)]
    while len(server.holds('notes')) < 4:
        pass  # Sent, and stored; the answers are not read.
    client.drop()
    backup = server.backup()
    server.append('notes', 'lost')
    # Another socket sees what is lost, and its answers are not read either.
    other = Client(server.address, client.token)
    other.subscribe('notes')
    other.attach()
    same(other, server, other.logs['notes'])
    client.positions = dict(other.positions)
    mine += [client.append('notes', one) for one in words('mine', 4, 7)]
    server.restore(backup)
    server.append('notes', *words('new', 0, 5))
    client.attach()
    same(client, server, notes)
    assert client.others == 1
    assert [one.offset for one in mine] == [1, 2, 3, 9, 10, 11], [one.outcome for one in mine]


def number_given_to_another_log(start):
    """An action on a log that is gone is refused, never stored in the one that got its number."""
    server = start()
    server.append('first', 'x')
    backup = server.backup()
    server.append('salaries', 'made after the backup')
    client = Client(server.address)
    salaries, first = client.subscribe('salaries'), client.subscribe('first')
    client.attach()
    client.settle()
    number = salaries.id
    client.drop()
    lost = client.append('salaries', 'for salaries only')
    lives = client.append('first', 'both histories have this log')
    server.restore(backup)
    server.append('public', 'made after the restore')
    assert server.number('public') == number
    client.attach()
    client.settle()
    assert (lost.code, lives.offset) == ('epoch', 1)
    assert server.holds('public') == ['made after the restore']
    # The number is known twice now: what is made on the new log goes there.
    client.append('salaries', 'in the new one')
    same(client, server, salaries)
    same(client, server, first)
    assert server.holds('salaries') == ['in the new one']


def folder_made_anew(start):
    """The folder is made anew under clients, twice."""
    server = start()
    client = Client(server.address)
    notes = client.subscribe('notes')
    client.attach()
    server.append('notes', *words('old', 0, 5))
    client.append('notes', 'mine, lost')
    same(client, server, notes)
    for others in (1, 2):
        client.drop()
        server.restore()
        client.token = None  # The folder held the key that made it.
        server.append('notes', *words('new', 0, 10 * others))
        client.attach()
        old = client.append('notes', 'on the log that is gone')
        same(client, server, notes)
        mine = client.append('notes', 'mine')
        same(client, server, notes)
        assert (client.others, old.code, mine.offset) == (others, 'epoch', 10 * others)


def folder_copied(start):
    """Two servers go on with copies of one folder; a client goes from one to the other and back."""
    one = start()
    one.append('notes', *words('both', 0, 3))
    one.stop()
    shutil.copytree(one.data, f'{one.data}.copy')
    one.start()
    two = start(f'{one.data}.copy')
    client = Client(one.address)
    notes = client.subscribe('notes')
    client.attach()
    for server, more, others in ((one, 4, 0), (two, 6, 1), (one, 8, 2), (one, 1, 2)):
        client.drop()
        client.append('notes', f'mine {others} {more}')
        server.append('notes', *words(f'{server.listen} {others}', 0, more))
        client.address = server.address
        client.attach()
        same(client, server, notes)
        assert client.others == others, (client.others, others)
    mine = [one.startswith('mine') for one in one.holds('notes') + two.holds('notes')]
    assert sum(mine) == 4


def log_deleted_and_made_anew(start):
    """In one history: the log is reset, the action on the old one refused, the writer goes on."""
    server = start()
    server.append('notes', *words('old', 0, 5))
    client = Client(server.address)
    notes = client.subscribe('notes')
    client.attach()
    client.settle()
    client.drop()
    lost = client.append('notes', 'on the old one')
    server.ask('DELETE', '/v1/logs/notes')
    server.append('notes', *words('new', 0, 9))
    client.attach()
    same(client, server, notes)
    assert (lost.code, client.others, notes.resets) == ('epoch', 0, ['new', 'other_log'])


def appends_sent_behind_hello(start):
    """Appends that do not wait for `welcome` are refused whole, spend nothing, and go anew."""
    server = start()
    client = Client(server.address)
    client.attach()
    client.append('notes', 'mine, lost')
    client.settle()
    client.drop()
    mine = [client.append('notes', one) for one in words('mine', 0, 3)]
    server.restore()
    client.token = None
    client.connect()
    client.flush()
    client.settle()
    assert client.others == 1 and [one.offset for one in mine] == [0, 1, 2]
    assert server.holds('notes') == words('mine', 0, 3)
    assert client.behind == ['other_history'] * 3, client.behind


SITUATIONS = [
    restored_and_grown, answers_lost_with_the_disk, number_given_to_another_log, folder_made_anew,
    folder_copied, log_deleted_and_made_anew, appends_sent_behind_hello,
]


def run(situation):
    servers = []
    with tempfile.TemporaryDirectory(prefix='highwater-python-') as folder:

        def start(data=None):
            servers.append(Server(data or f'{folder}/data'))
            return servers[-1]

        try:
            situation(start)
        finally:
            for server in servers:
                server.stop(kill=True)


def tried(situation):
    try:
        run(situation)
    except Exception:
        return traceback.format_exc()
    return None


def main():
    failed = 0
    with ThreadPoolExecutor(max_workers=4) as several:
        for situation, problem in zip(SITUATIONS, several.map(tried, SITUATIONS)):
            failed += problem is not None
            what = situation.__doc__
            print(f'FAILED: {what}\n{problem}' if problem else f'ok: {what}')
    sys.exit(1 if failed else 0)


main()
