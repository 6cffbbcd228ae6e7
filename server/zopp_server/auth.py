"""Who sends a request: a principal, an open invite, or a CI job; by its signature only (policy-server.md §3).

Unknown workspace, unknown key, disabled principal and bad signature look alike: the same answer after the same work. A
signature that is *valid* and refused all the same (stale, disabled) may be a stolen key, and is recorded by the caller
(`Refused.entry`). Whether the caller may do what it asks is decided later, under the lock.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from zopp.errors import Denied, IntegrityError, ZoppError
from zopp.policy.state import State
from zopp.protocol import signing
from zopp.protocol.signing import Presented
from zopp_server.workspaces import Workspace


@dataclass(frozen=True, slots=True)
class CiPrincipal:
    """A registered CI job: `id` as in `ci/ID`, the service it acts for under `rule` (made at statement `since`), its
    key, and until when (Unix seconds)."""

    id: str
    service: str
    rule: str
    since: int
    key: bytes
    not_after: int


@dataclass(slots=True)
class Caller:
    """A verified, fresh caller. `name` as the log's `actor` has it; `service` and `rule` of a CI job only; `id` 16
    random bytes, by which the log knows the request."""

    kind: str
    name: str
    key: bytes
    workspace: Workspace
    presented: Presented
    id: bytes
    addr: str | None
    ip: bytes | None = None
    service: str | None = None
    ci: CiPrincipal | None = None

    @property
    def principal(self) -> str:
        """The principal whose roles count: for a CI job its service."""
        return self.service or self.name

    @property
    def nonce(self) -> tuple[str, bytes]:
        """(key id, nonce), to be used up."""
        return self.presented.keyid, self.presented.nonce

    def still(self, state: State) -> str | None:
        """None if this caller is in `state` what it was when it was authenticated, else why it is not: to be asked
        again under the lock."""
        if self.kind == "principal":
            p = state.principals.get(self.name)
            if p is None or p.key != self.key:
                return "unknown_principal"
            if not p.enabled or (p.user is not None and not state.users[p.user].enabled):
                return "disabled"
        elif self.kind == "ci":
            assert self.ci is not None
            rule = state.oidc_rules.get(self.ci.rule)
            if rule is None or rule.since != self.ci.since or rule.service != self.ci.service:
                return "rule"
            p = state.principals.get(self.ci.service)
            if p is None or not p.enabled:
                return "disabled"
        else:
            invite = state.invites.get(self.name.removeprefix("invite/"))
            if invite is None or invite.key != self.key:
                return "unknown_principal"
        return None


class Refused(Exception):
    """A request that is not let in: what it is told, and, where its signature was valid, whom the log names."""

    def __init__(self, error: ZoppError, caller: Caller | None = None, reason: str = "") -> None:
        super().__init__(error.code)
        self.error = error
        self.caller = caller
        self.reason = reason


def bad_signature() -> IntegrityError:
    """The one answer to everybody who is not let in."""
    return IntegrityError("the request is not signed by an enabled principal of this workspace", code="bad_signature")


def identify(
    presented: Presented,
    *,
    workspace: Workspace | None,
    ci: Any,
    now: int,
    addr: str | None,
    kinds: tuple[str, ...],
) -> Caller:
    """The caller of a request that presents these signature fields. `ci` looks up a registered CI job by fingerprint
    (None: unknown); `kinds` of callers that this route knows. Refused otherwise."""
    found = workspace.by_fingerprint(presented.keyid) if workspace is not None else None
    job = ci(presented.keyid) if found is None and workspace is not None and "ci" in kinds else None
    key = job.key if job is not None else None if found is None or found[0] not in kinds else found[2]
    try:
        signing.verify(presented, key)
    except IntegrityError:
        raise Refused(bad_signature()) from None
    assert workspace is not None
    assert key is not None
    if job is not None:
        kind, name, service = "ci", f"ci/{job.id}", job.service
    else:
        assert found is not None
        kind, name, service = found[0], found[1] if found[0] == "principal" else f"invite/{found[1]}", None
    caller = Caller(kind, name, key, workspace, presented, os.urandom(16), addr, service=service, ci=job)
    try:
        signing.check_fresh(presented, now=now)
    except Denied as exc:
        raise Refused(exc, caller, "clock_skew") from None
    if job is not None and now >= job.not_after:
        raise Refused(bad_signature(), caller, "expired")
    why = caller.still(workspace.state)
    if why is not None:
        raise Refused(bad_signature(), caller, why)
    return caller
