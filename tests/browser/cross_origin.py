"""What pages of other origins can do to the service, tried in Chromium.

With --allow-all the hostile origins are allowed too, to see that the checks can fail.
"""

import itertools
import json
import shutil
import signal
import sys
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlencode

from playwright.sync_api import Error, sync_playwright

from checks import check, finish
from programs import end, free_port, working_directory
from servers import PASSWORD, Service, Site
from tables import APP, ATTEMPTS, OPERATIONS, REBOUND

HOSTS = "MAP *.example.com 127.0.0.1, MAP *.example.org 127.0.0.1"
TIMEOUT = 10_000  # milliseconds, for one step
LIMIT = 300  # seconds, for all

names = (f"alice{number}" for number in itertools.count(1))


@dataclass
class Scene:
    """The origins of the service, of an app that is allowed, and of two that are not."""

    name: str
    service: str
    app: str
    same_site: str
    other_site: str


class Visitor:
    """Somebody's browser, with the app in one tab and what an attempt needs in another."""

    def __init__(self, browser, scene):
        self.scene = scene
        self.context = browser.new_context()
        self.context.set_default_timeout(TIMEOUT)
        self.app = self.context.new_page()
        self.tab = self.context.new_page()
        self.become_somebody()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def become_somebody(self):
        self.context.clear_cookies()
        self.app.goto(f"{self.url(self.scene.app)}#{next(names)}")

    def register(self):
        self.become_somebody()
        if self.app.evaluate("register()") != "me":
            raise Error("nobody is logged in")

    def url(self, origin):
        query = {"service": self.scene.service, "app": self.scene.app}
        return f"{origin}/?{urlencode(query | {'password': PASSWORD})}"

    def open(self, origin):
        # Most attempts leave the page as it was.
        if self.tab.url != self.url(origin):
            self.tab.goto(self.url(origin))

    def cookies(self):
        cookies = self.context.cookies()
        return sorted((c["domain"], c["name"], c["value"]) for c in cookies)

    def session_cookie(self):
        # The service also leaves one by which accounts know the browser, for good.
        return [cookie for cookie in self.cookies() if cookie[1] == "portcullis"]

    def attempt(self, service, origin, script, wanted):
        """What the service answered to a page, and what the page saw, as in the table."""
        self.open(origin)
        begin = service.log_end()
        if wanted.endswith("left"):
            with self.tab.expect_response(f"{self.scene.service}/**") as response:
                seen = self.tab.evaluate(script)
            # Without content, the browser stays where it is.
            if response.value.status != 204:
                self.tab.wait_for_url(response.value.url)
        else:
            seen = self.tab.evaluate(script)
        # A page need not wait for what it sends. What it saw is the last of the cell.
        answers = service.answers(begin, wanted.count(","))
        for popup in self.context.pages[2:]:
            popup.wait_for_load_state()
            popup.close()
        return ", ".join([*answers, seen])

    def state(self, service):
        """What an attempt could change: in the browser, for its owner, and for an admin."""
        current, sessions = self.app.evaluate(
            "Promise.all([read('/session'), read('/me/sessions')])"
        )
        return {
            "cookies": self.cookies(),
            "user": current.get("user"),
            "session": current.get("session", {}).get("id"),
            "sessions": [session["id"] for session in sessions.get("items", [])],
            "accounts": service.request("/users?limit=100")["items"],
            "last event": service.request("/audit?limit=1")["items"],
        }


def compare(name, seen, wanted):
    """Checks that what was seen has all that was wanted."""
    faults = [
        f"{key} is {seen.get(key)!r}, not {value!r}"
        for key, value in wanted.items()
        if seen.get(key) != value
    ]
    return check(name, not faults, seen="; ".join(faults)[:300])


def app_works(browser, scene):
    with Visitor(browser, scene) as visitor:
        for script, answer, cookie in APP:
            before = visitor.session_cookie()
            if script == "reload":
                visitor.app.reload()
                seen = ""
            else:
                seen = visitor.app.evaluate(script)
            after = visitor.session_cookie()
            if not after:
                fate = "gone" if before else "none"
            else:
                fate = "kept" if before == after else "new"
            compare(
                f"{scene.name}, the app: {script}",
                {"answer": seen, "cookie": fate},
                {"answer": answer, "cookie": cookie},
            )


def attempts_fail(browser, scene, service, kind, read):
    """While somebody is logged in, nothing comes of them."""
    with Visitor(browser, scene) as victim:
        before = None
        for script, wanted, _ in ATTEMPTS:
            if not before:
                victim.register()
                before = victim.state(service)
            wanted = wanted.replace("READ", read)
            try:
                seen = victim.attempt(service, getattr(scene, kind), script, wanted)
                seen = {"it": seen} | victim.state(service)
            except (Error, OSError) as error:
                seen = {"it": str(error)}
            name = f"{scene.name}, {kind} may not: {script}"
            if not compare(name, seen, {"it": wanted} | before):
                # What came of it does not matter to the next attempt.
                before = None


def attempts_succeed(browser, scene, service):
    """From the allowed origin, so that it is the origin that stops the others."""
    with Visitor(browser, scene) as visitor:
        for script, _, wanted in ATTEMPTS:
            visitor.register()
            seen = visitor.attempt(service, scene.app, script, wanted)
            name = f"{scene.name}, the app may: {script}"
            compare(name, {"it": seen}, {"it": wanted})


def swagger_ui_is_not_framed(browser, scene, service):
    with urllib.request.urlopen(f"{service.address}/swagger-ui/", timeout=10) as answer:
        policy = answer.headers.get("content-security-policy", "").split(";")
        seen = {
            "frame-ancestors 'none'": any(
                directive.strip() == "frame-ancestors 'none'" for directive in policy
            ),
            "x-content-type-options": answer.headers.get("x-content-type-options"),
        }
    compare(
        f"{scene.name}, Swagger UI says that it is not to be framed",
        seen,
        {"frame-ancestors 'none'": True, "x-content-type-options": "nosniff"},
    )
    with Visitor(browser, scene) as visitor:
        for kind in ("same_site", "other_site"):
            visitor.open(getattr(scene, kind))
            visitor.tab.evaluate("embed('iframe', '/swagger-ui/')")
            compare(
                f"{scene.name}, {kind} cannot frame Swagger UI",
                {"shown": visitor.tab.frames[1].url.startswith(scene.service)},
                {"shown": False},
            )


def swagger_ui_works(browser, scene):
    faults = []

    def requested(request):
        if not request.url.startswith((f"{scene.service}/", "data:")):
            faults.append(f"asks {request.url}")

    def answered(response):
        if response.status >= 400:
            faults.append(f"{response.status} from {response.url}")

    def written(message):
        if message.type == "error":
            faults.append(message.text)

    with browser.new_context() as context:
        context.set_default_timeout(TIMEOUT)
        page = context.new_page()
        page.on("request", requested)
        page.on("response", answered)
        page.on("requestfailed", lambda request: faults.append(request.failure))
        page.on("console", written)
        page.on("pageerror", lambda error: faults.append(error.message))
        try:
            page.goto(f"{scene.service}/swagger-ui")
            name = next(names)
            for tag, operation, body, status in OPERATIONS:
                block = page.locator(f"#operations-{tag}-{operation}")
                block.locator(".opblock-summary-control").click()
                if body:
                    block.locator("textarea").fill(body.replace("alice", name))
                block.locator(".execute").click()
                answer = block.locator(".live-responses-table .response-col_status")
                compare(
                    f"{scene.name}, Swagger UI: {operation}",
                    {"status": answer.last.inner_text().split()[0]},
                    {"status": status},
                )
        finally:
            compare(
                f"{scene.name}, Swagger UI: no errors, and nothing from elsewhere",
                {"faults": faults},
                {"faults": []},
            )


def rebound_page_changes_nothing(browser, scene, service):
    """A page of another host that resolves to the service: its script runs in a page that the service sent."""
    with browser.new_context() as context:
        context.set_default_timeout(TIMEOUT)
        page = context.new_page()
        page.goto(f"http://evil.example.org:{service.port}/swagger-ui/")
        before = service.request("/users?limit=100")["items"]
        for method, path, options, wanted in REBOUND:
            request = {"method": method, "credentials": "include"} | json.loads(options)
            seen = page.evaluate(
                "async ([path, request]) => (await fetch(path, request)).status", [path, request]
            )
            compare(
                f"{scene.name}, a rebound page: {method} {path} {options}",
                {"status": str(seen)},
                {"status": wanted},
            )
        compare(
            f"{scene.name}, a rebound page leaves the accounts as they were",
            {"accounts": service.request("/users?limit=100")["items"]},
            {"accounts": before},
        )


def scenes(service, app, sibling, stranger):
    return [
        Scene(
            name="example.com",
            service=f"http://auth.example.com:{service}",
            app=f"http://app.example.com:{app}",
            same_site=f"http://app.example.com:{sibling}",
            other_site=f"http://evil.example.org:{stranger}",
        ),
        # To localhost, browsers also send Sec-Fetch-Site without https.
        Scene(
            name="localhost",
            service=f"http://localhost:{service}",
            app=f"http://localhost:{app}",
            same_site=f"http://localhost:{sibling}",
            other_site=f"http://evil.example.org:{stranger}",
        ),
    ]


def main():
    # A page may wait for what never comes.
    signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT)
    port = free_port()
    named, local = scenes(port, Site().port, Site().port, Site().port)
    allowed = [named.app, local.app]
    if "--allow-all" in sys.argv[1:]:
        allowed += [named.same_site, local.same_site, named.other_site]

    with (
        working_directory() as directory,
        Service(directory, port, named.service, allowed) as service,
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", f"--host-resolver-rules={HOSTS}"],
        ) as browser,
    ):
        service.log_in()
        for part, scene, *more in [
            (app_works, named),
            (attempts_fail, named, service, "same_site", "200"),
            (attempts_fail, named, service, "other_site", "401"),
            (attempts_succeed, named, service),
            (swagger_ui_is_not_framed, named, service),
            (swagger_ui_works, named),
            (rebound_page_changes_nothing, named, service),
            (app_works, local),
            (attempts_fail, local, service, "same_site", "200"),
            (attempts_fail, local, service, "other_site", "401"),
            (swagger_ui_works, local),
        ]:
            try:
                part(browser, scene, *more)
            except (Error, OSError) as error:
                check(f"{scene.name}, {part.__name__}", False, seen=error)
    finish()


main()
