"""What can go wrong, as data.

The core raises these with the thing named and the cause; the command line words the hint, because only it knows
flag names. A message never quotes a value, a key text or a line of input: it locates them.

`code` is stable and stands in `--json` only. `exit_code` follows DESIGN.md: 1 no, 2 usage, 3 could not tell.
"""


class ZoppError(Exception):
    """Base of everything zopp raises on purpose. `place` says where (`secrets/dev.yaml:12`, `env.dev.files[0]`)."""

    exit_code = 1
    default_code = "error"

    def __init__(self, message: str, *, code: str = "", place: str = "", hint: str = "", **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.place = place
        self.hint = hint
        self.data = data

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class FormatError(ZoppError):
    """Bytes are not a valid document of the format that they should have."""

    default_code = "format"


class IntegrityError(ZoppError):
    """A document is well formed and false: a signature, MAC, commitment or chain does not hold."""

    default_code = "integrity"


class Denied(ZoppError):
    """Policy says no. `data` holds subject, action, scope and the role that is missing."""

    default_code = "denied"


class NotFound(ZoppError):
    """The named thing does not exist. `data['candidates']` may hold names to suggest."""

    default_code = "not_found"


class UsageError(ZoppError):
    """The call itself is wrong."""

    exit_code = 2
    default_code = "usage"


class Unknown(ZoppError):
    """zopp could not tell: unreadable, unreachable, unpinned, or no key of ours."""

    exit_code = 3
    default_code = "unknown"
