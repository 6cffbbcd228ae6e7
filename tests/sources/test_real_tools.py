"""Files that the real dotenvx and the real fnox wrote, through `zopp import`. The slow tier, which installs both."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests import tools
from tests.sources.made import AgeKey
from tests.support import Team

pytestmark = pytest.mark.slow
VALUES = {
    "SIMPLE": "x", "SPACES": "a b  c", "LINES": "one\ntwo\n", "DOLLAR": "pa$word", "QUOTES": "it's \"so\"", "EMPTY": "",
    "UNICODE": "ünïcode →", "HASH": "a#b # c", "BACKSLASH": "a\\nb\\\\", "LONG": "x" * 5000, "JSON": '{"a": [1, 2]}',
}  # fmt: skip


def run(argv: list[str], folder: Path, home: Path, stdin: str = "") -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "NO_COLOR": "1"}
    done = subprocess.run(
        argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120, input=stdin
    )
    assert done.returncode == 0, (argv[-3:], done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def folder(team: Team) -> Path:
    made = team.alice.repo / "old"
    made.mkdir()
    team.alice.write(".gitignore", "old/\n")
    return made


def held(team: Team, env: str = "staging") -> dict[str, str]:
    found = dict(team.alice.ok("export", "-e", env, "--format", "json").json)
    del found["BASE"]
    return found


class TestDotenvx:
    def write(self, folder: Path, home: Path, name: str, values: dict[str, str]) -> None:
        for key, value in values.items():
            run([*tools.dotenvx(), "set", key, value, "-f", name], folder, home)

    @pytest.mark.parametrize("name", [".env", ".env.production"])
    def test_what_it_set_arrives(self, team: Team, folder: Path, name: str) -> None:
        self.write(folder, team.alice.home, name, VALUES)
        text = (folder / name).read_text()
        assert text.count("encrypted:") >= len(VALUES) - 1 and "DOTENV_PUBLIC_KEY" in text
        done = team.alice.ok("import", "dotenvx", f"old/{name}", "-e", "staging")
        assert held(team) == VALUES
        assert "no signature covers the file" in done.err
        before = team.alice.tree()
        team.alice.ok("import", "dotenvx", f"old/{name}", "-e", "staging")
        assert team.alice.tree() == before

    def test_what_it_encrypted_in_place_arrives_as_it_reads_it(self, team: Team, folder: Path) -> None:
        (folder / ".env").write_text('# the note\nA="x y"\nB=\'z\' # beside\nC_PLAIN=clear\nexport D="l1\nl2"\n')
        run([*tools.dotenvx(), "encrypt"], folder, team.alice.home)
        assert "C_PLAIN=clear" in (folder / ".env").read_text()
        read = json.loads(run([*tools.dotenvx(), "get"], folder, team.alice.home))
        team.alice.ok("import", "dotenvx", "old/.env", "-e", "staging")
        found = held(team)
        assert found == {key: value for key, value in read.items() if not key.startswith("DOTENV_PUBLIC_KEY")}
        assert found == {"A": "x y", "B": "z", "C_PLAIN": "clear", "D": "l1\nl2"}

    def test_a_key_in_the_environment_does_without_the_file(self, team: Team, folder: Path) -> None:
        self.write(folder, team.alice.home, ".env.ci", {"A": "x"})
        line = next(
            line for line in (folder / ".env.keys").read_text().split("\n") if line.startswith("DOTENV_PRIVATE")
        )
        (folder / ".env.keys").unlink()
        name, _, key = line.partition("=")
        assert name == "DOTENV_PRIVATE_KEY_CI"
        team.alice.ok("import", "dotenvx", "old/.env.ci", "-e", "staging", env={name: key.strip('"')})
        assert held(team) == {"A": "x"}


class TestFnox:
    def fnox(self, folder: Path, home: Path, *argv: str, stdin: str = "") -> str:
        return run([str(tools.fnox()), "--no-daemon", *argv], folder, home, stdin)

    def test_what_it_set_arrives_by_profile(self, team: Team, folder: Path) -> None:
        key = AgeKey()
        (folder / "age.txt").write_text(key.secret + "\n")
        provider = (
            f'root = true\n[providers.age]\ntype = "age"\nrecipients = ["{key.recipient}"]\nkey_file = "age.txt"\n'
        )
        (folder / "fnox.toml").write_text(provider + "[profiles.prod.secrets]\n")
        home = team.alice.home
        values = {name: value for name, value in VALUES.items() if name != "EMPTY"}
        for name, value in values.items():
            self.fnox(folder, home, "set", name, "--provider", "age", stdin=value)
        self.fnox(folder, home, "--profile", "prod", "set", "SIMPLE", "--provider", "age", stdin="of prod")
        # fnox itself says what it would give a program
        exported = {
            profile: json.loads(self.fnox(folder, home, "--profile", profile, "export", "--format", "json"))
            for profile in ("default", "prod")
        }
        team.alice.ok("import", "fnox", "old/fnox.toml", "-e", "staging", "--yes")
        assert held(team) == exported["default"]["secrets"]
        assert held(team, "prod") == exported["prod"]["secrets"]
        assert exported["prod"]["secrets"]["SIMPLE"] == "of prod"
        assert held(team).keys() == values.keys()
        (folder / "export.json").write_text(json.dumps(exported["default"]))
        done = team.alice.ok("import", "fnox", "old/export.json", "-e", "staging")
        assert f"0 imported, {len(values)} unchanged" in done.err

    def test_parts_of_values_are_those_that_it_takes(self, team: Team, folder: Path) -> None:
        key = AgeKey()
        (folder / "age.txt").write_text(key.secret + "\n")
        text = json.dumps({"a": {"b.c": "deep", "n": 5, "f": 1.5, "l": [1, {"y": 2, "x": None}], "z": None, "t": True}})
        parts = {"B": "a.b\\\\.c", "N": "a.n", "F": "a.f", "L": "a.l", "Z": "a.z", "T": "a.t", "M": "a"}
        secrets = [f'{name} = {{ value = "{key.seal(text)}", json_path = "{path}" }}' for name, path in parts.items()]
        secrets += [f'L{n} = {{ value = "{key.seal("one" + chr(10) + "two")}", line = {n} }}' for n in (1, 2)]
        secrets += ['D = { default = "clear" }']
        provider = f'[providers.age]\ntype = "age"\nrecipients = ["{key.recipient}"]\nkey_file = "age.txt"\n'
        (folder / "fnox.toml").write_text("root = true\n[secrets]\n" + "\n".join(secrets) + "\n" + provider)
        theirs = json.loads(self.fnox(folder, team.alice.home, "export", "--format", "json"))["secrets"]
        team.alice.ok("import", "fnox", "old/fnox.toml", "-e", "staging", "--yes")
        assert held(team) == theirs
        assert theirs["B"] == "deep" and theirs["D"] == "clear" and theirs["L2"] == "two"
