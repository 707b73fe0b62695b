"""Adds the passes up: summary.py DIRECTORY STATUS PASS..."""

import json
import pathlib
import sys

work, stopped, passes = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
passed = failed = 0
for name in passes:
    report = work / f"{name}.json"
    cases = json.loads(report.read_text())["test_cases"] if report.exists() else {}
    ran = cases.get("generated", 0)
    bad = cases.get("with_failures", 0) + cases.get("errored", 0)
    if not bad and (not ran or (work / f"{name}.failed").exists()):
        # What went wrong belongs to no case.
        bad = 1
    print(f"{name}: {ran} cases, {bad} failed")
    passed, failed = passed + max(ran - bad, 0), failed + bad

if stopped:
    print(f"the service ended with {stopped}")
    failed += 1
for line in (work / "log").read_text().splitlines():
    # A quotation mark that came with a request is escaped.
    if '"level":"ERROR"' in line or '"code":"internal"' in line or "panicked at" in line:
        print(line)
        failed += 1

print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
