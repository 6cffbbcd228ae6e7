"""Who signs in this working copy: a principal of the policy and its Ed25519 key."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from zopp.errors import Denied, Unknown
from zopp.keys import find
from zopp.keys.signing import SigningKey
from zopp.policy import decisions
from zopp.policy.state import State
from zopp.repo import userdirs
from zopp.repo.environment import people_name
from zopp.repo.workspace import Workspace, in_ci


@dataclass(frozen=True, slots=True)
class Signer:
    """`principal` as the policy names it."""

    principal: str
    key: SigningKey


def signer(ws: Workspace, ask: Callable[[str], str] | None = None) -> Signer:
    """The principal of this workspace whose signing key we hold. Unknown if there is none; Denied for a CI job that
    could prove itself by an OIDC token: such a job only reads."""
    made = reader(ws, ask)
    if made is None:
        raise Denied(
            "a CI job that proves itself by an OIDC token only reads, and there is no signing key here",
            code="ci.reads",
            hint="make the change on a device; or give the job the signing key of a service that may: ZOPP_SIGNING_KEY",
        )
    return made


def reader(ws: Workspace, ask: Callable[[str], str] | None = None) -> Signer | None:
    """The same for who only reads: None where no signing key is at hand at all and an OIDC token can be had. A signing
    key that is broken, or nobody's here, is an error all the same: another way in would hide it."""
    found = find.signing_key(ws.env, userdirs.config(ws.env), ask)
    if found.key is not None:
        principal = ws.state.principal_by_key(found.key.public)
        if principal is not None:
            return Signer(principal.name, found.key)
    elif not found.problems and find.token_source(ws.env):
        return None
    looked = "; ".join(f"{source}: {outcome}" for source, outcome in found.tried) or "nothing"
    raise Unknown(
        f"no signing key of yours belongs to a principal of workspace {ws.state.name} (tried {looked})",
        code="signing_key.none",
        hint=next((p.hint for p in found.problems if p.hint), "")
        or (CI_NEEDS if in_ci(ws.env) else LOOKED_FOR if found.key or found.problems else NEWCOMER),
    )


LOOKED_FOR = "see where keys are looked for with: zopp doctor"
NEWCOMER = f"a newcomer asks to be let in with: zopp trust && zopp principal request > me.request; else {LOOKED_FOR}"
CI_NEEDS = (
    "this job needs ZOPP_SIGNING_KEY, or an OIDC token: permissions: {id-token: write} on GitHub, "
    "id_tokens: {ZOPP_ID_TOKEN: {aud: …}} on GitLab; see zopp doctor"
)


def require(state: State, principal: str, action: str, scope: str) -> None:
    """Denied unless `state` lets `principal` do `action` on the typed `scope`."""
    decision = decisions.decide(state, principal, action, scope)
    if isinstance(decision, decisions.Deny):
        # A role inside of where an action is judged would not do.
        at = decisions.ACTIONS[action].scope
        judged = state.name if at == "workspace" else scope.partition("/")[0] if at == "project" else scope
        shown = people_name(judged) if "/" in judged else judged.partition("@")[0]
        raise Denied(
            decision.reason,
            subject=principal,
            action=action,
            scope=shown,
            missing=decision.missing,
            hint=hint([remedy(state, principal, decision, shown)], shown),
        )


def remedy(state: State, principal: str, decision: decisions.Deny, shown: str) -> str:
    """What an admin types so that a refused principal may after all, '' where nothing typed would do; `shown` is the
    scope as people type it."""
    p = state.principals[principal]
    if decision.rule == "disabled":
        steps = [] if p.enabled else [principal]
        if p.user is not None and not state.users[p.user].enabled:
            steps.insert(0, p.user)  # a device comes back after its user
        return " && ".join(f"zopp principal enable {name}" for name in steps)
    if decision.rule == "capped":
        return f"zopp principal cap {principal} {decision.missing}"
    if decision.rule in ("role", "protected_boundary"):
        return f"zopp grant {p.user or principal} {decision.missing} {shown}"
    return ""


def hint(remedies: Iterable[str], shown: str) -> str:
    """The next step after a denial: one of `remedies`, each once; '' if there is none."""
    said = ", or: ".join(dict.fromkeys(each for each in remedies if each))
    return f"ask an admin of {shown} to run: {said}" if said else ""
