"""The service under measurement, its database, and who calls."""

import http.client
import json
import os
import socket
import subprocess
import time

# The load comes from one network, through a proxy; what it measures is no limit on guessing.
ENVIRONMENT = {
    "PORTCULLIS_THROTTLE": "off",
    "PORTCULLIS_LOG": "warn",
    "PORTCULLIS_TRUSTED_PROXIES": "127.0.0.0/8",
}


class Service:
    def __init__(self, database):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.database = database
        self.process = None

    def __enter__(self):
        command = [
            os.environ["PORTCULLIS_BIN"], "serve",
            "--listen", f"127.0.0.1:{self.port}", "--public-url", f"http://127.0.0.1:{self.port}",
        ]
        environment = os.environ | ENVIRONMENT | {"DATABASE_URL": self.database}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        for _ in range(300):
            try:
                if self.ask("GET", "/readyz").status == 200:
                    return self
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("it did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ask(self, method, path, headers=None, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        answer.text = answer.read().decode()
        connection.close()
        return answer


class Caller:
    """Somebody who is logged in, on one connection."""

    def __init__(self, service, username, password):
        self.connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        self.headers = {"content-type": "application/json", "sec-fetch-site": "same-origin"}
        login, self.login_took = self.timed("POST", "/login", {"username": username, "password": password})
        assert login.status == 200, login.text
        self.headers["cookie"] = login.getheader("set-cookie").split(";")[0]
        self.user = json.loads(login.text)["user"]

    def timed(self, method, path, body=None):
        """The answer, and after how many milliseconds it was there."""
        start = time.perf_counter()
        self.connection.request(method, path, body and json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        answer.text = answer.read().decode()
        return answer, (time.perf_counter() - start) * 1000


def sql(database, statement):
    command = ["psql", "--no-psqlrc", "-qtA", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
