"""S12: the whole matrix as a table, for a user, a group and a service; decision and fold agree."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.policy.world import ACME, API, BOB, DEV, World, acme, key
from zopp.errors import IntegrityError
from zopp.policy import statement
from zopp.policy.apply import apply
from zopp.policy.decisions import Allow, Deny, decide
from zopp.policy.roles import Role

CAROL = {"user": "carol"}
CI = {"service": "ci"}

MATRIX = """
none              - - - - - - - - - - -
workspace read    Y - - - - - - - - - -
workspace write   Y Y - - - - - - - - -
workspace admin   Y Y Y Y Y Y Y Y Y Y Y
project read      Y - - - - - - - - - -
project write     Y Y - - - - - - - - -
project admin     Y Y Y Y Y - - - - Y Y
environment read  Y - - - - - - - - Y -
environment write Y Y - - - - - - - Y Y
environment admin Y Y Y - - - - - - Y Y
"""
COLUMNS = (
    ("read", "api/dev", False),
    ("write", "api/dev", False),
    ("binding.set", "api/dev", False),
    ("env.create", "api", False),
    ("binding.set", "api", False),
    ("project.create", "acme", False),
    ("group.create", "acme", False),
    ("invite.create", "acme", False),
    ("binding.set", "acme", False),
    ("read", "api/dev", True),
    ("write", "api/dev", True),
)
ROWS = [line.rsplit(None, 11) for line in MATRIX.strip().splitlines()]
CASES = [
    (who, row[0].strip(), action, scope, protected, cell == "Y")
    for who in ("user", "group", "service")
    for row in ROWS
    for (action, scope, protected), cell in zip(COLUMNS, row[1:], strict=True)
]
_worlds: dict[tuple[str, str, bool], World] = {}


def matrix_world(who: str, row: str, protected: bool) -> World:
    at = (who, row, protected)
    if at not in _worlds:
        w = acme()
        if protected:
            w.do("alice-laptop", "env.protect", {"env": "api/dev"})
        if who == "group":
            w.do("alice-laptop", "group.create", {"group": "devs"})
            w.do("alice-laptop", "group.member.add", {"group": "devs", "member": BOB})
        if row != "none":
            place, role = row.split()
            subject = {"user": BOB, "group": {"group": "devs"}, "service": CI}[who]
            w.bind(subject, role, {"workspace": ACME, "project": API, "environment": DEV}[place])
        _worlds[at] = w
    return _worlds[at]


@pytest.mark.parametrize(("who", "row", "action", "scope", "protected", "allowed"), CASES)
def test_s12_matrix(who: str, row: str, action: str, scope: str, protected: bool, allowed: bool) -> None:
    w = matrix_world(who, row, protected)
    actor = "ci" if who == "service" else "bob-laptop"
    human = action == "invite.create" and who == "service" and allowed
    got = decide(w.state, actor, action, scope)
    if human:
        assert isinstance(got, Deny) and got.rule == "not_human"
    elif allowed:
        assert isinstance(got, Allow) and got.rule == "role"
    else:
        assert isinstance(got, Deny)
        held = row.split()[-1]
        wanted = {"read": 1, "write": 2}.get(action, 3)
        stopped = protected and row.split()[0] in ("workspace", "project") and Role.parse(held) >= wanted
        assert got.rule == ("protected_boundary" if stopped else "role")
        assert got.missing == {"read": "read", "write": "write"}.get(action, "admin")
        assert actor in got.reason and scope in got.reason
    # And the fold agrees with the decision: the real statement passes or fails alike.
    data: dict[str, Any] | None = {
        "binding.set": {"role": "read", "subject": CAROL, "scope": {"acme": ACME, "api": API, "api/dev": DEV}[scope]},
        "env.create": {"env": "api/new", "kind": "direct", "protected": False},
        "project.create": {"project": "new"},
        "group.create": {"group": "new"},
        "invite.create": {
            "invite": "i1",
            "key": key("i1").text,
            "email_tag": None,
            "scope": DEV,
            "role": "read",
            "not_after": 5000,
        },
    }.get(action)
    if data is not None:
        line = statement.parse(w.line(actor, action, data))
        if allowed and not human:
            apply(w.state, line)
        else:
            with pytest.raises(IntegrityError) as caught:
                apply(w.state, line)
            assert caught.value.data["rule"] == ("not_human" if human else "authority")
