"""Whether deploy/kubernetes.yaml and docker-compose.yml fit their schemas, the service, and each other."""

import copy
import os
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import yaml

from checks import check, finish
from programs import Service, answers, free_port, working_directory
from tree import ROOT

# The oldest that the file is for, and the newest that is known.
KUBERNETES = ["1.30", kubernetes_validate.latest_version()]
# What src/command/serve.rs gives the mails and the connections to PostgreSQL after the grace period.
AFTER_GRACE = 9
SECRETS = {"DATABASE_URL", "PORTCULLIS_ADMIN_PASSWORD", "PORTCULLIS_SMTP_URL"}
# What docker-compose.yml reads for itself.
OF_COMPOSE = {"PORTCULLIS_BIND", "PORTCULLIS_PORT"}
# What `migrate --own` alone reads.
OF_MIGRATE = {"PORTCULLIS_SUPERUSER_URL", "PORTCULLIS_SUPERUSER_URL_FILE"}
# What the image decides.
OF_IMAGE = {"PORTCULLIS_DATA_DIR", "PORTCULLIS_HOST", "PORTCULLIS_LISTEN"}


def text(name):
    return ROOT.joinpath(name).read_text()


def seconds(duration):
    assert duration.endswith("s"), duration
    return int(duration.removesuffix("s"))


def port_of(address):
    return int(address.rpartition(":")[2])


def why_not(document, version):
    """What Kubernetes would say, or nothing."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error.message
    return ""


def fits_compose(path):
    command = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


def schemas(manifest, compose, directory):
    for version in KUBERNETES:
        for document in manifest:
            check(f"Kubernetes {version} takes the {document['kind']}", *[not why_not(document, version)])
        broken = copy.deepcopy(one(manifest, "Deployment"))
        container_of(broken)["readinesProbe"] = {}
        check("and no field that it does not know", "readinesProbe" in why_not(broken, version))
    check("compose takes its file", fits_compose(ROOT / "docker-compose.yml"))
    broken = copy.deepcopy(compose)
    broken["services"]["portcullis"]["helthcheck"] = {}
    path = Path(directory, "broken.yml")
    path.write_text(yaml.safe_dump(broken))
    check("and no field that it does not know", not fits_compose(path))


def one(manifest, kind):
    (document,) = (document for document in manifest if document["kind"] == kind)
    return document


def pod(deployment):
    return deployment["spec"]["template"]["spec"]


def names(compose, help_text):
    settings = set(re.findall(r"PORTCULLIS_[A-Z_]+", help_text))
    used = {"docker-compose.yml": OF_COMPOSE, ".env.example": OF_COMPOSE, "Dockerfile": set()}
    files = (path for path in ROOT.joinpath("deploy").rglob("*") if path.is_file())
    used |= {str(path.relative_to(ROOT)): set() for path in files}
    for name, known in used.items():
        # Not PORTCULLIS_*.
        unknown = set(re.findall(r"\bPORTCULLIS_[A-Z_]+\b(?!\*)", text(name))) - settings - known
        check(f"every setting that {name} names is one: {unknown or 'yes'}", not unknown)
    missing = settings - set(compose["services"]["portcullis"]["environment"]) - OF_IMAGE - OF_MIGRATE
    check(f"compose offers every setting: {missing or 'yes'}", not missing)


def container_of(deployment):
    (container,) = pod(deployment)["containers"]
    return container


def values(container):
    """The settings that the manifest has in itself."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def selectors(manifest):
    deployment, service = one(manifest, "Deployment"), one(manifest, "Service")
    policy, budget = one(manifest, "NetworkPolicy"), one(manifest, "PodDisruptionBudget")
    selected = [service["spec"]["selector"], policy["spec"]["podSelector"]["matchLabels"]]
    selected += [document["spec"]["selector"]["matchLabels"] for document in (deployment, budget)]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    check("every selector means the pods", *[selector == labels for selector in selected])


def ports(manifest, compose):
    deployment, service = one(manifest, "Deployment"), one(manifest, "Service")
    container = container_of(deployment)
    named = {port["name"]: port["containerPort"] for port in container["ports"]}
    port = int(re.search(r'env = "PORT", .*default_value = "(\d+)"', text("src/config.rs"))[1])
    check("the image serves on all addresses", "ENV PORTCULLIS_HOST=0.0.0.0" in text("Dockerfile"))
    exposed = int(re.search(r"EXPOSE (\d+)", text("Dockerfile"))[1])
    published = {port_of(port) for port in compose["services"]["portcullis"]["ports"]}
    check("the image, compose and Kubernetes mean one port", {port, exposed, named["http"]} == published)
    (served,) = service["spec"]["ports"]
    check("the Service leads to it", served["targetPort"] == "http")
    (rule,) = one(manifest, "Ingress")["spec"]["rules"]
    behind = [path["backend"]["service"] for path in rule["http"]["paths"]]
    check("the Ingress leads to the Service",
          behind == [{"name": service["metadata"]["name"], "port": {"name": served["name"]}}])
    allowed = {port["port"] for rule in one(manifest, "NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]}
    check("the NetworkPolicy means ports of the pods", allowed == set(named))
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    name, port = re.search(r"regex: (\S+);(\S+)", text("deploy/prometheus-rules.yml")).groups()
    metrics = port_of(values(container)["PORTCULLIS_METRICS_LISTEN"])
    check("metrics are scraped where they are", labels["app.kubernetes.io/name"] == name, named[port] == metrics)


def replacement(deployment, compose, help_text):
    spec, container = deployment["spec"], container_of(deployment)
    check("there is more than one replica, and never fewer", spec["replicas"] > 1,
          spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0)
    grace = seconds(values(container)["PORTCULLIS_SHUTDOWN_GRACE"]) + AFTER_GRACE
    asleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    check("a replica has the time to stop", pod(deployment)["terminationGracePeriodSeconds"] > asleep + grace)
    default = re.search(r"env: PORTCULLIS_SHUTDOWN_GRACE\]\s+\[default: (\w+)\]", help_text)[1]
    stop = seconds(compose["services"]["portcullis"]["stop_grace_period"])
    check("under compose, too", stop > seconds(default) + AFTER_GRACE)


def rights(manifest):
    spec, account = pod(one(manifest, "Deployment")), one(manifest, "ServiceAccount")
    check("nobody is root", spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"] > 0)
    check("the account has no token", spec["serviceAccountName"] == account["metadata"]["name"],
          account["automountServiceAccountToken"] is False)
    for each in spec["initContainers"] + spec["containers"]:
        context = each["securityContext"]
        check(f"the container {each['name']} may do nothing", context.get("readOnlyRootFilesystem"),
              context.get("allowPrivilegeEscalation") is False, context.get("capabilities") == {"drop": ["ALL"]})
        secrets = [entry for entry in each["env"] if entry["name"] in SECRETS]
        check("its secrets are from the Secret", secrets, *["secretKeyRef" in entry["valueFrom"] for entry in secrets])


def probes(directory, container):
    port, metrics = free_port(), free_port()
    settings = values(container) | {"PORTCULLIS_METRICS_LISTEN": f"127.0.0.1:{metrics}"}
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    with Service(directory, port, settings):
        check("the service starts with the manifest's settings", True)
        for name, path in paths.items():
            check(f"it answers the {name}", answers(port, path))
        check("it answers who scrapes it", answers(metrics, "/metrics"))


def main():
    manifest = list(yaml.safe_load_all(text("deploy/kubernetes.yaml")))
    compose = yaml.safe_load(text("docker-compose.yml"))
    command = [os.environ["PORTCULLIS_BIN"], "--help"]
    help_text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with working_directory() as directory:
        schemas(manifest, compose, directory)
        names(compose, help_text)
        selectors(manifest)
        ports(manifest, compose)
        replacement(one(manifest, "Deployment"), compose, help_text)
        rights(manifest)
        probes(directory, container_of(one(manifest, "Deployment")))
    finish()


main()
