"""What people type for subjects and scopes, resolved against a policy."""

from zopp.errors import NotFound, UsageError
from zopp.policy import names
from zopp.policy.names import Scope, Subject
from zopp.policy.state import State


def scope(state: State, typed: str) -> Scope:
    """WORKSPACE, PROJECT or PROJECT/ENV. NotFound with what there is."""
    try:
        return state.scope(typed)
    except NotFound:
        kinds = [state.name, *(p.partition("@")[0] for p in state.projects)]
        kinds += ["/".join(part.partition("@")[0] for part in env.split("/")) for env in state.envs]
        raise NotFound(f"there is no scope {typed}", code="scope.unknown", candidates=kinds) from None


def subject(state: State, typed: str) -> Subject:
    """A user (by handle or e-mail), group or service. A device is refused with what to say instead."""
    if "@" in typed:
        user = state.user_by_tag(names.email_tag(state.salt, typed))
        if user is None:
            raise NotFound("no user of this workspace has that e-mail", code="subject.unknown")
        return Subject("user", user)
    known = [*state.users, *state.groups, *(n for n, p in state.principals.items() if p.user is None)]
    try:
        return state.subject(typed)
    except NotFound:
        principal = state.principals.get(typed)
        if principal is not None and principal.user is not None:
            raise UsageError(
                f"{typed} is a device of {principal.user}; roles are its user's, a device has at most a cap",
                code="subject.device",
                hint=f"zopp principal cap {typed} read, or give the role to {principal.user}",
            ) from None
        raise NotFound(
            f"there is no user, group or service {typed}", code="subject.unknown", candidates=known
        ) from None


def shown(scope: Scope | str) -> str:
    """A scope as people type it."""
    return "/".join(part.partition("@")[0] for part in str(scope).split("/"))
