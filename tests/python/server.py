"""A server of a test's own, in a folder of its own, with the program that the test was given."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request

PROGRAM = sys.argv[1]
# What would configure the server besides its flags.
ENV = {name: value for name, value in os.environ.items() if not name.startswith('HIGHWATER_')}


class Server:
    """A server of its own on loopback, with the rights of everybody (`--dev`)."""

    def __init__(self, data, config=''):
        self.data = data
        self.config = config
        self.listen = '127.0.0.1:0'
        self.process = None
        self.start()

    def start(self):
        """On the port that it had before, if it had one."""
        given = ['serve', '--dev', '--listen', self.listen, '--data', self.data]
        if self.config:
            with open(f'{self.data}.toml', 'w') as file:
                file.write(self.config)
            given += ['--config', f'{self.data}.toml']
        self.process = subprocess.Popen(
            [PROGRAM, *given, '--set', 'limits.drain_ms=0'], env=ENV, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        for line in self.process.stdout:
            if line.startswith('listening on http://'):
                self.listen = line.split('//')[1].strip()
                return
        raise AssertionError(f'the server ended with {self.process.wait()}')

    def stop(self, kill=False):
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()

    def backup(self):
        """A copy of the folder, as it stands while the server is down."""
        self.stop()
        copy = f'{self.data}.backup'
        shutil.copytree(self.data, copy)
        self.start()
        return copy

    def restore(self, copy=None):
        """The folder is lost, and another in its place: that copy, or none."""
        self.stop(kill=True)
        shutil.rmtree(self.data)
        if copy:
            shutil.copytree(copy, self.data)
        self.start()

    @property
    def address(self):
        host, port = self.listen.split(':')
        return host, int(port)

    def ask(self, method, path, body=None):
        asked = urllib.request.Request(f'http://{self.listen}{path}', body, method=method)
        asked.add_header('content-type', 'application/x-ndjson')
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.read().decode(), answer.headers

    def append(self, log, *payloads):
        lines = ''.join(json.dumps({'payload': one}) + '\n' for one in payloads)
        self.ask('POST', f'/v1/logs/{log}', lines.encode())

    def holds(self, log):
        lines, _ = self.ask('GET', f'/v1/logs/{log}')
        return [json.loads(line)['payload'] for line in lines.splitlines() if line]

    def number(self, log):
        return int(self.ask('HEAD', f'/v1/logs/{log}')[1]['highwater-log'])
