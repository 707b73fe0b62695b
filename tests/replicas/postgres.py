"""A PostgreSQL primary and its streaming standby, on this machine."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from programs import free_port, is_open, wait_until

BIN = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])).parent
# PostgreSQL refuses to run as root.
AS = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []


def run(program, *arguments):
    done = subprocess.run([*AS, str(BIN / program), *arguments], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, f"{program}: {done.stderr}"
    return done.stdout.strip()


class Postgres:
    """One server: a new primary, or the standby of one."""

    def __init__(self, directory, primary=None):
        self.directory, self.port = Path(directory), free_port()
        self.data = self.directory / f"data-{self.port}"
        if primary:
            source = f"host={directory} port={primary.port} user=postgres application_name=standby"
            run("pg_basebackup", "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", source)
        else:
            run("initdb", "-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync",
                "--auth-local=trust", "--auth-host=scram-sha-256")
        options = (f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} "
                   "-c recovery_init_sync_method=syncfs")
        run("pg_ctl", "-D", str(self.data), "-l", str(self.directory / "postgres.log"), "-w", "-o", options, "start")

    def sql(self, statement, database="postgres"):
        return run("psql", "-h", str(self.directory), "-p", str(self.port), "-U", "postgres", "-X", "-q", "-A", "-t",
                   "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement)

    def set(self, name, value):
        self.sql(f"alter system set {name} = '{value}'")
        self.sql("select pg_reload_conf()")

    def users(self):
        """Whom PgBouncer lets in, by the secrets that are stored here: it need not know the passwords."""
        return self.sql("""select format('"%s" "%s"', rolname, rolpassword) from pg_authid where rolpassword > ''""")

    def has_standby(self):
        return self.sql("select string_agg(sync_state, ',') from pg_stat_replication where state = 'streaming'")

    def commit_on_both(self):
        """From now on a commit is acknowledged when the standby has it, too."""
        self.set("synchronous_standby_names", "standby")
        wait_until("the standby is synchronous", lambda: self.has_standby() == "sync")

    def kill(self):
        """Ends it as if the machine were gone: all of its processes at once, and its data."""
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in [postmaster, *map(int, children)]:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until("the primary is gone", lambda: not is_open(self.port))
        shutil.rmtree(self.data)

    def promote(self):
        run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def stop(self):
        if (self.data / "postmaster.pid").exists():
            run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")
