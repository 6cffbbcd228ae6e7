"""Who signs in this working copy: a principal of the policy and its Ed25519 key."""

from dataclasses import dataclass

from zopp.errors import Denied, Unknown
from zopp.keys import find
from zopp.keys.signing import SigningKey
from zopp.policy import decisions
from zopp.repo import userdirs
from zopp.repo.environment import people_name
from zopp.repo.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Signer:
    """`principal` as the policy names it."""

    principal: str
    key: SigningKey


def signer(ws: Workspace) -> Signer:
    """The principal of this workspace whose signing key we hold. Unknown if there is none."""
    keys, tried = find.signing_keys(ws.env, userdirs.home(ws.env), userdirs.config(ws.env))
    by_public = {p.public: name for name, p in ws.state.principals.items() if p.public is not None}
    for key in keys:
        name = by_public.get(key.public)
        if name is not None:
            return Signer(name, key)
    looked = "; ".join(f"{source}: {outcome}" for source, outcome in tried) or "nothing found"
    raise Unknown(
        f"no signing key of yours belongs to a principal of workspace {ws.state.name} (tried {looked})",
        code="signing_key.none",
        hint="see where keys are looked for with: zopp doctor",
    )


def require(ws: Workspace, principal: str, action: str, scope: dict[str, str]) -> None:
    """Denied unless policy lets `principal` do `action` on the typed `scope`."""
    decision = decisions.decide(ws.state, principal, action, scope)
    if isinstance(decision, decisions.Deny):
        ((kind, name),) = scope.items()
        shown = people_name(name) if kind == "env" else name
        user = ws.state.principals[principal].user or principal
        raise Denied(
            f"{principal} may not {action} {shown}: {decision.reason}",
            subject=principal,
            action=action,
            scope=shown,
            missing=decision.missing,
            hint=f"ask an admin of {shown} to run: zopp grant {user} {decision.missing} {shown}",
        )
