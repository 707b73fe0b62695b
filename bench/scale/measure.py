"""Measures the service over a database that seed.py loaded.

    export PORTCULLIS_BIN=../../target/release/portcullis
    python3 measure.py me     SMALL_URL LARGE_URL [TURNS]  # GET /me over 5,000 sessions, and over the large database
    python3 measure.py expire LARGE_URL             # adds 1,000,000 sessions that have expired
    python3 measure.py sweep  LARGE_URL [SECONDS]   # GET /me while they are swept, and then
    python3 measure.py search LARGE_URL             # GET /users?q=
    python3 measure.py calls  LARGE_URL             # every other call that could be slow
    python3 measure.py sizes  LARGE_URL             # bytes a row, indexes included

Needs `psql`, and for `me` `wrk` (Debian: apt-get install postgresql-client wrk). It starts the service itself, and
the load comes from this machine. `expire`, `sweep` and `calls` change the database.
"""

import base64
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import population
from seed import PASSWORD, sample
from service import Caller, Service, sql
from steady import steady

HERE = Path(__file__).parent
TRIES = 6


def sessions_of(database):
    return int(sql(database, "select count(*) from sessions"))


def run_file(database, statements):
    """What `psql` prints of statements that are too long for a command line."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(statements)
        file.flush()
        command = ["psql", "--no-psqlrc", "-qtA", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def standing(database, count, turn=0):
    """Numbers of sessions that stand, of accounts that may log in; other ones each turn."""
    numbers = sample(count * (turn + 1), sessions_of(database))[count * turn:]
    by_id = {population.session(n).record_id: n for n in numbers}
    stand = run_file(database, f"""
        select record_id from sessions join users on users.id = user_id
        where is_active and expires_at > now() and record_id = any(string_to_array('{",".join(by_id)}', ','))
    """)
    numbers = [by_id[id] for id in stand]
    random.Random(turn).shuffle(numbers)
    return numbers


def just_used(database, numbers):
    """Has the sessions written down as used now: for a minute and a half, GET /me only reads."""
    ids = ",".join(population.session(n).record_id for n in numbers)
    run_file(database, f"""
        update sessions set last_seen_at = now() + interval '30 seconds'
        where record_id = any(string_to_array('{ids}', ','))
    """)


def wrk(port, numbers, seconds, connections=32):
    with tempfile.NamedTemporaryFile("w") as file:
        for n in numbers:
            made = population.session(n)
            print(made.secret, made.address, made.user_agent, sep="\t", file=file)
        file.flush()
        command = [
            "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", HERE / "requests.lua",
            f"http://127.0.0.1:{port}", "--", file.name,
        ]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in told and "Socket errors" not in told, told
    p50, p99 = (re.search(rf" {part}% +(\S+)", told)[1] for part in (50, 99))
    return f"p50 {p50}  p99 {p99}  {re.search(r'Requests/sec: +([0-9.]+)', told)[1]}/s"


def requests_of(numbers):
    return [population.request(n).encode() for n in numbers]


def me(small, large, turns="3"):
    for turn in range(int(turns)):
        for name, database in [("small", small), ("large", large)]:
            count = 2000 if name == "small" else 15_000
            used, unused = standing(database, count, 2 * turn), standing(database, count, 2 * turn + 1)
            with Service(database) as service:
                just_used(database, used)
                steady(service.port, requests_of(used[-600:]), 300, 2)
                print(f"{name} 300/s, only reads    {steady(service.port, requests_of(used), 300, 10)}")
                print(f"{name} 32 connections       {wrk(service.port, used, 8)}")
                print(f"{name} 300/s, each a touch  {steady(service.port, requests_of(unused), 300, 10)}", flush=True)


EXPIRED = """
    create temporary table expired as
        select n, 'expired-' || n as record_id, now() - interval '1 hour' * random() as at from generate_series(1, 1000000) n;
    insert into session_records select record_id, decode(md5(record_id), 'hex'), at + interval '1 day' from expired;
    insert into sessions (id, record_id, user_id, transport, remember, created_at, last_seen_at, expires_at, ends_at)
        select gen_random_uuid(), e.record_id, u.id, 'cookie', false, e.at, e.at, e.at, e.at
        from expired e join (select id, row_number() over () as n from users) u using (n);
    vacuum analyze sessions, session_records;
    checkpoint;
"""


def expired(database):
    return int(sql(database, "select count(*) from sessions where expires_at < now()"))


def expire(large):
    run_file(large, EXPIRED)


def sweep(large, seconds="600"):
    requests = requests_of(standing(large, 60_000, 4))
    # The service sweeps when it starts, and a minute after each sweep.
    with Service(large) as service:
        start = time.monotonic()
        while time.monotonic() - start < float(seconds):
            random.shuffle(requests)
            left = expired(large)
            print(f"{time.monotonic() - start:4.0f} s {left:8} expired  {steady(service.port, requests, 300, 15)}", flush=True)


def report(what, took, found=""):
    print(f"{what:44} median {statistics.median(took):7.1f}  max {max(took):7.1f} ms  {found}", flush=True)


def repeat(caller, what, path, most=TRIES):
    took = []
    for _ in range(most):
        answer, milliseconds = caller.timed("GET", path)
        assert answer.status == 200, answer.text
        took.append(milliseconds)
    page = json.loads(answer.text)
    report(what, took, f"{len(page['items'])} rows{', and more' if page['next_cursor'] else ''}")
    return page


def admin(database, service):
    name = sql(database, "select username from users where role = 'admin' and username is not null order by id limit 1")
    return Caller(service, name, PASSWORD)


# What is looked for, and how many of 1,000,000 accounts have it.
TERMS = [
    ("example", "nearly all"),
    ("@home", "hundred thousands"),
    ("first", "hundred thousands, all old"),
    ("martin", "tens of thousands"),
    ("alice adams", "hundreds"),
    ("alice.adams.4", "few"),
    ("zimmermann.777777", "one or none"),
    ("nobody-of-this-name", "none"),
    ("e", "nearly all"),
    ("ü", "many"),
    ("ß", "none"),
    ("ma", "many"),
    ("qz", "none"),
    ("李", "some, old and new"),
    ("山田 ", "some, old and new"),
    ("mar", "many"),
    ("xyz", "none"),
    ("999", "some"),
    ("ŁUKASZ", "some"),
    ("777777", "one"),
]


def search(large):
    oldest = sql(large, "select replace(id::text, '-', '') from users order by id offset 5000 limit 1")
    middle = sql(large, "select replace(id::text, '-', '') from users order by id offset 500000 limit 1")
    with Service(large) as service:
        caller = admin(large, service)
        for term, matches in TERMS:
            path = f"/users?q={quote(term)}"
            repeat(caller, f"q={term} ({matches})", path)
            for name, cursor in [("middle", middle), ("oldest", oldest)]:
                repeat(caller, f"q={term}, {name} page", f"{path}&cursor={cursor_of(cursor)}")


def cursor_of(id):
    return base64.urlsafe_b64encode(bytes.fromhex(id)).rstrip(b"=").decode()


THOUSAND = """
    with made as (
        insert into session_records
            select 'many-' || gen_random_uuid(), '\\x00', now() + interval '2 days' from generate_series(1, 1000)
            returning id
    )
    insert into sessions (id, record_id, user_id, transport, remember, expires_at, ends_at, ip, user_agent, device)
        select gen_random_uuid(), id, '{user}', 'cookie', false, now() + interval '1 day', now() + interval '1 day',
            '203.0.113.1', 'Mozilla/5.0', 'Firefox on Linux'
        from made
"""


def calls(large):
    pick = "select id, username, role from users where username is not null and is_active and role = 'user'"
    people = [line.split("|") for line in sql(large, f"{pick} order by md5(id::text) limit 12").splitlines()]
    middle = sql(large, "select replace(id::text, '-', '') from users order by id offset 500000 limit 1")
    old_event = sql(large, "select replace(id::text, '-', '') from audit_events order by id offset 5000 limit 1")
    with Service(large) as service:
        caller = admin(large, service)
        for path in [
            "/users", "/users?limit=100", f"/users?cursor={cursor_of(middle)}", "/users?role=admin",
            "/users?role=user", "/users?is_active=false", "/users?is_active=true", "/users?role=admin&is_active=false",
            "/users?role=admin&q=example", "/users?is_active=false&q=example",
            "/audit", f"/audit?cursor={cursor_of(old_event)}", "/audit?kind=logged_in", "/audit?kind=login_failed",
            "/audit?kind=no_such_kind", f"/audit?user_id={people[0][0]}",
            f"/audit?user_id={people[0][0]}&kind=login_failed", "/audit?since=2020-01-01T00:00:00Z",
            f"/audit?since={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() - 60))}",
            f"/audit?kind=login_failed&since={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() - 60))}",
            "/audit?kind=no_such_kind&since=2020-01-01T00:00:00Z",
            f"/users/{people[0][0]}/sessions",
        ]:
            repeat(caller, path[:44], path)
        took = {}

        def note(what, milliseconds):
            took.setdefault(what, []).append(milliseconds)

        for id, name, _ in people[1:]:
            sql(large, THOUSAND.format(user=id))
            one = Caller(service, name, PASSWORD)
            note("login with 1,000 sessions", one.login_took)
            for _ in range(2):
                note("GET /me/sessions of 1,000", one.timed("GET", "/me/sessions?limit=100")[1])
                note("GET /users/{id}/sessions of 1,000", caller.timed("GET", f"/users/{id}/sessions?limit=100")[1])
            answer, milliseconds = one.timed("DELETE", "/me/sessions")
            assert answer.status == 204, answer.text
            note("DELETE /me/sessions of 1,000", milliseconds)
            note("login with one session", Caller(service, name, PASSWORD).login_took)
            sql(large, THOUSAND.format(user=id))
            answer, milliseconds = caller.timed("DELETE", f"/users/{id}/sessions")
            assert answer.status == 204, answer.text
            note("DELETE /users/{id}/sessions of 1,000", milliseconds)
            sql(large, THOUSAND.format(user=id))
            answer, milliseconds = caller.timed("PATCH", f"/users/{id}", {"is_active": False})
            assert answer.status == 200, answer.text
            note("PATCH /users/{id}, disabling, 1,000", milliseconds)
            sql(large, THOUSAND.format(user=id))
            answer, milliseconds = caller.timed("DELETE", f"/users/{id}")
            assert answer.status == 204, answer.text
            note("DELETE /users/{id} with 1,000", milliseconds)
        for what, milliseconds in took.items():
            report(what, milliseconds, f"{len(milliseconds)} tries")


TABLES = ["users", "sessions", "session_records", "known_devices", "audit_events"]


def sizes(large):
    for table in TABLES:
        print(sql(large, f"""
            select format('%-16s %10s rows, %6s bytes each: table %5s', '{table}', n,
                pg_total_relation_size('{table}') / n, pg_table_size('{table}') / n)
                || (select string_agg(format(', %s %s', indexrelname, pg_relation_size(indexrelid) / n), '' order by indexrelname)
                    from pg_stat_user_indexes where relname = '{table}')
            from (select count(*) as n from {table}) counted
        """))


def main():
    tasks = {"me": me, "expire": expire, "sweep": sweep, "search": search, "calls": calls, "sizes": sizes}
    try:
        task = tasks[sys.argv[1]]
    except (IndexError, KeyError):
        sys.exit(__doc__)
    task(*sys.argv[2:])


if __name__ == "__main__":
    main()
