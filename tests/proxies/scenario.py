"""What reaches an app behind a proxy that asks Portcullis, and what does not."""

import json
from urllib.parse import parse_qs, urlsplit

import prefix
import proxies
import servers
from checks import check, finish
from programs import Service, free_port, working_directory

PASSWORD = "correct horse battery staple"
# Whatever a client may try to be taken for somebody by.
FORGED = {
    name: "admin"
    for name in (
        "x-auth-user-id x-auth-username x-auth-email x-auth-email-verified x-auth-role x-auth-session-id "
        "x-auth-scopes x-auth-fresh-until x-auth-require x_auth_role x-auth_role x.auth.role x-auth.role"
    ).split()
}
# And to be taken for a proxy by.
LIES = {
    "x-forwarded-for": "198.51.100.1",
    "x-forwarded-method": "GET",
    "x-original-method": "GET",
    "x-forwarded-uri": "/elsewhere",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    "x-original-url": "https://evil.example/",
    "x-request-id": "forged-by-a-stranger",
    "traceparent": "00-11111111111111111111111111111111-2222222222222222-01",
}
TRACES = ["1" * 32, "3" * 32]


class Someone:
    """Somebody who calls through the proxy with some headers."""

    def __init__(self, port, headers=None):
        self.port, self.headers = port, {"user-agent": "one"} | (headers or {})

    def ask(self, method, path, more=None, body=None):
        return servers.ask(self.port, method, path, self.headers | (more or {}), body)

    def auth(self, path, body, method="POST"):
        """Calls the service itself, by its name."""
        headers = {"host": f"auth.app.localhost:{self.port}", "content-type": "application/json"}
        return self.ask(method, path, headers, json.dumps(body))

    def reached(self, method, path, more=None, body=None):
        """What the app saw, or the status with which nothing reached it."""
        answer = self.ask(method, path, more, body)
        return json.loads(answer.text) if answer.status == 200 else answer.status


def login(port, name):
    nobody = Someone(port)
    answer = nobody.auth("/login", {"identifier": name, "password": PASSWORD})
    assert answer.status == 200, answer.text
    # The first one removes a cookie of this host alone.
    *_, cookie = (it for it in answer.headers.get_all("set-cookie") if it.startswith("portcullis="))
    cookie = cookie.split(";")[0]
    return Someone(port, {"cookie": cookie}), json.loads(answer.text)


def people(port):
    nobody = Someone(port)
    page = nobody.ask("GET", "/notes/a?b=c&d=https%3A%2F%2Fe")
    to = urlsplit(page.getheader("location"))
    url = f"http://app.localhost:{port}"
    check("nobody is led to the login page", page.status == 302, page.getheader("location").startswith(f"{url}/public/login?"))
    check("the way back is the whole page", parse_qs(to.query) == {"return_to": [f"{url}/notes/a?b=c&d=https%3A%2F%2Fe"]})
    page = nobody.ask("GET", "/", LIES | {"host": "app.localhost.evil.example"})
    check("the way back never leads elsewhere", "evil" not in str(page.getheader("location")))
    call = nobody.ask("GET", "/api/notes", FORGED)
    check("a call by nobody is a 401", call.status == 401, "Bearer" in str(call.getheader("www-authenticate")))
    call = nobody.ask("GET", "/", {"x-api-key": "pct_x"})
    check("a program is not led to a page", call.status == 401, call.getheader("location") is None)
    check("what is public is for everybody", nobody.reached("GET", "/public/", FORGED)["auth"] == {})
    check("a preflight is the app's", nobody.reached("OPTIONS", "/api/notes", FORGED) == {
        "method": "OPTIONS", "path": "/api/notes", "auth": {}, "body": ""
    })
    check("the check itself is not to be reached", nobody.ask("GET", "/_auth").status != 200,
          nobody.ask("GET", "/_auth/x").status != 200,
          nobody.ask("GET", "/forward-auth", {"host": f"auth.app.localhost:{port}"}).status == 404)

    new = {"username": "alice", "email": "alice@example.com", "password": PASSWORD}
    check("strangers do not register", nobody.auth("/users", new).status == 403)
    admin, _ = login(port, "admin")
    made = admin.auth("/users", new)
    assert made.status == 201, made.text
    alice, known = login(port, "alice")
    told = {
        "x-auth-user-id": known["user"]["id"],
        "x-auth-username": "alice",
        "x-auth-email": "alice@example.com",
        "x-auth-email-verified": "false",
        "x-auth-role": "user",
        "x-auth-session-id": known["session"]["id"],
        "x-auth-fresh-until": known["session"]["fresh_until"],
    }
    seen = alice.reached("GET", "/notes?a=b&role=admin")
    check("who is logged in passes", seen["path"] == "/notes?a=b&role=admin")
    check("the app is told who it is", seen["auth"] == told)
    check("and nothing that is forged", alice.reached("GET", "/", {n: v for n, v in FORGED.items() if n != "x-auth-require"})["auth"] == told)
    check("not even what is required", alice.reached("GET", "/", FORGED)["auth"] == told)
    check("lies about the client change nothing", alice.reached("GET", "/", LIES)["auth"] == told)
    body = "a" * 100_000
    seen = alice.reached("POST", "/notes", {"origin": "https://evil.example"}, body)
    check("a body reaches the app whole", seen["method"] == "POST", seen["body"] == body)
    chunks = alice.reached("POST", "/notes", None, iter([b"abc", b"def"]))
    check("in chunks, too", chunks["body"] == "abcdef")
    check("and the next request is itself", all(alice.reached("GET", "/")["auth"] == told for _ in range(20)))
    for path in ["/admin/", "/admin/a?role=user", "/a/../admin/", "//admin/", "/%61dmin/"]:
        check(f"only admins get to {path}", alice.reached("GET", path) == 403)
    return alice


def admins(port):
    admin, _ = login(port, "admin")
    check("an admin does", admin.reached("GET", "/admin/")["auth"]["x-auth-role"] == "admin")
    check("by any path", admin.reached("POST", "/admin/a?role=user&fresh=0", None, "b")["body"] == "b")


def programs(port, alice):
    make = lambda scopes: json.loads(alice.auth("/me/tokens", {"name": "t", "scopes": scopes}).text)["token"]
    reader, writer = (Someone(port, {"x-api-key": make([scope])}) for scope in ("read", "write"))
    seen = reader.reached("GET", "/api/notes")
    check("a token that may read gets", seen["auth"]["x-auth-scopes"] == "read", "x-auth-session-id" not in seen["auth"])
    check("and does not post", reader.reached("POST", "/api/notes", None, "{}") == 403)
    check("whatever it says", reader.reached("POST", "/api/notes", LIES, "{}") == 403)
    check("a token that may write posts", writer.reached("POST", "/api/notes", None, "{}")["body"] == "{}")


def traces(port, alice, service):
    alice.ask("GET", "/me", LIES | {"host": f"auth.app.localhost:{port}"})
    alice.ask("GET", "/", LIES)
    traced = {"traceparent": LIES["traceparent"].replace("1" * 32, "3" * 32)}
    servers.ask(service.port, "GET", "/healthz", traced)
    log = service.log.read_text()
    check("strangers name no request", LIES["x-request-id"] not in log)
    check("strangers name no trace, and others do", [trace in log for trace in TRACES] == [False, True])


def ends(port, alice, service):
    thief = Someone(port, {"cookie": alice.headers["cookie"], "user-agent": "two"})
    again, _ = login(port, "alice")
    check("a logout counts at once", again.ask("GET", "/").status == 200,
          again.auth("/logout", None).status == 204, again.ask("GET", "/").status == 302)
    check("a stolen cookie ends its session", thief.reached("GET", "/api/notes") == 401,
          alice.reached("GET", "/api/notes") == 401)
    again, _ = login(port, "alice")
    service.stop()
    check("without the service nobody passes", again.reached("GET", "/") in (500, 502, 503),
          Someone(port).reached("GET", "/") in (500, 502, 503))


def settings(port):
    return {
        "PORTCULLIS_PUBLIC_URL": f"http://auth.app.localhost:{port}",
        "PORTCULLIS_COOKIE_DOMAIN": "app.localhost",
        "PORTCULLIS_TRUSTED_PROXIES": "127.0.0.1",
        "PORTCULLIS_LOGIN_URL": f"http://app.localhost:{port}/public/login",
        "PORTCULLIS_SESSION_PROTECTION": "strong",
        "PORTCULLIS_REGISTRATION": "closed",
        "PORTCULLIS_ADMIN_USERNAME": "admin",
        "PORTCULLIS_ADMIN_PASSWORD": PASSWORD,
    }


def through(proxy):
    print(f"\n{proxy.__name__}")
    port, app_port = free_port(), servers.start_app()
    with (
        working_directory() as directory,
        Service(directory, free_port(), settings(port)) as service,
        proxy(directory, port, service.port, app_port),
    ):
        alice = people(port)
        admins(port)
        programs(port, alice)
        traces(port, alice, service)
        ends(port, alice, service)


def main():
    for proxy in proxies.ALL:
        through(proxy)
    prefix.run()
    finish()


main()
