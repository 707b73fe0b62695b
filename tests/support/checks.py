"""Counts what holds, and what does not."""

import sys

passed = failed = 0


def check(sentence, *conditions, seen=None):
    """Whether all conditions hold; if not, says what was seen, or else the conditions."""
    global passed, failed
    good = all(conditions)
    passed, failed = passed + good, failed + (not good)
    print(f"ok   {sentence}" if good else f"FAIL {sentence}: {conditions if seen is None else seen}", flush=True)
    return good


def finish():
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
