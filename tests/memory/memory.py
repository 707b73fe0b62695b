"""How much memory the service takes when every connection holds an unfinished request of the greatest size."""

import json
import os
import re
import resource
import select
import socket
import sys
import time
from pathlib import Path

from checks import check, finish
from programs import Service, answers, free_port, wait_until, working_directory
from tree import ROOT

KIB, MIB = 1024, 1024 * 1024
# As in src/server.rs, src/body.rs and src/body_budget.rs.
HEAD, BODY, BUDGET = 16 * KIB, 16 * KIB, 32 * MIB
# An idle service and what the allocator keeps, and a connection without what its body holds.
SERVICE, OF_A_CONNECTION = 64 * MIB, 48 * KIB
# PORTCULLIS_MAX_CONNECTIONS by default.
FULL, FEW = 8192, 1024
# Fewer files than this are open when no client is connected.
FILES = 100
# Networks that hold bodies, so that together they may fill the budget.
NETWORKS = 16


def limit_of_the_manifest():
    """The memory limit of the pods, in bytes."""
    text = (ROOT / "deploy" / "kubernetes.yaml").read_text()
    (number,) = re.findall(r"limits:\n +memory: (\d+)Mi", text)
    return int(number) * MIB


def resident(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * KIB


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def padded(lines, length, header):
    """A head that ends with a header line of its own, so that it has this many bytes."""
    start = lines + f"{header}: "
    return start + "x" * (length - len(start) - 4) + "\r\n\r\n"


def named(lines, length):
    """A head of this many bytes in as many lines as hyper takes, whose names it copies."""
    count = 90
    each = (length - len(lines) - 2) // count
    for i in range(count):
        lines += f"{i:03}".ljust(each - 5, "n") + ": x\r\n"
    return lines + "\r\n"


def post(i, more=""):
    # The address of a client behind a trusted proxy; an allowed origin is repeated in the answer.
    return (
        "POST /login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"origin: https://app.example.com\r\nx-forwarded-for: 198.51.{i % NETWORKS}.1\r\n{more}"
    )


def heads(i):
    """A head that lacks its end."""
    return padded(post(i), HEAD, "x-padding")[:-1]


def bodies(i):
    """A short head, and a body that lacks its end."""
    return post(i, f"content-length: {BODY}\r\n\r\n") + " " * (BODY - 1)


def halves(i):
    """The greatest head, and as much of a body as fits in the budget for every connection."""
    return padded(post(i, f"content-length: {BODY}\r\n"), HEAD, "x-padding") + " " * (BUDGET // FULL - 64)


def both(i):
    return padded(post(i, f"content-length: {BODY}\r\n"), HEAD, "x-padding") + " " * (BODY - 1)


def names(i):
    """The same in many header lines."""
    return named(post(i, f"content-length: {BODY}\r\n"), HEAD) + " " * (BODY - 1)


def chunks(i):
    """A body in chunks of a byte: where chunks are kept as they come, each takes many times its size."""
    return post(i, "transfer-encoding: chunked\r\n\r\n") + "1\r\n \r\n" * 300


VARIANTS = [heads, bodies, halves, both, names, chunks]


class Crowd:
    """Connections that send what they are given, as far as it is taken."""

    def __init__(self, port, count, text):
        self.sockets, self.pending = [], {}
        self.poll = select.epoll()
        for i in range(count):
            connection = socket.create_connection(("127.0.0.1", port), 60)
            connection.setblocking(False)
            self.sockets.append(connection)
            self.pending[connection.fileno()] = (connection, memoryview(text(i).encode()))
            self.poll.register(connection.fileno(), select.EPOLLOUT)
            # The service accepts while we send.
            self.send(0)

    def send(self, timeout):
        for descriptor, _ in self.poll.poll(timeout, 256):
            connection, rest = self.pending[descriptor]
            try:
                rest = rest[connection.send(rest):]
            except BlockingIOError:
                continue
            except OSError:
                rest = rest[:0]
            self.pending[descriptor] = (connection, rest)
            if not rest:
                self.poll.unregister(descriptor)
                del self.pending[descriptor]

    def settle(self):
        """Sends until all is sent, or nothing is taken for a second."""
        deadline = time.monotonic() + 60
        while self.pending and time.monotonic() < deadline:
            before = sum(len(rest) for _, rest in self.pending.values())
            self.send(1)
            if before == sum(len(rest) for _, rest in self.pending.values()):
                break

    def statuses(self):
        """How many were answered, and how, and how many are held."""
        seen = {}
        for connection in self.sockets:
            try:
                status = connection.recv(12).decode(errors="replace") or "closed"
            except BlockingIOError:
                status = "held"
            except OSError:
                status = "reset"
            seen[status] = seen.get(status, 0) + 1
        return seen

    def close(self):
        for connection in self.sockets:
            connection.close()
        self.poll.close()


def measure(service, port, count, variant):
    """The most memory while the connections are held, and how they were answered."""
    crowd = Crowd(port, count, variant)
    try:
        crowd.settle()
        most = 0
        for _ in range(8):
            time.sleep(0.25)
            most = max(most, resident(service.process.pid))
        return most, crowd.statuses()
    finally:
        crowd.close()


def main():
    full = "--full" in sys.argv[1:]
    count = FULL if full else FEW
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert files > count + 200, f"this process may open {files} files; {count} connections need more"
    allowed = SERVICE + count * OF_A_CONNECTION + min(BUDGET, count * BODY)
    settings = {
        "PORTCULLIS_MAX_CONNECTIONS": str(count + 64),
        "PORTCULLIS_TRUSTED_PROXIES": "127.0.0.0/8",
        "PORTCULLIS_ALLOWED_ORIGINS": "https://app.example.com",
        "PORTCULLIS_HEADER_TIMEOUT": "10m",
        "PORTCULLIS_REQUEST_TIMEOUT": "10m",
        "PORTCULLIS_LOG": "warn",
        "PORTCULLIS_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
    }
    port = free_port()
    with working_directory() as directory, Service(directory, port, settings) as service:
        idle = resident(service.process.pid)
        print(f"idle: {idle / MIB:.0f} MiB; allowed with {count} connections: {allowed / MIB:.0f} MiB", flush=True)
        # What an attacker does last stands on what the allocator kept of the rest.
        for variant in VARIANTS + VARIANTS[::-1]:
            most, statuses = measure(service, port, count, variant)
            sentence = f"{variant.__name__}: {most / MIB:.0f} MiB, {(most - idle) / count / KIB:.1f} KiB a connection, {json.dumps(statuses)}"
            check(sentence, most < allowed)
            # A debug build takes a while to close them.
            wait_until("the connections end", lambda: open_files(service.process.pid) < FILES, 600)
            check("and the service answers", answers(port, "/readyz"))
        if full:
            check("the manifest's limit is more than that", allowed <= limit_of_the_manifest())
    finish()


main()
