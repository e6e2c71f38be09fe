"""A client of Highwater's protocol, from docs/protocol.md, in Python's standard library alone.

It speaks the JSON form over a WebSocket of its own, holds logs and pending actions in memory, and
keeps to one history (section 8.11): it states the highest position that it has seen, and where
logs were made; where the server's history is another, it drops what it holds and numbers anew what
that history does not have. It is for tests: one thread, no views, no bases, nothing kept on disk.
"""

import base64
import hashlib
import json
import secrets
import socket
import struct
import time

SHARD = 2**45
TRANSIENT = {
    'rate', 'overloaded', 'token_expired', 'not_ready', 'draining', 'slots', 'in_flight',
    'sequence_gap', 'storage_full', 'unknown_outcome', 'other_history',
}
GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'


def new_id():
    return secrets.token_hex(16)


class Closed(Exception):
    """The socket ended; what the server said last, if it said something."""


class WebSocket:
    """RFC 6455, as far as text messages need it."""

    def __init__(self, address, path, protocol):
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes = b''
        self.parts = []
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = [
            f'GET {path} HTTP/1.1', f'Host: {address[0]}:{address[1]}', 'Upgrade: websocket',
            'Connection: Upgrade', f'Sec-WebSocket-Key: {key}', 'Sec-WebSocket-Version: 13',
            f'Sec-WebSocket-Protocol: {protocol}', '', '',
        ]
        self.socket.sendall('\r\n'.join(lines).encode())
        while b'\r\n\r\n' not in self.bytes:
            self._more(time.monotonic() + 10)
        head, self.bytes = self.bytes.split(b'\r\n\r\n', 1)
        status, *fields = head.decode().split('\r\n')
        fields = {name.lower(): value for name, value in (one.split(': ', 1) for one in fields)}
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        if ' 101 ' not in status or fields.get('sec-websocket-accept') != accept:
            raise Closed(f'no WebSocket: {status}')
        if fields.get('sec-websocket-protocol') != protocol:
            raise Closed(f'another protocol: {fields}')

    def _more(self, deadline):
        """Reads on; whether something came before the deadline."""
        self.socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            got = self.socket.recv(65536)
        except TimeoutError:
            return False
        except OSError as error:
            raise Closed(str(error)) from error
        if not got:
            raise Closed('end of the stream')
        self.bytes += got
        return True

    def _frame(self):
        """The next frame of what was read: first byte and content; None: it is not whole."""
        if len(self.bytes) < 2:
            return None
        length, at = self.bytes[1] & 127, 2
        if length > 125:
            width = 2 if length == 126 else 8
            length, at = int.from_bytes(self.bytes[2:2 + width], 'big'), 2 + width
        if len(self.bytes) < at + length:
            return None
        first, content = self.bytes[0], self.bytes[at:at + length]
        self.bytes = self.bytes[at + length:]
        return first, content

    def _send(self, kind, content):
        mask = secrets.token_bytes(4)
        size = len(content)
        if size < 126:
            head = struct.pack('!BB', 128 | kind, 128 | size)
        elif size < 65536:
            head = struct.pack('!BBH', 128 | kind, 128 | 126, size)
        else:
            head = struct.pack('!BBQ', 128 | kind, 128 | 127, size)
        pad = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(content, 'big') ^ int.from_bytes(pad, 'big')).to_bytes(size, 'big')
        try:
            self.socket.sendall(head + mask + masked)
        except OSError as error:
            raise Closed(str(error)) from error

    def send(self, text):
        self._send(1, text.encode())

    def receive(self, seconds):
        """The next text message; None where none came in that time."""
        deadline = time.monotonic() + seconds
        while True:
            frame = self._frame()
            if frame is None:
                if not self._more(deadline):
                    return None
                continue
            first, content = frame
            kind = first & 15
            if kind in (0, 1):
                self.parts.append(content)
                if first & 128:
                    text, self.parts = b''.join(self.parts).decode(), []
                    return text
            elif kind == 8:
                raise Closed(content[2:].decode())
            elif kind == 9:
                self._send(10, content)

    def close(self):
        self.socket.close()


class Log:
    """What is held of one log: its records from where delivery began, and its cursor."""

    def __init__(self, name):
        self.name = name
        self.id = None
        self.made = None
        self.held = False
        self.cursor = 0
        self.complete = 0
        self.shown = []
        self.resets = []

    def have(self):
        return {'log': self.id, 'next': self.cursor} if self.held else None

    def begin(self, cursor, complete):
        self.held, self.cursor, self.complete, self.shown = True, cursor, complete, []


class Action:
    """An append, until it has its outcome: the member of `Outcome` as the server told it."""

    def __init__(self, to, made, record):
        self.to = to
        self.made = made
        self.record = record
        self.writer = None
        self.seq = 0
        self.sent = False
        self.outcome = None

    @property
    def offset(self):
        return self.outcome['stored']['offset']

    @property
    def code(self):
        return self.outcome['refused']['code']


class Client:
    """One connection, and one writer at a time."""

    def __init__(self, address, token=None):
        self.address = address
        self.token = token
        self.connection = new_id()
        self.writer = new_id()
        self.next = 1
        self.marks = {}
        self.pending = []
        self.logs = {}
        self.positions = {}
        self.socket = None
        self.welcome = None
        self.received = 0
        self.others = 0
        # Codes of refusals for items that a `welcome` overtook.
        self.behind = []

    # Positions.

    def told(self, positions):
        for text in positions:
            era, batch = text.split('.')[:2]
            shard = int(batch) // SHARD
            held = self.positions.get(shard)
            if held is None or held[0] != era or int(batch) >= held[1]:
                self.positions[shard] = (era, int(batch), text)

    def saw(self, place):
        batch = int(place.split('.')[0])
        held = self.positions.get(batch // SHARD)
        if held and batch > held[1]:
            self.positions[batch // SHARD] = (held[0], batch, f'{held[0]}.{batch}')

    def stated(self):
        return [text for _, _, text in self.positions.values()]

    # What the test asks for.

    def subscribe(self, name):
        log = self.logs[name] = Log(name)
        if self.socket:
            self.send('subscribe', {'request': 1, 'open': [self._open(log)]})
        return log

    def append(self, name, payload):
        log = self.logs.get(name)
        known = log and log.id is not None
        to = {'log': log.id} if known else {'name': name}
        action = Action(to, log.made if known else None, {'payload': payload})
        self._number(action)
        self.pending.append(action)
        if self.welcome:
            self.flush()
        return action

    def connect(self):
        """Opens a socket and says hello; the rest comes with `until`."""
        self.drop()
        self.socket = WebSocket(self.address, '/v1/connect', 'highwater.v1.json')
        self.received = 0
        writers = [self.writer, *sorted({one.writer for one in self.pending} - {self.writer})]
        self.send('hello', {
            'version': 1, 'capabilities': ['history', 'starts'], 'token': self.token,
            'connection': self.connection, 'client': 'python', 'visible': True,
            'writers': [{'writer': one, 'oldest': self._oldest(one)} for one in writers],
            'open': [self._open(log) for log in self.logs.values()],
            'positions': self.stated(),
        })

    def drop(self):
        if self.socket:
            self.socket.close()
        self.socket = self.welcome = None

    def until(self, what, holds, seconds=30):
        """Works off what the server says until that holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f'not within {seconds} s: {what}'
            message = self.socket.receive(0.05)
            for line in (message or '').split('\n'):
                if line:
                    (name, body), = json.loads(line).items()
                    handle = getattr(self, f'on_{name}', None)
                    if handle:
                        handle(body)
                    if name in ('records', 'base', 'base_records'):
                        self.received += len(line.encode())
            if message and self.welcome:
                self.acknowledge()

    def attach(self):
        self.connect()
        self.until('welcome', lambda: self.welcome)

    def settle(self):
        """All actions are answered, and all logs complete."""
        self.until('answers', lambda: not self.pending)
        whole = lambda log: log.held and log.cursor >= log.complete
        self.until('complete', lambda: all(whole(log) for log in self.logs.values()))

    # What goes out.

    def send(self, name, body):
        self.socket.send(json.dumps({name: body}) + '\n')

    def _open(self, log):
        return {'name': log.name, 'have': log.have(), 'start': 'state', 'priority': 0}

    def _number(self, action):
        action.writer, action.seq, action.sent = self.writer, self.next, False
        self.next += 1

    def _oldest(self, writer):
        return next((one.seq for one in self.pending if one.writer == writer), self.next)

    def acknowledge(self):
        cursors = [{'log': log.id, 'next': log.cursor} for log in self.logs.values() if log.held]
        self.send('ack', {'received': self.received, 'cursors': cursors})

    def flush(self):
        """Sends what was not sent: a frame for each writer, and for each log of one number."""
        before, items, made, of = {}, [], {}, None
        for action in self.pending:
            mark = self.marks.get(action.writer, 0)
            prev = max(mark, before.get(action.writer, 0)) if action.seq > mark else 0
            before[action.writer] = action.seq
            if action.sent:
                continue
            log = action.to.get('log')
            if items and (action.writer != of or made.get(log, action.made) != action.made):
                self._append(of, items, made)
                items, made = [], {}
            of = action.writer
            if action.made:
                made[log] = action.made
            item = {'seq': action.seq, 'prev': prev, 'to': action.to, 'record': action.record}
            items.append(item)
            action.sent = True
        if items:
            self._append(of, items, made)

    def _append(self, writer, items, made):
        self.send('append', {
            'writer': writer, 'oldest': self._oldest(writer), 'items': items,
            'positions': self.stated(),
            'made': [{'log': log, 'position': position} for log, position in made.items()],
        })

    # What comes in, by the names of frames.

    def on_welcome(self, body):
        self.welcome = body
        self.token = body['token'] or self.token
        self.marks = {one['writer']: one['mark'] for one in body['writers']}
        if body['other_history']:
            self.others += 1
            self.positions = {}
            for log in self.logs.values():
                log.held = False
            self.writer, self.next = new_id(), 1
        self.told(body['positions'])
        for action in self.pending:
            action.sent = action.seq <= self.marks.get(action.writer, 0)
            if body['other_history'] and not action.sent:
                self._number(action)
        self.flush()

    def on_ping(self, body):
        self.told(body['positions'])
        self.send('pong', {'nonce': body['nonce']})

    def on_answers(self, body):
        self.told(body['positions'])
        writer = body['writer']
        self.marks[writer] = max(self.marks.get(writer, 0), body['mark'])
        again = False
        for answer in body['answers']:
            named = lambda one: one.writer == writer and one.seq == answer['seq']
            action = next((one for one in self.pending if named(one)), None)
            outcome = answer['outcome']
            if action is None:
                self.behind.append(outcome['refused']['code'] if 'refused' in outcome else 'stored')
                continue
            if 'stored' in outcome:
                self.saw(outcome['stored']['place'])
            elif outcome['refused']['code'] in TRANSIENT:
                action.sent, again = False, True
                continue
            action.outcome = outcome
            self.pending.remove(action)
        if again:
            time.sleep(0.05)
            self.flush()

    def on_subscribed(self, body):
        log = self.logs[body['name']]
        same = log.id == body['log']
        log.id, log.made = body['log'], body['made']
        if body['reset']:
            log.held = False
        elif same and log.held:
            log.complete = max(log.complete, body['complete'])
        else:
            log.begin(body['cursor'], body['complete'])

    def on_reset(self, body):
        assert body['base'] is None, 'logs with bases are not for this client'
        log = self._by_id(body['log'])
        log.resets.append(body['reason'])
        log.begin(body['cursor'], body['complete'])

    def on_records(self, body):
        log = self._by_id(body['log'])
        assert log.held and body['base'] <= log.cursor, f'{body["base"]} is not {log.cursor}'
        for record in body['records'][log.cursor - body['base']:]:
            self.saw(record['place'])
            log.shown.append(record['record'].get('payload'))
            log.cursor += 1

    def on_gap(self, body):
        raise AssertionError(f'a gap: {body}')

    def on_bye(self, body):
        raise Closed(f'{body["code"]}: {body["message"]}')

    def _by_id(self, number):
        return next(log for log in self.logs.values() if log.id == number)
