"""Two people on two branches, in random interleavings: no merge has a value conflict unless the same key differs, none
loses a change, and all verify at the end (rule 11). Real repositories, real git.
"""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.merge.conftest import clean, enrol, run_git
from tests.support import Team, User

RUNS = int(os.environ.get("ZOPP_MERGES", "300" if os.environ.get("HYPOTHESIS_PROFILE") == "slow" else "15"))
KEYS = [f"K{n}" for n in range(8)]
WAYS = ("git merge with hooks", "zopp merge", "git merge, then --continue", "rebase", "cherry-pick")


@dataclass
class Line:
    """What a branch should hold: values and notes by environment and key; who may read dev besides."""

    values: dict[tuple[str, str], str]
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    readers: set[str] = field(default_factory=set)

    def copy(self) -> "Line":
        return Line(dict(self.values), dict(self.notes), set(self.readers))


def change(user: User, line: Line, own: list[str], rng: random.Random, number: int, *, recipients: bool) -> None:
    """One commit of one person, in keys of their own."""
    env = rng.choice(["dev", "dev", "staging"])
    key = rng.choice(own)
    at = env, key
    how = rng.choice(["set", "set", "set", "unset", "note", "rekey", "readers"])
    if how == "readers" and recipients:
        who = rng.choice(["ci", "carol"])
        if who in line.readers:
            user.ok("revoke", who, "api/dev")
            line.readers.discard(who)
        else:
            user.ok("grant", who, "read", "api/dev")
            line.readers.add(who)
    elif how == "unset" and at in line.values:
        user.ok("unset", key, "-e", env, "--yes")
        del line.values[at]
        line.notes.pop(at, None)
    elif how == "rekey":
        user.ok("rekey", "--all", f"api/{env}")
    elif how == "note" and at not in line.values:
        note = f"about {key} {number}"
        user.ok("set", key, "-e", env, "--note", note, stdin=f"v{number}")
        line.values[at], line.notes[at] = f"v{number}", note
    else:
        user.set(key, f"v{number}", env)
        line.values[at] = f"v{number}"
    user.commit(f"{user.name} {number}")


def expected(base: Line, ours: Line, theirs: Line) -> Line:
    """Each person's own keys as that person left them."""
    out = ours.copy()
    for at in {*base.values, *theirs.values}:
        if theirs.values.get(at) != base.values.get(at):
            if at in theirs.values:
                out.values[at] = theirs.values[at]
            else:
                out.values.pop(at, None)
        if theirs.notes.get(at) != base.notes.get(at) and at in theirs.notes:
            out.notes[at] = theirs.notes[at]
    out.readers = (ours.readers & theirs.readers) | ((ours.readers ^ theirs.readers) - base.readers)
    return out


def holds(user: User, line: Line, run: int) -> None:
    for env in ("dev", "staging"):
        found = user.ok("get", "-e", env, "--json", "--reveal").json["keys"]
        values = {row["key"]: row["value"] for row in found}
        wanted = {key: value for (where, key), value in line.values.items() if where == env}
        assert {k: v for k, v in values.items() if k in KEYS} == wanted, run
    from tests.attacks.test_a01_files import data_key, sops_of
    from zopp.sopsfile import Comment

    for env in ("dev", "staging"):
        tree = sops_of(user, env).decrypt(data_key(user, env))
        comments = {key.text.strip() for key, _ in tree.documents[0].items if isinstance(key, Comment)}
        wanted_notes = {note for (where, _), note in line.notes.items() if where == env}
        assert wanted_notes <= comments, run
    state = user.state()
    names = {p.recipient: p.holder for p in state.principals.values()}
    readers = {names[r] for r in user.manifest("dev").groups[0]}
    assert readers & {"ci", "carol"} == line.readers, run


@pytest.mark.parametrize("run", range(RUNS))
def test_two_people_on_two_branches(run: int, tmp_path: Path) -> None:
    rng = random.Random(run)
    way = WAYS[run % len(WAYS)]
    team = Team.make(tmp_path)
    alice = team.alice
    base = Line({})
    for env in ("dev", "staging"):
        for key in KEYS[:4]:
            alice.set(key, f"{key}-0", env)
            base.values[env, key] = f"{key}-0"
    alice.share("start")
    alice.ok("verify")
    enrol(alice, hooks=way == WAYS[0])
    # Both people are alice's hands on two branches: what differs is the branch, not the machine.
    mixed = rng.random() < 0.3
    own = {"feature": KEYS[::2], "work": KEYS[1::2]}
    lines = {name: base.copy() for name in own}
    for name in own:
        alice.git("branch", name, "main")
    policy = rng.choice(["feature", "work", None])
    number = 0
    for _ in range(rng.randint(2, 6)):
        name = rng.choice(["feature", "work"])
        alice.git("checkout", "-q", name)
        number += 1
        change(alice, lines[name], own[name], rng, number, recipients=name == policy)
    for name in own:  # each has at least one change of a file that the other changed too
        alice.git("checkout", "-q", name)
        number += 1
        alice.set(own[name][0], f"last-{number}", "dev")
        lines[name].values["dev", own[name][0]] = f"last-{number}"
        alice.commit(f"last {name}")
    same = None
    if mixed:
        same = "BOTH"
        for name in own:
            alice.git("checkout", "-q", name)
            alice.set(same, f"from-{name}", "dev")
            alice.commit(f"same key on {name}")
    alice.git("checkout", "-q", "work")
    wanted = expected(base, lines["work"], lines["feature"])
    merge(alice, way, same)
    if same is not None:
        assert alice.get(same) == "from-feature", run
    holds(alice, wanted, run)
    clean(alice)


def merge(alice: User, way: str, same: str | None) -> None:
    """Bring feature into work in this way; where one key differs it is settled by name, for feature's."""
    feature_is_theirs = way != "rebase"
    side = "--theirs" if feature_is_theirs else "--ours"
    if way == "zopp merge":
        done = alice.zopp("merge", "feature")
        assert done.code == (1 if same else 0), done.text
    else:
        argv = {"rebase": ("rebase", "feature"), "cherry-pick": ("cherry-pick", "main..feature")}.get(
            way, ("merge", "--no-edit", "feature")
        )
        code, said = run_git(alice, *argv)
        if way == WAYS[0] and same is None:
            assert code == 0, said
    for _ in range(20):
        if alice.git("status", "--porcelain") == "" and not under_way(alice):
            return
        done = alice.zopp("merge", "--continue")
        if done.code == 0:
            continue
        assert same is not None and f"conflict: api/dev {same}" in done.err, done.text
        assert done.err.count("conflict: ") == 1, done.text
        alice.ok("resolve", same, side)
    pytest.fail("it never came to an end")


def under_way(user: User) -> bool:
    names = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "rebase-merge", "rebase-apply")
    return any((user.repo / ".git" / name).exists() for name in names)
