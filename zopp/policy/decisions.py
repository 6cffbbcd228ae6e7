"""Decisions: may this principal do that there? And: what does a change of policy do to whom?

A decision is data, not an exception: `Allow(rule)` or `Deny(rule, reason, missing)`; one caller enforces it. Default is
deny. `ACTIONS` is the table of `policies/roles.json` (a test holds them equal); what a statement needs beyond its scope
(all scopes of a group, A20, I5) is judged by `apply`, so an Allow for a statement type is necessary, not sufficient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from zopp.policy.names import Scope
from zopp.policy.roles import OidcRule, Role
from zopp.policy.state import State


@dataclass(frozen=True, slots=True)
class Needs:
    """An action is judged at `scope` (workspace, project, env, or any: where the call says); `human`: devices only."""

    scope: str
    role: Role
    human: bool = False


ACTIONS: Mapping[str, Needs] = MappingProxyType(
    {
        "read": Needs("env", Role.READ),
        "release": Needs("env", Role.READ),
        "write": Needs("env", Role.WRITE),
        "policy.read": Needs("workspace", Role.NONE),
        "audit.read": Needs("workspace", Role.ADMIN),
        "binding.set": Needs("any", Role.ADMIN),
        "binding.remove": Needs("any", Role.ADMIN),
        "group.member.add": Needs("any", Role.ADMIN),
        "group.member.remove": Needs("any", Role.ADMIN),
        "oidc_rule.set": Needs("any", Role.ADMIN),
        "oidc_rule.remove": Needs("any", Role.ADMIN),
        "env.protect": Needs("env", Role.ADMIN),
        "env.unprotect": Needs("env", Role.ADMIN),
        "env.kind": Needs("env", Role.ADMIN),
        "env.serverkey": Needs("env", Role.ADMIN),
        "env.breakglass": Needs("env", Role.ADMIN),
        "env.create": Needs("project", Role.ADMIN),
        "env.archive": Needs("project", Role.ADMIN),
        "project.create": Needs("workspace", Role.ADMIN),
        "project.archive": Needs("workspace", Role.ADMIN),
        "group.create": Needs("workspace", Role.ADMIN),
        "group.delete": Needs("workspace", Role.ADMIN),
        "user.add": Needs("workspace", Role.ADMIN),
        "user.disable": Needs("workspace", Role.ADMIN),
        "user.enable": Needs("workspace", Role.ADMIN),
        "principal.enrol": Needs("workspace", Role.ADMIN),
        "principal.rekey": Needs("workspace", Role.ADMIN),
        "principal.disable": Needs("workspace", Role.ADMIN),
        "principal.enable": Needs("workspace", Role.ADMIN),
        "cap.set": Needs("workspace", Role.ADMIN),
        "flag.set": Needs("workspace", Role.ADMIN),
        "flag.remove": Needs("workspace", Role.ADMIN),
        "server.set": Needs("workspace", Role.ADMIN),
        "invite.create": Needs("workspace", Role.ADMIN, human=True),
        "invite.redeem": Needs("workspace", Role.ADMIN, human=True),
        "invite.revoke": Needs("workspace", Role.ADMIN, human=True),
    }
)


@dataclass(frozen=True, slots=True)
class Allow:
    """Yes. `rule` names why: `role`, `auditor` or `member`."""

    rule: str
    role: Role


@dataclass(frozen=True, slots=True)
class Deny:
    """No. `rule` is stable: unknown_action, unknown_principal, disabled, no_such_scope, keyless, capped,
    protected_boundary, role, not_human. `reason` is a sentence, `missing` the role that would do ("" if none would)."""

    rule: str
    reason: str
    missing: str


Decision = Allow | Deny


def decide(state: State, principal: str, action: str, scope: Scope | str) -> Decision:
    """May `principal` do `action` at `scope`? A scope inside the one that the action is judged at stands for it
    (`env.create` at `api/dev` asks about `api`). Any doubt is Deny."""
    needs = ACTIONS.get(action)
    if needs is None:
        return Deny("unknown_action", "there is no such action", "")
    t = state._tables
    p = t.principals.get(principal)
    if p is None:
        return Deny("unknown_principal", "there is no such principal", "")
    if not p.enabled or (p.user is not None and not t.users[p.user].enabled):
        return Deny("disabled", f"{principal} is disabled", "")
    key = state._key(scope)
    if key is not None and needs.scope == "workspace":
        key = ""
    elif key is not None and needs.scope == "project":
        key = key.partition("/")[0] or None
    elif key is not None and needs.scope == "env" and "/" not in key:
        key = None
    if key is None:
        return Deny("no_such_scope", f"{action} is not possible there: there is no such scope", "")
    if needs.role == Role.NONE:
        return Allow("member", state.role(principal, state._scope_of(key)))
    if action == "audit.read" and any(
        "auditor" in t.flags.get(x, ()) for x in (p.holder, *t.member_of.get(p.holder, ()))
    ):
        return Allow("auditor", Role.NONE)
    role = Role(t.eff(principal, key))
    if role >= needs.role:
        if needs.human and p.user is None:
            where = state._scope_of(key)
            return Deny(
                "not_human",
                f"{principal} may not {_words(action)} {where}: it is a service, and that is for people",
                "",
            )
        return Allow("role", role)
    return _why(state, principal, action, key, needs.role, role)


# How a refusal says what was tried; `read`, `release` and `write` are words already.
_WORDS = {
    "audit.read": "read the audit log of",
    "oidc_rule.set": "let CI jobs act in",
    "oidc_rule.remove": "take rules for CI jobs from",
    "group.member.add": "add to groups with roles on",
    "group.member.remove": "take from groups with roles on",
    "env.kind": "change the kind of",
    "env.serverkey": "change the server key of",
    "env.breakglass": "change the break-glass key of",
    "project.archive": "archive projects of",
    "user.add": "add people to",
    "user.enable": "let people back into",
    "principal.rekey": "let new keys into",
    "principal.enable": "let devices back into",
    "flag.remove": "take auditors from",
    "server.set": "name the policy server of",
    "invite.redeem": "countersign invites to",
    "invite.revoke": "end invites to",
    "binding.set": "give roles on",
    "binding.remove": "take roles on",
    "group.create": "make groups in",
    "group.delete": "delete groups of",
    "principal.enrol": "let devices into",
    "principal.disable": "disable devices of",
    "cap.set": "set caps in",
    "user.disable": "offboard people of",
    "env.create": "make environments in",
    "env.protect": "protect",
    "env.unprotect": "unprotect",
    "env.archive": "archive environments of",
    "project.create": "make projects in",
    "flag.set": "name auditors of",
    "invite.create": "invite people to",
}


def _words(action: str) -> str:
    return _WORDS.get(action, action)


def _why(state: State, principal: str, action: str, key: str, needed: Role, role: Role) -> Deny:
    t = state._tables
    p = t.principals[principal]
    where = state._scope_of(key)
    missing = str(needed)
    verb = _words(action)
    base = t.base(p.holder, key)
    if base >= needed:
        if p.cap is not None and p.cap < needed:
            return Deny("capped", f"{principal} may not {verb} {where}: its cap is {p.cap}", missing)
        return Deny("keyless", f"{principal} may not {verb} {where}: it has no signing key", missing)
    stopped = state.explain(principal, where).stopped
    if any(path.role >= needed for path in stopped):
        return Deny(
            "protected_boundary",
            f"{principal} may not {verb} {where}: it is protected, so roles from above do not count there",
            missing,
        )
    reason = f"{principal} may not {verb} {where}: its role there is {role}, needed is {needed}"
    return Deny("role", reason, missing)


# --- CI trust rules


_CI_PROTECTED = ("environment", "job_workflow_ref", "ci_config_ref_uri")


def oidc_role(state: State, rule: str, scope: Scope | str) -> Role:
    """The role that a job matching `rule` has on `scope`: its service's, but none in a protected environment unless the
    rule also names `environment`, `job_workflow_ref` or `ci_config_ref_uri` (A25). Whether a token matches is
    `oidc_matches`; that it is genuine is the server's."""
    found = state.oidc_rules.get(rule)
    if found is None:
        return Role.NONE
    role = state.role(found.service, scope)
    env = state.all_envs.get(str(scope))
    if env is not None and env.protected and not any(name in _CI_PROTECTED for name, _ in found.claims):
        return Role.NONE
    return role


def oidc_matches(rule: OidcRule, issuer: str, claims: Mapping[str, object]) -> bool:
    """Whether every claim of the rule is in the token, as a string and exactly."""
    return issuer == rule.issuer and bool(rule.claims) and all(claims.get(name) == value for name, value in rule.claims)


# --- effect


@dataclass(frozen=True, slots=True)
class Change:
    """A principal's role on a scope, before and after. `rekeyed`: it has other keys (its roles may be the same)."""

    principal: str
    scope: Scope
    was: Role
    now: Role
    rekeyed: bool = False


def effect(before: State, after: State) -> list[Change]:
    """Who gains or loses what between two states of one workspace, sorted by principal and scope; a new device counts
    as gaining, other keys of a principal as a change wherever it has a role. What `rebase` compares (A11)."""
    a, b = before._tables, after._tables
    changes: list[Change] = []
    for name in sorted(a.principals.keys() | b.principals.keys()):
        p, q = a.principals.get(name), b.principals.get(name)
        was, now = _profile(before, name), _profile(after, name)
        rekeyed = p is not None and q is not None and (p.key, p.recipient) != (q.key, q.recipient)
        if was == now and not rekeyed:
            continue
        for key in sorted(was.keys() | now.keys()):
            x, y = was.get(key, 0), now.get(key, 0)
            if x != y or rekeyed:
                state = after if after._tables.exists(key) else before
                changes.append(Change(name, state._scope_of(key), Role(x), Role(y), rekeyed))
    return changes


def _profile(state: State, principal: str) -> dict[str, int]:
    t = state._tables
    if principal not in t.principals or not (limit := t.limit(principal)):
        return {}
    direct = t.direct(t.principals[principal].holder)
    return {scope: min(role, limit) for scope, role in t.below(direct, "").items()}
