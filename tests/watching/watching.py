"""Whether the rules and the dashboard ask for what the service tells."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery staple"
# OpenTelemetry's name, which to promtool looks like a part of a histogram.
ALLOWED = 'db_client_connection_count non-histogram and non-summary metrics should not have "_count" suffix'
SELECTOR = re.compile(r"\b([a-z_]+)\{([^}]*)\}")
checks = failures = 0


def check(sentence, good, why=""):
    global checks, failures
    checks += 1
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {sentence}" + ("" if good else f" {why}"))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Process:
    """A program that runs until the end, and is ended by its own handle."""

    def __init__(self, directory, command, environment=None):
        self.log = Path(directory, f"{Path(command[0]).name}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def wait_for(self, url):
        for _ in range(300):
            if self.process.poll() is not None:
                break
            try:
                return get(url) and self
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"it did not start:\n{self.log.read_text()}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def post(url, body):
    data = json.dumps(body).encode()
    try:
        urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()


def service(directory, port, metrics):
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("PORTCULLIS_", "OTEL_"))}
    environment |= {
        "DATABASE_URL": "",
        "PORTCULLIS_DATA_DIR": str(Path(directory, "data")),
        "PORTCULLIS_LISTEN": f"127.0.0.1:{port}",
        "PORTCULLIS_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "PORTCULLIS_BCRYPT_COST": "4",
    }
    command = [str(Path(os.environ["PORTCULLIS_BIN"]).absolute())]
    return Process(directory, command, environment).wait_for(f"http://127.0.0.1:{port}/readyz")


def prometheus(directory, port, metrics):
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "deploy/prometheus-rules.yml")],
        "scrape_configs": [{"job_name": "portcullis", "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}]}],
    }
    # JSON is YAML.
    Path(directory, "prometheus.yml").write_text(json.dumps(configuration))
    command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.path=tsdb"]
    return Process(directory, command).wait_for(f"http://127.0.0.1:{port}/-/ready")


def use(base):
    """A little of everything that is counted."""
    for path in ("/me", "/users", "/made-up"):
        try:
            get(base + path)
        except urllib.error.HTTPError:
            pass
    for _ in range(11):
        post(f"{base}/login", {"identifier": "alice", "password": "a wrong one"})
    login = {"identifier": "bob", "password": PASSWORD}
    post(f"{base}/login", login)
    post(f"{base}/password/forgot", {"email": "bob@example.com"})


def text_format(open_metrics):
    """The older format that promtool reads: there, the suffix is part of the name."""
    suffixes = {"counter": "_total", "info": "_info"}
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", open_metrics, re.MULTILINE))
    lines = []
    for line in open_metrics.splitlines():
        mark, word, *rest = line.split(" ", 3)
        if mark == "#" and word in ("HELP", "TYPE"):
            name, tail = rest
            kind = kinds[name]
            tail = "gauge" if word == "TYPE" and kind == "info" else tail
            line = f"# {word} {name}{suffixes.get(kind, '')} {tail}"
        if mark != "#" or word in ("HELP", "TYPE"):
            lines.append(line)
    return "\n".join(lines) + "\n"


def lint(url):
    text = text_format(get(url))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if line and line != ALLOWED]
    check("promtool has nothing against the metrics", not complaints, complaints)


class Api:
    """Prometheus, as Grafana asks it."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path, **query):
        return json.loads(get(f"{self.base}/{path}?{urllib.parse.urlencode(query)}"))["data"]

    def query(self, expression):
        return self.ask("query", query=expression)["result"]


def until_scraped(api, base):
    """Uses the service until rates are known."""
    for _ in range(60):
        use(base)
        rates = api.query('rate(portcullis_throttled_total{job="portcullis"}[10s])')
        mails = api.query('portcullis_mails_total{job="portcullis", outcome="sent"} > 0')
        if rates and mails:
            return
        time.sleep(0.5)
    raise RuntimeError(f"Prometheus reads nothing: {api.ask('targets')}")


def expressions():
    """What the panels ask, and where."""
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$job", "portcullis").replace("$instance", ".+")
            yield f"panel {panel['title']}", expression.replace("$__rate_interval", "10s"), True
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            named = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            selector = named[1] if "{" in named[1] else named[1] + "{}"
            yield f"variable {variable['name']}", f"count by ({named[2]}) ({selector})".replace("$job", "portcullis"), True


def rules(api):
    for group in api.ask("rules")["groups"]:
        for rule in group["rules"]:
            check(f"alert {rule['name']} is evaluated", rule["health"] == "ok", rule.get("lastError"))
            yield f"alert {rule['name']}", rule["query"], False


def selectors(api, where, expression):
    """Every metric is there, and has every label that is asked for."""
    names = set(api.ask("label/__name__/values"))
    bare = SELECTOR.sub("", expression)
    unchecked = names & set(re.findall(r"\w+", bare))
    check(f"{where}: every metric is named with its labels", not unchecked, unchecked)
    for name, matchers in SELECTOR.findall(expression):
        labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)
        known = ", ".join(f'{label}!=""' for label in labels)
        check(f"{where}: {name} {labels}", bool(api.query(f"{name}{{{known}}}")), "is not there")


def main():
    directory = tempfile.mkdtemp()
    # PostgreSQL does not run as root, and its own account must reach the data.
    Path(directory).chmod(0o755)
    try:
        port, metrics, web = free_port(), free_port(), free_port()
        base = f"http://127.0.0.1:{port}"
        with service(directory, port, metrics), prometheus(directory, web, metrics):
            post(f"{base}/users", {"username": "bob", "email": "bob@example.com", "password": PASSWORD})
            api = Api(web)
            until_scraped(api, base)
            lint(f"http://127.0.0.1:{metrics}/metrics")
            for where, expression, shows in [*expressions(), *rules(api)]:
                selectors(api, where, expression)
                if shows:
                    check(f"{where} shows something", bool(api.query(expression)), expression)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{checks - failures} passed, {failures} failed")
    sys.exit(1 if failures else 0)


main()
