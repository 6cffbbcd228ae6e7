"""Roles and the words of what state is made of.

The formula itself (policy-server.md §4.2) is `Tables.base` and `Tables.limit` in `tables`; here are its values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from zopp.errors import FormatError


class Role(IntEnum):
    """none < read < write < admin; `str()` is the word."""

    NONE = 0
    READ = 1
    WRITE = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, spec: str) -> str:
        return format(self.name.lower(), spec)

    @classmethod
    def parse(cls, text: str) -> Role:
        """The role a word names; FormatError otherwise."""
        try:
            return _BY_WORD[text]
        except KeyError:
            raise FormatError("a role is none, read, write or admin", code="role") from None


_BY_WORD = {role.name.lower(): role for role in Role}
LEVEL = {word: int(role) for word, role in _BY_WORD.items()}
"""Plain integers for the fold's inner loops."""


@dataclass(frozen=True, slots=True)
class User:
    """A person. `email_tag` is `names.email_tag` of the address, or None. Sequence numbers say when."""

    name: str
    email_tag: str | None
    enabled: bool
    since: int


@dataclass(frozen=True, slots=True)
class Principal:
    """A device (`user` set) or a service. `key` is the Ed25519 key (32 bytes) or None; `cap` None means no cap.
    `enabled` is the principal's own switch; a device of a disabled user has no role either."""

    name: str
    user: str | None
    key: bytes | None
    recipient: str
    cap: Role | None
    enabled: bool
    since: int

    @property
    def holder(self) -> str:
        """Whose bindings count: the user's for a device, its own for a service."""
        return self.user or self.name


@dataclass(frozen=True, slots=True)
class Env:
    """An environment, `name` as in `api/staging@2`."""

    name: str
    kind: str
    protected: bool
    server_key: str | None
    break_glass: str | None
    since: int
    archived: bool = False

    @property
    def project(self) -> str:
        """The project's name."""
        return self.name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Invite:
    """`status` is open, used, revoked or dead (its device was disabled, or got other keys). `scope` is a scope key:
    the empty string is the workspace."""

    name: str
    key: bytes
    email_tag: str | None
    scope: str
    role: Role
    created_by: str
    not_after: int
    since: int
    status: str = "open"


@dataclass(frozen=True, slots=True)
class OidcRule:
    """Which CI tokens may act as `service`: every one of `claims` must equal the token's."""

    name: str
    service: str
    issuer: str
    audience: str
    claims: tuple[tuple[str, str], ...]
    max_ttl: int
    since: int


@dataclass(frozen=True, slots=True)
class Server:
    """The policy server from statement `since` on. A change of it counts only with a receipt under the key it
    replaces, which is checked outside (policy-server.md §4.1, A6)."""

    origin: str
    log_key: bytes
    since: int
