"""The service below a path: nginx strips it, or leaves it."""

import json
import re
from urllib.parse import urljoin

import servers
from checks import check
from programs import Process, Service, free_port, working_directory

PASSWORD = "correct horse battery staple"
KINDS = {"strips it": "/", "leaves it": ""}


def nginx(directory, port, service_port, slash):
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    configuration = f"{directory}/nginx.conf"
    with open(configuration, "w") as file:
        file.write(f"""daemon off; master_process off; pid nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    {temporary}
    server {{
        listen 127.0.0.1:{port};
        location /auth/ {{
            proxy_pass http://127.0.0.1:{service_port}{slash};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Request-Id $request_id;
        }}
        location / {{ return 418; }}
    }}
}}
""")
    return Process(directory, port, ["nginx", "-p", directory, "-e", "stderr", "-c", configuration])


class Browser:
    """Follows links as a browser does, and keeps the session's cookie."""

    def __init__(self, port):
        self.port, self.cookie = port, {}

    def ask(self, method, url, body=None):
        origin = f"http://localhost:{self.port}"
        assert url.startswith(f"{origin}/"), url
        headers = {"host": f"localhost:{self.port}", "origin": origin} | self.cookie
        if body is not None:
            headers["content-type"] = "application/json"
        answer = servers.ask(self.port, method, url.removeprefix(origin), headers, body and json.dumps(body))
        answer.url = url
        for cookie in answer.headers.get_all("set-cookie") or []:
            if cookie.startswith("portcullis=") and "; Path=/" in cookie:
                self.cookie = {"cookie": cookie.split(";")[0]}
        if answer.getheader("location") and answer.status in (303, 307):
            return self.ask(method, urljoin(url, answer.getheader("location")), body)
        return answer


def swagger_ui(browser, home):
    page = browser.ask("GET", home)
    check("Swagger UI opens", page.status == 200, "<title>Swagger UI</title>" in page.text, page.url == f"{home}swagger-ui/")
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    found = [browser.ask("GET", urljoin(page.url, asset)).status for asset in assets]
    check("with all its files", len(found) >= 4, set(found) == {200}, seen=dict(zip(assets, found)))
    start = browser.ask("GET", urljoin(page.url, "swagger-initializer.js")).text
    url = urljoin(page.url, re.search(r'"url": "([^"]+)"|"urls": \[\s*"([^"]+)"|["\'](/[^"\']*openapi\.json)["\']', start)[0].split('"')[-2])
    document = json.loads(browser.ask("GET", url).text)
    return urljoin(url, document["servers"][0]["url"])


def calls(browser, server):
    new = {"username": "alice", "password": PASSWORD}
    made = browser.ask("POST", f"{server}/users", new)
    check("a call of Swagger UI registers", made.status == 201, seen=made.text)
    account = browser.ask("GET", urljoin(made.url, made.getheader("location")))
    check("the location of the account is an address of the service", account.status == 403, '"forbidden"' in account.text)
    me = browser.ask("GET", f"{server}/me")
    check("the cookie comes along", me.status == 200, json.loads(me.text)["username"] == "alice")
    token = browser.ask("POST", f"{server}/me/tokens", {"name": "t"})
    check("an API token has a location with the path", token.getheader("location").startswith("/auth/me/tokens/"))
    check("a logout ends it", browser.ask("POST", f"{server}/logout").status == 204, browser.ask("GET", f"{server}/me").status == 401)


def run():
    for kind, slash in KINDS.items():
        print(f"\nnginx, below a path, {kind}")
        port, service_port = free_port(), free_port()
        settings = {
            "PORTCULLIS_PUBLIC_URL": f"http://localhost:{port}/auth",
            "PORTCULLIS_TRUSTED_PROXIES": "127.0.0.1",
        }
        with (
            working_directory() as directory,
            Service(directory, service_port, settings),
            nginx(directory, port, service_port, slash),
        ):
            browser = Browser(port)
            server = swagger_ui(browser, f"http://localhost:{port}/auth/")
            check("its calls go below the path", server == f"http://localhost:{port}/auth", seen=server)
            calls(browser, server)
