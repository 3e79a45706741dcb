"""Does the compose file describe a locked-up service whose parts agree with each other, with .env and with the settings?"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.settings import Settings
from gateway.processes.process_pool import GRACE_SECONDS
from gateway.processes.supervisor import DRAIN_NOTICE_SECONDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RUNNING = [name for name in SERVICES if name != "clients"]  # that one runs a command and ends
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?:(:?[-?])((?:[^{}]|\{[^{}]*\})*))?\}")

COMPOSE_COMMANDS = (["docker", "compose"], ["docker-compose"])

every_service = pytest.mark.parametrize("name", SERVICES)
every_running_service = pytest.mark.parametrize("name", RUNNING)


def resolved(value: object) -> str:
    """A value as compose would read it with an empty .env."""
    return VARIABLE.sub(lambda match: match[3] if "-" in (match[2] or "") else "", str(value))


def is_inside(name: str) -> bool:
    """Whether all networks of a service are without a way out."""
    return all((COMPOSE["networks"][network] or {}).get("internal") for network in SERVICES[name]["networks"])


def test_compose_takes_the_file(tmp_path: Path) -> None:
    """Every key and value has the form that compose asks for, in every profile; no engine is needed for that."""
    found = [each for each in COMPOSE_COMMANDS if shutil.which(each[0])]
    found = [
        each for each in found if not subprocess.run([*each, "version"], check=False, capture_output=True).returncode
    ]
    if not found:
        pytest.skip("no docker compose is installed")
    filled = tmp_path / "env"
    filled.write_text("STORE_PASSWORD=x\nGRAFANA_PASSWORD=x\nRUN_AS=10001:10001\n")
    command = [*found[0], "--env-file", str(filled), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("site", ["http://", "https://localhost"])
def test_caddy_takes_its_configuration(tmp_path: Path, site: str) -> None:
    """The installed Caddy, old or new, loads what deploy/caddy/start.sh would have it run."""
    caddy = shutil.which("caddy")
    if not caddy:
        pytest.skip("no caddy is installed")
    instead = tmp_path / "caddy"
    validate = f"{caddy} validate --adapter caddyfile --config {ROOT}/deploy/caddy/Caddyfile"
    instead.write_text(f'#!/bin/sh\ncase $1 in run) exec {validate} ;; *) exec {caddy} "$@" ;; esac\n')
    instead.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SITE": site, "POOL": "10.94.64"}
    environment |= {name: str(tmp_path / "kept") for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    start = ["sh", str(ROOT / "deploy/caddy/start.sh")]
    done = subprocess.run(start, check=False, env=environment, capture_output=True, text=True)
    assert "Valid configuration" in done.stdout + done.stderr, done.stderr
    assert done.returncode == 0


@every_service
def test_z1_every_container_is_locked_up(name: str) -> None:
    """Z1: read-only, no capabilities, no new privileges, an init, no root, default seccomp, temporary files not run."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "pid", "ipc", "devices"} & set(service)
    assert all({"noexec", "nosuid", "nodev"} <= set(each.partition(":")[2].split(",")) for each in service["tmpfs"])
    user = service.get("user", "the image's")
    assert user.split(":")[0] != "0"
    assert user != "the image's" or name == "sandbox"  # whose image is ours: test_dockerfile.py


@every_service
def test_z1_every_container_is_limited(name: str) -> None:
    """Z1, X4: processes, memory and processor time have a limit; that of open files is above what calls need."""
    service = SERVICES[name]
    assert service["pids_limit"] > 0
    assert float(resolved(service["cpus"])) > 0
    assert service["ulimits"] == {"core": 0, "nofile": 16384}
    assert re.fullmatch(r"[1-9][0-9]*[mg]", resolved(service["mem_limit"]))


@every_running_service
def test_z1_every_container_tells_its_health(name: str) -> None:
    """Z1: each part has a health check, of its own or of our image."""
    service = SERVICES[name]
    assert service.get("healthcheck", {}).get("test") or service["build"]["target"] in {"gateway", "sandbox"}
    assert not service.get("healthcheck", {}).get("disable")


def test_z1_only_two_doors_are_open() -> None:
    """Z1, R8: callers' port and Grafana are published, on 127.0.0.1 unless set otherwise, and nothing else is."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert {name: [resolved(port) for port in ports] for name, ports in published.items()} == {
        "proxy": ["127.0.0.1:8080:8080"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    assert not any("network_mode" in service for name, service in SERVICES.items() if name != "clients")


def test_z1_the_networks_keep_apart_what_need_not_meet() -> None:
    """Z1, R8: stores and gateways have no way out, only gateways reach the stores, and one relay leads outside."""
    assert {name for name in RUNNING if "stores" in SERVICES[name]["networks"]} == {"gateway", "state", "cache"}
    assert {"gateway", "state", "cache", "prometheus", "sandbox"} <= {name for name in RUNNING if is_inside(name)}
    assert {name for name in RUNNING if "outside" in SERVICES[name]["networks"]} == {"egress"}
    assert set(SERVICES["state"]["networks"]) == set(SERVICES["cache"]["networks"]) == {"stores"}


def test_z2_every_image_has_an_exact_version() -> None:
    """Z2: what is not built here is pinned to three numbers."""
    for name, service in SERVICES.items():
        if "build" not in service and name != "clients":
            tag = resolved(service["image"]).rpartition(":")[2]
            assert re.fullmatch(r"v?[0-9]+\.[0-9]+\.[0-9]+(-[a-z-]+)?", tag), name
    base = (ROOT / "Dockerfile").read_text().split("ARG PYTHON=")[1].split()[0]
    pythons = {SERVICES["gateway"]["build"]["args"]["PYTHON"], SERVICES["egress"]["image"]}
    assert {resolved(python) for python in pythons} == {base}


def test_no_secret_stands_in_the_files() -> None:
    """S1: passwords come from .env, which git does not have; the upstream key comes as a file and in no variable."""
    ignored = (ROOT / ".gitignore").read_text().split()
    folders = {"deploy/secrets/", "deploy/config/", "deploy/certificates/", "deploy/state/"}
    files = {".env", "deploy/demo.key", "backup.tgz", "deploy/alertmanager/webhook_url", "docker-compose.override.yml"}
    assert folders | files <= set(ignored)
    assert "GATEWAY_UPSTREAM_KEY" not in TEXT + ENV_EXAMPLE
    assert re.search(r"^STORE_PASSWORD=$", ENV_EXAMPLE, re.MULTILINE)
    assert re.search(r"^GRAFANA_PASSWORD=$", ENV_EXAMPLE, re.MULTILINE)
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if variable.endswith(("PASSWORD", "_AUTH")):
                assert not resolved(value), variable
            elif variable.endswith("REDIS_URL"):
                assert resolved(value).startswith("redis://:@"), variable
    assert "STORE_PASSWORD" not in str([service.get("command") for service in SERVICES.values()])


def test_the_variables_of_env_are_those_that_are_used() -> None:
    """A name stands in .env.example and in the compose file, or in neither."""
    offered = set(re.findall(r"^#?([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE))
    passed = {name for name, value in SERVICES["gateway"]["environment"].items() if value is None}
    assert offered == {match[0] for match in VARIABLE.findall(TEXT)} | passed


def test_what_env_says_of_a_default_is_true() -> None:
    """Taking over .env.example as it is changes nothing."""
    defaults = {name: default for name, sign, default in VARIABLE.findall(TEXT) if "-" in sign}
    for name, value in re.findall(r"^#?([A-Z_]+)=(.+)$", ENV_EXAMPLE, re.MULTILINE):
        field = Settings.model_fields.get(name.removeprefix("GATEWAY_").lower())
        if name in defaults:
            assert value == defaults[name], name
        elif name != "PYTHON":
            assert field is not None, name
            assert value.lower() == str(field.default).lower(), name


def test_the_gateway_gets_settings_that_it_knows() -> None:
    """Every GATEWAY_ variable is a setting, and every setting is there but those that containers fix."""
    given = {name.removeprefix("GATEWAY_").lower() for name in SERVICES["gateway"]["environment"]}
    fixed = {
        "host",
        "port",
        "metrics_host",
        "metrics_port",
        "clients_file",
        "data_dir",
        "upstream_key",
        "upstream_key_file",
    }
    assert given | fixed == set(Settings.model_fields)
    assert not given & fixed


def test_x1_docker_waits_longer_than_the_gateway() -> None:
    """X1: the grace period exceeds the notice, the drain and what comes after it, whatever the drain is set to."""
    for name in ("gateway", "proxy"):
        grace = SERVICES[name]["stop_grace_period"]
        drain, more = re.fullmatch(r"\$\{GATEWAY_DRAIN_SECONDS:-([0-9]+)\}s([0-9]+)s", grace).groups()  # type: ignore[union-attr]
        assert float(drain) == Settings.model_fields["drain_seconds"].default
        assert float(more) > DRAIN_NOTICE_SECONDS + GRACE_SECONDS


def test_the_proxy_knows_every_address_of_a_gateway() -> None:
    """Every address that the network `pool` gives away is one that Caddy checks, and the proxy's own is none of them."""
    caddyfile = (ROOT / "deploy/caddy/Caddyfile").read_text()
    pool = COMPOSE["networks"]["pool"]["ipam"]["config"][0]
    assert pool["ip_range"].endswith(".0/28")
    listed = [int(last) for last in re.findall(r"\{\$POOL\}\.([0-9]+):8080", caddyfile)]
    assert listed == list(range(2, 15))  # .0 is the network, .1 the bridge, .15 kept from use
    assert SERVICES["proxy"]["networks"]["pool"]["ipv4_address"].endswith(".30")


def test_what_is_mounted_is_there_or_made_by_init() -> None:
    """Mounts are folders, so that a file replaced in one is seen; each is in git or made by deploy/init.sh."""
    made = (ROOT / "deploy/init.sh").read_text()
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.startswith("./"):
                assert (ROOT / source).is_dir() or source[2:] in made, source
                assert mode == ["ro"] or (name, target) in {
                    ("clients", "/config"),
                    ("proxy", "/data"),
                    ("state", "/data"),
                }
            else:
                assert source in COMPOSE["volumes"]
