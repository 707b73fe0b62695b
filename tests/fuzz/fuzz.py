"""Runs schemathesis as everybody who may call, and adds up what came of it."""

import json
import os
import subprocess
import sys

from programs import Service, free_port, working_directory

PASSES = ["nobody", "admin", "user", "program"]
SECONDS = int(os.environ.get("FUZZ_SECONDS") or 60) // len(PASSES)
SEED = os.environ.get("FUZZ_SEED") or "1"
SETTINGS = {"PORTCULLIS_THROTTLE": "off", "PORTCULLIS_LOGIN_CODE": "on", "PORTCULLIS_LOG_FORMAT": "json"}


def fuzz(service, name):
    """How many cases ran, and how many of them failed."""
    print(f"\n== as {name}, for {SECONDS} s, seed {SEED}", flush=True)
    url, report = f"http://127.0.0.1:{service.port}", service.log.with_name(f"{name}.json")
    done = subprocess.run(
        ["schemathesis", "--no-color", "--config-file", "tests/fuzz/schemathesis.toml", "run", f"{url}/openapi.json",
         "--max-time", str(SECONDS), "--seed", SEED, "--report", "json", "--report-json-path", str(report)],
        env=service.environment | {"FUZZ_AS": name, "FUZZ_URL": url, "FUZZ_BIN": service.command[0]},
    )
    cases = json.loads(report.read_text())["test_cases"] if report.exists() else {}
    ran = cases.get("generated", 0)
    bad = cases.get("with_failures", 0) + cases.get("errored", 0)
    if not bad and (not ran or done.returncode):
        # What went wrong belongs to no case.
        bad = 1
    return ran, bad


def main():
    with working_directory() as directory, Service(directory, free_port(), SETTINGS) as service:
        counts = {name: fuzz(service, name) for name in PASSES}
        print("\n== stop", flush=True)
        stopped, log = service.stop(), service.log.read_text()

    passed = failed = 0
    for name, (ran, bad) in counts.items():
        print(f"{name}: {ran} cases, {bad} failed")
        passed, failed = passed + max(ran - bad, 0), failed + bad
    if stopped:
        print(f"the service ended with {stopped}")
        failed += 1
    for line in log.splitlines():
        # A quotation mark that came with a request is escaped.
        if '"level":"ERROR"' in line or '"code":"internal"' in line or "panicked at" in line:
            print(line)
            failed += 1
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
