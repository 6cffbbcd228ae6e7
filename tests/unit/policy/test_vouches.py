"""The text of a vouch: what it refuses, and that the field in it is the one that `apply` takes."""

from typing import Any

import pytest

from tests.unit.policy.test_attacks import a20_world, bob_cases
from zopp.errors import FormatError
from zopp.policy import canonical, requests, vouches

WS, SIG = "0" * 64, b"s" * 64


def text(**changes: Any) -> bytes:
    value = {
        "data": {"principal": "bob-old"},
        "type": "principal.enable",
        "v": 1,
        "vouch": requests.vouch("bob-laptop", 9, SIG),
        "ws": WS,
    }
    return canonical.encode(value | changes)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"null",
        b"[]",
        text()[:-1],
        b" " + text(),
        text() + b"\n\n",
        text() + b" " * vouches.MAX_SIZE,
        text(v=2),
        text(v=True),
        text(more=1),
        text(type="user.disable", data={"user": "bob"}),
        text(type="principal.disable"),
        text(data={"principal": "bob-old", "vouch": None}),
        text(data={}),
        text(data=None),
        text(data={"principal": "Bob Old"}),
        text(type="cap.set"),
        text(type="cap.set", data={"principal": "bob-old", "cap": "clear"}),
        text(vouch=None),
        text(vouch={"device": "bob-laptop", "not_after": -1, "sig": canonical.b64(SIG)}),
        text(vouch={"device": "bob-laptop", "not_after": 9, "sig": canonical.b64(b"s")}),
        text(ws="acme"),
        text(ws=None),
    ],
)
def test_what_is_no_vouch(bad: bytes) -> None:
    with pytest.raises(FormatError):
        vouches.parse(bad)


def test_it_carries_what_it_is_for() -> None:
    assert vouches.parse(text() + b"\n") == vouches.parse(text())
    found = vouches.parse(text())
    assert (found.ws, found.type, found.field["device"]) == (WS, "principal.enable", "bob-laptop")
    assert found.fits({"principal": "bob-old", "vouch": None}) and found.fits({"principal": "bob-old"})
    assert not found.fits({"principal": "bob-new"}) and not found.fits({"principal": "bob-old", "cap": None})


@pytest.mark.parametrize("case", ["enrol", "rekey", "enable", "lift"])
def test_apply_takes_the_field_of_the_text(case: str) -> None:
    w = a20_world()
    type_, data = bob_cases(w)[case]
    sealed = vouches.seal(ws=w.state.ws, type=type_, data=data, field=w.vouched(type_, data, "bob-laptop")["vouch"])
    found = vouches.parse(sealed)
    assert found.fits(data)
    w.do("alice-laptop", type_, {**data, "vouch": dict(found.field)})
    assert w.fold() == w.state
