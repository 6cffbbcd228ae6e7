"""Names, scopes and subjects: one grammar, typed forms; lean.

Names are identifiers: `[a-z0-9][a-z0-9-]{0,62}`, in statements followed by `@N` (N >= 2) when a removed name was made
again. Scopes and subjects are typed in JSON (`{"env":"api/production"}`, `{"user":"bob"}`), never bare strings (A10).
Whether a name exists is not checked here (`state`).
"""

from zopp._fast import hmac_sha256
from zopp.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"
_REST = _FIRST + "-"

SCOPE_KINDS = ("workspace", "project", "env")
SUBJECT_KINDS = ("user", "group", "service")


def is_typed_name(text: str) -> bool:
    """Whether a person may type `text` as a name: the grammar without `@N`."""
    return 0 < len(text) <= 63 and text[0] in _FIRST and not text.strip(_REST)


def is_name(text: str) -> bool:
    """Whether `text` is a name as statements carry it: the grammar, optionally `@N`."""
    base, at, number = text.partition("@")
    if not is_typed_name(base):
        return False
    if not at:
        return True
    return 0 < len(number) <= 6 and not number.strip("0123456789") and number[0] != "0" and number != "1"


def is_env(text: str) -> bool:
    """Whether `text` is `PROJECT/ENV` as statements carry it."""
    project, slash, env = text.partition("/")
    return bool(slash) and is_name(project) and is_name(env)


def check_name(text: str) -> str:
    """`text` if a person may give it to something new; FormatError otherwise (`staging@2` included)."""
    if not is_typed_name(text):
        raise FormatError("a name is 1 to 63 of a-z, 0-9 and '-', and does not start with '-'", code="name")
    return text


def split(name: str) -> "tuple[str, int]":
    """(what people type, which making of it): `staging@2` is ("staging", 2), `staging` is ("staging", 1)."""
    base, _, number = name.partition("@")
    return base, int(number) if number else 1


def numbered(base: str, number: int) -> str:
    """The inverse of `split`."""
    return base if number == 1 else f"{base}@{number}"


def email_tag(salt: bytes, address: str) -> str:
    """The pseudonym of an e-mail address, 64 hex digits: HMAC-SHA-256 under the genesis' salt of the NFC, lower-cased
    address, so any spelling finds the same user (S35). Guessable by who holds the repository (policy-server.md §2)."""
    from unicodedata import normalize

    # lower() may leave NFC, and must not depend on the order: normalise on both sides of it
    text = normalize("NFC", normalize("NFC", address).lower())
    return hmac_sha256(salt, text.encode()).hex()


class Scope:
    """A workspace, project or environment. `kind` is one of SCOPE_KINDS; `name` is `acme`, `api` or
    `api/production`, as statements carry it; `key` is the same with the workspace as the empty string."""

    __slots__ = ("key", "kind", "name")
    kind: str
    name: str
    key: str

    def __init__(self, kind: str, name: str) -> None:
        good = is_env(name) if kind == "env" else kind in ("workspace", "project") and is_name(name)
        if not good:
            raise FormatError("not a scope", code="scope")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "key", "" if kind == "workspace" else name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a scope does not change")

    @classmethod
    def parse(cls, text: str, workspace: str) -> "Scope":
        """The scope that `WORKSPACE`, `PROJECT` or `PROJECT/ENV` names, literally (`@N` kept). `State.scope` resolves
        what people type."""
        if text == workspace:
            return cls("workspace", text)
        return cls("env" if "/" in text else "project", text)

    @classmethod
    def of_json(cls, value: "Any") -> "Scope":
        """From the typed JSON form."""
        if type(value) is not dict or len(value) != 1:
            raise FormatError("not a scope", code="scope")
        ((kind, name),) = value.items()
        if type(name) is not str:
            raise FormatError("not a scope", code="scope")
        return cls(kind, name)

    def json(self) -> "dict[str, str]":
        """The typed JSON form, `{"env":"api/production"}`."""
        return {self.kind: self.name}

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Scope({self.kind!r}, {self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scope) and (self.kind, self.name) == (other.kind, other.name)

    def __hash__(self) -> int:
        return hash((self.kind, self.name))


class Subject:
    """Who a binding is for: a `user`, `group` or `service`, by name."""

    __slots__ = ("kind", "name")
    kind: str
    name: str

    def __init__(self, kind: str, name: str) -> None:
        if kind not in SUBJECT_KINDS or not is_name(name):
            raise FormatError("not a subject", code="subject")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "name", name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a subject does not change")

    def json(self) -> "dict[str, str]":
        """The typed JSON form, `{"user":"bob"}`."""
        return {self.kind: self.name}

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Subject({self.kind!r}, {self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subject) and (self.kind, self.name) == (other.kind, other.name)

    def __hash__(self) -> int:
        return hash((self.kind, self.name))
