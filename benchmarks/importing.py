"""How long `zopp import` takes apart from its source's own time, and how much memory, by the number of secrets.

    python benchmarks/importing.py [--sizes 1000 10000 30000] [--rounds 3]

Each round makes a repository and imports a .env file of that many keys three times: all new, all unchanged, all
changed. Every import is a process of its own; times are wall seconds, memory is the peak of that process. Medians.
"""

import argparse
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def zopp(repo: Path, environ: dict[str, str], *words: str) -> tuple[float, float]:
    """(seconds, peak MB) of one command, which must succeed."""
    begin = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "zopp.cli.main", *words],
        cwd=repo,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    took = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, said.decode()
    return took, usage.ru_maxrss / 1024


def write(repo: Path, size: int) -> None:
    lines = [f"K{number}={secrets.token_hex(10)}\n" for number in range(size)]
    (repo / "all.env").write_text("".join(lines))


def one(size: int) -> dict[str, tuple[float, float]]:
    with tempfile.TemporaryDirectory() as base:
        repo, home = Path(base, "repo"), Path(base, "home")
        repo.mkdir()
        home.mkdir()
        environ = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parent.parent), *sys.path[1:]]),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        for words in (("init", "-q"), ("config", "user.name", "b"), ("config", "user.email", "b@example.com")):
            subprocess.run(["git", *words], cwd=repo, env=environ, check=True)
        zopp(repo, environ, "init", "--no-recovery", "--project", "api", "--workspace", "acme", "--device", "d")
        found = {}
        write(repo, size)
        found["new"] = zopp(repo, environ, "import", "all.env")
        found["unchanged"] = zopp(repo, environ, "import", "all.env")
        write(repo, size)
        found["changed"] = zopp(repo, environ, "import", "all.env")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 25_000])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    for size in args.sizes:
        rounds = [one(size) for _ in range(args.rounds)]
        for kind in ("new", "unchanged", "changed"):
            seconds = statistics.median(found[kind][0] for found in rounds)
            memory = statistics.median(found[kind][1] for found in rounds)
            print(f"{size:>6} {kind:<9}  {seconds:5.2f} s  {memory:4.0f} MB")


if __name__ == "__main__":
    main()
