"""Whether the rules and the dashboard ask for what the service tells."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from checks import check, finish
from programs import Process, Service, answers, free_port, working_directory
from tree import ROOT

PASSWORD = "correct horse battery staple"
# OpenTelemetry's name, which to promtool looks like a part of a histogram.
ALLOWED = 'db_client_connection_count non-histogram and non-summary metrics should not have "_count" suffix'
SELECTOR = re.compile(r"\b([a-z_]+)\{([^}]*)\}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def post(url, body):
    data = json.dumps(body).encode()
    try:
        urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()


class Prometheus(Process):
    """Prometheus with the rules, reading the service's metrics."""

    def __init__(self, directory, port, metrics):
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "deploy/prometheus-rules.yml")],
            "scrape_configs": [{"job_name": "portcullis", "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}]}],
        }
        # JSON is YAML.
        Path(directory, "prometheus.yml").write_text(json.dumps(configuration))
        options = ["--config.file=prometheus.yml", f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.path=tsdb"]
        super().__init__(directory, port, ["prometheus", *options])

    def is_ready(self):
        return answers(self.port, "/-/ready")


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
    check("promtool has nothing against the metrics", not complaints, seen=complaints)


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
            check(f"alert {rule['name']} is evaluated", rule["health"] == "ok", seen=rule.get("lastError"))
            yield f"alert {rule['name']}", rule["query"], False


def selectors(api, where, expression):
    """Every metric is there, and has every label that is asked for."""
    names = set(api.ask("label/__name__/values"))
    bare = SELECTOR.sub("", expression)
    unchecked = names & set(re.findall(r"\w+", bare))
    check(f"{where}: every metric is named with its labels", not unchecked, seen=unchecked)
    for name, matchers in SELECTOR.findall(expression):
        labels = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)
        known = ", ".join(f'{label}!=""' for label in labels)
        check(f"{where}: {name} {labels}", api.query(f"{name}{{{known}}}"), seen="is not there")


def main():
    port, metrics, web = free_port(), free_port(), free_port()
    base = f"http://127.0.0.1:{port}"
    settings = {"PORTCULLIS_METRICS_LISTEN": f"127.0.0.1:{metrics}"}
    with (
        working_directory() as directory,
        Service(directory, port, settings),
        Prometheus(directory, web, metrics),
    ):
        post(f"{base}/users", {"username": "bob", "email": "bob@example.com", "password": PASSWORD})
        api = Api(web)
        until_scraped(api, base)
        lint(f"http://127.0.0.1:{metrics}/metrics")
        for where, expression, shows in [*expressions(), *rules(api)]:
            selectors(api, where, expression)
            if shows:
                check(f"{where} shows something", api.query(expression), seen=expression)
    finish()


main()
