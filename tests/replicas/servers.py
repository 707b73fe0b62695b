"""Programs that run beside the test: PgBouncer and HAProxy with the files of deploy/, and the replicas."""

import os
import re
import signal
import socket
import subprocess
from collections import Counter
from pathlib import Path

from programs import Process, Service, free_port, wait_until
from tree import adapted


class Replica(Service):
    """One of those that share a database."""

    def __init__(self, directory, name, database_url):
        settings = {
            "DATABASE_URL": database_url,
            "PORTCULLIS_TRUSTED_PROXIES": "127.0.0.1",
            # Limits are counted, and not reached.
            "PORTCULLIS_THROTTLE_REGISTRATION": "10000/1m",
            "PORTCULLIS_THROTTLE_LOGINS": "10000/1m",
        }
        super().__init__(directory, free_port(), settings, name)

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
            (r"^listen_addr = .*", "listen_addr = 127.0.0.1", 1),
            (r"^listen_port = .*", f"listen_port = {port}\nunix_socket_dir =", 1),
            (r"^auth_file = .*", f"auth_file = {users}", 1),
        ]
        self.configure(database)
        # It does not run as root.
        account = ["-u", "postgres"] if os.geteuid() == 0 else []
        super().__init__(directory, port, [os.environ["PGBOUNCER"], *account, str(self.file)], name=name)

    def configure(self, database):
        server = (r"host=postgres port=5432", f"host=127.0.0.1 port={database.port}", 1)
        self.file.write_text(adapted("pgbouncer.ini", [server, *self.fixed, *self.changes]))

    def point_at(self, database):
        self.configure(database)
        self.process.send_signal(signal.SIGHUP)

    def url(self):
        return f"postgres://portcullis:secret@127.0.0.1:{self.port}/portcullis"


class HAProxy(Process):
    """HAProxy with deploy/haproxy.cfg, before the replicas."""

    def __init__(self, directory, replicas):
        port, self.socket = free_port(), Path(directory, "haproxy.sock")
        servers = [(f"portcullis-{replica.name}:8080", f"127.0.0.1:{replica.port}", 1) for replica in replicas]
        bind = (r"bind :443 .*", f"bind 127.0.0.1:{port}", 1)
        log = (r"^defaults$", "defaults\n    log stdout format raw local0\n    option httplog", 1)
        file = Path(directory, "haproxy.cfg")
        file.write_text(f"global\n    stats socket {self.socket}\n\n" + adapted("haproxy.cfg", [bind, log, *servers]))
        super().__init__(directory, port, ["haproxy", "-db", "-f", str(file)])

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
