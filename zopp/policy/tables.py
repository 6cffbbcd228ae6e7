"""What the fold works on: mutable tables and the role formula over them (policy-server.md §4.2).

Private to this package; the outside sees `State`, whose tables nobody changes any more. Scopes are keys here: "" is
the workspace, `api` a project, `api/dev` an environment. Names are unique across users, groups and services, so a
binding's subject is its name alone. Roles are plain integers.

The formula: of the bindings of a holder (a user or service) and of their groups, those on the scope and on what
contains it count, except that into a *protected* environment only admin flows from above. A principal has the best of
its holder's, bounded by its limit: none when disabled, its cap, read without a signing key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from zopp.policy.roles import Env, Invite, OidcRule, Principal, Role, Server, User

READ, WRITE, ADMIN = int(Role.READ), int(Role.WRITE), int(Role.ADMIN)

_COPIED = (
    "users", "devices", "principals", "groups", "member_of", "live", "envs", "bind", "by_subject", "flags", "names",
    "emails", "keys", "recipients", "invites", "open_invites", "rules", "used", "writes", "lost",
)  # fmt: skip


def parents(scope: str) -> tuple[str, ...]:
    """What contains `scope`, nearest first."""
    if not scope:
        return ()
    project, slash, _ = scope.partition("/")
    return (project, "") if slash else ("",)


class Tables:
    """The fold's state. Values of the inner dicts are immutable or owned (`_own`), so a copy is shallow."""

    __slots__ = (*_COPIED, "_own", "at", "hashes", "name", "salt", "servers", "ws")

    ws: str
    name: str
    salt: bytes
    at: int
    hashes: list[str]
    users: dict[str, User]
    devices: dict[str, tuple[str, ...]]
    """user -> their devices, disabled ones included"""
    principals: dict[str, Principal]
    groups: dict[str, frozenset[str]]
    member_of: dict[str, frozenset[str]]
    live: dict[str, tuple[str, ...]]
    """project -> its environments, archived ones left out of both"""
    envs: dict[str, Env]
    """archived ones included"""
    bind: dict[str, dict[str, int]]
    """scope -> subject -> role"""
    by_subject: dict[str, dict[str, int]]
    """subject -> scope -> role"""
    flags: dict[str, frozenset[str]]
    names: dict[str, tuple[int, str]]
    """typed name (`api`, `api/dev`) -> (number of its last making, kind)"""
    keys: dict[bytes, str]
    """every Ed25519 key ever -> what it was (a principal, `invite/…`, `server:log`)"""
    recipients: dict[str, str]
    """every recipient ever -> the principal, `server:ENV` or `break-glass:`"""
    invites: dict[str, Invite]
    open_invites: dict[str, frozenset[str]]
    """device -> its open invites"""
    emails: dict[str, str]
    """tag -> the enabled user who has it"""
    rules: dict[str, OidcRule]
    used: dict[str, int]
    """request ids and digests of vouches -> the statement that used them"""
    writes: dict[tuple[str, str], tuple[int, ...]]
    """(environment, principal) -> from, to, from, …: since and until which statement it had write"""
    lost: dict[str, int]
    servers: tuple[Server, ...]

    def __init__(self) -> None:
        for field in _COPIED:
            setattr(self, field, {})
        self._own: set[tuple[int, str]] = set()
        self.ws = self.name = ""
        self.salt = b""
        self.at = 0
        self.hashes = []
        self.servers = ()

    def copy(self) -> Tables:
        """An independent copy."""
        made = Tables.__new__(Tables)
        for field in _COPIED:
            setattr(made, field, getattr(self, field).copy())
        made._own = set()
        made.hashes = self.hashes.copy()
        made.ws, made.name, made.salt, made.at, made.servers = self.ws, self.name, self.salt, self.at, self.servers
        return made

    # --- bindings, kept both ways round

    def set_binding(self, scope: str, subject: str, role: int) -> None:
        """Set, or with 0 remove."""
        for table, outer, inner in ((self.bind, scope, subject), (self.by_subject, subject, scope)):
            mark = (id(table), outer)
            if mark not in self._own:
                table[outer] = dict(table.get(outer, ()))
                self._own.add(mark)
            if role:
                table[outer][inner] = role
            else:
                table[outer].pop(inner, None)

    # --- who

    def principals_of(self, holder: str) -> tuple[str, ...]:
        """A user's devices, or the service itself."""
        return self.devices[holder] if holder in self.users else (holder,)

    def holders(self, subject: str) -> Iterable[str]:
        """A group's members, else the user or service itself."""
        return self.groups.get(subject, (subject,))

    def limit(self, name: str) -> int:
        """The most the principal may have, whatever its holder's bindings say."""
        p = self.principals[name]
        if not p.enabled or (p.user is not None and not self.users[p.user].enabled):
            return 0
        cap = ADMIN if p.cap is None else int(p.cap)
        return cap if p.key is not None else min(cap, READ)

    # --- roles

    def exists(self, scope: str) -> bool:
        """Whether the scope is there and not archived."""
        if "/" in scope:
            env = self.envs.get(scope)
            return env is not None and not env.archived
        return not scope or scope in self.live

    def direct(self, holder: str) -> dict[str, int]:
        """scope -> the best binding exactly there, of the holder and their groups."""
        own = self.by_subject.get(holder)
        groups = self.member_of.get(holder)
        if not groups:
            return own or {}
        best = dict(own) if own else {}
        for group in groups:
            for scope, role in self.by_subject.get(group, {}).items():
                if role > best.get(scope, 0):
                    best[scope] = role
        return best

    def flow(self, direct: dict[str, int], scope: str) -> int:
        """The formula: what the `direct` bindings give on `scope`."""
        best = direct.get(scope, 0)
        if not scope:
            return best
        project, slash, _ = scope.partition("/")
        above = direct.get("", 0)
        if slash:
            above = max(above, direct.get(project, 0))
            if above != ADMIN and self.envs[scope].protected:
                return best
        return max(best, above)

    def base(self, holder: str, scope: str) -> int:
        """The role of a user or service on a scope that exists."""
        return self.flow(self.direct(holder), scope)

    def eff(self, principal: str, scope: str) -> int:
        """The effective role of a principal on a scope that exists."""
        limit = self.limit(principal)
        return min(limit, self.base(self.principals[principal].holder, scope)) if limit else 0

    def below(self, direct: dict[str, int], root: str) -> dict[str, int]:
        """scope -> role by `flow`, for `root` and everything in it; only roles above none."""
        found: dict[str, int] = {}
        if "/" in root:
            if role := self.flow(direct, root):
                found[root] = role
            return found
        top = direct.get("", 0)
        projects: Iterable[str]
        if root:
            projects = (root,)
        else:
            if top:
                found[""] = top
            projects = self.live if top else {key.partition("/")[0] for key in direct}
        for project in projects:
            here = max(top, direct.get(project, 0))
            if here:
                found[project] = here
            for scope in self.live[project]:
                role = direct.get(scope, 0)
                if here > role and (here == ADMIN or not self.envs[scope].protected):
                    role = here
                if role:
                    found[scope] = role
        return found

    def holders_at(self, scope: str) -> Iterator[tuple[str, int]]:
        """(user or service, role) of everyone with a role above none on an existing scope."""
        closed = "/" in scope and self.envs[scope].protected
        best: dict[str, int] = {}
        for place in (scope, *parents(scope)):
            for subject, role in self.bind.get(place, {}).items():
                if place != scope and closed and role != ADMIN:
                    continue
                for holder in self.holders(subject):
                    if role > best.get(holder, 0):
                        best[holder] = role
        return iter(best.items())

    def principals_at(self, scope: str) -> Iterator[tuple[str, int]]:
        """(principal, effective role) of everyone above none on an existing scope."""
        for holder, role in self.holders_at(scope):
            for name in self.principals_of(holder):
                if eff := min(role, self.limit(name)):
                    yield name, eff

    def human_admin_left(self) -> bool:
        """I5: an enabled user is workspace admin on an enabled device whose cap allows it."""
        return any(role == ADMIN and self.principals[name].user is not None for name, role in self.principals_at(""))
