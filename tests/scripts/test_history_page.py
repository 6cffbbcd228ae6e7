"""What `docs/history.md` shows is what the commands print, but for commits, times, digests and recipients."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VARYING = (
    (r"\b[0-9a-f]{12}\b", "COMMIT"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "WHEN"),
    (r"age1\w+…\w+", "RECIPIENT"),
)


def level(text: str) -> str:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text


def test_the_page_is_true(tmp_path: Path) -> None:
    binaries, home, work = tmp_path / "bin", tmp_path / "home", tmp_path / "shop"
    for folder in (binaries, home, work):
        folder.mkdir()
    program = binaries / "zopp"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zopp.cli.main "$@"\n')
    program.chmod(0o755)
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Alice\n\temail = alice@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    env = {"PATH": f"{binaries}:{os.environ['PATH']}", "HOME": str(home), "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1), (command, done.stdout)
        return done.stdout.decode().rstrip("\n")

    run("git init -q . && zopp init --no-recovery --project api --workspace acme --device alice-laptop -m start")
    blocks = re.findall(r"^```console\n(.*?)^```$", (ROOT / "docs/history.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            assert level(run(command)) == level(expected.rstrip("\n")), command
