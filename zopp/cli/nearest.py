"""The name that was meant, where one was mistyped."""

import difflib
from collections.abc import Iterable


def nearest(typed: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The name most like `typed`, whatever its case; None if none is."""
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.casefold(), name)
    letters = sorted(typed.casefold())
    for name in folded:
        if sorted(name) == letters:  # two letters in the wrong order, which difflib thinks little of
            return folded[name]
    begun = [name for name in folded if len(typed) > 1 and name.startswith(f"{typed.casefold()}-")]
    if len(begun) == 1:  # a device by its user's name
        return folded[begun[0]]
    near = difflib.get_close_matches(typed.casefold(), folded, n=1, cutoff=cutoff)
    return folded[near[0]] if near else None
