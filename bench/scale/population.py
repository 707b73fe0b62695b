"""Who is in the seeded database. All of it follows from numbers, so that nothing has to be kept."""

import base64
import hashlib
from typing import NamedTuple

USER_AGENTS = [
    ("Firefox on Linux", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Chrome on Windows", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/141.0.0.0 Safari/537.36"),
    ("Safari on macOS", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
     "Version/18.6 Safari/605.1.15"),
    ("Safari on iOS", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
     "Version/18.6 Mobile/15E148 Safari/604.1"),
    ("Chrome on Android", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/141.0.0.0 Mobile Safari/537.36"),
]


class Session(NamedTuple):
    """What a client sends, and what the database knows it by."""

    secret: str
    digest: bytes
    record_id: str
    user_agent: str
    address: str


def _text(number):
    """As tower-sessions writes an id: base64url, the last byte first."""
    return base64.urlsafe_b64encode(number[::-1]).rstrip(b"=").decode()


def session(n):
    secret = hashlib.sha256(b"session %d" % n).digest()[:16]
    digest = hashlib.sha256(secret).digest()[:16]
    return Session(
        _text(secret), digest, _text(digest), USER_AGENTS[n % len(USER_AGENTS)][1], f"203.0.113.{n % 250 + 1}"
    )


def is_cookie(n):
    """Every tenth session is an app's, which holds a token."""
    return n % 10 != 0


def request(n, path="/me", method="GET", body=""):
    """What a browser with session `n` sends, through a trusted proxy."""
    made = session(n)
    head = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"cookie: portcullis={made.secret}",
        f"user-agent: {made.user_agent}",
        f"x-forwarded-for: {made.address}",
    ]
    if method != "GET":
        head += ["content-type: application/json", "sec-fetch-site: same-origin", f"content-length: {len(body)}"]
    return "\r\n".join([*head, "", body])
