"""Two people on two branches, in random interleavings: no merge has a value conflict unless the same key differs, none
loses a change, and all verify at the end, for everyone (rule 11). Real repositories, real git.

Alice and bob have a HOME, keys and a clone each. Either sets, changes and removes keys of their own, rewrites the
comments above them, makes new data keys, and lets a reader of their own in and out. Both push their branches; one of
them fetches the other's, merges and pushes; then both, a clone made just now and the readers look at it.
"""

import os
import random
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.attacks.test_a01_files import data_key, sops_of
from tests.merge.conftest import clean, disenrol, enrol, on_path, run_git
from tests.support import Team, User, refused
from zopp.repo.hooks import MERGE_HOOKS
from zopp.sopsfile import Comment

RUNS = int(os.environ.get("ZOPP_MERGES", "300" if os.environ.get("HYPOTHESIS_PROFILE") == "slow" else "15"))
KEYS = [f"K{n}" for n in range(8)]
SHARED = "BOTH"
WAYS = ("git merge with hooks", "zopp merge", "git merge, then --continue", "rebase", "cherry-pick")


@dataclass
class Person:
    """One of the two: their keys, the reader whom they let in and out, and what their branch holds by (environment,
    key): values, comments; whether the reader reads dev, and how many statements this person signed."""

    user: User
    keys: list[str]
    reader: str
    values: dict[tuple[str, str], str]
    notes: dict[tuple[str, str], str]
    reads: bool = True
    signed: int = 0


def note(key: str, number: int) -> str:
    return f"about {key}, {number}"


def _two(team: Team) -> None:
    alice = team.alice
    alice.ok("grant", "bob", "admin", "api")
    for who in ("ci", "carol"):
        alice.ok("grant", who, "read", "api/dev")
    for env in ("dev", "staging"):
        for key in KEYS[:4]:
            alice.ok("set", key, "-e", env, "--note", note(key, 0), stdin=f"{key}-0")
    team.sync("two people")
    for user in (team.alice, team.bob):
        enrol(user)


def two_people(base: Path) -> tuple[Team, list[Person]]:
    team = Team.make(base, "two-people", _two)
    people = []
    for user, keys, reader in ((team.alice, KEYS[::2], "ci"), (team.bob, KEYS[1::2], "carol")):
        on_path(user)
        user.git("checkout", "-q", "-b", user.name)
        start = [(env, key) for env in ("dev", "staging") for key in KEYS[:4]]
        people.append(
            Person(user, keys, reader, {at: f"{at[1]}-0" for at in start}, {at: note(at[1], 0) for at in start})
        )
    return team, people


def change(person: Person, rng: random.Random, number: int, *, recipients: bool) -> None:
    """One commit of one person, in what is theirs."""
    user = person.user
    env = rng.choice(["dev", "dev", "staging"])
    at = env, rng.choice(person.keys)
    key, there = at[1], at in person.values
    how = rng.choice(["set", "unset", "comment", "comment", "rekey", "readers", "readers"])
    if how == "readers" and recipients:
        user.ok(*(("revoke", person.reader) if person.reads else ("grant", person.reader, "read")), "api/dev")
        person.reads = not person.reads
        person.signed += 1
    elif how == "rekey":
        user.ok("rekey", "--all", f"api/{env}")
    elif how == "unset" and there:
        user.ok("unset", key, "-e", env, "--yes")
        del person.values[at]
        person.notes.pop(at, None)
    elif how == "comment" and at in person.notes:
        new = note(key, number)
        edit = f"s/^# {person.notes[at]}$/# {new}/"
        user.ok("edit", "-e", env, env={"EDITOR": f"sed -i {shlex.quote(edit)}"})
        person.notes[at] = new
    elif how == "comment" and not there:
        user.ok("set", key, "-e", env, "--note", note(key, number), stdin=f"v{number}")
        person.values[at], person.notes[at] = f"v{number}", note(key, number)
    else:
        user.set(key, f"v{number}", env)
        person.values[at] = f"v{number}"
    user.commit(f"{user.name} {number}")


def last(person: Person, number: int) -> None:
    """A change of a file that the other one changes, too."""
    person.user.set(person.keys[0], f"last-{number}")
    person.values["dev", person.keys[0]] = f"last-{number}"
    person.user.commit(f"last of {person.user.name}")


@dataclass
class Wanted:
    """Each person's own as that person left it."""

    values: dict[tuple[str, str], str]
    notes: dict[tuple[str, str], str]
    readers: set[str]


def expected(people: list[Person], shared: str | None) -> Wanted:
    values, notes = {}, {}
    for person in people:
        values |= {at: value for at, value in person.values.items() if at[1] in person.keys}
        notes |= {at: text for at, text in person.notes.items() if at[1] in person.keys}
    if shared is not None:
        values["dev", SHARED] = shared
    return Wanted(values, notes, {person.reader for person in people if person.reads})


def read(user: User, env: str) -> dict[str, str]:
    found = user.ok("get", "-e", env, "--json", "--reveal").json["keys"]
    return {row["key"]: row["value"] for row in found if row["key"] in (*KEYS, SHARED)}


def comments(user: User, env: str) -> dict[str, list[str]]:
    """Key → the comments above it."""
    found: dict[str, list[str]] = {}
    waiting: list[str] = []
    for key, _ in sops_of(user, env).decrypt(data_key(user, env)).documents[0].items:
        if isinstance(key, Comment):
            waiting.append(key.text.strip())
        else:
            found[str(key)], waiting = waiting, []
    assert not waiting
    return {key: texts for key, texts in found.items() if texts}


def holds(user: User, wanted: Wanted) -> None:
    """It verifies here, nothing is left over, and every value and comment can be read and is where it belongs."""
    clean(user)
    for env in ("dev", "staging"):
        assert read(user, env) == {key: value for (where, key), value in wanted.values.items() if where == env}
        assert comments(user, env) == {key: [text] for (where, key), text in wanted.notes.items() if where == env}
    state = user.state()
    names = {p.recipient: p.holder for p in state.principals.values()}
    assert {names[r] for r in user.manifest("dev").groups[0]} == {"alice", "bob"} | wanted.readers


@pytest.mark.parametrize("run", range(RUNS))
def test_two_people_on_two_branches(run: int, tmp_path: Path) -> None:
    rng = random.Random(run)
    way = WAYS[run % len(WAYS)]
    team, people = two_people(tmp_path)
    merger, other = rng.sample(people, 2)
    # Who picks the other's commits cannot sign the other's statements again on top of their own.
    policies = [rng.choice(people)] if way == "cherry-pick" else people
    both = rng.choice([None, None, None, "differs", "equal"])
    turns = [rng.choice(people) for _ in range(rng.randint(2, 6))]
    shares = {id(person): rng.randrange(len(turns) + 1) for person in people}
    for number in range(len(turns) + 1):
        for person in people:
            if both is not None and shares[id(person)] == number:
                person.user.set(SHARED, f"from-{person.user.name}" if both == "differs" else "equal")
                person.user.commit(f"{SHARED} by {person.user.name}")
        if number < len(turns):
            change(turns[number], rng, number + 1, recipients=turns[number] in policies)
    for person in people:
        last(person, len(turns) + 1)
        person.user.git("push", "-q", "origin", person.user.name)
    user = merger.user
    user.git("fetch", "-q", "origin")
    theirs = f"origin/{other.user.name}"
    if way == "git merge with hooks":
        user.ok("hooks", "install", *MERGE_HOOKS)
    elif rng.random() < 0.3:
        disenrol(user)
    side = rng.choice(["ours", "theirs"])
    parted = bool(merger.signed and other.signed)
    merge(user, way, theirs, side if both == "differs" else None, stops=both == "differs" or parted)
    taken = user if (side == "ours") != (way == "rebase") else other.user
    wanted = expected(people, None if both is None else "equal" if both == "equal" else f"from-{taken.name}")
    holds(user, wanted)
    user.git("push", "-q", "origin", "HEAD:main")
    other.user.git("fetch", "-q", "origin")
    other.user.git("checkout", "-q", "main")
    other.user.git("merge", "-q", "--ff-only", "origin/main")
    fresh = team.fresh(rng.choice([user, other.user]))
    fresh.ok("trust", "--genesis", user.state().ws)
    for each in (other.user, fresh):
        holds(each, wanted)
    for reader in (team.ci, team.carol):
        reader.pull()
        if reader.name in wanted.readers:
            assert read(reader, "dev") == read(user, "dev")
        else:
            refused(reader.zopp("get", "BASE", "-e", "dev"))
        refused(reader.zopp("get", "BASE", "-e", "staging"))


def merge(user: User, way: str, theirs: str, settle: str | None, *, stops: bool) -> None:
    """Bring `theirs` into this branch in this way. The one key that differs, if there is one, is settled by name."""
    if way == "zopp merge":
        done = user.zopp("merge", theirs)
        assert done.code == (1 if settle else 0), done.text
    else:
        argv = {"rebase": ("rebase", theirs), "cherry-pick": ("cherry-pick", f"main..{theirs}")}.get(
            way, ("merge", "--no-edit", theirs)
        )
        code, said = run_git(user, *argv)
        if way == "git merge with hooks" and not stops:
            assert code == 0, said
    for _ in range(20):
        if user.git("status", "--porcelain") == "" and not under_way(user):
            return
        done = user.zopp("merge", "--continue")
        if done.code == 0:
            continue
        assert settle is not None and f"conflict: api/dev {SHARED}" in done.err, done.text
        assert done.err.count("conflict: ") == 1, done.text
        user.ok("resolve", SHARED, f"--{settle}")
    pytest.fail("it never came to an end")


def under_way(user: User) -> bool:
    names = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "rebase-merge", "rebase-apply")
    return any((user.repo / ".git" / name).exists() for name in names)
