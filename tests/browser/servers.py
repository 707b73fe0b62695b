"""What the browser talks to: the service, and sites with one page."""

import json
import threading
import time
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import programs

# With a "=", so that a form can send it as text/plain within JSON.
PASSWORD = "correct=horse battery staple"


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


class Service(programs.Service):
    """The service, which an admin watches."""

    def __init__(self, directory, port, public_url, allowed_origins):
        settings = {
            "PORTCULLIS_PUBLIC_URL": public_url,
            "PORTCULLIS_ALLOWED_ORIGINS": ",".join(allowed_origins),
            "PORTCULLIS_THROTTLE": "off",
            "PORTCULLIS_LOG_FORMAT": "json",
            "PORTCULLIS_ADMIN_USERNAME": "admin",
            "PORTCULLIS_ADMIN_PASSWORD": PASSWORD,
        }
        super().__init__(directory, port, settings)
        self.address = f"http://127.0.0.1:{port}"
        self.token = None

    def log_in(self):
        """Logs the admin in, who makes bob."""
        login = {"identifier": "admin", "password": PASSWORD, "transport": "token"}
        self.token = self.request("/login", login)["token"]
        self.request("/users", {"username": "bob", "password": PASSWORD})

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
        return self.log.stat().st_size

    def answers(self, begin, count):
        """The requests since the log ended at `begin`, as `METHOD STATUS`; waits for so many."""
        for _ in range(50):
            answers = self.logged(begin)
            if len(answers) >= count:
                break
            time.sleep(0.1)
        return answers

    def logged(self, begin):
        with self.log.open("rb") as log:
            log.seek(begin)
            lines = [line for line in log if line[:1] == b"{" and line[-1:] == b"\n"]
        entries = map(json.loads, lines)
        return [
            f"{entry['span']['method']} {entry['status']}"
            for entry in entries
            if entry.get("message") == "answered"
            and entry["span"]["path"] != "/favicon.ico"
        ]
