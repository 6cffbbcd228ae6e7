"""Measure `zopp history KEY`, `blame` and `textconv` as cold processes, beside `git log -- FILE` in the same run.

`python benchmarks/history.py [--rounds N] [--commits N] [--touching N] [--keys N]` makes a workspace with zopp, then
with `git fast-import` a history of many commits, some of which change one value of the file (and its manifest, whose
signature only the last has: who signed the others is said to be unknown, which costs the same question). Each row is
the median of wall times; programs alternate round by round. Uses the zopp of the interpreter that runs this.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILE, MANIFEST = "secrets/development.yaml", ".zopp/manifest/api/development.json"


class Place:
    """A home and a repository."""

    def __init__(self, box: Path) -> None:
        self.repo, self.home = box / "repo", box / "home"
        self.repo.mkdir()
        self.home.mkdir()
        beside = Path(sys.executable).parent / "zopp"
        self.zopp = [str(beside)] if beside.exists() else [sys.executable, "-m", "zopp.cli.main"]
        self.env = {
            "HOME": str(self.home), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8",
        }  # fmt: skip

    def run(self, *argv: str, data: bytes = b"") -> bytes:
        """Run it in the repository; its output."""
        done = subprocess.run(argv, cwd=self.repo, env=self.env, input=data, check=False, capture_output=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)}: {done.stderr.decode()}")
        return done.stdout

    def build(self, commits: int, touching: int, keys: int) -> None:
        """The workspace, and its history on top."""
        self.run("git", "init", "-q", "-b", "main", ".")
        for name, value in (("user.name", "Ann"), ("user.email", "ann@example.org"), ("gc.auto", "0")):
            self.run("git", "config", name, value)
        names = ("--workspace", "acme", "--project", "api", "--user", "ann", "--device", "ann-laptop")
        self.run(*self.zopp, "init", *names, "--template", "team", "--no-recovery", "-m", "start")
        plain = "".join(f"KEY{n}=value-number-{n:06}\n" for n in range(keys)).encode()
        self.run(*self.zopp, "import", "-", "-m", "values", data=plain)
        body = self.repo.joinpath(FILE).read_text()
        manifest = self.repo.joinpath(MANIFEST).read_text()
        lines = body.split("\n")
        stream = []
        every = max(1, commits // touching)
        parent = self.run("git", "rev-parse", "HEAD").decode().strip()
        for number in range(1, commits + 1):
            subject = f"commit {number}"
            who = f"Ann <ann@example.org> {1_700_000_000 + number * 60} +0000"
            stream.append(
                f"commit refs/heads/main\nmark :{number}\nauthor {who}\ncommitter {who}\n"
                f"data {len(subject)}\n{subject}\n"
            )
            stream.append(f"from {parent}\n" if number == 1 else f"from :{number - 1}\n")
            stream.append(f"M 100644 inline src/part{number % 97}/file{number % 11}.txt\ndata 8\n{number:08}\n")
            if number % every == 0:
                at = (number // every) % keys
                row = next(i for i, line in enumerate(lines) if line.startswith(f"KEY{at}: "))
                head, _, text = lines[row].partition("data:")
                lines[row] = f"{head}data:{_other(text, number)}"
                body = "\n".join(lines)
                for path, content in (
                    (FILE, body),
                    (MANIFEST, manifest.replace('"meta":{}', f'"meta":{{"n":{number}}}')),
                ):
                    stream.append(f"M 100644 inline {path}\ndata {len(content.encode())}\n{content}\n")
            stream.append("\n")
        self.run("git", "fast-import", "--quiet", "--force", data="".join(stream).encode())
        self.run("git", "reset", "-q", "--hard", "main")
        self.run("git", "repack", "-adq")

    def cold(self, argv: list[str]) -> tuple[float, float]:
        """Seconds of one process by the clock, and of processor time, its children's included."""
        began = time.perf_counter()
        child = subprocess.Popen(
            argv, cwd=self.repo, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, used = os.wait4(child.pid, 0)
        took = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(argv)}: exit {child.returncode}")
        return took, used.ru_utime + used.ru_stime


def _other(text: str, number: int) -> str:
    """The ciphertext with other characters in front, as long as before."""
    mark = f"{number:08}"
    return mark + text[len(mark) :]


def main() -> None:
    """Make the repository, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rounds", 15), ("commits", 10_000), ("touching", 500), ("keys", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zopp-history-") as folder:
        place = Place(Path(folder))
        place.build(args.commits, args.touching, args.keys)
        rows = {
            "git log --oneline -- FILE": ["git", "log", "--oneline", "--", FILE],
            "zopp history KEY": [*place.zopp, "history", "KEY3"],
            "zopp blame": [*place.zopp, "blame"],
            "zopp history": [*place.zopp, "history"],
            "zopp textconv FILE": [*place.zopp, "textconv", FILE],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        for argv in rows.values():
            place.cold(argv)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        for _ in range(args.rounds):
            for name, argv in rows.items():
                times[name].append(place.cold(argv))
        print(f"{args.commits} commits, {args.touching} touch the file of {args.keys} keys; medians of {args.rounds}")
        for name, found in times.items():
            wall, used = ([pair[n] * 1000 for pair in found] for n in (0, 1))
            print(
                f"{name:28} {statistics.median(wall):8.1f} ms   best {min(wall):7.1f}   "
                f"processor {statistics.median(used):7.1f} ms"
            )


if __name__ == "__main__":
    main()
