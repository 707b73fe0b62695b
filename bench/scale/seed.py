"""Loads a database that the service has migrated with many users and sessions, as if they had come over years.

    portcullis migrate
    python3 seed.py [--users 1000000] [--sessions 5000000] [--events 2000000]

DATABASE_URL says where, and `psql` goes there. The database must have no users. 1,000,000 users and 5,000,000
sessions take ten to twenty minutes on two cores, and 5.3 GB. What is loaded follows from numbers (population.py), so
a load generator needs nothing from here to know the secrets: the database gets their hashes alone.

    python3 seed.py --requests 100000 [--sessions 5000000] > requests.txt

prints, of a database that was loaded so, the secrets of as many sessions, one a line, with the user agent and the
address (`X-Forwarded-For`) that each is used with. Those of one account in ten thousand, which is disabled, are a 401.
"""

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

import population

HERE = Path(__file__).parent
PASSWORD = "correct horse battery staple"


def sample(count, sessions):
    """Numbers of sessions that a browser holds, from all of them."""
    chance = random.Random(1)
    numbers = (chance.randint(1, sessions) for _ in iter(int, 1))
    return [n for n, _ in zip(filter(population.is_cookie, numbers), range(count))]


def load(users, sessions, events):
    hashed = [sys.executable, str(HERE.parent / "hash.py"), PASSWORD, "12"]
    hashed = subprocess.run(hashed, check=True, capture_output=True, text=True).stdout.strip()
    settings = {"users": users, "sessions": sessions, "events": min(events, sessions), "hash": hashed}
    command = ["psql", "--quiet", "--no-psqlrc", "--dbname", os.environ["DATABASE_URL"]]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    psql = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
    write = psql.stdin.write
    write("\\set ON_ERROR_STOP on\n")
    write("create temporary table agents (n bigint, device text, agent text);\ncopy agents from stdin;\n")
    for n, (device, agent) in enumerate(population.USER_AGENTS):
        write(f"{n}\t{device}\t{agent}\n")
    write("\\.\ncreate temporary table seed (n bigint, record_id text, digest bytea);\ncopy seed from stdin;\n")
    for n in range(1, sessions + 1):
        made = population.session(n)
        write(f"{n}\t{made.record_id}\t\\\\x{made.digest.hex()}\n")
    write(f"\\.\nanalyze seed;\n\\include {HERE / 'seed.sql'}\n")
    psql.stdin.close()
    return psql.wait()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--users", type=int, default=1_000_000)
    arguments.add_argument("--sessions", type=int, default=5_000_000)
    arguments.add_argument("--events", type=int, default=2_000_000)
    arguments.add_argument("--requests", type=int)
    given = arguments.parse_args()
    if given.requests is None:
        sys.exit(load(given.users, given.sessions, given.events))
    for n in sample(given.requests, given.sessions):
        made = population.session(n)
        print(made.secret, made.address, made.user_agent, sep="\t")


if __name__ == "__main__":
    main()
