"""Real proxies, with their files in deploy/."""

from pathlib import Path

from programs import Process, answers
from tree import adapted


class Proxy(Process):
    """One that is ready when the app is reached through it."""

    def is_ready(self):
        return answers(self.port, "/public/", "app.localhost")


def nginx(directory, port, service_port, app_port):
    text = adapted("nginx.conf", [
        (r"server portcullis:8080;", f"server 127.0.0.1:{service_port};", 1),
        (r"server app:3000;", f"server 127.0.0.1:{app_port};", 1),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port};", 2),
        (r" +ssl_certificate.*\n", "", 4),
        (r"server_name auth\.example\.com;", "server_name auth.app.localhost;", 1),
        (r"server_name app\.example\.com;", "server_name app.localhost;", 1),
    ])
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    configuration = Path(directory, "nginx.conf")
    configuration.write_text(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {}\n"
        f"http {{\naccess_log off;\n{temporary}{text}}}\n"
    )
    return Proxy(directory, port, ["nginx", "-p", directory, "-e", "stderr", "-c", str(configuration)])


def traefik(directory, port, service_port, app_port):
    text = adapted("traefik.yml", [
        (r"http://portcullis:8080", f"http://127.0.0.1:{service_port}", 4),
        (r"http://app:3000", f"http://127.0.0.1:{app_port}", 1),
        (r" +tls: \{\}\n", "", 6),
        (r"Host\(`auth\.example\.com`\)", "Host(`auth.app.localhost`)", 1),
        (r"Host\(`app\.example\.com`\)", "Host(`app.localhost`)", 5),
    ])
    # A traefik.yml it would take for its static configuration.
    configuration = Path(directory, "dynamic.yml")
    configuration.write_text(text)
    return Proxy(directory, port, [
        "traefik",
        f"--entryPoints.web.address=127.0.0.1:{port}",
        "--entryPoints.web.http.aliasHeadersStrategy=delete",
        f"--providers.file.filename={configuration}",
        "--global.checkNewVersion=false",
    ])


def envoy(directory, port, service_port, app_port):
    text = adapted("envoy.yaml", [
        (r"address: portcullis, port_value: 8080", f"address: 127.0.0.1, port_value: {service_port}", 1),
        (r"address: app, port_value: 3000", f"address: 127.0.0.1, port_value: {app_port}", 1),
        (r"address: 0\.0\.0\.0, port_value: 443", f"address: 127.0.0.1, port_value: {port}", 1),
        (r"transport_socket:\n(?: {12}.*\n)+ +filters:", "filters:", 1),
        (r"domains: \[auth\.example\.com\]", f"domains: ['auth.app.localhost:{port}']", 1),
        (r"domains: \[app\.example\.com\]", f"domains: ['app.localhost:{port}']", 1),
    ])
    configuration = Path(directory, "envoy.yaml")
    configuration.write_text(text)
    # Without hot restart, or two of them would not run on one machine.
    return Proxy(directory, port, ["envoy", "--disable-hot-restart", "-c", str(configuration)])


ALL = [nginx, traefik, envoy]
