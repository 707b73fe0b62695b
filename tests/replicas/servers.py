"""Programs that run beside the test: PgBouncer and HAProxy with the files of deploy/, and the replicas."""

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return True
    except OSError:
        return False


def wait_until(sentence, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds} s: {sentence}")
        time.sleep(0.02)


def rewritten(name, *changes):
    """A file of deploy/ with lines changed for this machine."""
    text = (DEPLOY / name).read_text()
    for pattern, replacement in changes:
        text, replaced = re.subn(pattern, lambda _: replacement, text, flags=re.M)
        assert replaced == 1, f"deploy/{name}: {replaced} times {pattern}"
    return text


class Process:
    """A program that serves on a port of its own, and is ended by its own handle."""

    def __init__(self, directory, name, port, command, environment=None):
        self.log, self.port = Path(directory, f"{name}.log"), port
        self.command, self.environment = command, environment
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.process.wait()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.log.parent, env=self.environment, stdout=log, stderr=log
            )
        try:
            wait_until(f"{self.log.stem} listens", lambda: is_open(self.port))
        except RuntimeError:
            self.kill()
            raise

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0, self.log.read_text()[-2000:]

    def kill(self):
        self.process.kill()
        self.process.wait()


class Replica(Process):
    """The service."""

    def __init__(self, directory, name, database_url):
        self.name, port = name, free_port()
        environment = {n: value for n, value in os.environ.items() if not n.startswith(("PORTCULLIS_", "PG"))}
        environment |= {
            "DATABASE_URL": database_url,
            "PORTCULLIS_LISTEN": f"127.0.0.1:{port}",
            "PORTCULLIS_TRUSTED_PROXIES": "127.0.0.1",
            "PORTCULLIS_BCRYPT_COST": "4",
            # Limits are counted, and not reached.
            "PORTCULLIS_THROTTLE_REGISTRATION": "10000/1m",
        }
        command = [str(Path(os.environ["PORTCULLIS_BIN"]).absolute())]
        super().__init__(directory, name, port, command, environment)

    def is_ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def doctor(self, database_url):
        """What `portcullis doctor` says of a database, each finding in one line."""
        environment = self.environment | {"DATABASE_URL": database_url}
        said = subprocess.run([*self.command, "doctor"], env=environment, cwd=self.log.parent, capture_output=True)
        return said.stdout.decode().replace("\n         ", " ")


class PgBouncer(Process):
    """PgBouncer with deploy/pgbouncer.ini, and changes to it."""

    def __init__(self, directory, name, database, *changes):
        port, self.changes = free_port(), changes
        self.file = Path(directory, f"{name}.ini")
        users = Path(directory, "userlist.txt")
        users.write_text(database.users())
        self.fixed = [
            (r"^listen_addr = .*", "listen_addr = 127.0.0.1"),
            (r"^listen_port = .*", f"listen_port = {port}\nunix_socket_dir ="),
            (r"^auth_file = .*", f"auth_file = {users}"),
        ]
        self.configure(database)
        # It does not run as root.
        account = ["-u", "postgres"] if os.geteuid() == 0 else []
        super().__init__(directory, name, port, [os.environ["PGBOUNCER"], *account, str(self.file)])

    def configure(self, database):
        server = (r"host=postgres port=5432", f"host=127.0.0.1 port={database.port}")
        self.file.write_text(rewritten("pgbouncer.ini", server, *self.fixed, *self.changes))

    def point_at(self, database):
        self.configure(database)
        self.process.send_signal(signal.SIGHUP)

    def url(self):
        return f"postgres://portcullis:secret@127.0.0.1:{self.port}/portcullis"


class HAProxy(Process):
    """HAProxy with deploy/haproxy.cfg, before the replicas."""

    def __init__(self, directory, replicas):
        port, self.socket = free_port(), Path(directory, "haproxy.sock")
        servers = [
            (rf"server {replica.name} portcullis-{replica.name}:8080", f"server {replica.name} 127.0.0.1:{replica.port}")
            for replica in replicas
        ]
        bind = (r"bind :443 .*", f"bind 127.0.0.1:{port}")
        log = (r"^defaults$", "defaults\n    log stdout format raw local0\n    option httplog")
        file = Path(directory, "haproxy.cfg")
        file.write_text(f"global\n    stats socket {self.socket}\n\n" + rewritten("haproxy.cfg", bind, log, *servers))
        super().__init__(directory, "haproxy", port, ["haproxy", "-db", "-f", str(file)])

    def state(self, replica):
        """Whether it takes a replica for UP or DOWN."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(b"show stat\n")
            lines = connection.makefile().read().lstrip("# ").splitlines()
        names = lines[0].split(",")
        rows = (dict(zip(names, line.split(","))) for line in lines[1:])
        return next(row["status"] for row in rows if row["svname"] == replica.name)

    def cut_off(self):
        """By replica, how many requests it was sent and never answered, as far as the log tells: of clients that
        keep their connection, it does not."""
        return Counter(re.findall(r" portcullis/(\w+) \S+ \S+ \d+ - - S", self.log.read_text()))

    def wait_for(self, replica):
        wait_until(f"replica {replica.name} is up", lambda: self.state(replica) == "UP")
