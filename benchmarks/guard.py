"""Measure the guard beside other scanners in the same run: `python benchmarks/guard.py [--rounds 5] [--runs 20]`.

Builds a wheel and installs it, detect-secrets and kingfisher-bin each into an environment of its own in a temporary
folder, and interleaves the tools round by round. Every process is fresh, interpreter start and git calls included, page
cache warm, no network but pip's. Beside the times stands the floor of the same run (`python -I -S -c pass`): machines
are shared, so read the ratios and watch the load. Peers that cannot be installed are left out and said.
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
QUIET = ("--no-validate", "--quiet", "--no-update-check")
PEERS = {"detect-secrets": "detect-secrets==1.5.0", "kingfisher": "kingfisher-bin==2.14.0"}


class Box:
    """The temporary folder: environments, a home, repositories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
        }
        (self.home / ".gitconfig").write_text(
            "[user]\n\tname = A\n\temail = a@example.org\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n"
        )
        self.peers: dict[str, Path] = {}

    def install(self) -> None:
        """zopp from a wheel, and each peer, apart."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        wheels = self.folder / "wheels"
        subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT], check=True)
        venv = self.folder / "zopp"
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        inside = [*pip[:3], "--python", venv / "bin/python", *pip[3:], "install"]
        subprocess.run([*inside, "--require-hashes", "-r", ROOT / "requirements/runtime.txt"], check=True)
        subprocess.run([*inside, "--no-deps", *wheels.glob("*.whl")], check=True)
        self.python = venv / "bin/python"
        self.zopp = venv / "bin/zopp"
        for name, requirement in PEERS.items():
            place = self.folder / name
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            inside = [*pip[:3], "--python", place / "bin/python", *pip[3:], "install", requirement]
            if subprocess.run(inside, check=False, capture_output=True).returncode == 0:
                self.peers[name] = place / "bin"

    def git(self, repo: Path, *argv: str, data: bytes | None = None) -> str:
        done = subprocess.run(["git", *argv], cwd=repo, env=self.env, capture_output=True, check=True, input=data)
        return done.stdout.decode()

    def repo(self, name: str) -> Path:
        """A repository with one commit and zopp's hooks."""
        path = self.folder / name
        path.mkdir()
        self.git(path, "init", "-q")
        (path / "README").write_text("hello\n")
        self.git(path, "add", "--all")
        self.git(path, "commit", "-q", "-m", "start")
        subprocess.run([self.zopp, "hooks", "install"], cwd=path, env=self.env, check=True, capture_output=True)
        return path


def timed(argv: list[object], cwd: Path, env: dict[str, str], data: bytes = b"") -> tuple[float, float, int, int]:
    """(wall ms, processor ms, peak MB, exit code) of a fresh process."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [str(each) for each in argv], cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert child.stdin is not None
    child.stdin.write(data)
    child.stdin.close()
    _, status, usage = os.wait4(child.pid, 0)
    wall = (time.perf_counter() - start) * 1000
    child.returncode = os.waitstatus_to_exitcode(status)
    return wall, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss // 1024, child.returncode


def row(name: str, walls: list[float], floor: list[float]) -> None:
    """min, median and p95, and the median as a multiple of the floor."""
    ordered = sorted(walls)
    p95 = ordered[int(len(ordered) * 0.95) - 1]
    middle, base = statistics.median(walls), statistics.median(floor)
    print(
        f"    {name:16} min {ordered[0]:7.1f}  median {middle:7.1f}  p95 {p95:7.1f} ms   {middle / base:5.1f} × floor"
    )


def interleaved(
    box: Box,
    args: argparse.Namespace,
    repo: Path,
    tools: dict[str, list[object]],
    before: Callable[[], None] = lambda: None,
) -> None:
    """The tools in turn, `runs` times a round; the floor is one of them."""
    tools = {"floor": [box.python, "-I", "-S", "-c", "pass"], **tools}
    walls: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(args.rounds):
        for _ in range(args.runs):
            for name, argv in tools.items():
                before()
                walls[name].append(timed(argv, repo, box.env)[0])
    for name, found in walls.items():
        row(name, found, walls["floor"])


def peers_of(box: Box, repo: Path, files: list[str]) -> dict[str, list[object]]:
    """How each peer is run on what is staged."""
    found: dict[str, list[object]] = {}
    if "detect-secrets" in box.peers:
        found["detect-secrets"] = [box.peers["detect-secrets"] / "detect-secrets-hook", "--no-verify", *files]
    if "kingfisher" in box.peers:
        program = box.peers["kingfisher"] / "kingfisher"
        found["kingfisher"] = [program, "scan", repo, "--staged", *QUIET]
    return found


def code(lines: int, seed: int) -> str:
    """Something like Python."""
    source = random.Random(seed)
    body = ["import os", "", "", f"def handler_{seed}(request, token=None):"]
    while len(body) < lines:
        name = source.choice(["value", "result", "password", "session", "items"])
        body.append(f"    {name} = os.environ.get('{name.upper()}', {source.randint(0, 99)})")
    return "\n".join(body) + "\n"


def hook_small(box: Box, args: argparse.Namespace) -> None:
    print("one staged file of 26 lines (goal: median ≤ 50 ms, p95 ≤ 100 ms)")
    repo = box.repo("small")
    (repo / "app.py").write_text(code(26, 1))
    box.git(repo, "add", "app.py")
    tools = {"zopp hook": [repo / ".git/hooks/pre-commit"], **peers_of(box, repo, ["app.py"])}
    interleaved(box, args, repo, tools)
    peak = [timed([repo / ".git/hooks/pre-commit"], repo, box.env)[2] for _ in range(3)]
    print(f"    peak memory {max(peak)} MB (goal ≤ 25)")


def hook_many(box: Box, args: argparse.Namespace) -> None:
    print("43 staged files, 242 KB (goal: median ≤ 100 ms)")
    repo = box.repo("many")
    files = []
    for number in range(43):
        files.append(f"f{number}.py")
        (repo / files[-1]).write_text(code(100, number))
    box.git(repo, "add", "--all")
    tools = {"zopp hook": [repo / ".git/hooks/pre-commit"], **peers_of(box, repo, files)}
    interleaved(box, args, repo, tools)


def hook_cold(box: Box, args: argparse.Namespace) -> None:
    print("5 staged files, parsed settings not cached (goal ≤ 150 ms)")
    repo = box.repo("cold")
    (repo / ".sops.yaml").write_text("creation_rules:\n  - path_regex: ^secrets/.*\\.yaml$\n    age: x\n")
    (repo / "zopp.toml").write_text("[guard]\nleftovers = []\n")
    for number in range(3):
        (repo / f"f{number}.py").write_text(code(40, number))
    box.git(repo, "add", "--all")
    cache = box.home / ".cache/zopp/guard"
    interleaved(
        box,
        args,
        repo,
        {"zopp hook": [repo / ".git/hooks/pre-commit"]},
        lambda: shutil.rmtree(cache, ignore_errors=True),
    )


def tree(box: Box, args: argparse.Namespace) -> None:
    print("the standard library without tests, whole files (goal ≥ 8 MB/s a core, at most 1 finding)")
    source, target = Path(sysconfig.get_path("stdlib")), box.folder / "stdlib"
    for path in source.rglob("*.py"):
        inner = path.relative_to(source)
        if not {"test", "tests", "idle_test", "site-packages", "__pycache__"} & set(inner.parts):
            (target / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / inner)
    size = sum(path.stat().st_size for path in target.rglob("*.py"))
    for round_ in range(args.rounds):
        wall, cpu, peak, exit_code = timed([box.zopp, "scan", target], box.folder, box.env)
        rate, overall = size / cpu / 1000, size / wall / 1000
        print(f"    zopp  {rate:.1f} MB/s of processor, {overall:.1f} of wall, {peak} MB, exit {exit_code}")
        if "detect-secrets" in box.peers and round_ == 0:
            argv = [box.peers["detect-secrets"] / "detect-secrets", "scan", "--no-verify", "--all-files", target]
            wall, cpu, peak, _ = timed(argv, box.folder, box.env)
            print(f"    detect-secrets: {size / cpu / 1000:.2f} MB/s of processor")
        if "kingfisher" in box.peers:
            argv = [box.peers["kingfisher"] / "kingfisher", "scan", target, *QUIET]
            wall, cpu, peak, exit_code = timed(argv, box.folder, box.env)
            rate, overall = size / cpu / 1000, size / wall / 1000
            print(f"    kingfisher: {rate:.1f} MB/s of processor, {overall:.1f} of wall, {peak} MB, exit {exit_code}")
    found = subprocess.run([box.zopp, "scan", target, "--json"], env=box.env, capture_output=True, check=False)
    print(f"    zopp's findings there: {len(json.loads(found.stdout)['findings'])}")


OWN = """
import random, sys, time
from zopp.scan import own
source = random.Random(1)
letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
pairs = [(f"api/dev K{n}", bytes(source.choices(letters, k=24))) for n in range(2000)]
data = own.build(bytes(32), pairs, {}, [])
text = (open(own.__file__, "rb").read() * 3)[:20000]
planted = text[:9000] + pairs[77][1] + text[9000:]
start = time.perf_counter()
index = own.read(data, bytes(32))
loaded = time.perf_counter()
assert index.look(text, set()) == []
looked = time.perf_counter()
assert [name for _, _, name in index.look(planted, set())] == ["api/dev K77"]
load, look = (loaded - start) * 1000, (looked - loaded) * 1000
print(f"    index {len(data) // 1000} kB: load {load:.1f} ms, 20 kB of added lines {look:.1f} ms")
"""


def own_secrets(box: Box, args: argparse.Namespace) -> None:
    print("own secrets: 2,000 values, 20 KB of added lines (goal ≤ 10 ms more)")
    for _ in range(args.rounds):
        subprocess.run([box.python, "-I", "-c", OWN], check=True)


def large_blob(box: Box, args: argparse.Namespace) -> None:
    print(f"one staged blob of {args.blob} MB (goal for 1 GB: peak ≤ 150 MB)")
    repo = box.repo("large")
    block = (code(2000, 5) * 20).encode()
    with open(repo / "big.bin", "wb") as file:
        written = 0
        while written < args.blob << 20:
            written += file.write(block)
        file.write(b"k = 'ghp" + b"_" + ALNUM[:36].encode() + b"'\n")
    box.git(repo, "-c", "core.bigFileThreshold=1m", "add", "--all")
    wall, _, peak, exit_code = timed([repo / ".git/hooks/pre-commit"], repo, box.env)
    print(f"    zopp hook: {wall / 1000:.1f} s, peak {peak} MB, exit {exit_code} (1: found in its last line)")
    (repo / "big.bin").unlink()


def encrypted_files(box: Box, args: argparse.Namespace) -> None:
    print("180 properly encrypted files, fresh random values (goal: 0 findings)")
    program = """
import random, sys
from pathlib import Path
from zopp.keys import agefile, identity
from zopp.sopsfile import Entry, encrypt, load_plain
_, recipient = identity.generate()
groups = ((Entry(recipient, agefile.wrap(recipient, bytes(32))),),)
for n in range(180):
    fmt = ("yaml", "json")[n % 2]
    words = random.choices(["password", "token", "api_key", "x"], k=12)
    values = {f"{word}_{i}": "".join(random.choices("abcDEF012+/", k=30)) for i, word in enumerate(words)}
    lines = [f'"{k}": "{v}"' for k, v in values.items()]
    plain = "{" + ", ".join(lines) + "}" if fmt == "json" else "\\n".join(lines) + "\\n"
    data = encrypt(load_plain(plain.encode(), fmt), fmt, bytes(32), groups, lastmodified="2026-01-02T03:04:05Z")
    Path(sys.argv[1], f"f{n}.{fmt}").write_bytes(data)
"""
    folder = box.folder / "sealed"
    folder.mkdir()
    subprocess.run([box.python, "-I", "-c", program, folder], check=True)
    found = subprocess.run([box.zopp, "scan", folder, "--json"], env=box.env, capture_output=True, check=False)
    print(
        f"    zopp: {len(json.loads(found.stdout)['findings'])} findings in {json.loads(found.stdout)['files']} files"
    )


def server(box: Box, args: argparse.Namespace) -> None:
    print("a push of 1,000 clean commits to a server with the hook (goal ≤ 5 s)")
    repo = box.repo("pushing")
    bare = box.folder / "bare.git"
    box.git(box.folder, "init", "-q", "--bare", str(bare))
    shutil.copy(ROOT / "hooks/pre-receive", bare / "hooks/pre-receive")
    (bare / "hooks/pre-receive").chmod(0o755)
    box.git(repo, "config", "--file", str(bare / "config"), "zopp.guardPython", str(box.python))
    box.git(repo, "push", "-q", "--no-verify", str(bare), "HEAD:main")
    stream = [b"reset refs/heads/bulk\nfrom refs/heads/main\n\n"]
    for number in range(1000):
        body = code(60, number).encode()
        stream.append(
            b"commit refs/heads/bulk\nmark :%d\ncommitter A <a@b.c> %d +0000\ndata 2\nx\n\nM 100644 inline src/f%d.py\n"
            b"data %d\n%s\n" % (number + 1, 1_700_000_000 + number, number % 97, len(body), body)
        )
    box.git(repo, "fast-import", "--quiet", data=b"".join(stream))
    ids = box.git(repo, "rev-parse", "bulk").strip()
    for round_ in range(args.rounds):
        start = time.perf_counter()
        done = subprocess.run(
            ["git", "push", "-q", "--no-verify", str(bare), f"bulk:refs/heads/b{round_}"],
            cwd=repo, env=box.env, capture_output=True, check=False,
        )  # fmt: skip
        wall = time.perf_counter() - start
        said = done.stderr.decode().strip().splitlines()[:1]
        print(f"    {wall:.2f} s, exit {done.returncode}: {' '.join(said)}")
        box.git(bare, "update-ref", "-d", f"refs/heads/b{round_}")
    assert ids


FIGURES = {
    "small": hook_small,
    "many": hook_many,
    "cold": hook_cold,
    "tree": tree,
    "own": own_secrets,
    "encrypted": encrypted_files,
    "server": server,
    "blob": large_blob,
}


def main() -> None:
    """Run what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=20, help="a round")
    parser.add_argument("--blob", type=int, default=1024, help="megabytes of the large blob")
    parser.add_argument("--only", nargs="*", choices=list(FIGURES), default=list(FIGURES))
    args = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="zopp-guard-") as folder:
        box = Box(Path(folder))
        box.install()
        for name in PEERS:
            print(f"{name}: " + ("installed" if name in box.peers else "cannot be installed here, left out"))
        for name in args.only:
            FIGURES[name](box, args)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
