"""Import plans: statuses, conflicts, collisions, provenance; and never a value."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from zopp.errors import ZoppError
from zopp.exchange import plan as plans
from zopp.exchange.dotenv import parse
from zopp.exchange.plan import Origin, Source, plan

CANARY = "kanarienvogel7"
SOURCE = Source(kind="dotenv", locator=".env", env="api/dev")
OURS = Origin(kind="dotenv", id=".env#A")
OTHERS = Origin(kind="vault", id="kv/a")

# existing value, provenance, policy -> status, written
CASES = [
    (None, None, "fail", "new", True),
    ("1", None, "fail", "unchanged", False),
    ("1", OTHERS, "fail", "unchanged", False),
    ("2", None, "fail", "conflict", False),
    ("2", OTHERS, "fail", "conflict", False),
    ("2", OURS, "fail", "changed", True),
    ("2", None, "skip", "skipped", False),
    ("2", OURS, "skip", "changed", True),
    ("2", OTHERS, "overwrite", "changed", True),
    (None, OURS, "fail", "new", True),
]


@pytest.mark.parametrize(("existing", "origin", "policy", "status", "written"), CASES)
def test_status(existing, origin, policy, status, written) -> None:
    made = plan(
        parse(b"A=1").assignments,
        {} if existing is None else {"A": existing},
        {} if origin is None else {"A": origin},
        policy,
        SOURCE,
    )
    assert [line.status for line in made.lines] == [status]
    assert made.writes == ({"A": "A"} if written else {})
    assert made.applicable == (status not in ("conflict", "rejected"))


def test_a_renamed_target_is_found_by_its_origin() -> None:
    made = plan(parse(b"A=2").assignments, {"B": "1"}, {"B": OURS}, "fail", SOURCE)
    assert [(line.key, line.status) for line in made.lines] == [("B", "changed")]
    assert made.writes == {"B": "A"}


@pytest.mark.parametrize("policy", ["fail", "skip", "overwrite"])
def test_two_entries_for_one_target_are_rejected_with_both_locators(policy: plans.OnConflict) -> None:
    made = plan(parse(b"A=2\nB=3").assignments, {}, {"B": OURS}, policy, SOURCE)
    assert [(line.key, line.status, line.reason) for line in made.lines] == [
        ("B", "rejected", "collision with .env:2"),
        ("B", "rejected", "collision with .env:1"),
    ]
    assert not made.writes
    assert plan(parse(b"A=2\nB=3").assignments, {}, {"B": OURS}, policy, SOURCE, exclude=["A"]).applicable


@pytest.mark.parametrize(
    ("name", "rule"), [("LD_PRELOAD", "code-name"), ("sops_mac", "sops-name"), ("A.B", "odd-name")]
)
def test_bad_names_are_rejected(name: str, rule: str) -> None:
    made = plan(parse(f"{name}=1".encode(), dialect="python").assignments, {}, {}, "overwrite", SOURCE)
    assert [(line.status, line.reason) for line in made.lines] == [("rejected", rule)]
    assert not made.applicable


def test_importing_twice_changes_nothing() -> None:
    entries = parse(b"A=1\nB=2").assignments
    first = plan(entries, {}, {}, "fail", SOURCE)
    again = plan(entries, {"A": "1", "B": "2"}, first.origins, "fail", SOURCE)
    assert not again.writes
    assert not again.origins


def test_a_plan_shows_names_and_reasons_and_no_value() -> None:
    text = f'A={CANARY}\nB=changeme\nHOME=/{CANARY}\nC="$A"\n'
    entries = parse(text.encode(), expand=True).assignments
    made = plan(entries, {"A": CANARY + "x"}, {}, "overwrite", SOURCE)
    assert CANARY not in made.table() + repr(made) + repr(made.as_json())
    assert {frozenset(line) for line in made.as_json()} == {frozenset({"source", "env", "key", "status", "reason"})}
    assert [line.reason for line in made.lines] == ["", "placeholder", "seldom meant to be set", "expands A"]
    assert made.table().endswith("1 changed, 3 new\n")


def test_a_name_that_is_none_is_not_shown() -> None:
    entries = parse(f"{CANARY}!=1".encode(), dialect="sops").assignments
    assert CANARY not in plan(entries, {}, {}, "fail", SOURCE).table()


def test_provenance_is_written_in_one_spelling() -> None:
    data = plans.dump_provenance({"B": OTHERS, "A": OURS})
    assert plans.parse_provenance(data) == {"A": OURS, "B": OTHERS}
    assert data.index(b'"A"') < data.index(b'"B"')


@given(
    st.one_of(
        st.binary(max_size=80),
        st.sampled_from([b"{}", b"[]\n", b'{"keys": {}, "v": 2}\n', b'{"keys": {"A": 1}, "v": 1}\n']),
    )
)
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ZoppError):
        plans.parse_provenance(data)
