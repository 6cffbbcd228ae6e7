"""What stands for a timed test: the modules loaded, patterns compiled and processes started on the fast path."""

import json
import subprocess
import sys
from pathlib import Path

from tests.scan.repo import ROOT, Repo, sealed, site_packages, token

PROGRAM = """
import os, sys
sys.path[:0] = sys.argv.pop(1).split(":")
report_to = sys.argv.pop(1)
before = set(sys.modules)
started = []
spawn = os.posix_spawnp
def counted(name, argv, *args, **kwargs):
    started.append(argv)
    return spawn(name, argv, *args, **kwargs)
os.posix_spawnp = counted
leave = os._exit
def reporting(code):
    patterns = getattr(sys.modules.get("zopp.scan.match"), "_compiled", ())
    with open(report_to, "w") as file:
        file.write(repr([sorted(set(sys.modules) - before), len(patterns), [" ".join(a) for a in started], code]))
    leave(code)
os._exit = reporting
from zopp.scan.guard import main
main()
"""
HEAVY = {
    "argparse", "base64", "contextlib", "dataclasses", "datetime", "enum", "hashlib", "json", "logging", "pathlib",
    "subprocess", "tempfile", "tomllib", "typing", "yaml", "re2", "fnmatch", "cryptography",
}  # fmt: skip


WITH_RE = HEAVY - {"enum"}  # `re` brings it


def run(repo: Repo, *argv: str) -> tuple[set[str], int, list[str], int]:
    out = repo.base / "loaded"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, f"{ROOT}:{site_packages()}", str(out), *argv],
        cwd=repo.path, env=repo.env, capture_output=True, check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    modules, patterns, started, code = json.loads(out.read_text().replace("'", '"'))
    return set(modules), patterns, started, code


def test_a_small_clean_file(repo: Repo) -> None:
    """No `re`, no parser, two git processes."""
    repo.stage("app.py", "def main():\n    return 1\n" * 13)
    modules, patterns, started, code = run(repo)
    assert code == 0
    assert not modules & (HEAVY | {"re"})
    assert patterns == 0
    assert [line.split()[2] for line in started] == ["diff", "cat-file"]


CODE = """
import os
def f(request, token=None, *, api_key: str | None = None):
    password = os.environ.get("PASSWORD", 12)
    url = 'http://x'
    pass
"""


def test_a_file_with_credential_words_and_no_values(repo: Repo) -> None:
    """As most code: no `re` either."""
    repo.stage("app.py", CODE * 13)
    modules, patterns, started, code = run(repo)
    assert code == 0
    assert not modules & (HEAVY | {"re"})
    assert patterns == 0
    assert len(started) == 2


def test_a_file_with_something_like_a_value(repo: Repo) -> None:
    """`re`, and the one pattern that is needed."""
    repo.stage("app.py", "password = 'changeme'\nurl = 'http://x:y@'\n" * 13)
    modules, patterns, started, code = run(repo)
    assert code == 0
    assert not modules & WITH_RE
    assert patterns == 1
    assert len(started) == 2


def test_rules_are_parsed_once(repo: Repo) -> None:
    """The second run reads the cache: no YAML, no TOML."""
    repo.stage(".sops.yaml", "creation_rules:\n  - path_regex: ^secrets/.*\\.yaml$\n")
    repo.stage("zopp.toml", "[guard]\nplain = ['x']\n")
    repo.stage("secrets/a.yaml", sealed("a: b\n"))
    first, _, _, code = run(repo)
    assert code == 0
    assert {"yaml", "tomllib"} <= first
    second, _, started, code = run(repo)
    assert code == 0
    assert not second & WITH_RE
    assert len(started) == 2


def test_a_finding(repo: Repo) -> None:
    """What is replaced is fetched by the same process."""
    repo.stage("app.py", "x = 1\n")
    repo.commit()
    repo.stage("app.py", f"x = '{token()}'\n")
    modules, patterns, started, code = run(repo)
    assert code == 1
    assert not modules & WITH_RE
    assert patterns == 1
    assert len(started) == 2


def test_nothing_of_the_command_line_is_loaded(repo: Repo) -> None:
    repo.stage("a.txt", "x\n")
    modules, _, _, _ = run(repo)
    ours = {name for name in modules if name.startswith("zopp")}
    assert not {name for name in ours if name.startswith(("zopp.cli", "zopp.client", "zopp.exchange", "zopp.protocol"))}
    assert Path(ROOT).exists()
