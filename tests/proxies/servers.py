"""The service, nginx before it, and an app that tells what reached it."""

import http.client
import json
import os
import re
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
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        names = [name.lower() for name in self.headers.keys()]
        seen = {
            "method": self.command,
            "path": self.path,
            "auth": {n: self.headers[n] for n in names if n.replace("_", "-").startswith("x-auth-")},
            "body": body.decode(),
        }
        text = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

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

    def wait_for(self, port, path="/"):
        for _ in range(300):
            if self.process.poll() is not None:
                break
            try:
                if ask(port, "GET", path).status < 500:
                    return self
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


def service(directory, port, proxy, password):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTCULLIS_")}
    environment |= {
        "DATABASE_URL": "",
        "PORTCULLIS_DATA_DIR": str(Path(directory, "data")),
        "PORTCULLIS_LISTEN": f"127.0.0.1:{port}",
        "PORTCULLIS_PUBLIC_URL": f"http://auth.app.localhost:{proxy}",
        "PORTCULLIS_COOKIE_DOMAIN": "app.localhost",
        "PORTCULLIS_TRUSTED_PROXIES": "127.0.0.1",
        "PORTCULLIS_LOGIN_URL": f"http://app.localhost:{proxy}/public/login",
        "PORTCULLIS_BCRYPT_COST": "4",
        "PORTCULLIS_SESSION_PROTECTION": "strong",
        "PORTCULLIS_ADMIN_USERNAME": "admin",
        "PORTCULLIS_ADMIN_PASSWORD": password,
    }
    command = [str(Path(os.environ["PORTCULLIS_BIN"]).absolute())]
    return Process(directory, command, environment).wait_for(port, "/readyz")


def nginx(directory, port, service_port, app_port):
    """nginx with deploy/nginx.conf, on our ports, under our names and without TLS."""
    text = Path(__file__).parents[2].joinpath("deploy/nginx.conf").read_text()
    for pattern, replacement, count in [
        (r"server portcullis:8080;", f"server 127.0.0.1:{service_port};", 1),
        (r"server app:3000;", f"server 127.0.0.1:{app_port};", 1),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port};", 2),
        (r" +ssl_certificate.*\n", "", 4),
        (r"server_name auth\.example\.com;", "server_name auth.app.localhost;", 1),
        (r"server_name app\.example\.com;", "server_name app.localhost;", 1),
    ]:
        text, replaced = re.subn(pattern, replacement, text)
        assert replaced == count, f"deploy/nginx.conf: {replaced} times {pattern}"
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    configuration = Path(directory, "nginx.conf")
    configuration.write_text(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {}\n"
        f"http {{\naccess_log off;\n{temporary}{text}}}\n"
    )
    command = ["nginx", "-p", directory, "-e", "stderr", "-c", str(configuration)]
    return Process(directory, command).wait_for(port, "/public/")
