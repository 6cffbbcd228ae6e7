"""The text in which a vouch travels from a device of the admin concerned to the admin who signs the statement (A20).

`{"data","type","v","vouch","ws"}`, canonical: the vouch and what it is for, so that whoever passes it on can be told
what does not fit. `parse` checks form only. That the device may vouch, its signature, expiry and single use are judged
by `apply`, which takes nothing of this text but the field `vouch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zopp.errors import FormatError
from zopp.policy import canonical, fields as f
from zopp.policy.statement import TYPES

KINDS = ("principal.enrol", "principal.rekey", "principal.enable", "cap.set")
MAX_SIZE = 16384

_TEXT = f.record(
    {
        "data": f.Field(lambda value, place, out: None, {}),
        "type": f.enum(*KINDS),
        "v": f.integer(1, 1),
        "vouch": f.VOUCH,
        "ws": f.HEX32,
    }
)
_DATA = {kind: f.record({k: v for k, v in TYPES[kind].items() if k != "vouch"}) for kind in KINDS}


@dataclass(frozen=True, kw_only=True, slots=True)
class UnverifiedVouch:
    """A well-formed vouch text: `field` is what a statement embeds, `data` the statement's data without it."""

    ws: str
    type: str
    data: Mapping[str, Any]
    field: Mapping[str, Any]

    def fits(self, data: Mapping[str, Any]) -> bool:
        """Whether it is for exactly this data (whose own `vouch` is ignored)."""
        rest = {key: canonical.thaw(value) for key, value in data.items() if key != "vouch"}
        return canonical.encode(rest) == canonical.encode(dict(self.data))


def seal(*, ws: str, type: str, data: Mapping[str, Any], field: Mapping[str, Any]) -> bytes:
    """The text, one line without newline."""
    rest = {key: canonical.thaw(value) for key, value in data.items() if key != "vouch"}
    text = canonical.encode({"data": rest, "type": type, "v": 1, "vouch": dict(field), "ws": ws})
    parse(text)
    return text


def parse(text: bytes) -> UnverifiedVouch:
    """A vouch text (an optional last newline is ignored); FormatError for anything else."""
    if len(text) > MAX_SIZE:
        raise FormatError("too long for a vouch", code="vouch")
    try:
        value = canonical.decode(text.removesuffix(b"\n"))
    except FormatError as exc:
        raise FormatError(f"is not a vouch: {exc.message}", code="vouch") from None
    problems: list[f.Problem] = []
    _TEXT.check(value, "vouch", problems)
    if not problems:
        _DATA[value["type"]].check(value["data"], "data", problems)
    if problems:
        raise f.refuse(problems, "vouch")
    return UnverifiedVouch(ws=value["ws"], type=value["type"], data=value["data"], field=value["vouch"])
