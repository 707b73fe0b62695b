"""Many clients that register, log in, ask who they are and log out, and remember every answer."""

import http.client
import json
import threading
import time
from collections import Counter, namedtuple
from concurrent.futures import ThreadPoolExecutor

PASSWORD = "correct horse battery staple"
# What a client sees: when it asked and was answered, what it wanted, the status (0: none came), the code of
# a problem, and whether it is the answer that there must be.
Answer = namedtuple("Answer", "start end kind status code good")


class Client(threading.Thread):
    """Somebody with a network of their own."""

    def __init__(self, port, number, pause):
        super().__init__(daemon=True)
        self.port, self.number, self.pause = port, number, pause
        self.source = f"127.1.{number}.1"
        self.is_kept = number % 2 == 0
        self.connection = None
        self.answers, self.stopped = [], threading.Event()
        # What was acknowledged: accounts, and the tokens of sessions with their owners. One that may or may not
        # have been ended is in neither.
        self.accounts, self.live, self.ended = [], {}, []

    def ask(self, method, path, token=None, body=None):
        """The status and the body; status 0 when the connection was cut."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if body:
            headers["content-type"] = "application/json"
        if not self.connection:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, 40, (self.source, 0))
        try:
            self.connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = self.connection.getresponse()
            status, text = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            status, text = 0, b""
        if not self.is_kept or status == 0:
            self.connection.close()
            self.connection = None
        try:
            return status, json.loads(text)
        except ValueError:
            return status, {}

    def call(self, kind, expected, method, path, token=None, body=None, holds=lambda body: True):
        start = time.monotonic()
        status, said = self.ask(method, path, token, body)
        good = status == expected and holds(said)
        self.answers.append(Answer(start, time.monotonic(), kind, status, said.get("code"), good))
        self.stopped.wait(self.pause)
        return said if good else None

    def register(self):
        name = f"client-{self.number}-{len(self.answers)}"
        account = {"username": name, "password": PASSWORD, "transport": "token"}
        if said := self.call("register", 201, "POST", "/users", body=account):
            self.accounts.append(name)
            self.live[said["token"]] = name

    def login(self, name):
        login = {"identifier": name, "password": PASSWORD, "transport": "token"}
        if said := self.call("login", 200, "POST", "/login", body=login):
            self.live[said["token"]] = name

    def me(self, token):
        name = self.live[token]
        return self.call("me", 200, "GET", "/me", token, holds=lambda body: body.get("username") == name)

    def logout(self, token):
        del self.live[token]
        if self.call("logout", 204, "POST", "/logout", token) is not None:
            self.ended.append(token)
            self.gone(token)

    def gone(self, token):
        """Whether a session that was logged out stays so."""
        is_gone = lambda body: body.get("code") == "session_expired"
        return self.call("gone", 401, "GET", "/me", token, holds=is_gone)

    def run(self):
        while not self.stopped.is_set():
            self.register()
            if self.accounts:
                self.login(self.accounts[-1])
                self.login(self.accounts[len(self.answers) % len(self.accounts)])
            tokens = list(self.live)
            for token in tokens[-3:]:
                self.me(token)
            if tokens:
                self.me(tokens[len(self.answers) % len(tokens)])
                self.logout(tokens[-1])

    def verify(self):
        """Asks for everything that was acknowledged, and returns how much of it does not hold."""
        self.answers, self.pause = [], 0
        for token in list(self.live):
            self.me(token)
        for token in self.ended:
            self.gone(token)
        for name in self.accounts:
            self.login(name)
        return Counter(answer.kind for answer in self.answers if not answer.good)


class Load:
    """Clients at work."""

    def __init__(self, port, clients, pause):
        self.clients = [Client(port, number, pause) for number in range(1, clients + 1)]

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.stopped.set()
        for client in self.clients:
            client.join()

    def since(self, start):
        """Every answer that came after a moment, in the order in which they came."""
        answers = [answer for client in self.clients for answer in list(client.answers) if answer.end >= start]
        return sorted(answers, key=lambda answer: answer.end)

    def acknowledged(self):
        count = lambda of: sum(len(of(client)) for client in self.clients)
        return {
            "accounts": count(lambda client: client.accounts),
            "sessions": count(lambda client: client.live),
            "logouts": count(lambda client: client.ended),
        }

    def verify(self):
        """How much of what was acknowledged does not hold, by what was asked."""
        with ThreadPoolExecutor(len(self.clients)) as threads:
            return sum(threads.map(Client.verify, self.clients), Counter())
