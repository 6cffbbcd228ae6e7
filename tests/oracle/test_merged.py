"""What zopp merged, opened by stock sops with a reader's own key; and what is in conflict, refused by it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.merge.conftest import clean, disenrol, enrol, on_path, run_git
from tests.oracle.conftest import Oracle
from tests.support import Team, User
from zopp.repo.hooks import MERGE_HOOKS

FILES = {"yaml": "secrets/dev.yaml", "json": "secrets/more.json"}
START: dict[str, dict[str, Any]] = {
    "yaml": {"BASE": "base-dev", "A": "a0", "B": "b0", "db": {"host": "h0", "port": 5432}, "list": ["x", "y"]},
    "json": {"M": "m0", "N": "n0", "api": {"host": "h0", "port": 5432}, "items": ["x", "y"]},
}
OURS, THEIRS = {"yaml": "B", "json": "N"}, {"yaml": "A", "json": "M"}
TREE, LIST = {"yaml": "db", "json": "api"}, {"yaml": "list", "json": "items"}
TEXT = 'two "lines"\n\twith: #signs, ümlauts and \\ in them\n'


def _both_formats(team: Team) -> None:
    alice = team.alice
    alice.ok("grant", "bob", "write", "api")
    alice.replace("zopp.toml", '["secrets/dev.yaml"]', '["secrets/dev.yaml", "secrets/more.json"]')
    put(alice, "json", "M", "m0")
    for kind, values in START.items():
        plain = team.base / f"plain.{kind}"
        plain.write_text(json.dumps(values))  # YAML, too
        alice.ok("edit", "-e", "dev", "--file", FILES[kind], env={"EDITOR": f"cp {plain}"})
    team.sync("both formats")
    for user in (alice, team.bob):
        enrol(user, paths=(FILES["json"],))


@pytest.fixture
def pair(tmp_path: Path) -> Team:
    """Alice and bob write dev, whose secrets lie in a YAML and in a JSON file."""
    team = Team.make(tmp_path, "both-formats", _both_formats)
    for user in (team.alice, team.bob):
        on_path(user)
    return team


def stock(sops: Oracle, user: User, *argv: str) -> subprocess.CompletedProcess[bytes]:
    """sops with this user's age key and no other, in their clone."""
    env = {**sops.env, "HOME": str(sops.folder), "SOPS_AGE_KEY_FILE": str(user.age_file)}
    return subprocess.run([sops.binary, *argv], cwd=user.repo, env=env, capture_output=True, check=False)


def put(user: User, kind: str, key: str, value: str, *more: str) -> None:
    user.ok("set", key, "-e", "dev", "--file", FILES[kind], *more, stdin=value)


def sides(user: User) -> dict[str, dict[str, Any]]:
    """`feature` and `work`, HEAD, change other keys of both files; what the merge has to hold."""
    user.git("checkout", "-q", "-b", "feature", "main")
    for kind, key in THEIRS.items():
        put(user, kind, key, TEXT)
        put(user, kind, f"{TREE[kind]}.port", "6543", "--type", "int")
        put(user, kind, f"NEW_{kind}", "true", "--type", "bool", "--note", f"new in {kind}")
        user.commit(f"feature: {kind}")
    user.git("checkout", "-q", "-b", "work", "main")
    for kind, key in OURS.items():
        put(user, kind, key, "ours")
        put(user, kind, f"{TREE[kind]}.host", "h1")
        user.ok("unset", LIST[kind], "-e", "dev", "--yes")
        user.commit(f"work: {kind}")
    return {
        kind: {key: value for key, value in START[kind].items() if key != LIST[kind]}
        | {
            THEIRS[kind]: TEXT,
            OURS[kind]: "ours",
            TREE[kind]: {"host": "h1", "port": 6543},
            f"NEW_{kind}": True,
        }
        for kind in FILES
    }


def opens(sops: Oracle, user: User, wanted: dict[str, dict[str, Any]]) -> None:
    """sops decrypts both files, MAC and all, to exactly this; and zopp reads the same."""
    for kind, path in FILES.items():
        done = stock(sops, user, "decrypt", "--output-type", "json", path)
        assert done.returncode == 0, done.stderr
        # As text, in which true is not 1.
        found, due = (json.dumps(each, sort_keys=True) for each in (json.loads(done.stdout), wanted[kind]))
        assert found == due
        for key in (OURS[kind], THEIRS[kind]):
            assert user.get(key) == wanted[kind][key]
    done = stock(sops, user, "decrypt", FILES["yaml"])
    if "NEW_yaml" in wanted["yaml"]:
        assert b"# new in yaml\nNEW_yaml: true\n" in done.stdout


WAYS: dict[str, tuple[str, ...]] = {
    "git merge with hooks": ("merge", "--no-edit", "feature"),
    "git merge, then --continue": ("merge", "feature"),
    "zopp merge": (),
    "rebase": ("rebase", "feature"),
    "cherry-pick": ("cherry-pick", "main..feature"),
}


@pytest.mark.parametrize(
    ("way", "enrolled"),
    # Hooks sign what the driver merged: without it there is nothing for them.
    [(way, enrolled) for way in WAYS for enrolled in (True, False) if enrolled or "hooks" not in way],
)
def test_a_merged_file_opens(sops: Oracle, pair: Team, way: str, enrolled: bool) -> None:
    alice = pair.alice
    wanted = sides(alice)
    if way == "git merge with hooks":
        alice.ok("hooks", "install", *MERGE_HOOKS)
    elif not enrolled:
        disenrol(alice)
    if way == "zopp merge":
        alice.ok("merge", "feature")
    else:
        code, said = run_git(alice, *WAYS[way])
        assert code == (0 if "hooks" in way else 1), said
        if code:
            alice.ok("merge", "--continue")
    clean(alice)
    opens(sops, alice, wanted)
    alice.git("push", "-q", "origin", "HEAD:main")
    pair.bob.pull()
    opens(sops, pair.bob, wanted)


@pytest.mark.parametrize("rotated", ["ours", "theirs", "both", "removed"])
def test_a_merge_under_another_data_key_opens(sops: Oracle, pair: Team, rotated: str) -> None:
    """One side rotated, or both, or ours removed bob: sops opens what the merge wrapped anew, and bob's key no more."""
    alice = pair.alice
    wanted = sides(alice)
    if rotated in ("ours", "both"):
        alice.ok("rekey", "--all", "api/dev", "-m", "rotated")
    if rotated == "removed":
        alice.ok("revoke", "bob", "api", "-m", "bob leaves")
    if rotated in ("theirs", "both"):
        alice.git("checkout", "-q", "feature")
        alice.ok("rekey", "--all", "api/dev", "-m", "rotated")
        alice.git("checkout", "-q", "work")
    alice.ok("merge", "feature")
    clean(alice)
    opens(sops, alice, wanted)
    alice.git("push", "-q", "origin", "HEAD:main")
    pair.bob.pull()
    if rotated == "removed":
        for path in FILES.values():
            assert stock(sops, pair.bob, "decrypt", path).returncode == 128
    else:
        opens(sops, pair.bob, wanted)


def in_conflict(user: User) -> None:
    """Both sides give one key of each file another value."""
    for name in ("feature", "work"):
        user.git("checkout", "-q", "-b", name, "main")
        for kind, key in THEIRS.items():
            put(user, kind, key, f"of {name}")
        put(user, "yaml", f"ONLY_{name}", name)
        user.commit(name)


def shut(sops: Oracle, user: User, kind: str) -> None:
    """sops says that it cannot read the file, and gives nothing of it away; a blind `git add` does not help."""
    path = FILES[kind]
    data = user.read(path)
    assert b"<<<<<<< " in data and b">>>>>>> " in data
    for argv in (("decrypt", path), ("decrypt", "--ignore-mac", path), ("decrypt", "--extract", '["BASE"]', path)):
        done = stock(sops, user, *argv)
        assert done.returncode != 0 and done.stdout == b"", argv
    for argv in (("set", path, '["X"]', '"x"'), ("rotate", "-i", path), ("updatekeys", "-y", path)):
        assert stock(sops, user, *argv).returncode != 0, argv
    assert user.read(path) == data


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("how", ["driver", "rebase", "no-key", "no-driver", "resolved-in-part"])
def test_a_file_in_conflict_is_refused(sops: Oracle, pair: Team, kind: str, how: str) -> None:
    """Whatever put the markers there: the driver around one key, the driver around the whole, git around its lines."""
    alice = pair.alice
    in_conflict(alice)
    if how == "resolved-in-part":
        for name in ("feature", "work"):
            alice.git("checkout", "-q", name)
            put(alice, kind, OURS[kind], f"also of {name}")
            alice.commit(name)
    keys = alice.home / ".config/zopp/keys"
    if how == "no-key":
        keys.rename(keys.with_name("elsewhere"))
    if how == "no-driver":
        disenrol(alice)
    code, said = run_git(alice, "rebase" if how == "rebase" else "merge", "feature")
    assert code == 1, said
    if how == "no-key":
        keys.with_name("elsewhere").rename(keys)
    if how == "resolved-in-part":
        alice.ok("resolve", THEIRS[kind], "--theirs")
    shut(sops, alice, kind)


@pytest.mark.parametrize("choice", ["ours", "theirs", "base", "edit"])
def test_a_conflict_that_was_settled_opens(sops: Oracle, pair: Team, choice: str) -> None:
    alice = pair.alice
    in_conflict(alice)
    assert run_git(alice, "merge", "feature")[0] == 1
    for key in THEIRS.values():
        alice.ok("resolve", key, f"--{choice}", stdin=TEXT if choice == "edit" else "")
    alice.ok("merge", "--continue")
    clean(alice)
    wanted = {}
    for kind, values in START.items():
        key = THEIRS[kind]
        wanted[kind] = values | {
            key: {"ours": "of work", "theirs": "of feature", "base": values[key], "edit": TEXT}[choice]
        }
    wanted["yaml"] |= {"ONLY_work": "work", "ONLY_feature": "feature"}
    opens(sops, alice, wanted)
