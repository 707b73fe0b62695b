"""Counts what holds, and what does not."""

import sys

checks = failures = 0


def check(sentence, *conditions):
    global checks, failures
    checks += 1
    good = all(conditions)
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {sentence}" + ("" if good else f" {conditions}"))


def finish():
    print(f"{checks - failures} passed, {failures} failed")
    sys.exit(1 if failures else 0)
