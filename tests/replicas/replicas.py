"""What clients lose when replicas are restarted and killed, and when the primary is."""

import http.client
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack

from checks import check, finish
from load import Client, Load
from postgres import Postgres
from programs import wait_until, working_directory
from servers import HAProxy, PgBouncer, Replica
from tree import ROOT

CLIENTS, PAUSE = 16, 0.1
ROUNDS = 6
# Seconds: how soon after a standby takes over the service must be well, and how long it is watched.
WELL_WITHIN, WATCHED = 5, 8


def tell(answers):
    """Answers that should not have come, by what they were."""
    return dict(Counter(f"{answer.kind} {answer.status} {answer.code or ''}".strip() for answer in answers))


def bad(answers):
    return [answer for answer in answers if not answer.good]


def settings(directory, replica, pgbouncer, primary):
    """What is in force behind PgBouncer, and what doctor says of settings that do not fit."""
    lines = [line for line in (ROOT / "deploy/pgbouncer.ini").read_text().splitlines() if line and line[0] != ";"]
    readme = (ROOT / "README.md").read_text().splitlines()
    check("README shows deploy/pgbouncer.ini", set(lines) <= set(readme), seen=set(lines) - set(readme))
    shown = {
        subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-c", "show statement_timeout", "-c", "show lock_timeout",
             "-c", "show idle_in_transaction_session_timeout", "-c", "show default_transaction_isolation",
             pgbouncer.url()],
            capture_output=True, text=True,
        ).stdout
        for _ in range(20)
    }
    check("time-outs and the isolation level are in force behind PgBouncer",
          shown == {"10s\n2s\n10s\nread committed\n"}, seen=shown)
    client = Client(replica.port, 200, 0)
    client.register()
    lock = threading.Thread(target=primary.sql, args=("begin; lock table users; select pg_sleep(4)", "portcullis"))
    lock.start()
    time.sleep(0.5)
    start = time.monotonic()
    client.login(client.accounts[0])
    check("a statement that waits for a lock is given up",
          client.answers[-1].code == "timeout", 1 < time.monotonic() - start < 4, seen=client.answers)
    lock.join()
    locks = primary.sql("select count(*) from pg_locks where locktype = 'advisory'")
    check("migrations ran through PgBouncer and left no lock", locks == "0", seen=locks)

    said = replica.doctor(pgbouncer.url())
    check("doctor takes no offence at it",
          "ok       a pooler in transaction mode" in said, "0 problems" in said, seen=said)
    for change, sentence in [
        ((r"^max_prepared_statements = .*", "max_prepared_statements = 0", 1),
         "problem  the pooler before PostgreSQL loses"),
        ((r"connect_query='.*'", "", 1), "warning  time-outs are not in force"),
        ((r"^(ignore_startup_parameters = extra_float_digits).*", "ignore_startup_parameters = extra_float_digits", 1),
         "problem  the pooler at"),
    ]:
        with PgBouncer(directory, "wrong", primary, change) as wrong:
            said = replica.doctor(wrong.url())
        check(f"doctor tells: {sentence}", sentence in said, seen=said)


def strangers(haproxy):
    connection = http.client.HTTPConnection("127.0.0.1", haproxy.port, timeout=5)
    connection.request("GET", "/forward-auth?role=admin")
    check("strangers do not reach what is for proxies", connection.getresponse().status == 404)
    connection.close()


def restart(load, haproxy, replicas, is_graceful):
    start = time.monotonic()
    for number in range(ROUNDS):
        for replica in replicas:
            if is_graceful:
                assert replica.stop() == 0, replica.name
            else:
                replica.kill()
            # At once, and when the balancer has seen that it is gone.
            if number % 2:
                wait_until(f"replica {replica.name} is down", lambda: haproxy.state(replica) == "DOWN")
            replica.start()
            # Whoever restarts the next one waits until the balancer has seen this one.
            haproxy.wait_for(replica)
    answers = load.since(start)
    lost = bad(answers)
    check(f"{ROUNDS * len(replicas)} restarts lose none of {len(answers)} requests", not lost, seen=tell(lost))


def kill(load, haproxy, replicas):
    for replica in replicas:
        start, before = time.monotonic(), haproxy.cut_off()
        time.sleep(1)
        replica.kill()
        killed = time.monotonic()
        time.sleep(2)
        answers, cut_off = load.since(start), haproxy.cut_off() - before
        lost = bad(answers)
        check(f"killing {replica.name} loses {len(lost)} requests, all of them under way, and none of the other's",
              all(answer.start <= killed for answer in lost), {*cut_off} <= {replica.name}, seen=cut_off)
        after = [answer for answer in answers if answer.start > killed]
        check(f"and none of the {len(after)} that come after", after, not bad(after), seen=tell(bad(after)))
        replica.start()
        haproxy.wait_for(replica)


def fail_over(load, pgbouncer, primary, standby, cut_off):
    """Kills the primary, with a standby that has heard nothing from it for a second if it is cut off."""
    start = time.monotonic()
    if cut_off:
        standby.set("primary_conninfo", "")
        time.sleep(1)
    primary.kill()
    killed = time.monotonic()
    # Somebody has to notice.
    time.sleep(2)
    standby.promote()
    pgbouncer.point_at(standby)
    pointed = time.monotonic()
    time.sleep(WATCHED)
    answers = load.since(start)
    wrong = bad(answers)
    refused = [answer for answer in wrong if answer.status != 503]
    # A false 401 would be one of them.
    check(f"while the primary is away {len(wrong)} of {len(answers)} requests are a 503, and nothing else",
          not refused, seen=tell(refused))
    well = max(pointed, *(answer.end for answer in wrong))
    slowest = max(answer.end - answer.start for answer in wrong)
    check(f"well {well - pointed:.1f} s after the standby took over, {well - killed:.1f} s after the kill; "
          f"the slowest 503 took {slowest:.1f} s",
          well - pointed < WELL_WITHIN, any(answer.start > well for answer in answers), seen=tell(answers))
    print(f"     {tell(wrong)}")


def run(directory, stack, is_synchronous, is_graceful):
    primary = Postgres(directory)
    stack.callback(primary.stop)
    primary.sql("create role portcullis login password 'secret'")
    primary.sql("create database portcullis owner portcullis")
    standby = Postgres(directory, primary)
    stack.callback(standby.stop)
    if is_synchronous:
        primary.commit_on_both()
    pgbouncer = stack.enter_context(PgBouncer(directory, "pgbouncer", primary))
    replicas = [stack.enter_context(Replica(directory, name, pgbouncer.url())) for name in "ab"]
    haproxy = stack.enter_context(HAProxy(directory, replicas))
    for replica in replicas:
        haproxy.wait_for(replica)

    settings(directory, replicas[0], pgbouncer, primary)
    strangers(haproxy)
    with Load(haproxy.port, CLIENTS, PAUSE) as load:
        time.sleep(1)
        restart(load, haproxy, replicas, is_graceful)
        kill(load, haproxy, replicas)
        fail_over(load, pgbouncer, primary, standby, cut_off=False)
        primary, standby = standby, Postgres(directory, standby)
        stack.callback(standby.stop)
        if is_synchronous:
            primary.commit_on_both()
        time.sleep(1)
        fail_over(load, pgbouncer, primary, standby, cut_off=True)
    acknowledged, wrong = load.acknowledged(), load.verify()
    for what, kind in [("accounts", "login"), ("sessions", "me"), ("logouts", "gone")]:
        check(f"{acknowledged[what]} acknowledged {what} stand", acknowledged[what], not wrong[kind], seen=wrong)


def main():
    options = set(sys.argv[1:])
    assert options <= {"--without-synchronous-commit", "--without-graceful-stop"}, options
    start = time.monotonic()
    with working_directory() as directory, ExitStack() as stack:
        if os.geteuid() == 0:
            # PostgreSQL does not run as root, and keeps its data here.
            shutil.chown(directory, "postgres")
        run(directory, stack, "--without-synchronous-commit" not in options, "--without-graceful-stop" not in options)
    print(f"took {time.monotonic() - start:.0f} s")
    finish()


main()
