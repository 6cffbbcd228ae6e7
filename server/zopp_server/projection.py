"""Policy as tables: a projection of the fold, for people who query the database. It decides nothing.

`rows` is the whole projection of a state; `update` brings the tables from one state to the next; `differences` is the
self-check's, which says where somebody changed a row by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg

from zopp.policy import canonical
from zopp.policy.state import State

Row = tuple[Any, ...]

TABLES: Mapping[str, tuple[tuple[str, ...], int]] = {
    "project": (("ws", "id", "archived"), 2),
    "environment": (("ws", "project", "id", "kind", "protected", "read_lost_seq", "archived"), 3),
    "users": (("ws", "id", "email_tag", "enabled"), 2),
    "principal": (("ws", "id", "kind", "user_id", "ed25519", "recipient", "cap", "enabled"), 2),
    "grp": (("ws", "id"), 2),
    "grp_member": (("ws", "grp", "subject_kind", "subject"), 3),
    "binding": (("ws", "subject_kind", "subject", "scope_kind", "scope", "role"), 0),
    "auditor": (("ws", "subject"), 2),
    "oidc_rule": (("ws", "id", "service", "issuer", "audience", "claims", "max_ttl"), 2),
    "invite": (("ws", "id", "pubkey", "email_tag", "scope", "role", "created_by", "not_after", "status"), 2),
}
"""Columns in order, and how many of the first are the key (0: see `_key`). Parents stand before children."""


def _key(table: str, row: Row) -> Row:
    return (row[0], row[2], row[4]) if table == "binding" else row[: TABLES[table][1] or None]


_KEYS = {"binding": ("ws", "subject", "scope"), "grp_member": ("ws", "grp", "subject")}


def rows(state: State) -> dict[str, dict[Row, Row]]:
    """table -> key -> row. `grp_member`'s key is (ws, group, subject)."""
    ws = state.name
    found: dict[str, set[Row]] = {name: set() for name in TABLES}
    for name in {env.partition("/")[0] for env in state.all_envs} | set(state.projects):
        found["project"].add((ws, name, name not in state.projects))
    for name, env in state.all_envs.items():
        project, _, last = name.partition("/")
        found["environment"].add((ws, project, last, env.kind, env.protected, state.read_lost_seq(name), env.archived))
    for user in state.users.values():
        tag = None if user.email_tag is None else bytes.fromhex(user.email_tag)
        found["users"].add((ws, user.name, tag, user.enabled))
    for p in state.principals.values():
        cap = None if p.cap is None else int(p.cap)
        kind = "service" if p.user is None else "device"
        found["principal"].add((ws, p.name, kind, p.user, p.key, p.recipient, cap, p.enabled))
    for group, members in state.groups.items():
        found["grp"].add((ws, group))
        for member in members:
            found["grp_member"].add((ws, group, "user" if member in state.users else "service", member))
    for subject, scope, role in state.bindings:
        found["binding"].add((ws, subject.kind, subject.name, scope.kind, scope.name, int(role)))
    found["auditor"] = {(ws, subject.name) for subject in state.auditors}
    for rule in state.oidc_rules.values():
        claims = canonical.encode(dict(rule.claims)).decode()
        found["oidc_rule"].add((ws, rule.name, rule.service, rule.issuer, rule.audience, claims, rule.max_ttl))
    for invite in state.invites.values():
        tag = None if invite.email_tag is None else bytes.fromhex(invite.email_tag)
        found["invite"].add(
            (
                ws, invite.name, invite.key, tag, invite.scope, int(invite.role), invite.created_by, invite.not_after,
                invite.status,
            )
        )  # fmt: skip
    return {table: {_row_key(table, row): row for row in each} for table, each in found.items()}


def _row_key(table: str, row: Row) -> Row:
    if table == "grp_member":
        return (row[0], row[1], row[3])
    return _key(table, row)


async def update(connection: asyncpg.Connection, before: State | None, after: State) -> None:
    """Bring the tables from the projection of `before` (None: nothing) to that of `after`, in the caller's
    transaction."""
    old: dict[str, dict[Row, Row]] = {table: {} for table in TABLES} if before is None else rows(before)
    new = rows(after)
    for table in reversed(list(TABLES)):
        gone = old[table].keys() - new[table].keys()
        if gone:
            names = _KEYS.get(table) or TABLES[table][0][: TABLES[table][1]]
            where = " AND ".join(f"{name} = ${number}" for number, name in enumerate(names, 1))
            await connection.executemany(f"DELETE FROM policy.{table} WHERE {where}", sorted(gone, key=repr))  # noqa: S608
    for table, (columns, _) in TABLES.items():
        changed = [row for key, row in new[table].items() if old[table].get(key) != row]
        if changed:
            names = _KEYS.get(table) or columns[: TABLES[table][1]]
            rest = [name for name in columns if name not in names]
            values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
            sets = ", ".join(f"{name} = excluded.{name}" for name in rest)
            await connection.executemany(
                f"INSERT INTO policy.{table} ({', '.join(columns)}) VALUES ({values}) "  # noqa: S608
                f"ON CONFLICT ({', '.join(names)}) DO " + (f"UPDATE SET {sets}" if rest else "NOTHING"),
                sorted(changed, key=repr),
            )


async def differences(connection: asyncpg.Connection, state: State) -> list[str]:
    """Where the tables of this workspace are not the projection of `state`: a line for each row."""
    found = []
    want = rows(state)
    for table, (columns, _) in TABLES.items():
        have = await connection.fetch(f"SELECT {', '.join(columns)} FROM policy.{table} WHERE ws = $1", state.name)  # noqa: S608
        actual = {_row_key(table, tuple(row)): tuple(row) for row in have}
        for key in sorted(want[table].keys() | actual.keys(), key=repr):
            if want[table].get(key) != actual.get(key):
                found.append(f"policy.{table}: the row of {'/'.join(str(part) for part in key[1:])} is not policy's")
    return found
