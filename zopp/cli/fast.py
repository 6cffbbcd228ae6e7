"""The plain forms of get, list, run and set, parsed by hand. Lean."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def try_fast(argv: "list[str]", env: "Mapping[str, str]") -> "int | None":
    """The exit code if this was a plain form and nothing was unusual, else None: the full path decides and words it."""
    return None
