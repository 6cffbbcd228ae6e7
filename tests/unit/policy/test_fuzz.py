"""Any bytes: each parser gives a value or a ZoppError, and no message quotes its input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tests.unit.policy.test_manifest import brokered, facts
from tests.unit.policy.world import CANARY, key, quotes_nothing, recipient
from zopp.errors import ZoppError
from zopp.keys import agefile
from zopp.policy import canonical, fields, log, manifest, requests, statement, templates, vouches
from zopp.policy.names import Scope
from zopp.policy.view import View, dump

_W = brokered()
_REQUEST = requests.draft(
    ws=_W.state.ws, name="d", user="bob", key=key("d").public, recipient=recipient("d"), id=b"i" * 16, not_after=9
)
_ENROL = {"request": canonical.decode(_REQUEST), "proof": canonical.b64(b"p" * 64), "cap": None}
GOOD = {
    "log": _W.data,
    "line": _W.lines[-1],
    "request": requests.seal(_REQUEST, key("d").sign(requests.to_sign(_REQUEST))),
    "vouch": vouches.seal(
        ws=_W.state.ws, type="principal.enrol", data=_ENROL, field=requests.vouch("bob-phone", 9, b"s" * 64)
    ),
    "manifest": manifest.build(**facts(_W.state, "web/prod")),
    "view": dump(_W.state),
    "template": (Path(__file__).parents[3] / "policies/templates/team.json").read_bytes(),
}
PARSERS: dict[str, Callable[[bytes], object]] = {
    "log": log.fold,
    "line": statement.parse,
    "request": requests.parse,
    "vouch": vouches.parse,
    "manifest": manifest.parse,
    "view": View,
    "template": templates.parse,
}


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Cut, spliced, with a byte or a word exchanged."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            del data[at:]
        elif kind == 1 and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == 2:
            data[at:at] = draw(st.binary(max_size=12))
        elif kind == 3:
            del data[at : at + draw(st.integers(1, 40))]
        else:
            words = ["null", "1e9", "{}", "[", '"', '":', "\\ud800", "\\u0000", "\u2028", "9" * 400, '"' + CANARY + '"']
            data[at:at] = draw(st.sampled_from(words)).encode()
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_bytes(name: str, data: st.DataObject) -> None:
    raw = data.draw(damaged(GOOD[name]) | st.binary(max_size=200))
    try:
        PARSERS[name](raw)
    except ZoppError as exc:
        quotes_nothing(exc)


@pytest.mark.parametrize("name", PARSERS)
def test_every_cut(name: str) -> None:
    good = GOOD[name]
    for cut in range(0, len(good), max(1, len(good) // 150)):
        whole_lines = name == "log" and good[:cut].endswith(b"\n")
        if whole_lines:
            continue
        with pytest.raises(ZoppError):
            PARSERS[name](good[:cut])


def replace_strings(value: object) -> list[object]:
    """The value with each string, key included, exchanged for the canary in turn."""
    if isinstance(value, str):
        return [CANARY + " "]
    if isinstance(value, list):
        return [[*value[:i], v, *value[i + 1 :]] for i, item in enumerate(value) for v in replace_strings(item)]
    if isinstance(value, dict):
        made: list[object] = [{**value, k: v} for k, item in value.items() for v in replace_strings(item)]
        made += [{**{n: w for n, w in value.items() if n != k}, CANARY + " ": v} for k, v in value.items()]
        return made
    return []


@pytest.mark.parametrize("name", ["line", "request", "vouch", "manifest", "template"])
def test_no_message_quotes_the_input(name: str) -> None:
    import json

    for value in replace_strings(json.loads(GOOD[name])):
        try:
            PARSERS[name](canonical.encode(value))
        except ZoppError as exc:
            quotes_nothing(exc)


@given(st.text(max_size=80) | st.just(recipient("x")))
def test_any_text(text: str) -> None:
    for parser in (
        agefile.canonical_recipient,
        fields.public_key,
        lambda t: Scope.parse(t, "acme"),
        _W.state.scope,
        _W.state.subject,
    ):
        with suppress(ZoppError):
            parser(text)
