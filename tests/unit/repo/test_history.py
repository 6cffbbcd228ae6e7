"""History, key by key: random histories of real git repositories against a model of who last changed what."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.unit.sopsfile.samples import encrypted
from zopp.repo import git, history
from zopp.repo.history import History

SCOPE, FILE = "api/dev", "secrets/dev.yaml"
TAIL = "sops:\n" + encrypted({"q": "r"}).decode().partition("\nsops:\n")[2]
ENV = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}


def enc(label: str, kind: str = "str") -> str:
    """A made-up ciphertext; equal labels are equal texts, and labels of one length are equally long."""
    return f"ENC[AES256_GCM,data:{label},iv:aXY=,tag:dGFn,type:{kind}]"


def document(values: dict[str, str], tail: str = TAIL) -> str:
    return "".join(f"{key}: {text}\n" for key, text in values.items()) + tail


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "-q", "-b", "main", "."], cwd=folder, env=ENV, check=True)
    return folder


def fast_import(root: Path, stream: str) -> None:
    subprocess.run(
        ["git", "fast-import", "--quiet", "--force"], cwd=root, env=ENV, input=stream.encode(), check=True,
        capture_output=True,
    )  # fmt: skip


class Stream:
    """A fast-import stream; a commit's mark is its subject."""

    def __init__(self) -> None:
        self.text = ""
        self.count = 0

    def commit(
        self, parents: list[int], files: dict[str, str | None], branch: str = "main", author: str = "Ann"
    ) -> int:
        self.count += 1
        mark, subject = self.count, f"c{self.count}"
        who = f"{author} <a@example.org> {1_700_000_000 + mark} +0000"
        self.text += f"commit refs/heads/{branch}\nmark :{mark}\nauthor {who}\ncommitter {who}\n"
        self.text += f"data {len(subject)}\n{subject}\n"
        for number, parent in enumerate(parents):
            self.text += f"{'merge' if number else 'from'} :{parent}\n"
        for path, data in files.items():
            if data is None:
                self.text += f"D {path}\n"
            else:
                self.text += f"M 100644 inline {path}\ndata {len(data.encode())}\n{data}\n"
        self.text += "\n"
        return mark


def read(root: Path, paths: set[str] | None = None) -> History:
    return history.read(str(root), SCOPE, paths or {FILE}, environ=ENV)


def subjects(found: History, key: str) -> list[str]:
    return [event.commit.subject for event in found.of([(0, (key,))])]


def last(found: History, key: str) -> str:
    event = found.last((0, (key,)))
    assert event is not None
    return event.commit.subject


# --- the model


@dataclass
class Side:
    """A commit in the model: the file's values, who set each last, and every commit that touched each key's past."""

    mark: int
    values: dict[str, str] = field(default_factory=dict)
    setter: dict[str, str] = field(default_factory=dict)
    past: dict[str, frozenset[str]] = field(default_factory=dict)


KEYS = ["A", "B", "C", "D"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "unset", "rename", "other", "branch", "merge", "merge"]),
        st.integers(0, 5),
        st.sampled_from(KEYS),
        st.sampled_from(KEYS),
        st.lists(st.sampled_from(["ours", "theirs", "evil"]), min_size=4, max_size=4),
    ),
    min_size=1,
    max_size=14,
)


def play(steps: list[tuple[str, int, str, str, list[str]]]) -> tuple[str, Side]:
    """The stream, and the model of its last commit."""
    stream = Stream()
    fresh = 0
    heads: list[Side] = []
    for what, which, key, other, choices in steps:
        at = which % max(1, len(heads))
        before = heads[at] if heads else None
        values = dict(before.values) if before else {}
        setter = dict(before.setter) if before else {}
        past = dict(before.past) if before else {}
        parents = [before.mark] if before else []
        subject = f"c{stream.count + 1}"
        if what == "branch" and before is not None and len(heads) < 3:
            heads.append(Side(before.mark, values, setter, past))
            continue
        if what == "merge":
            theirs = heads[(at + 1) % len(heads)] if len(heads) > 1 else None
            if before is None or theirs is None or theirs.mark == before.mark:
                continue
            merged = _merged(before, theirs, dict(zip(KEYS, choices, strict=True)), subject)
            side = Side(stream.commit([before.mark, theirs.mark], {FILE: document(merged.values)}))
            side.values, side.setter, side.past = merged.values, merged.setter, merged.past
            heads[at] = side
            continue
        files: dict[str, str | None] = {}
        if what == "other" or (what == "unset" and key not in values):
            files["README"] = f"{stream.count}\n"
        elif what == "rename" and key in values and other not in values:
            fresh += 1
            values = {(other if k == key else k): (enc(f"v{fresh:04}") if k == key else v) for k, v in values.items()}
            setter[other] = setter.pop(key)
            past[other] = past[key] | past.get(other, frozenset()) | {subject}
            past[key] |= {subject}
        elif what == "unset" and key in values:
            del values[key], setter[key]
            past[key] |= {subject}
        else:
            fresh += 1
            values[key] = enc(f"v{fresh:04}")
            setter[key] = subject
            past[key] = past.get(key, frozenset()) | {subject}
        if "README" not in files:
            files[FILE] = document(values)
        side = Side(stream.commit(parents, files), values, setter, past)
        if heads:
            heads[at] = side
        else:
            heads.append(side)
    final = heads[0] if heads else Side(0)
    return stream.text + (f"reset refs/heads/main\nfrom :{final.mark}\n\n" if heads else ""), final


def _merged(ours: Side, theirs: Side, choices: dict[str, str], subject: str) -> Side:
    made = Side(0)
    for key in dict.fromkeys([*ours.values, *theirs.values]):
        choice = choices[key] if ours.values.get(key) != theirs.values.get(key) else "ours"
        source = {"ours": ours, "theirs": theirs}.get(choice)
        if source is None:
            made.values[key] = enc(f"e{int(subject[1:]):02}{key}x")
            made.setter[key] = subject
        elif key in source.values:
            made.values[key] = source.values[key]
            made.setter[key] = source.setter[key]
    evil = {key for key, who in made.setter.items() if who == subject}
    # git leaves out the side that nothing came from: where the file is as one parent has it, only that one counts.
    same = [side for side in (ours, theirs) if list(side.values.items()) == list(made.values.items())]
    sources = same[:1] or [ours, theirs]
    if same:
        made.setter = dict(same[0].setter)
    for key in {key for side in sources for key in side.past} | evil:
        made.past[key] = frozenset().union(*(side.past.get(key, frozenset()) for side in sources))
        made.past[key] |= {subject} if key in evil else frozenset()
    return made


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_random_histories_against_the_model(steps: list[tuple[str, int, str, str, list[str]]], tmp_path: Path) -> None:
    """Who last changed each key is as the model says, through branches, merges that took either side or neither,
    renames and removals; and each key's history is exactly the commits that touched it, each once."""
    stream, model = play(steps)
    root = make(tmp_path / os.urandom(8).hex())
    fast_import(root, stream)
    if not model.mark:
        return
    found = read(root)
    assert {place[1][0] for place in found.present} == set(model.values)
    for key in model.values:
        assert last(found, key) == model.setter[key], key
    for key, commits in model.past.items():
        said = subjects(found, key)
        assert set(said) == commits, key
    for key in KEYS:
        events = found.of([(0, (key,))])
        assert len({(event.commit.id, event.place) for event in events}) == len(events)


# --- one by one


def test_a_side_branch_keeps_its_change_and_the_merge_has_none(tmp_path: Path) -> None:
    root, stream = make(tmp_path), Stream()
    one = stream.commit([], {FILE: document({"A": enc("1"), "B": enc("1")})})
    ours = stream.commit([one], {FILE: document({"A": enc("2"), "B": enc("1")})})
    theirs = stream.commit([one], {FILE: document({"A": enc("1"), "B": enc("2")})}, "side")
    stream.commit([ours, theirs], {FILE: document({"A": enc("2"), "B": enc("2")})})
    fast_import(root, stream.text)
    found = read(root)
    assert subjects(found, "A") == ["c2", "c1"]
    assert subjects(found, "B") == ["c3", "c1"]
    assert not [event for event in found.events() if event.merge]


def test_what_a_merge_made_of_neither_parent_is_its_own(tmp_path: Path) -> None:
    root, stream = make(tmp_path), Stream()
    one = stream.commit([], {FILE: document({"A": enc("1"), "B": enc("1")})})
    ours = stream.commit([one], {FILE: document({"A": enc("2"), "B": enc("1")})})
    theirs = stream.commit([one], {FILE: document({"A": enc("1"), "B": enc("2")})}, "side")
    stream.commit([ours, theirs], {FILE: document({"A": enc("evil"), "B": enc("2"), "C": enc("new")})})
    fast_import(root, stream.text)
    found = read(root)
    assert [(e.commit.subject, e.what, e.merge) for e in found.of([(0, ("A",))])] == [
        ("c4", history.SET_ANEW, True), ("c2", history.SET_ANEW, False), ("c1", history.SET, False),
    ]  # fmt: skip
    assert [(e.commit.subject, e.what, e.merge) for e in found.of([(0, ("C",))])] == [("c4", history.SET, True)]


def test_an_evil_merge_of_branches_that_never_touched_the_file(tmp_path: Path) -> None:
    """git's simplification leaves such a merge one parent; its change is told all the same."""
    root, stream = make(tmp_path), Stream()
    one = stream.commit([], {FILE: document({"A": enc("1")})})
    ours = stream.commit([one], {"x": "1"})
    theirs = stream.commit([one], {"y": "1"}, "side")
    stream.commit([ours, theirs], {FILE: document({"A": enc("evil")})})
    fast_import(root, stream.text)
    told = [(event.commit.subject, event.what) for event in read(root).of([(0, ("A",))])]
    assert told == [("c4", history.SET_ANEW), ("c1", history.SET)]


def test_rekeyed_files_keep_who_set_the_values(tmp_path: Path) -> None:
    root, stream = make(tmp_path), Stream()
    other = TAIL.replace("YWdl", "YWdm")
    one = stream.commit([], {FILE: document({"A": enc("1"), "B": enc("1")})})
    two = stream.commit(
        [one], {FILE: document({"A": enc("x1"), "B": enc("x2")}, other.replace("mac: ENC", "mac: ENC"))}
    )
    fast_import(root, stream.text)
    found = read(root)
    events = found.of([(0, ("A",))])
    # The MAC's text is the same in both, which proves the same data key; with another it is a new one.
    assert [e.what for e in events] == [history.SET_ANEW, history.SET]
    mac = next(line for line in other.split("\n") if line.strip().startswith("mac: "))
    other = other.replace(mac, mac.replace("data:", "data:A"))
    stream.commit([two], {FILE: document({"A": enc("y1"), "B": enc("y2")}, other.replace("YWdm", "YWdn"))})
    fast_import(root, stream.text)
    found = read(root)
    assert [e.what for e in found.of([(0, ("A",))])] == [history.REKEYED, history.SET_ANEW, history.SET]
    assert last(found, "A") == "c2"


def test_a_merge_that_sealed_the_other_sides_values_anew(tmp_path: Path) -> None:
    """One side rotated; the merge keeps its data key and seals what the other side set under it: that is the other
    side's change, not the merge's."""
    root, stream = make(tmp_path), Stream()
    mac = next(line for line in TAIL.split("\n") if line.strip().startswith("mac: "))
    rotated = TAIL.replace("YWdl", "YWdm").replace(mac, mac.replace("data:", "data:A"))
    one = stream.commit([], {FILE: document({"A": enc("1"), "B": enc("1")})})
    ours = stream.commit([one], {FILE: document({"A": enc("r1"), "B": enc("r1b")}, rotated)})
    theirs = stream.commit([one], {FILE: document({"A": enc("1"), "B": enc("2")})}, "side")
    stream.commit([ours, theirs], {FILE: document({"A": enc("r1"), "B": enc("m2")}, rotated)})
    fast_import(root, stream.text)
    found = read(root)
    (newest, *_) = found.of([(0, ("B",))])
    assert (newest.commit.subject, newest.what, newest.merge) == ("c4", history.REENCRYPTED, True)
    assert last(found, "B") == "c3"
    assert last(found, "A") == "c1"


def test_renamed_keys_files_and_what_is_gone(tmp_path: Path) -> None:
    root, stream = make(tmp_path), Stream()
    one = stream.commit([], {"old/name.yaml": document({"A": enc("1"), "K": enc("1"), "Z": enc("1")})})
    two = stream.commit([one], {"old/name.yaml": document({"A": enc("1"), "NEW": enc("2"), "Z": enc("1")})})
    three = stream.commit(
        [two], {"old/name.yaml": None, FILE: document({"A": enc("1"), "NEW": enc("2"), "Z": enc("1")})}
    )
    four = stream.commit([three], {FILE: document({"A": enc("3"), "NEW": enc("2")})})
    stream.commit([four], {FILE: document({"A": enc("1"), "NEW": enc("2")})})
    fast_import(root, stream.text)
    found = read(root)
    told = [(e.commit.subject, e.what, e.other) for e in found.of([(0, ("NEW",))])]
    assert told == [("c2", history.RENAMED, "K"), ("c1", history.SET, "")]
    assert last(found, "NEW") == "c1"
    assert [(e.commit.subject, e.what, e.other) for e in found.of([(0, ("K",))])] == [
        ("c2", history.RENAMED_AWAY, "NEW"), ("c1", history.SET, ""),
    ]  # fmt: skip
    assert [(e.commit.subject, e.what) for e in found.of([(0, ("Z",))])] == [("c4", history.UNSET), ("c1", history.SET)]
    (back, *_) = found.of([(0, ("A",))])
    assert (back.what, back.commit.subject) == (history.ROLLED_BACK, "c5")
    assert git.resolve(str(root), "main~4") == back.other


def test_unreadable_versions_are_passed_over(tmp_path: Path) -> None:
    """Markers, a link, plaintext: said of the file, and no key is gone for it."""
    root, stream = make(tmp_path), Stream()
    good = document({"A": enc("1")})
    one = stream.commit([], {FILE: good})
    two = stream.commit([one], {FILE: "<<<<<<< ours\n" + good})
    stream.commit([two], {FILE: good})
    fast_import(root, stream.text)
    found = read(root)
    assert subjects(found, "A") == ["c1"]
    assert [event.commit.subject for event in found.files if event.comparison is None] == ["c2"]


def test_no_commit_yet_and_no_repository(tmp_path: Path) -> None:
    from zopp.errors import Unknown

    root = make(tmp_path / "empty")
    assert read(root).heads == {}
    (tmp_path / "none").mkdir()
    with pytest.raises(Unknown):
        git.Log(str(tmp_path / "none"), "HEAD", [FILE], {**ENV, "GIT_CEILING_DIRECTORIES": str(tmp_path)}).read()


def test_hostile_names_in_commits(tmp_path: Path) -> None:
    """What looks like git's own output in a name or subject stays a name or subject."""
    root, stream = make(tmp_path), Stream()
    stream.commit([], {FILE: document({"A": enc("1")})}, author=":100644 100644 \x01 \x1b[31m A")
    fast_import(root, stream.text)
    (event,) = read(root).events()
    assert event.commit.author == ":100644 100644 \x01 \x1b[31m A"
