"""`make demo` is the first thing that anyone runs: it stops at the first step that does not end as it should."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_demo_runs_to_its_end(tmp_path: Path) -> None:
    for name, module in (("zopp", "zopp.cli.main"), ("age-plugin-zopp", "zopp.client.plugin")):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        program.chmod(0o755)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PYTHON": sys.executable,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'server'}",
        "ZOPP": str(tmp_path / "zopp"),
    }
    done = subprocess.run(["bash", ROOT / "examples/demo.sh"], env=env, capture_output=True, timeout=600, check=False)
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    assert said.count("failed: ") == 6, said  # one for each attack, one for the owner's row, and none beside
    assert "the first bad record is" in said
