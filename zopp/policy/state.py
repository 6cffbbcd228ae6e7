"""The state after a statement: who exists, who may do what, and the history that manifests are judged by.

A State never changes; `apply.apply` and `log` make new ones. Mappings it hands out are read-only views. Scopes are
accepted as `names.Scope` or as the text that `Scope.name` gives; an unknown or archived scope gives role none and
nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from zopp.errors import NotFound
from zopp.policy import names
from zopp.policy.names import Scope, Subject
from zopp.policy.roles import Env, Invite, OidcRule, Principal, Role, Server, User
from zopp.policy.tables import WRITE, Tables

if TYPE_CHECKING:
    from zopp.policy.explain import Explanation

NOBODY: Mapping[str, str] = MappingProxyType({})


class State:
    """The fold of a log up to `seq`. Equal heads are equal states."""

    __slots__ = ("_readers", "_tables")
    _tables: Tables
    _readers: dict[str, Mapping[str, str]]

    def __init__(self) -> None:
        raise TypeError("a State comes from log.fold or apply.apply")

    @classmethod
    def _of(cls, tables: Tables) -> State:
        made = cls.__new__(cls)
        object.__setattr__(made, "_tables", tables)
        object.__setattr__(made, "_readers", {})
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a state does not change")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and (self.ws, self.seq, self.head) == (other.ws, other.seq, other.head)

    def __hash__(self) -> int:
        return hash(self.head)

    def __repr__(self) -> str:
        return f"State({self.name!r}, seq={self.seq})"

    # --- the chain

    @property
    def ws(self) -> str:
        """The genesis hash, 64 hex digits: the workspace's identity."""
        return self._tables.ws

    @property
    def name(self) -> str:
        """The workspace's name."""
        return self._tables.name

    @property
    def salt(self) -> bytes:
        """The genesis' salt, 32 bytes, for `names.email_tag`."""
        return self._tables.salt

    @property
    def seq(self) -> int:
        """The number of the last statement."""
        return len(self._tables.hashes) - 1

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return self._tables.hashes[-1]

    @property
    def at(self) -> int:
        """The last statement's time, Unix seconds, as its signer gave it."""
        return self._tables.at

    def hash_at(self, seq: int) -> str:
        """The hash of line `seq`; NotFound outside the log."""
        if not 0 <= seq <= self.seq:
            raise NotFound("the policy log has no such statement", code="seq")
        return self._tables.hashes[seq]

    # --- what there is

    @property
    def users(self) -> Mapping[str, User]:
        """By handle, disabled ones included."""
        return MappingProxyType(self._tables.users)

    @property
    def principals(self) -> Mapping[str, Principal]:
        """By name, disabled ones included."""
        return MappingProxyType(self._tables.principals)

    @property
    def groups(self) -> Mapping[str, frozenset[str]]:
        """name -> users and services in it."""
        return MappingProxyType(self._tables.groups)

    @property
    def projects(self) -> Mapping[str, tuple[str, ...]]:
        """name -> its environments (`api/dev`); archived ones are in neither."""
        return MappingProxyType(self._tables.live)

    @property
    def envs(self) -> Mapping[str, Env]:
        """By `PROJECT/ENV`, archived ones left out."""
        return MappingProxyType({k: v for k, v in self._tables.envs.items() if not v.archived})

    @property
    def all_envs(self) -> Mapping[str, Env]:
        """By `PROJECT/ENV`, archived ones included."""
        return MappingProxyType(self._tables.envs)

    @property
    def invites(self) -> Mapping[str, Invite]:
        """By id; see `Invite.status`. Expiry is not a status: compare `not_after` with a time of yours."""
        return MappingProxyType(self._tables.invites)

    @property
    def oidc_rules(self) -> Mapping[str, OidcRule]:
        """By id."""
        return MappingProxyType(self._tables.rules)

    @property
    def servers(self) -> tuple[Server, ...]:
        """Every `server.set`, oldest first, so that a verifier can walk the log keys' receipts."""
        return self._tables.servers

    @property
    def server(self) -> Server | None:
        """The one in force as far as this log alone says."""
        return self._tables.servers[-1] if self._tables.servers else None

    @property
    def bindings(self) -> tuple[tuple[Subject, Scope, Role], ...]:
        """All bindings, sorted by scope and subject."""
        t = self._tables
        return tuple(
            (self._subject(subject), self._scope_of(scope), Role(role))
            for scope in sorted(t.bind)
            for subject, role in sorted(t.bind[scope].items())
        )

    @property
    def auditors(self) -> frozenset[Subject]:
        """Who bears the auditor flag."""
        return frozenset(self._subject(name) for name, flags in self._tables.flags.items() if "auditor" in flags)

    def devices(self, user: str) -> tuple[str, ...]:
        """A user's devices, in the order of enrolment, disabled ones included."""
        return self._tables.devices.get(user, ())

    def groups_of(self, holder: str) -> frozenset[str]:
        """The groups of a user or service."""
        return self._tables.member_of.get(holder, frozenset())

    def user_by_tag(self, tag: str) -> str | None:
        """The enabled user with this `names.email_tag`."""
        return self._tables.emails.get(tag)

    def key_owner(self, public: bytes) -> str | None:
        """What an Ed25519 key is or was in this workspace: a principal, `invite/ID` or `server:log`."""
        return self._tables.keys.get(public)

    def recipient_owner(self, recipient: str) -> str | None:
        """What a recipient is or was: a principal, `server:ENV` or `break-glass:`; None = never in this policy."""
        return self._tables.recipients.get(recipient)

    def principal_by_key(self, public: bytes) -> Principal | None:
        """The principal whose present signing key this is."""
        p = self._tables.principals.get(self._tables.keys.get(public, ""))
        return p if p is not None and p.key == public else None

    def principal_by_recipient(self, recipient: str) -> Principal | None:
        """The principal whose present recipient this is."""
        p = self._tables.principals.get(self._tables.recipients.get(recipient, ""))
        return p if p is not None and p.recipient == recipient else None

    # --- what people type

    def scope(self, typed: str) -> Scope:
        """The scope that a person means by `WORKSPACE`, `PROJECT` or `PROJECT/ENV`: of names made again the latest.
        NotFound if there is none now; FormatError for what nobody may type (`staging@2`)."""
        if typed == self.name:
            return Scope("workspace", typed)
        project, slash, env = typed.partition("/")
        names.check_name(project)
        t = self._tables
        found = names.numbered(project, t.names.get(project, (1, ""))[0])
        if slash:
            names.check_name(env)
            found = f"{found}/{names.numbered(env, t.names.get(f'{found}/{env}', (1, ''))[0])}"
        if not t.exists(found):
            raise NotFound(f"there is no {'environment' if slash else 'project'} {typed}", code="scope")
        return Scope("env" if slash else "project", found)

    def subject(self, typed: str) -> Subject:
        """The user, group or service that a person means; of names made again the latest."""
        names.check_name(typed)
        t = self._tables
        number, _ = t.names.get(typed, (1, ""))
        found = names.numbered(typed, number)
        if found in t.users or found in t.groups or (found in t.principals and t.principals[found].user is None):
            return self._subject(found)
        raise NotFound(f"there is no user, group or service {typed}", code="subject")

    def principal(self, typed: str) -> Principal:
        """The device or service that a person means; of names made again the latest. NotFound if there is none."""
        names.check_name(typed)
        found = self._tables.principals.get(names.numbered(typed, self._tables.names.get(typed, (1, ""))[0]))
        if found is None:
            raise NotFound(f"there is no device or service {typed}", code="principal")
        return found

    def next_name(self, typed: str, project: str = "") -> str:
        """The name that statements must use to make something called `typed` (in `project`, an environment):
        `staging`, or `staging@2` where one is gone. FormatError for a bad name; whether it is free is `apply`'s."""
        names.check_name(typed)
        key = f"{project}/{typed}" if project else typed
        made = names.numbered(typed, self._tables.names.get(key, (0, ""))[0] + 1)
        return f"{project}/{made}" if project else made

    def _subject(self, name: str) -> Subject:
        t = self._tables
        return Subject("user" if name in t.users else "group" if name in t.groups else "service", name)

    def _scope_of(self, key: str) -> Scope:
        return Scope("env" if "/" in key else "project", key) if key else Scope("workspace", self.name)

    def _key(self, scope: Scope | str) -> str | None:
        """The scope's key, or None if it does not exist."""
        if isinstance(scope, str):
            key = "" if scope == self.name else scope
            if not key:
                return key if scope else None
        else:
            key = scope.key
            if scope.kind == "workspace" and scope.name != self.name:
                return None
        return key if self._tables.exists(key) else None

    # --- who may what

    def role(self, principal: str, scope: Scope | str) -> Role:
        """The effective role; none for whom or what does not exist."""
        key = self._key(scope)
        if key is None or principal not in self._tables.principals:
            return Role.NONE
        return Role(self._tables.eff(principal, key))

    def subject_role(self, subject: str, scope: Scope | str) -> Role:
        """What the bindings of a user, group or service give, before caps, keys and disabling."""
        key = self._key(scope)
        if key is None:
            return Role.NONE
        t = self._tables
        if subject in t.groups:
            return Role(t.flow(t.by_subject.get(subject, {}), key))
        return Role(t.base(subject, key))

    def readers(self, env: str | Scope) -> Mapping[str, str]:
        """principal -> recipient of everyone to whom the environment's files are encrypted: enabled, role >= read;
        brokered: with a signing key and an X25519 recipient only (`left_out` names the others)."""
        name = str(env)
        known = self._readers.get(name)
        if known is None:
            t = self._tables
            if "/" not in name or not t.exists(name):
                return NOBODY
            direct = t.envs[name].kind == "direct"
            known = MappingProxyType(
                {
                    who: t.principals[who].recipient
                    for who, _ in sorted(t.principals_at(name))
                    if direct or _brokered(t.principals[who])
                }
            )
            self._readers[name] = known
        return known

    def left_out(self, env: str | Scope) -> Mapping[str, str]:
        """principal -> why it is no recipient of a brokered environment although its role says read."""
        t, name = self._tables, str(env)
        if "/" not in name or not t.exists(name) or t.envs[name].kind == "direct":
            return NOBODY
        return MappingProxyType(
            {
                who: "has no signing key" if t.principals[who].key is None else "has no X25519 recipient"
                for who, _ in sorted(t.principals_at(name))
                if not _brokered(t.principals[who])
            }
        )

    def writers(self, env: str | Scope) -> Mapping[str, bytes]:
        """principal -> Ed25519 key of everyone with role >= write."""
        t, name = self._tables, str(env)
        if "/" not in name or not t.exists(name):
            return MappingProxyType({})
        found: dict[str, bytes] = {}
        for who, role in sorted(t.principals_at(name)):
            key = t.principals[who].key
            if role >= WRITE and key is not None:
                found[who] = key
        return MappingProxyType(found)

    def read_lost_seq(self, env: str | Scope) -> int:
        """The last statement by which anyone lost read there, a reader got another recipient, the kind changed or
        break-glass was removed or replaced (S47); 0 if none. A data key made before it (`dk_seq` lower) has to go."""
        return self._tables.lost.get(str(env), 0)

    def wrote_at(self, principal: str, env: str | Scope, seq: int) -> bool:
        """Whether the principal had role >= write there after statement `seq`."""
        turns = self._tables.writes.get((str(env), principal), ())
        return sum(turn <= seq for turn in turns) % 2 == 1

    def writer_since(self, principal: str, env: str | Scope) -> int | None:
        """The statement since which a present writer has been one without a break; None if it is none."""
        turns = self._tables.writes.get((str(env), principal), ())
        return turns[-1] if len(turns) % 2 else None

    def explain(self, who: str, scope: Scope | str) -> Explanation:
        """Why a principal, user, group or service has the role it has; see `explain.Explanation`."""
        from zopp.policy.explain import explain

        return explain(self, who, scope)


def _brokered(p: Principal) -> bool:
    return p.key is not None and p.recipient.startswith("age1")
