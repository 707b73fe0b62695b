#!/usr/bin/env python3
"""Writes hashes.bin from a list of passwords, one a line, on standard input."""

import hashlib
import pathlib
import sys

passwords = set(sys.stdin.buffer.read().split(b"\n")) - {b""}
hashes = sorted({hashlib.sha256(password).digest()[:4] for password in passwords})
pathlib.Path(__file__).with_name("hashes.bin").write_bytes(b"".join(hashes))
print(f"{len(passwords)} passwords, {len(hashes)} hashes")
