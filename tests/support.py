"""A team with real repositories for black-box tests: alice, bob, carol and ci, each with an own HOME and clone.

The command line runs in this process (`User.zopp`), with its own environment, folder, streams and file descriptor 0, or
as a child (`User.child`) where a process matters. `Team.make` builds everything once a session and copies it from then
on: a copied clone keeps its pins, filed under its new place.
"""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from unittest import mock

from zopp import sopsfile
from zopp.cli import fast
from zopp.cli.main import main
from zopp.errors import Unknown
from zopp.keys import agefile, find, identity, sshsig
from zopp.keys.signing import SigningKey
from zopp.policy import log, manifest as manifests
from zopp.policy.state import State
from zopp.repo import pins

ENVIRONMENTS = ("dev", "staging", "prod")
ROOT = Path(__file__).resolve().parent.parent


def script(path: str) -> ModuleType:
    """A program of this repository that lies in no package, as a module; `path` counts from the root."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Done:
    """What a command said. `exec` is (file, argv, environment) if it would have become another program."""

    code: int
    out: str
    err: str
    exec: tuple[str, list[str], dict[str, str]] | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def text(self) -> str:
        return self.out + self.err


class _Exec(BaseException):
    pass


@contextlib.contextmanager
def _streams(stdin: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    out, err = io.BytesIO(), io.BytesIO()
    # As Python opens them: standard output is strict, standard error escapes.
    text = [
        io.TextIOWrapper(buffer, encoding="utf-8", errors=errors, write_through=True)
        for buffer, errors in ((out, "strict"), (err, "backslashreplace"))
    ]
    saved = os.dup(0)
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        os.dup2(file.fileno(), 0)
        try:
            with (
                mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")),
                mock.patch.object(sys, "stdout", text[0]),
                mock.patch.object(sys, "stderr", text[1]),
            ):
                yield out, err
        finally:
            os.dup2(saved, 0)
            os.close(saved)


def run_in_process(argv: Sequence[str], env: Mapping[str, str], cwd: Path, stdin: bytes) -> Done:
    """`zopp argv…` without a process. Anything but a return is a fault of the product and fails the test."""
    became: list[tuple[str, list[str], dict[str, str]]] = []

    def execvpe(file: str, args: list[str], environment: dict[str, str]) -> None:
        if shutil.which(file, path=environment.get("PATH", "")) is None:
            raise FileNotFoundError(2, "No such file", file)
        became.append((file, list(args), dict(environment)))
        raise _Exec

    fast._read.clear()
    here = os.getcwd()
    os.chdir(cwd)
    try:
        with (
            mock.patch.dict(os.environ, env, clear=True),
            mock.patch.object(os, "execvpe", execvpe),
            _streams(stdin) as (out, err),
        ):
            try:
                code = main(list(argv))
            except _Exec:
                code = 0
            said = [buffer.getvalue().decode("utf-8", "surrogateescape") for buffer in (out, err)]
    finally:
        os.chdir(here)
        fast._read.clear()
    done = Done(code, *said, *became[:1])
    assert "Traceback" not in done.err, done.err
    assert "this is a fault of zopp" not in done.err, done.err
    return done


@dataclass
class User:
    """One person or service: `home`, a clone in `repo`, and the principal's name."""

    name: str
    principal: str
    base: Path
    extra: dict[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def home(self) -> Path:
        return self.base / "home" / self.name

    @property
    def repo(self) -> Path:
        return self.base / (self.folder or f"clone/{self.name}")

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            **self.extra,
        }

    # --- commands

    def zopp(
        self,
        *argv: str,
        stdin: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        code: int | None = None,
    ) -> Done:
        """Run it; with `code`, insist on that exit code."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = run_in_process(argv, {**self.env, **(env or {})}, self.repo / (cwd or ""), data)
        if code is not None:
            assert done.code == code, f"zopp {' '.join(argv)}: exit {done.code}, not {code}\n{done.out}{done.err}"
        return done

    def ok(self, *argv: str, **kwargs: Any) -> Done:
        return self.zopp(*argv, code=0, **kwargs)

    def child(
        self, *argv: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, launcher: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        """The same as a process."""
        return subprocess.run(
            [*launcher, sys.executable, "-m", "zopp.cli.main", *argv],
            input=stdin,
            capture_output=True,
            cwd=self.repo,
            env={**self.env, "PYTHONPATH": str(ROOT), **(env or {})},
            check=False,
        )

    def git(self, *argv: str, check: bool = True, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            ["git", *argv],
            cwd=self.repo,
            env=self.env,
            capture_output=True,
            check=False,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )
        if check:
            assert done.returncode == 0, (argv, done.stderr)
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def set(self, key: str, value: str, env: str = "dev", *, code: int = 0) -> Done:
        return self.zopp("set", key, "-e", env, stdin=value, code=code)

    def get(self, key: str, env: str = "dev") -> str:
        return self.ok("get", key, "-e", env).out

    def commit(self, message: str = "change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def push(self) -> None:
        self.git("push", "--quiet", "--force", "origin", "HEAD")

    def share(self, message: str = "change") -> None:
        """Commit and push everything."""
        self.commit(message)
        self.push()

    def pull(self) -> None:
        self.git("fetch", "--quiet", "origin")
        self.git("reset", "--quiet", "--hard", "origin/main")

    # --- files

    def path(self, path: str) -> Path:
        return self.repo / path

    def read(self, path: str) -> bytes:
        return self.path(path).read_bytes()

    def write(self, path: str, data: bytes | str) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_bytes(data.encode() if isinstance(data, str) else data)

    def replace(self, path: str, old: str, new: str, count: int = 1) -> None:
        text = self.read(path).decode()
        assert old in text, (path, old)
        self.write(path, text.replace(old, new, count))

    def tree(self) -> dict[str, bytes]:
        """Every file of the work tree, and the heads of git: what must be as before after a refusal."""
        found = {
            str(p.relative_to(self.repo)): p.read_bytes()
            for p in sorted(self.repo.rglob("*"))
            if p.is_file() and not p.is_symlink() and ".git" not in p.relative_to(self.repo).parts
        }
        found["(HEAD)"] = self.git("rev-parse", "HEAD", check=False).encode()
        return found

    # --- keys, for building what an attacker would build

    @property
    def key(self) -> SigningKey:
        found = find.signing_key(self.env, str(self.home / ".config/zopp")).key
        assert found is not None
        return found

    @property
    def identities(self) -> list[identity.Identity]:
        return find.identities(self.env, str(self.home), str(self.home / ".config/zopp")).identities

    @property
    def age_file(self) -> Path:
        """A file with this user's age identity, as stock sops reads it."""
        return next(iter(sorted((self.home / ".config/zopp/keys").glob("*.age"))))

    @property
    def recipient(self) -> str:
        return self.identities[0].recipient

    def opens(self, data: bytes) -> bool:
        """Whether any key of theirs opens a file, with no tool of ours in the way."""
        for group in sopsfile.read(data, "yaml").metadata.groups:
            for entry in group:
                try:
                    agefile.unwrap(entry.enc, self.identities)
                except Unknown:
                    continue
                return True
        return False

    def state(self) -> State:
        return log.fold(self.read(".zopp/policy.jsonl"))

    def manifest(self, env: str = "dev") -> manifests.Manifest:
        return manifests.parse(self.read(f".zopp/manifest/api/{env}.json"))

    def sign_manifest(self, env: str, **changes: Any) -> None:
        """Write and sign with *this* user's key, by the library alone: what nobody checked. Unless given, every field
        is that of the manifest in place, the next generation, this user's name and the policy's head."""
        old, state = self.manifest(env), self.state()
        fields: dict[str, Any] = {
            "ws": old.ws,
            "env": old.env,
            "generation": old.generation + 1,
            "prev": old.hash,
            "policy_seq": state.seq,
            "policy_hash": state.head,
            "signer": self.principal,
            "groups": [list(group) for group in old.groups],
            "files": dict(old.files),
            "meta": dict(old.meta),
        }
        fields.update(changes)
        data = manifests.build(**fields)
        signature = self.key.sign(manifests.to_sign(data))
        self.write(f".zopp/manifest/api/{env}.json", data)
        self.write(f".zopp/manifest/api/{env}.json.sig", sshsig.armor(self.key.public, manifests.NAMESPACE, signature))


class Team:
    """Workspace `acme`, project `api`, environments dev, staging and prod. Alice is admin; bob, carol and the service
    ci are enrolled and have no role. Everyone's clone is at the head and pinned."""

    _templates: ClassVar[dict[str, Path]] = {}

    def __init__(self, base: Path) -> None:
        self.base = base
        self.alice = User("alice", "alice-laptop", base)
        self.bob = User("bob", "bob-laptop", base)
        self.carol = User("carol", "carol-desktop", base)
        keys = base / "home/ci/keys"
        self.ci = User(
            "ci", "ci", base, {"ZOPP_AGE_KEY_FILE": f"{keys}/age.key", "ZOPP_SIGNING_KEY_FILE": f"{keys}/signing.key"}
        )
        self.users = (self.alice, self.bob, self.carol, self.ci)

    @classmethod
    def make(cls, base: Path, name: str = "", prepare: "Callable[[Team], None]" = lambda team: None) -> "Team":
        """A fresh team below `base`. `name`: one that `prepare` has worked on, which is done once a session, too."""
        if name not in cls._templates:
            folder = Path(tempfile.mkdtemp(prefix="zopp-team-"))
            import atexit

            atexit.register(shutil.rmtree, folder, True)
            if name:
                prepare(cls.make(folder))
            else:
                cls(folder)._build()
            cls(folder)._pack()
            cls._templates[name] = folder
        template = cls(cls._templates[name])
        shutil.copytree(template.base, base, dirs_exist_ok=True, symlinks=True)
        team = cls(base)
        for user, old in zip(team.users, template.users, strict=True):
            clones = user.home / ".local/state/zopp/clones"
            was = clones / (pins._key(os.path.realpath(old.repo / ".git")) + ".json")
            was.rename(clones / (pins._key(os.path.realpath(user.repo / ".git")) + ".json"))
        return team

    def _build(self) -> None:
        (self.base / "clone").mkdir(parents=True)
        for user in self.users:
            user.home.mkdir(parents=True)
            (user.home / ".gitconfig").write_text(
                f"[user]\n\tname = {user.name}\n\temail = {user.name}@example.org\n"
                "[init]\n\tdefaultBranch = main\n\ttemplateDir =\n[commit]\n\tgpgsign = false\n[gc]\n\tauto = 0\n"
                "[advice]\n\tdetachedHead = false\n[maintenance]\n\tauto = false\n"
            )
        env = self.alice.env
        subprocess.run(["git", "init", "-q", "--bare", self.base / "origin.git"], check=True, env=env)
        self._clone(self.alice)
        self.alice.ok(
            *("init", "--workspace", "acme", "--project", "api", "--user", "alice", "--email", "alice@example.org"),
            *("--device", "alice-laptop", "--no-recovery"),
        )
        for name in ENVIRONMENTS:
            self.alice.ok("env", "add", name)
        for name in ("development", "production"):
            self.alice.ok("env", "archive", name)
        toml = self.alice.read("zopp.toml").decode()
        head = toml.partition("\n[env.development]")[0].replace('"development"', '"dev"')
        tables = "".join(f'\n[env.{name}]\nfiles = ["secrets/{name}.yaml"]\n' for name in ENVIRONMENTS)
        self.alice.write("zopp.toml", head + tables)
        self.alice.ok("trust", "--yes")  # the default environment is another since
        self.alice.share("start")
        for user in (self.bob, self.carol, self.ci):
            self._clone(user)
            user.ok("trust", "--genesis", self.alice.state().ws)
            if user is self.ci:
                ask = ("--service", "ci", "--out-keys", str(user.home / "keys"))
                asked = user.ok(
                    "principal", "request", *ask, env={"ZOPP_AGE_KEY_FILE": "", "ZOPP_SIGNING_KEY_FILE": ""}
                )
            else:
                asked = user.ok("principal", "request", "--user", user.name, "--name", user.principal)
            self.alice.ok(
                *("principal", "add", "-"),
                *(() if user is self.ci else ("--email", f"{user.name}@example.org")),
                stdin=asked.out,
            )
        for name in ENVIRONMENTS:
            self.alice.set("BASE", f"base-{name}", name)
        self.alice.share("team")
        self.alice.ok("verify")
        for user in self.users[1:]:
            user.pull()
            user.ok("verify")

    def _pack(self) -> None:
        """A template is copied for every test, and a copy costs by the file: objects go into one pack."""
        for folder in (self.base / "origin.git", *sorted((self.base / "clone").iterdir())):
            for command in (("repack", "-adq"), ("prune-packed", "-q")):
                subprocess.run(["git", "-C", str(folder), *command], check=True, env=self.alice.env)
            inside = folder if folder.suffix == ".git" else folder / ".git"
            for empty in (*inside.glob("objects/??"), inside / "branches"):
                with contextlib.suppress(OSError):
                    empty.rmdir()

    def _clone(self, user: User) -> None:
        env = user.env
        subprocess.run(
            ["git", "clone", "-q", str(self.base / "origin.git"), str(user.repo)],
            check=True,
            env=env,
            capture_output=True,
        )
        # A relative address is the same text in every copy of the template.
        user.git("remote", "set-url", "origin", "../../origin.git")
        user.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")

    # --- what tests do all the time

    def grant(self, who: str, role: str, scope: str = "api") -> None:
        """Alice grants, commits and pushes; everyone pulls."""
        self.alice.ok("grant", who, role, scope)
        self.sync(f"{who} {role} {scope}")

    def sync(self, message: str = "sync") -> None:
        """Alice commits and pushes what she has; the others pull and learn."""
        self.alice.share(message)
        self.alice.ok("verify")
        for user in self.users[1:]:
            user.pull()
            user.ok("verify")

    def fresh(self, user: User, name: str = "fresh") -> User:
        """A second clone of `user`'s with a HOME that has the keys and no memory."""
        home = self.base / "home" / name
        shutil.copytree(user.home, home)
        shutil.rmtree(home / ".local/state", ignore_errors=True)
        shutil.rmtree(home / ".cache", ignore_errors=True)
        made = User(name, user.principal, self.base, dict(user.extra))
        self._clone(made)
        return made

    def trust(self) -> str:
        """ZOPP_TRUST as alice's clone prints it."""
        return self.alice.ok("trust", "--print").out.strip()

    def job(self, name: str = "job") -> User:
        """A CI job: a fresh clone with ci's keys and ZOPP_TRUST."""
        made = self.fresh(self.ci, name)
        made.extra |= {"CI": "true", "ZOPP_TRUST": self.trust()}
        return made


def refused(done: Done, *codes: int, words: Sequence[str] = ()) -> None:
    """A refusal: exit 1 or 3 (or one of `codes`), said in a line, with `words`."""
    assert done.code in (codes or (1, 3)), (done.code, done.text)
    said = ("zopp: error: " in done.err, "zopp: warning: " in done.err, "error: " in done.out, "unknown: " in done.out)
    assert any(said), done.text
    for word in words:
        assert word in done.text, (word, done.text)
