"""An app that tells what reached it, and how it is asked."""

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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


def ask(port, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {"host": f"app.localhost:{port}"} | (headers or {}))
    answer = connection.getresponse()
    answer.text = answer.read().decode(errors="replace")
    connection.close()
    return answer


def start_app():
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]
