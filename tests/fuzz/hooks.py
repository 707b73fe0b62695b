"""Who the fuzzer is, and what it checks beyond schemathesis' own checks."""

import os
import secrets
import subprocess

import requests
import schemathesis
from schemathesis.core.transport import USER_AGENT
from schemathesis.openapi.checks import RejectedPositiveData, UnsupportedMethodResponse

URL = os.environ["FUZZ_URL"]
AS = os.environ["FUZZ_AS"]
# The document's own example, so that giving the password again succeeds, too.
PASSWORD = "correct horse battery staple"


def post(path, json, headers=None):
    # A session is fresh only for the user agent that gave the password.
    headers = {"User-Agent": USER_AGENT, **(headers or {})}
    response = requests.post(URL + path, json=json, headers=headers, timeout=10)
    response.raise_for_status()
    return response


def login():
    """The header that is the login of a new account: what ended the last session may have ended its account."""
    name = f"{AS}-{secrets.token_hex(4)}"
    if AS == "user":
        made = post("/users", {"username": name, "password": PASSWORD})
        return "Cookie", f"portcullis={made.cookies['portcullis']}"
    create = [os.environ["FUZZ_BIN"], "user", "create", "--username", name, "--role", "admin"]
    subprocess.run([*create, "--password-stdin"], input=PASSWORD, text=True, check=True, capture_output=True)
    given = {"identifier": name, "password": PASSWORD, "transport": "token"}
    bearer = f"Bearer {post('/login', given).json()['token']}"
    if AS == "admin":
        return "Authorization", bearer
    made = post("/me/tokens", {"name": "fuzz", "scopes": ["read", "write"]}, {"Authorization": bearer})
    return "X-API-Key", made.json()["token"]


if AS != "nobody":

    # After a 401 it is asked again, and the request repeated.
    @schemathesis.auth(refresh_interval=86400)
    class Login:
        def get(self, case, context):
            return login()

        def set(self, case, credential, context):
            name, value = credential
            case.headers = {**(case.headers or {}), name: value}


@schemathesis.hook
def before_load_schema(context, document):
    """Says whose ids to take where schemathesis guesses wrongly; an API token has none of them."""
    if AS == "program":
        return
    for path, method, status, pointer, operation in [
        ("/me/tokens", "post", "201", "/api_token/id", "revoke_my_token"),
        ("/session", "get", "200", "/session/id", "revoke_my_session"),
    ]:
        link = {"operationId": operation, "parameters": {"id": f"$response.body#{pointer}"}}
        document["paths"][path][method]["responses"][status]["links"] = {operation: link}


def is_probe(response, case):
    """Whether another method was tried at the operation's address, which is not in the document."""
    return response.request.method != case.operation.method.upper()


# The layers put these on every answer, so no operation lists them; nor those of CORS.
EVERYWHERE = {
    "cache-control",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "referrer-policy",
    "vary",
    "x-content-type-options",
}


@schemathesis.check
def answers_as_documented(ctx, response, case):
    """Looks at what schemathesis does not: headers beside the documented ones, and which problem it is."""
    documented = case.operation.responses.find_by_status_code(response.status_code)
    if documented is None or is_probe(response, case):
        return
    names = {name.lower() for name in documented.definition.get("headers", {})}
    given = {name.lower() for name in response.headers}
    given = {name for name in given if not name.startswith("access-control-")}
    assert not given - names - EVERYWHERE, f"undocumented header: {given - names - EVERYWHERE}"
    # A problem's status may have others, without a challenge.
    sometimes = {"set-cookie"} | ({"www-authenticate"} if response.status_code == 403 else set())
    if response.status_code == 401:
        # The limits are off here.
        sometimes |= {"ratelimit", "ratelimit-policy"}
    assert not names - given - sometimes, f"missing header: {names - given - sometimes}"
    if not documented.definition.get("content"):
        assert not response.content, "undocumented body"
    if response.status_code >= 400:
        problem = response.json()
        examples = documented.definition["content"]["application/problem+json"]["examples"]
        assert problem["code"] in examples, f"undocumented code: {problem['code']}"
        assert problem["status"] == response.status_code, "another status in the body"
        assert [problem["request_id"]] == response.headers["x-request-id"], "another request id in the body"


@schemathesis.check
class LogsIn:
    """Somebody whose login does not work is refused nearly everything, and all of that is documented."""

    def __init__(self):
        self.asked, self.granted = set(), set()

    def after_response(self, ctx, response, case):
        self.asked.add(case.operation.label)
        if 200 <= response.status_code < 300 and not is_probe(response, case):
            self.granted.add(case.operation.label)

    def after_run(self, ctx):
        missed = ", ".join(sorted(self.asked - self.granted)) or "none"
        print(f"\n{len(self.granted)} of {len(self.asked)} operations answered with 2xx; missed: {missed}")
        assert ("GET /me" in self.granted) == (AS != "nobody"), "the login does not work, or none is asked for"


# What JSON Schema has no words for: a request may be as documented, and be refused for this all the same.
UNSAYABLE = {
    ("code", "invalid"),  # is in a mail
    ("code", "required"),  # beside an email address, where there is no token: a oneOf
    ("cursor", "invalid"),  # opaque, and the service's own
    ("email", "required"),  # beside a code: a oneOf
    ("expires_at", "invalid"),  # to be in the future
    ("identifier", "invalid"),  # not beside username or email: a oneOf, which generated clients suffer from
    ("identifier", "required"),  # where there is neither username nor email: the same
    ("new_password", "too_long"),  # the characters are counted after NFKC
    ("new_password", "too_short"),  # the same
    ("new_password", "breached"),  # what is guessed early
    ("new_password", "guessable"),  # the same
    ("new_password", "personal"),  # the same
    ("password", "breached"),  # the same
    ("password", "guessable"),  # the same
    ("password", "personal"),  # the same
    ("password", "too_long"),  # as for new_password
    ("password", "too_short"),  # the same
    ("remember_for", "invalid"),  # a duration within bounds, and not beside `remember: false`
    ("token", "invalid"),  # is in a mail, and not beside email and code
    ("token", "required"),  # where there are no email and code: a oneOf
    ("username", "required"),  # where there is no email: a oneOf again
}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops no failure but that of a 422 which has such reasons only, and that proxies ask by any method."""
    if isinstance(failure, UnsupportedMethodResponse) and case.operation.path == "/forward-auth":
        return False
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 422:
        return True
    return any((error["field"], error["code"]) not in UNSAYABLE for error in response.json()["errors"])
