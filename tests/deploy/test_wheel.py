"""The wheel is the same bytes wherever it is built, and holds what is used and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.mark.slow
def test_two_builds_in_two_places_are_the_same_bytes(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([ROOT / "deploy/wheel.sh", tmp_path], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name in done.stdout
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"zopp", "zopp_server"}
    assert any(name.startswith("zopp/_policies/") for name in names)
    assert not any(name.endswith((".pyc", ".so")) or "test" in name for name in names)
