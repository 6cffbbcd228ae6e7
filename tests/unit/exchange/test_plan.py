"""Import plans: statuses, conflicts, collisions, provenance, pruning; and never a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from zopp.errors import IntegrityError, ZoppError
from zopp.exchange import plan as plans, provenance
from zopp.exchange.entry import Entry, Left, Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.plan import Plan, Rules, Target
from zopp.exchange.provenance import Origin
from zopp.exchange.sources import dotenv
from zopp.sopsfile.tree import dotted

CANARY = "kanarienvogel7"
OURS = Origin(kind="dotenv", id=".env#A")
OTHERS = Origin(kind="vault", id="kv/a")


def read(text: str, **options: object) -> Reading:
    return dotenv.read(text.encode(), ".env", **options)  # type: ignore[arg-type]


def plan(
    reading: Reading,
    existing: dict[str, object] | None = None,
    origins: dict[str, Origin] | None = None,
    *,
    flat: bool = False,
    **rules: object,
) -> Plan:
    leaves = {tuple(key.split(".")): value for key, value in (existing or {}).items()}
    target = Target(name="api/dev", existing=leaves, provenance=origins or {}, flat=flat)
    placed = [MapFile().place(entry) for entry in reading.entries]
    return plans.plan(reading, placed, {"": target}, Rules(**rules))  # type: ignore[arg-type]


def entries(*made: tuple[tuple[str, ...], object], covers: Iterable[str] = ()) -> Reading:
    return Reading(
        kind="vault",
        place="kv",
        covers=tuple(covers),
        entries=tuple(
            [
                Entry(locator="kv/" + ".".join(key), id="kv/" + ".".join(key), name=key[-1], key=key, value=value)
                for key, value in made
            ]
        ),
    )


def statuses(made: Plan) -> list[tuple[str, str]]:
    return [(line.key, line.status) for line in made.lines]


def written(made: Plan) -> dict[str, object]:
    return {".".join(key): value for writes in made.writes.values() for key, (_, value) in writes.puts.items()}


# existing value, provenance, policy -> status, written
CASES = [
    (None, None, "fail", "new", True),
    ("1", None, "fail", "unchanged", False),
    ("1", OTHERS, "fail", "unchanged", False),
    (1, None, "fail", "unchanged", False),
    ("2", None, "fail", "conflict", False),
    ("2", OTHERS, "fail", "conflict", False),
    ("2", OURS, "fail", "changed", True),
    ("2", None, "skip", "skipped", False),
    ("2", OURS, "skip", "changed", True),
    ("2", OTHERS, "overwrite", "changed", True),
    (None, OURS, "fail", "new", True),
]


@pytest.mark.parametrize(("existing", "origin", "policy", "status", "is_written"), CASES)
def test_status(existing, origin, policy, status, is_written) -> None:
    made = plan(
        read("A=1"),
        {} if existing is None else {"A": existing},
        {} if origin is None else {"A": origin},
        on_conflict=policy,
    )
    assert [line.status for line in made.lines] == [status]
    assert written(made) == ({"A": "1"} if is_written else {})
    assert made.applicable == (status not in ("conflict", "rejected"))
    assert bool(made.taken) == (status in ("new", "changed", "unchanged"))


def test_a_renamed_target_is_found_by_its_origin() -> None:
    made = plan(read("A=2"), {"B": "1"}, {"B": OURS})
    assert statuses(made) == [("B", "changed")]
    assert written(made) == {"B": "2"}
    assert made.writes["api/dev"].origins == {"B": OURS}


def test_a_target_that_was_taken_away_since_is_new_again() -> None:
    """Rolled back or unset, by hand: the record outlives the key."""
    assert statuses(plan(read("A=2"), {}, {"B": OURS})) == [("B", "new")]
    origin = Origin(kind="vault", id="kv/db.password")
    assert statuses(plan(entries((("db", "password"), "x")), {}, {"db.password": origin})) == [("db.password", "new")]


@pytest.mark.parametrize("policy", ["fail", "skip", "overwrite"])
def test_two_entries_for_one_target_are_rejected_with_both_locators(policy: plans.OnConflict) -> None:
    made = plan(read("A=2\nB=3"), {}, {"B": OURS}, on_conflict=policy)
    assert [(line.key, line.status, line.reason) for line in made.lines] == [
        ("B", "rejected", "collision with .env:2"),
        ("B", "rejected", "collision with .env:1"),
    ]
    assert not written(made)
    assert plan(read("A=2\nB=3"), {}, {"B": OURS}, on_conflict=policy, excluded=["A"]).applicable


@pytest.mark.parametrize(
    ("name", "rule"), [("LD_PRELOAD", "code-name"), ("sops_mac", "sops-name"), ("A.B", "odd-name")]
)
def test_bad_names_are_rejected(name: str, rule: str) -> None:
    made = plan(read(f"{name}=1", dialect="python"), on_conflict="overwrite")
    assert [(line.status, line.reason) for line in made.lines] == [("rejected", rule)]
    assert not made.applicable


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        (("sops", "mac"), "sops-name"),
        (("LD", "PRELOAD"), "code-name"),
        (("a", ""), "odd-name"),
        (("a", "b\nc"), "odd-name"),
        (("a-b", "c.d"), ""),
    ],
)
def test_names_below_others_are_looked_at_as_run_would_call_them(key: tuple[str, ...], rule: str) -> None:
    assert plans.key_reason(key) == rule


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("a\0b", "nul"),
        ("a\udcff", "not-utf8"),
        ("x" * (plans.MAX_VALUE + 1), "value-size"),
        ("é" * (plans.MAX_VALUE // 2 + 1), "value-size"),
        ("x" * plans.MAX_VALUE, ""),
    ],
)
def test_what_no_variable_can_hold_is_rejected(value: str, rule: str) -> None:
    made = plan(entries((("A",), value)))
    assert [line.reason for line in made.lines] == [rule]


def test_an_import_has_a_size_that_it_may_not_pass() -> None:
    most = plans.MAX_TOTAL // plans.MAX_VALUE
    made = plan(entries(*[((f"K{number}",), "x" * plans.MAX_VALUE) for number in range(most + 1)]))
    assert [line.reason for line in made.lines] == [""] * most + ["import-size"]


def test_a_value_and_a_group_of_one_name_are_a_collision_of_both() -> None:
    made = plan(entries((("db",), "x"), (("db", "password"), "y")))
    assert [line.status for line in made.lines] == ["rejected", "rejected"]
    assert all("db cannot be a value and a group" in line.reason for line in made.lines)


def test_a_group_that_exists_is_not_written_over_nor_a_value_stood_upon() -> None:
    made = plan(
        entries((("db",), "x"), (("key", "part"), "y")), {"db.password": "1", "key": "2"}, on_conflict="overwrite"
    )
    assert [(line.status, line.reason) for line in made.lines] == [
        ("rejected", "is a group of keys here"),
        ("rejected", "stands below a value here"),
    ]


def test_types_are_kept_where_the_file_keeps_them_and_are_text_elsewhere() -> None:
    reading = entries((("a", "b"), 5), (("c",), [1, {"d": None}]), (("e",), True))
    assert written(plan(reading)) == {"a.b": 5, "c": [1, {"d": None}], "e": True}
    made = plan(reading, flat=True)
    assert written(made) == {"a_b": "5", "c": '[1,{"d":null}]', "e": "true"}
    assert [line.reason for line in made.lines] == ["", "a list as JSON text", ""]
    assert statuses(plan(reading, {"a.b": "5", "c": [1, {"d": None}], "e": True})) == [
        ("a.b", "conflict"),
        ("c", "unchanged"),
        ("e", "unchanged"),
    ]


def test_importing_twice_changes_nothing() -> None:
    first = plan(read("A=1\nB=2"))
    again = plan(read("A=1\nB=2"), {"A": "1", "B": "2"}, dict(first.writes["api/dev"].origins))
    assert again.changes == 0
    assert again.writes["api/dev"].origins == first.writes["api/dev"].origins


def test_only_what_this_source_made_and_has_no_more_is_pruned() -> None:
    origins = {
        "GONE": Origin(kind="vault", id="kv/GONE"),
        "OUT": Origin(kind="vault", id="kv/OUT"),
        "HERE": Origin(kind="vault", id="kv/A"),
        "ELSEWHERE": Origin(kind="vault", id="secret/GONE"),
        "OTHER": Origin(kind="dotenv", id="kv/GONE"),
        "SINCE": Origin(kind="vault", id="kv/SINCE"),
    }
    existing = {name: "1" for name in origins if name != "SINCE"} | {"MINE": "1"}
    reading = entries((("A",), "1"), (("OUT",), "1"), covers=["kv/"])
    made = plan(reading, existing, origins, prune=True, excluded=["OUT"])
    assert [line.key for line in made.lines if line.status == "removed"] == ["GONE"]
    assert made.writes["api/dev"].drops == (("GONE",),)
    assert "GONE" not in made.writes["api/dev"].origins
    assert not plan(reading, existing, origins).writes["api/dev"].drops
    assert not plan(entries(), existing, origins, prune=True).writes["api/dev"].drops


def test_what_could_not_be_read_is_not_pruned() -> None:
    origins = {"A": Origin(kind="vault", id="kv/a#A"), "B": Origin(kind="vault", id="kv/b#B")}
    known = Left(locator="kv/a", reason="denied", status="rejected", id="kv/a")
    reading = Reading(kind="vault", place="kv", entries=(), covers=("kv/",), left=(known,))
    made = plan(reading, {"A": "1", "B": "1"}, origins, prune=True, partial=True)
    assert made.writes["api/dev"].drops == (("B",),)
    unknown = Reading(
        kind="vault", place="kv", entries=(), covers=("kv/",), left=(Left(locator="kv", reason="x", status="rejected"),)
    )
    with pytest.raises(IntegrityError) as raised:
        plan(unknown, {"A": "1"}, origins, prune=True, partial=True)
    assert raised.value.code == "import.prune"


def test_what_was_rejected_stops_all_unless_excluded_or_partial() -> None:
    reading = read("A=1\nB=x#y")
    assert statuses(plan(reading)) == [("A", "new"), ("B", "rejected")]
    assert not plan(reading).applicable
    assert plan(reading, excluded=["B"]).applicable
    partial = plan(reading, partial=True)
    assert partial.applicable
    assert [line.key for line in partial.refused] == ["B"]
    assert written(partial) == {"A": "1"}


def test_a_plan_shows_names_and_reasons_and_no_value() -> None:
    text = f'A={CANARY}\nB=changeme\nHOME=/{CANARY}\nC="$A"\n'
    made = plan(read(text, expand=True), {"A": CANARY + "x"}, on_conflict="overwrite")
    lines = [line.as_json() for line in made.lines]
    assert CANARY not in repr(made) + repr(lines)
    assert {frozenset(line) for line in lines} == {frozenset({"source", "env", "key", "status", "reason"})}
    assert [line.reason for line in made.lines] == ["", "placeholder", "seldom meant to be set", "expands A"]
    assert made.placeholders == ("B",)
    assert made.counts() == {"changed": 1, "new": 3}


def test_a_name_that_is_none_is_not_shown() -> None:
    made = plan(read(f"{CANARY}!=1", dialect="sops"))
    assert CANARY not in repr([line.key for line in made.lines])


def test_a_clear_note_that_holds_a_value_is_found() -> None:
    reading = read(f"# see {CANARY}\nA=x{CANARY}\nB={CANARY}\n")
    target = Target(name="api/dev", existing={}, provenance={}, clear_note=lambda key, note: bool(note))
    made = plans.plan(reading, [MapFile().place(entry) for entry in reading.entries], {"": target}, Rules())
    assert plans.notes_with_values(made.writes, [target]) == [("api/dev", ("A",))]
    closed = Target(name="api/dev", existing={}, provenance={})
    assert plans.notes_with_values(made.writes, [closed]) == []


def test_a_name_that_the_file_leaves_in_clear_is_rejected() -> None:
    reading = read("A_unencrypted=1\nB=2")
    target = Target(name="api/dev", existing={}, provenance={}, clear=lambda key: key[0].endswith("_unencrypted"))
    made = plans.plan(reading, [MapFile().place(entry) for entry in reading.entries], {"": target}, Rules())
    assert [(line.status, line.reason) for line in made.lines] == [("rejected", "clear-name"), ("new", "")]


def test_provenance_is_written_in_one_spelling() -> None:
    data = provenance.dump({"B": OTHERS, "A": OURS})
    assert provenance.parse(data) == {"A": OURS, "B": OTHERS}
    assert data.index(b'"A"') < data.index(b'"B"')


@given(
    st.one_of(
        st.binary(max_size=80),
        st.sampled_from([b"{}", b"[]\n", b'{"keys": {}, "v": 2}\n', b'{"keys": {"A": 1}, "v": 1}\n']),
    )
)
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ZoppError):
        provenance.parse(data)


@given(st.lists(st.text(max_size=6), min_size=1, max_size=4))
def test_a_key_is_read_again_as_it_was_written(key: list[str]) -> None:
    name = dotted(key)
    again = plans.undotted(name)
    assert dotted(again) == name or again == (name,)
    if all('"' not in part for part in key):
        assert again == tuple(key)
    assert plans.undotted("a..b") == ("a..b",)


def test_a_group_of_keys_is_found_by_what_made_it_when_it_is_gone() -> None:
    origins = {"a.b": Origin(kind="vault", id="kv/x.y"), '"c.d".e': Origin(kind="vault", id="kv/z")}
    made = plan(entries((("x", "y"), "1"), (("z",), "2")), {}, origins)
    assert {key for writes in made.writes.values() for key in writes.puts} == {("a", "b"), ("c.d", "e")}


def test_what_a_map_file_keeps_out_stops_nothing_and_is_there_all_the_same() -> None:
    gone = Origin(kind="vault", id="kv/p/x")
    left = Left(locator="kv/p", reason="denied", status="rejected", name="p", id="kv/p/", says="denied")
    reading = Reading(kind="vault", place="kv", covers=("kv/",), entries=(), left=(left,))
    made = plan(reading, {"X": "1"}, {"X": gone}, prune=True, left_out=["p"])
    assert [(line.status, line.reason) for line in made.lines] == [("skipped", "left out by the map file")]
    assert made.applicable
    assert not made.unreadable
    assert not made.changes
    unknown = Reading(kind="vault", place="kv", covers=("kv/",), entries=(), left=(replace(left, id=""),))
    with pytest.raises(IntegrityError, match="nothing is pruned"):
        plan(unknown, {"X": "1"}, {"X": gone}, prune=True, left_out=["p"])


def test_what_is_excluded_and_is_nothing_is_told() -> None:
    left = Left(locator="kv/p", reason="denied", status="rejected", name="q", path="p")
    reading = Reading(kind="vault", place="kv", entries=entries((("A",), "1")).entries, left=(left,))
    assert plan(reading, excluded=["A", "kv/A", "q", "p/q", "B", ""]).unused == ("kv/A", "B", "")


@pytest.mark.parametrize(
    ("value", "policy", "status"),
    [("1", "fail", "unchanged"), ("2", "overwrite", "changed"), ("2", "skip", "skipped"), ("2", "fail", "conflict")],
)
def test_a_key_that_a_new_entry_took_over_is_not_pruned_with_the_old_one(value, policy, status) -> None:
    """The item was deleted and made again: another id, the same name."""
    gone = Origin(kind="vault", id="kv/old")
    made = plan(entries((("X",), value), covers=["kv/"]), {"X": "1"}, {"X": gone}, prune=True, on_conflict=policy)
    assert statuses(made) == [("X", status)]
    assert made.writes["api/dev"].drops == ()
    assert "X" in made.writes["api/dev"].origins


def test_a_key_that_is_excluded_is_not_pruned() -> None:
    gone = Origin(kind="vault", id="kv/old")
    reading = entries((("X",), "2"), covers=["kv/"])
    made = plan(reading, {"X": "1"}, {"X": gone}, prune=True, excluded=["X"])
    assert statuses(made) == [("X", "skipped")]
    assert made.writes["api/dev"].origins == {"X": gone}
