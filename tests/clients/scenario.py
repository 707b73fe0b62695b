"""Runs programs that use generated clients against the service: directly, and below a path."""

import subprocess
import sys
import textwrap
from pathlib import Path

import prefix
from checks import check, finish
from programs import Service, free_port, working_directory
from tree import ROOT

OUT = Path(sys.argv[1])


def runs(sentence, *command):
    done = subprocess.run(command, cwd=OUT, capture_output=True, text=True)
    check(sentence, done.returncode == 0, seen=(done.stdout + done.stderr)[-2000:])


def clients(where, url):
    runs(f"the TypeScript client works {where}", "node", "out/program.js", url)
    runs(f"the Python client works {where}", sys.executable, "program.py", url)


def backend(url):
    """The README's function for a Flask app, asked as a browser would ask the app."""
    text = (ROOT / "README.md").read_text()
    snippet = text[text.index("portcullis = urllib3.PoolManager"):].split("```")[0]
    snippet = snippet.replace("http://auth.internal:8080", url)
    program = f"import urllib3\n{snippet}\n" + textwrap.dedent(f"""
        import json, types

        def call(method, path, body=None, **headers):
            headers = {{"content-type": "application/json", "user-agent": "browser", "x-forwarded-for": "192.0.2.7"}} | headers
            return portcullis.request(method, "{url}" + path, body=body and json.dumps(body), headers=headers)

        new = {{"username": "alice-flask", "password": "correct horse battery staple"}}
        cookie = call("POST", "/users", new).headers["set-cookie"].split(";")[0]
        request = types.SimpleNamespace(remote_addr="192.0.2.7", headers={{"cookie": cookie, "user-agent": "browser"}})
        for _ in range(2):
            assert current_user(request)["username"] == "alice-flask"
        # Still recently authenticated: the service saw the browser, not the backend.
        assert call("DELETE", "/me", cookie=cookie).status == 204
        assert current_user(request) is None
    """)
    runs("the README's function for Flask finds the user, and keeps the session fresh", sys.executable, "-c", program)


def main():
    settings = {"PORTCULLIS_TRUSTED_PROXIES": "127.0.0.1"}
    port = free_port()
    with working_directory() as directory, Service(directory, port, settings):
        clients("directly", f"http://127.0.0.1:{port}")
        backend(f"http://127.0.0.1:{port}")
    for kind, slash in prefix.KINDS.items():
        port, service_port = free_port(), free_port()
        public = f"http://localhost:{port}/auth"
        with (
            working_directory() as directory,
            Service(directory, service_port, settings | {"PORTCULLIS_PUBLIC_URL": public}),
            prefix.nginx(directory, port, service_port, slash),
        ):
            clients(f"behind nginx that {kind}", public)
    finish()


main()
