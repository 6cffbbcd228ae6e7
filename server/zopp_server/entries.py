"""Audit entries as the server writes them: the exact body and the columns that are projections of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zopp.policy.names import Scope
from zopp.tlog import entry
from zopp.tlog.entry import SignedRequest

OUTCOMES = {"deny": 0, "allow": 1, "fact": 2}
"""As the column `outcome` has them."""

MAX_LINE = entry.MAX_BODY - 4096
"""Bytes of the longest statement that fits into an entry with everything beside it."""


@dataclass(slots=True)
class Draft:
    """An entry to be appended. `ts` in milliseconds; `project` and `env` as in `audit.entry`."""

    body: bytes
    ts: int
    action: str
    outcome: int
    actor: str | None
    on_behalf: str | None
    project: str | None
    env: str | None
    uuid: uuid.UUID


def draft(
    action: str,
    data: Mapping[str, Any],
    *,
    ts: int,
    id: bytes,
    outcome: str,
    reason: str | None = None,
    actor: str | None = None,
    on_behalf: str | None = None,
    scope: Scope | None = None,
    role: str | None = None,
    policy_seq: int | None = None,
    request: SignedRequest | None = None,
    ip: bytes | None = None,
    checked: bool = False,
) -> Draft:
    """See `tlog.entry.build`, whose errors these are."""
    body = entry.build(
        action,
        data,
        ts=ts,
        id=id,
        outcome=outcome,
        reason=reason,
        actor=actor,
        on_behalf=on_behalf,
        scope=scope,
        role=role,
        policy_seq=policy_seq,
        request=request,
        ip=ip,
        checked=checked,
    )
    project, env = None, None
    if scope is not None and scope.kind != "workspace":
        project, _, last = scope.name.partition("/")
        env = last or None
    return Draft(body, ts, action, OUTCOMES[outcome], actor, on_behalf, project, env, uuid.UUID(bytes=id))
