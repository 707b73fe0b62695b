"""The service, and an app that tells what reached it."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.body()
        names = [name.lower() for name, value in self.headers.items() if value]
        seen = {
            "method": self.command,
            "path": self.path,
            # As apps may read them that cannot tell the one from the other.
            "auth": {n: self.headers[n] for n in names if n.replace("_", "-").replace(".", "-").startswith("x-auth-")},
            "body": body.decode(),
        }
        text = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def body(self):
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_POST = do_PUT = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Process:
    """A program that runs until the end, and is ended by its own handle."""

    def __init__(self, directory, command, environment=None):
        self.log = Path(directory, f"{Path(command[0]).name}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def wait_for(self, port, path):
        for _ in range(300):
            if self.process.poll() is not None:
                break
            try:
                if ask(port, "GET", path).status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"it did not start:\n{self.log.read_text()}")


def ask(port, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {"host": f"app.localhost:{port}"} | (headers or {}))
    answer = connection.getresponse()
    answer.text = answer.read().decode()
    connection.close()
    return answer


def start_app():
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def service(directory, port, settings):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTCULLIS_")}
    environment |= settings | {
        "DATABASE_URL": "",
        "PORTCULLIS_DATA_DIR": str(Path(directory, "data")),
        "PORTCULLIS_LISTEN": f"127.0.0.1:{port}",
        "PORTCULLIS_BCRYPT_COST": "4",
    }
    command = [str(Path(os.environ["PORTCULLIS_BIN"]).absolute())]
    return Process(directory, command, environment)
