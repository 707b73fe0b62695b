"""The files that are tested."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def adapted(name, changes):
    """A file of deploy/ changed for this machine; each pattern is found just so many times."""
    text = (ROOT / "deploy" / name).read_text()
    for pattern, replacement, count in changes:
        text, replaced = re.subn(pattern, lambda _: replacement, text, flags=re.MULTILINE)
        assert replaced == count, f"deploy/{name}: {replaced} times {pattern}"
    return text
