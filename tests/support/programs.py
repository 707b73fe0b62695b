"""Programs that run beside a test."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except OSError:
        return False


def answers(port, path, host="127.0.0.1"):
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"host": f"{host}:{port}"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def wait_until(sentence, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds} s: {sentence}")
        time.sleep(0.02)


def end(number, _):
    """An end that stops what was started, too."""
    sys.exit(f"ended by {signal.Signals(number).name}")


@contextmanager
def working_directory():
    """A directory for programs, whose logs are shown if the test breaks off."""
    signal.signal(signal.SIGTERM, end)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        # PostgreSQL does not run as root, and its own account must reach the data.
        Path(directory).chmod(0o755)
        try:
            yield directory
        except BaseException:
            for log in Path(directory).glob("*.log"):
                print(f"== {log.name}\n{log.read_text()[-3000:]}")
            raise


class Process:
    """A program that serves on a port, and is ended by its own handle."""

    def __init__(self, directory, port, command, environment=None, name=None):
        self.port, self.command, self.environment = port, command, environment
        self.name = name or Path(command[0]).name
        self.log = Path(directory, f"{self.name}.log")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Returns when it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.log.parent, env=self.environment, stdout=log, stderr=log
            )
        try:
            wait_until(f"{self.name} is ready", lambda: self.process.poll() is not None or self.is_ready(), 60)
            assert self.process.poll() is None, f"{self.name} ended"
        except BaseException:
            self.stop()
            raise

    def is_ready(self):
        return is_open(self.port)

    def stop(self):
        """Returns the status with which it ended."""
        self.process.terminate()
        return self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Service(Process):
    """The service, with no setting of the caller's, and on a PostgreSQL of its own unless these name another."""

    def __init__(self, directory, port, settings, name="portcullis"):
        kept = {n: value for n, value in os.environ.items() if not n.startswith(("PORTCULLIS_", "PG", "OTEL_"))}
        own = {
            "DATABASE_URL": "",
            "PORTCULLIS_DATA_DIR": str(Path(directory, "data")),
            "PORTCULLIS_LISTEN": f"127.0.0.1:{port}",
            "PORTCULLIS_BCRYPT_COST": "4",
        }
        command = [str(Path(os.environ["PORTCULLIS_BIN"]).absolute())]
        super().__init__(directory, port, command, kept | own | settings, name)

    def is_ready(self):
        return answers(self.port, "/readyz")
