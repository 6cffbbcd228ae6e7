"""Command-line behaviour as scripts that can be read: `*.txt` beside this file.

A line `$ COMMAND` is run by bash in the script's work folder; the indented lines below it are what stdout and stderr
together must be; `[N]` is the exit code if it is not 0. `…` in a line stands for any text, a line `…` for any lines.
Lines without indentation are for the reader. `zopp` is this checkout; HOME is empty; there is a git repository.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SCRIPTS = sorted(HERE.glob("*.txt"))


def blocks(text: str) -> list[tuple[int, str, list[str], int]]:
    """(line, command, expected lines, exit code) of each command."""
    found: list[tuple[int, str, list[str], int]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("$ "):
            found.append((number, line[2:], [], 0))
        elif found and line.startswith("    "):
            found[-1][2].append(line[4:])
        elif found and re.fullmatch(r"\[\d+\]", line):
            found[-1] = (*found[-1][:3], int(line[1:-1]))
    return found


def fits(expected: list[str], said: list[str]) -> bool:
    """Whether the lines are as expected, `…` standing for anything."""
    if not expected:
        return not said
    if expected[0] == "…":
        return fits(expected[1:], said) or (bool(said) and fits(expected, said[1:]))
    pattern = ".*".join(re.escape(part) for part in expected[0].split("…"))
    return bool(said) and re.fullmatch(pattern, said[0]) is not None and fits(expected[1:], said[1:])


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script(script: Path, tmp_path: Path) -> None:
    binaries, home, work = tmp_path / "bin", tmp_path / "home", tmp_path / "shop"
    for folder in (binaries, home, work):
        folder.mkdir()
    program = binaries / "zopp"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zopp.cli.main "$@"\n')
    program.chmod(0o755)
    env = {"PATH": f"{binaries}:{os.environ['PATH']}", "HOME": str(home), "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Alice\n\temail = alice@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    subprocess.run(["git", "init", "-q", "."], cwd=work, env=env, check=True)
    for number, command, expected, code in blocks(script.read_text()):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        said = done.stdout.decode().replace(str(tmp_path), "~").rstrip("\n").split("\n")
        said = [] if said == [""] else said
        assert done.returncode == code, f"{script.name}:{number}: exit {done.returncode}\n" + "\n".join(said)
        assert fits(expected, said), f"{script.name}:{number}: said\n" + "\n".join(said)
