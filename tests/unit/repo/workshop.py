"""A real small workspace for tests: git, keys, log, signed manifests, made by the command line itself."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zopp._fast import sha512
from zopp.keys import find, sshsig
from zopp.policy import canonical, manifest as manifests
from zopp.repo import layout, userdirs

VALUES = {"ALPHA": "one", "BETA": "zwei", "GAMMA": "a longer value, with = and 'quotes'"}


class Workshop:
    """`repo` is the working copy of ann, `env` her environment; development has VALUES, staging one value."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.repo = folder / "repo"
        self.home.mkdir(parents=True)
        self.repo.mkdir()
        self.env = {"HOME": str(self.home), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "Ann")
        self.git("config", "user.email", "ann@example.com")
        names = ["--workspace", "acme", "--project", "api", "--user", "ann", "--device", "ann-laptop"]
        self.zopp("init", *names, "--template", "team", "--no-recovery", "-m", "start")
        for key, value in VALUES.items():
            self.zopp("set", key, "-m", key, data=value.encode())
        self.zopp("set", "OTHER", "-e", "staging", "-m", "other", data=b"x")

    def git(self, *args: str) -> None:
        subprocess.run(["git", *args], cwd=self.repo, env=self.env, check=True, capture_output=True)

    def zopp(self, *args: str, data: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
        root = str(Path(__file__).resolve().parents[3])
        argv = [sys.executable, "-m", "zopp.cli.main", *args]
        done = subprocess.run(
            argv, input=data, cwd=self.repo, env={**self.env, "PYTHONPATH": root}, capture_output=True
        )
        assert done.returncode == code, done.stderr.decode()
        return done

    # --- what lies where

    @property
    def cache(self) -> Path:
        """The cached view of the policy."""
        (found,) = Path(userdirs.cache(self.env), "policy").iterdir()
        return found

    @property
    def pin(self) -> Path:
        (found,) = Path(userdirs.state(self.env), "clones").iterdir()
        return found

    def path(self, name: str) -> Path:
        return self.repo / name

    MANIFEST = layout.manifest_path("api/development")
    SECRETS = "secrets/development.yaml"

    # --- changing and putting back

    def snapshot(self) -> "Snapshot":
        return Snapshot(self)

    def resign(self, change: Callable[[dict[str, Any]], None], env: str = "api/development") -> None:
        """The manifest with `change` made to it and hashes brought up to date, signed by ann."""
        where = self.repo / layout.manifest_path(env)
        body = json.loads(where.read_bytes())
        for listed in body["files"]:
            if (self.repo / listed).exists():
                body["files"][listed]["sha512"] = sha512((self.repo / listed).read_bytes()).hex()
        change(body)
        data = canonical.encode(body)
        key = find.signing_key(self.env, userdirs.config(self.env)).key
        assert key is not None
        where.write_bytes(data)
        armored = sshsig.armor(key.public, manifests.NAMESPACE, key.sign(manifests.to_sign(data)))
        where.with_name(where.name + ".sig").write_text(armored)


class Snapshot:
    """The work tree and the user's folders, to be put back as they were on leaving the block."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop

    def _take(self) -> dict[Path, bytes]:
        found = {}
        for top in (self.shop.repo, self.shop.home):
            for folder, _, names in os.walk(top):
                for name in names:
                    path = Path(folder, name)
                    if not path.is_symlink() and path.is_file():
                        found[path] = path.read_bytes()
        return found

    def __enter__(self) -> None:
        self.files = self._take()
        self.modes = {path: path.stat().st_mode for path in self.files}

    def __exit__(self, *exc: object) -> None:
        for top in (self.shop.repo, self.shop.home):
            for folder, folders, names in os.walk(top, topdown=False):
                for name in [*names, *folders]:
                    path = Path(folder, name)
                    if path.is_symlink() or (path.is_file() and path not in self.files):
                        path.unlink()
        for path, data in self.files.items():
            if path.is_dir():
                shutil.rmtree(path)
            if not path.is_file() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.exists():
                    path.chmod(0o600)
                path.write_bytes(data)
            path.chmod(self.modes[path])
