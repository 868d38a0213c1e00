"""What a team deploys with: held against the schemas of its tools and against the code."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import redis
import yaml

from service.errors import OPERATOR_MUST_MEND
from service.settings.table import Settings
from service.wiring.stopping import STOP_GRACE_S
from tests.programs import program
from tests.redis_servers import redis_binary

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "config" / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
UNIT = DEPLOY / "parley.service"
MANIFESTS = DEPLOY / "kubernetes"
DOCUMENT = ROOT / "docs" / "deploying.md"

SUPERVISOR_S = 2.0
"""What the supervisor waits for its processes beyond `STOP_GRACE_S`."""

KUBERNETES = ("1.29", "1.34")
"""An old release that is still met, and a recent one."""

SECRETS = {
    name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field)
} | {"SECRET_KEY", "REDIS_URL"}

COMPOSE_SCHEMA = json.loads(
    (files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text()
)


def load(path: Path) -> dict[str, Any]:
    """Read a YAML file."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def parley() -> dict[str, Any]:
    """Parley's own service of the Compose file."""
    return dict(load(COMPOSE)["services"]["parley"])


@pytest.fixture
def pod() -> dict[str, Any]:
    """The pod that the Deployment makes."""
    return dict(load(MANIFESTS / "deployment.yaml")["spec"]["template"]["spec"])


@pytest.fixture
def unit() -> dict[str, list[str]]:
    """What the unit's [Service] says: each name with all its values, in order."""
    return read_unit()["Service"]


def read_unit() -> dict[str, dict[str, list[str]]]:
    """Read the unit; a name may be given several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(match[1], {})
            continue
        name, equals, value = line.partition("=")
        assert equals, f"no assignment: {line}"
        section.setdefault(name, []).append(value)
    return sections


def is_setting(name: str) -> bool:
    """Whether an environment variable is a setting, or names the file of one."""
    known = {field.upper() for field in Settings.model_fields}
    return name in known or name.removesuffix("_FILE") in known


def env_file() -> dict[str, str]:
    """Read parley.env as Compose and systemd do."""
    lines = (DEPLOY / "parley.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def named_settings() -> dict[str, dict[str, str]]:
    """Return the environment that each way of deploying makes, by its name."""
    unit = dict(each.split("=", 1) for each in read_unit()["Service"]["Environment"])
    container = load(MANIFESTS / "deployment.yaml")["spec"]["template"]["spec"]["containers"][0]
    return {
        "compose": env_file() | load(COMPOSE)["services"]["parley"]["environment"],
        "systemd": env_file() | unit,
        "kubernetes": load(MANIFESTS / "settings.yaml")["data"]
        | {each["name"]: each["value"] for each in container["env"]},
    }


def seconds(text: str) -> float:
    """Read a time such as "20s"."""
    match = re.fullmatch(r"(\d+)s?", text)
    assert match, text
    return float(match[1])


# --- settings --------------------------------------------------------------------------------

WAYS = pytest.mark.parametrize("way", ["compose", "systemd", "kubernetes"])


@WAYS
def test_every_name_in_the_environment_is_a_setting(way: str) -> None:
    """Otherwise a value that an operator fills in is read by nobody."""
    assert [name for name in named_settings()[way] if not is_setting(name)] == []


@WAYS
def test_every_setting_without_a_default_is_given(way: str) -> None:
    """Otherwise the first start after following the page ends with status 2."""
    given = {name.removesuffix("_FILE") for name in named_settings()[way]}
    required = {
        name.upper() for name, field in Settings.model_fields.items() if field.is_required()
    }

    assert required - given == set()


@WAYS
def test_secrets_are_files(way: str) -> None:
    """Otherwise `docker inspect`, `systemctl show` and `kubectl describe` print them."""
    plain = named_settings()[way].keys() & SECRETS

    assert {"TWILIO_AUTH_TOKEN", "SECRET_KEY", "OPEN_CONNECTORS_USER_SECRET"} <= SECRETS
    assert plain <= {"REDIS_URL"}
    assert "@" not in named_settings()[way].get("REDIS_URL", "")


def test_parley_env_is_what_kubernetes_is_given_too() -> None:
    """Otherwise what one way sets is missing where a team moves to the other."""
    assert env_file() == load(MANIFESTS / "settings.yaml")["data"]


# --- Compose ---------------------------------------------------------------------------------


def test_the_compose_file_is_one() -> None:
    """Otherwise `docker compose up` says what is wrong with it, on the machine of a team."""
    jsonschema.validate(load(COMPOSE), COMPOSE_SCHEMA)


def test_a_misspelt_compose_file_is_none() -> None:
    """Otherwise the test above would hold for anything."""
    wrong = load(COMPOSE)
    wrong["services"]["parley"]["stop_grace"] = "20s"

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, COMPOSE_SCHEMA)


def test_what_the_compose_file_names_is_there() -> None:
    """Otherwise `docker compose up` looks for a file, a network or a secret that nobody made."""
    whole = load(COMPOSE)
    services = whole["services"].values()
    used = {
        "secrets": {each for service in services for each in service.get("secrets", [])},
        "configs": {each["source"] for service in services for each in service.get("configs", [])},
        "networks": {each for service in services for each in service["networks"]},
    }

    assert used == {kind: whole[kind].keys() for kind in used}
    for config in whole["configs"].values():
        assert (DEPLOY / config["file"]).is_file()
    given = whole["services"]["parley"]["environment"]
    read = {value for name, value in given.items() if name.endswith("_FILE")}
    assert read == {f"/run/secrets/{each}" for each in whole["services"]["parley"]["secrets"]}


def test_containers_cannot_do_more_than_they_need(parley: dict[str, Any]) -> None:
    """Otherwise a break-in into one of them gets further."""
    for service in load(COMPOSE)["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(rf"^USER {parley['user']}$", recipe, re.MULTILINE)


def test_only_the_proxy_is_reached_from_outside() -> None:
    """Otherwise Redis or the internal listener stands open to the internet."""
    whole = load(COMPOSE)
    services = whole["services"]

    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]
    assert whole["networks"]["back"] == {"internal": True}
    assert services["redis"]["networks"] == ["back"]
    assert "back" not in services["proxy"]["networks"]
    assert "INTERNAL_HOST" not in services["parley"]["environment"]
    assert "INTERNAL_HOST" not in env_file()


def test_its_redis_keeps_what_it_confirms(tmp_path: Path) -> None:
    """Otherwise a text that Twilio was told is safe is gone with the power."""
    command = list(load(COMPOSE)["services"]["redis"]["command"])
    (config,) = load(COMPOSE)["services"]["redis"]["configs"]
    source = DEPLOY / load(COMPOSE)["configs"][config["source"]]["file"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stand_in = {
        "redis-server": redis_binary(),
        config["target"]: str(source),
        "6379": str(port),
        "/data": str(tmp_path),
    }
    assert stand_in.keys() <= set(command)
    server = subprocess.Popen(
        [*(stand_in.get(word, word) for word in command), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port, decode_responses=True) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    found = {
                        name: client.config_get(name)[name]
                        for name in ("appendonly", "appendfsync", "maxmemory-policy", "save")
                    }
                    break
                except redis.ConnectionError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
    finally:
        server.terminate()
        server.wait(10)

    assert found == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
    }


# --- the proxy of the Compose file -----------------------------------------------------------


def test_the_proxy_lets_through_what_parley_takes() -> None:
    """Otherwise it refuses an event of Open Connectors before Parley can take it."""
    sizes = [
        re.search(r"client_max_body_size (\d+)m;", (DEPLOY / "nginx.conf").read_text()),
        re.search(r"proxy-body-size: (\d+)m", (MANIFESTS / "ingress.yaml").read_text()),
    ]
    longest = max(
        Settings.model_fields[name].default for name in ("event_limit_bytes", "body_limit_bytes")
    )

    assert all(size is not None and int(size[1]) << 20 > longest for size in sizes)


def test_the_proxy_calls_parley_where_it_listens() -> None:
    """Otherwise every callback is answered 502."""
    port = Settings.model_fields["port"].default
    image = re.search(r'"--port", "(\d+)"', (ROOT / "Dockerfile").read_text(encoding="utf-8"))

    assert f"http://parley:{port};" in (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert image is not None
    assert int(image[1]) == port


@pytest.fixture
def behind() -> Iterator[tuple[int, list[bytes]]]:
    """A server that keeps what it hears, piece by piece, and answers once a request is whole."""
    pieces: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            caller, _ = server.accept()
            with caller:
                while not b"".join(pieces).endswith(b"the end"):
                    pieces.append(caller.recv(65536))
                caller.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1], pieces


@pytest.fixture
def proxy(tmp_path: Path, certificate: Path, behind: tuple[int, list[bytes]]) -> Iterator[int]:
    """Nginx with nginx.conf, but for the places that it has on this machine; returns its port."""
    nginx = program("nginx", package="nginx-light")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    for there, here in {
        "/tmp/": f"{tmp_path}/",
        "/run/secrets/tls_certificate": str(certificate),
        "/run/secrets/tls_key": str(certificate),
        "listen 8443": f"listen 127.0.0.1:{port}",
        "http://parley:8080": f"http://127.0.0.1:{behind[0]}",
        "/dev/stderr": str(tmp_path / "error.log"),
    }.items():
        assert there in text
        text = text.replace(there, here)
    config = tmp_path / "nginx.conf"
    config.write_text(text, encoding="utf-8")
    # Some builds open their own error log before they have read the configuration.
    command = [nginx, "-c", str(config), "-p", str(tmp_path), "-e", str(tmp_path / "error.log")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    # As root it would give up its rights, and could not read this test's folder.
    rights = "user root;" if os.getuid() == 0 else ""
    server = subprocess.Popen([*command, "-g", f"daemon off; {rights}"])
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def test_the_proxy_passes_a_whole_request_on_as_it_came(
    proxy: int, behind: tuple[int, list[bytes]]
) -> None:
    """Otherwise slow callers hold Parley's connections, or no signature is right."""
    target = b"/callbacks/twilio?one=it's&two=it%27s&three=%C3%A4+b"
    body = b"Body=it%27s+'" + b"x" * 100_000 + b"&End=the end"
    head = b"POST %b HTTP/1.1\r\nhost: sms.example.com\r\ncontent-length: %d\r\n\r\n"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", proxy), 10) as plain,
        context.wrap_socket(plain) as caller,
    ):
        caller.sendall(head % (target, len(body)) + body[:-10])
        time.sleep(0.5)
        assert behind[1] == []
        caller.sendall(body[-10:])
        assert caller.recv(100).startswith(b"HTTP/1.1 200")

    heard = b"".join(behind[1])
    assert heard.startswith(b"POST " + target + b" HTTP/1.1\r\n")
    assert heard.endswith(b"\r\n\r\n" + body)


# --- systemd ---------------------------------------------------------------------------------


def test_the_unit_is_one(tmp_path: Path) -> None:
    """Otherwise systemd ignores the line that is wrong, which may be the one that protects."""
    analyze = program("systemd-analyze", package="systemd")
    copy = tmp_path / "parley.service"
    installed = str(Path(sys.executable).parent / "parley")
    text = UNIT.read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/parley/bin/parley", installed), encoding="utf-8")
    command = [analyze, "verify", "--man=no", str(copy)]
    environ = {"PATH": os.environ["PATH"]}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)

    assert (found.returncode, found.stderr) == (0, "")


def test_the_unit_parses() -> None:
    """Otherwise a machine without systemd would let any text pass for a unit."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT, encoding="utf-8")

    assert parser.sections() == ["Unit", "Service", "Install"] == [*read_unit()]
    assert all(value is not None for section in parser.values() for value in section.values())


def test_the_unit_waits_and_protects(unit: dict[str, list[str]]) -> None:
    """Otherwise a stop loses what was under way, or a break-in gets further."""
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert unit["Restart"] == ["always"]
    assert unit["RestartPreventExitStatus"] == [str(OPERATOR_MUST_MEND)]
    # To all of them at once it would end the Redis of its own before what it has to keep.
    assert unit["KillMode"] == ["mixed"]
    assert seconds(unit["TimeoutStopSec"][0]) > STOP_GRACE_S + SUPERVISOR_S
    assert unit["NoNewPrivileges"] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["StateDirectory"] == ["parley"]
    assert "DATA_DIR=%S/parley" in unit["Environment"]


def test_each_credential_is_read_under_its_settings_name(unit: dict[str, list[str]]) -> None:
    """Otherwise the service looks for a file that systemd does not give it."""
    loaded = dict(each.split(":") for each in unit["LoadCredential"])
    read = dict(
        each.split("=", 1) for each in unit["Environment"] if each.partition("=")[0][-5:] == "_FILE"
    )

    assert read == {f"{name.upper()}_FILE": f"%d/{name}" for name in loaded}
    assert loaded == {name: f"/etc/parley/secrets/{name}" for name in loaded}


def test_commands_find_the_units_settings_as_the_page_says(tmp_path: Path) -> None:
    """Otherwise whoever runs a machine can't ask its Parley what is wrong."""
    page = DOCUMENT.read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(set -a.+?)\n```", page, re.DOTALL)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for each in read_unit()["Service"]["LoadCredential"]:
        (secrets / each.partition(":")[0]).write_text("0123456789abcdef" * 4)
    shutil.copy(DEPLOY / "parley.env", tmp_path)
    here = script.replace("/etc/parley", str(tmp_path))
    here = here.replace("/opt/parley/bin/parley ready", f"{sys.executable} -m service settings")
    environ = {"PATH": os.environ["PATH"], "CONFIG_DIR": str(ROOT / "config"), "COLUMNS": "300"}
    found = subprocess.run(
        ["sh", "-euc", here], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )

    assert found.returncode == 0, found.stdout + found.stderr
    assert f"file {secrets}/secret_key" in found.stdout
    assert "https://sms.example.com" in found.stdout


# --- Kubernetes ------------------------------------------------------------------------------


def manifests() -> list[Path]:
    """Every manifest but kustomize's own."""
    return sorted(set(MANIFESTS.glob("*.yaml")) - {MANIFESTS / "kustomization.yaml"})


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("path", manifests(), ids=lambda path: path.stem)
def test_each_manifest_is_one(path: Path, version: str) -> None:
    """Otherwise `kubectl apply` refuses it, or drops the field that is misspelt."""
    kubernetes_validate.validate(load(path), version, strict=True)


def test_a_misspelt_manifest_is_none() -> None:
    """Otherwise the test above would hold for anything."""
    wrong = load(MANIFESTS / "deployment.yaml")
    wrong["spec"]["template"]["spec"]["terminationGrace"] = 30

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[1], strict=True)


def test_all_but_the_example_of_secrets_is_applied() -> None:
    """Otherwise `kubectl apply -k` forgets a part, or puts placeholders over a team's secrets."""
    applied = set(load(MANIFESTS / "kustomization.yaml")["resources"])

    assert applied == {path.name for path in manifests()} - {"secret.yaml"}


def test_a_pod_is_left_alone_before_it_stops(pod: dict[str, Any]) -> None:
    """Otherwise callbacks come to a pod that has closed its door."""
    (container,) = pod["containers"]
    program, pause = container["lifecycle"]["preStop"]["exec"]["command"]

    assert program == "sleep"
    stopping_s = seconds(pause) + STOP_GRACE_S + SUPERVISOR_S
    assert pod["terminationGracePeriodSeconds"] > stopping_s
    # Found out by the probe as well, before the pause is over.
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < seconds(pause)


def test_probes_ask_a_listener_that_they_reach(pod: dict[str, Any]) -> None:
    """Otherwise no pod is ever ready: the kubelet comes to the pod's address."""
    (container,) = pod["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    given = {each["name"]: each["value"] for each in container["env"]}

    assert ports == {
        "public": Settings.model_fields["port"].default,
        "internal": Settings.model_fields["internal_port"].default,
    }
    assert given["INTERNAL_HOST"] == "0.0.0.0"  # noqa: S104  (in the pod)
    assert given["INTERNAL_PORT"] == str(ports["internal"])
    assert container["startupProbe"]["httpGet"] == {"path": "/readyz", "port": "internal"}
    # Not /readyz: it fails in all pods at once while the connector refuses us, and texts are taken.
    assert container["readinessProbe"]["httpGet"] == {"path": "/healthz", "port": "public"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "internal"}


def test_a_pod_cannot_do_more_than_it_needs(pod: dict[str, Any]) -> None:
    """Otherwise a break-in gets further, or the namespace refuses the pod."""
    (container,) = pod["containers"]
    user = pod["securityContext"]["runAsUser"]

    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(rf"^USER {user}:{pod['securityContext']['runAsGroup']}$", recipe, re.MULTILINE)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_secret_that_is_read_is_in_the_example(pod: dict[str, Any]) -> None:
    """Otherwise a pod looks for a file that the Secret does not hold."""
    (container,) = pod["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "secrets"]
    read = {
        each["name"]: each["value"] for each in container["env"] if each["name"].endswith("_FILE")
    }
    secret = load(MANIFESTS / "secret.yaml")

    held = secret["stringData"]
    assert read == {f"{name.upper()}_FILE": f"{mount['mountPath']}/{name}" for name in held}
    assert all(value.startswith("<") for value in held.values())
    (volume,) = [each for each in pod["volumes"] if each["name"] == "secrets"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]


def test_the_internal_port_stays_inside() -> None:
    """Otherwise the internet, or every pod of the cluster, reads readiness and metrics."""
    (port,) = load(MANIFESTS / "service.yaml")["spec"]["ports"]
    rules = load(MANIFESTS / "network.yaml")["spec"]["ingress"]

    assert port["targetPort"] == "public"
    reached = {
        rule["ports"][0]["port"]: rule["from"][0]["namespaceSelector"]["matchLabels"]
        for rule in rules
    }
    assert reached == {
        "public": {"kubernetes.io/metadata.name": "ingress-nginx"},
        "internal": {"kubernetes.io/metadata.name": "monitoring"},
    }


def test_all_of_it_selects_the_same_pods() -> None:
    """Otherwise a service, a budget or a policy is about nothing."""
    deployment = load(MANIFESTS / "deployment.yaml")["spec"]
    labels = deployment["template"]["metadata"]["labels"]

    assert deployment["selector"]["matchLabels"] == labels
    assert load(MANIFESTS / "service.yaml")["spec"]["selector"] == labels
    assert load(MANIFESTS / "disruption.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert load(MANIFESTS / "network.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    (constraint,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert constraint["labelSelector"]["matchLabels"] == labels
    settings = load(MANIFESTS / "settings.yaml")["metadata"]["name"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": settings}}]


# --- all of them -----------------------------------------------------------------------------


def test_a_stop_is_given_the_time_it_takes(parley: dict[str, Any]) -> None:
    """Otherwise what was under way is killed, and is done again after the next start."""
    assert seconds(parley["stop_grace_period"]) > STOP_GRACE_S + SUPERVISOR_S


def test_the_page_names_every_file() -> None:
    """Otherwise nobody finds out what a file is for."""
    page = DOCUMENT.read_text(encoding="utf-8")

    assert [path.name for path in DEPLOY.iterdir() if f"{path.name}" not in page] == []
    assert set(re.findall(r"`config/deploy/([\w./]+)`", page)) <= {
        str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*")
    } | {"kubernetes/"}
    names = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", page)) - {"NAME_FILE", "NOTIFY_SOCKET"}
    assert [name for name in sorted(names) if not is_setting(name)] == []
