"""What the browser talks to: the service, and sites with one page."""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

# With a "=", so that a form can send it as text/plain within JSON.
PASSWORD = "correct=horse battery staple"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Handler(SimpleHTTPRequestHandler):
    def do_POST(self):
        """An open redirect, which keeps the method and the body."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(307)
        self.send_header("location", parse_qs(urlsplit(self.path).query)["to"][0])
        self.end_headers()

    def log_message(self, *_):
        pass


class Site(ThreadingHTTPServer):
    """The page, on a port of its own; the name that it is opened by makes the origin."""

    def __init__(self):
        directory = Path(__file__).with_name("site")
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=directory))
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Service:
    """The service with a PostgreSQL of its own, an admin to watch it by, and bob."""

    def __init__(self, directory, port, public_url, allowed_origins):
        self.address = f"http://127.0.0.1:{port}"
        self.log_path = Path(directory, "log")
        self.token = None
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PORTCULLIS_")
        }
        environment |= {
            "DATABASE_URL": "",
            "PORTCULLIS_DATA_DIR": str(Path(directory, "data")),
            "PORTCULLIS_LISTEN": f"127.0.0.1:{port}",
            "PORTCULLIS_PUBLIC_URL": public_url,
            "PORTCULLIS_ALLOWED_ORIGINS": ",".join(allowed_origins),
            "PORTCULLIS_BCRYPT_COST": "4",
            "PORTCULLIS_THROTTLE": "off",
            "PORTCULLIS_LOG_FORMAT": "json",
            "PORTCULLIS_ADMIN_USERNAME": "admin",
            "PORTCULLIS_ADMIN_PASSWORD": PASSWORD,
        }
        # Not in our working directory, where a .env may be.
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [Path(os.environ["PORTCULLIS_BIN"]).absolute()],
                cwd=directory,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def __enter__(self):
        try:
            self.wait_until_ready()
            login = {"identifier": "admin", "password": PASSWORD, "transport": "token"}
            self.token = self.request("/login", login)["token"]
            self.request("/users", {"username": "bob", "password": PASSWORD})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def wait_until_ready(self):
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                self.request("/readyz")
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"the service did not start:\n{self.log_path.read_text()}")

    def request(self, path, body=None):
        """The answer to the admin, who is no browser."""
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def log_end(self):
        return self.log_path.stat().st_size

    def answers(self, begin, count):
        """The requests since the log ended at `begin`, as `METHOD STATUS`; waits for so many."""
        for _ in range(50):
            answers = self.logged(begin)
            if len(answers) >= count:
                break
            time.sleep(0.1)
        return answers

    def logged(self, begin):
        with self.log_path.open("rb") as log:
            log.seek(begin)
            lines = [line for line in log if line[:1] == b"{" and line[-1:] == b"\n"]
        entries = map(json.loads, lines)
        return [
            f"{entry['span']['method']} {entry['status']}"
            for entry in entries
            if entry.get("message") == "answered"
            and entry["span"]["path"] != "/favicon.ico"
        ]
