"""What is known of a merge under way besides git's own state: which files the driver merged, and what was settled.

One file below git's own folder, 0600, names and hashes only; a value that was typed for a conflict lies in it as
ciphertext. It is a hint and never a reason to sign: whoever signs makes the merge again from the two verified sides
and compares. A record of other commits than those at hand counts as none.
"""

import json
import os
from dataclasses import dataclass, field
from typing import Any

from zopp.repo import files
from zopp.repo.layout import Checkout

_VERSION = 1


@dataclass(slots=True)
class File:
    """One file: its `paths` in base, ours and theirs (git may have followed a rename), the SHA-512 (hex) of every
    result that zopp wrote here, and what was settled: (document, path, choice), a choice being `ours`, `theirs`, `base`
    or {"enc": ciphertext}."""

    paths: tuple[str | None, str | None, str | None]
    results: list[str] = field(default_factory=list)
    settled: list[tuple[int, tuple[str | int, ...], Any]] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """`ours` and `theirs` are commits, `base` too where there is one. `tree` is what a hook signed and staged, for the
    merge commit that git is about to make; `tip` the last of the commits that git takes over one by one."""

    ours: str
    theirs: str
    base: str | None
    files: dict[str, File] = field(default_factory=dict)
    tree: str | None = None
    tip: str | None = None

    def of(self, ours: str, theirs: str) -> bool:
        """Whether it is about these two commits."""
        return (self.ours, self.theirs) == (ours, theirs)


def _place(checkout: Checkout) -> str:
    return os.path.join(checkout.git_dir, "zopp", "merge.json")


def load(checkout: Checkout) -> Record | None:
    """The record of this work tree, None if there is none that can be read: then nothing is known."""
    try:
        with open(_place(checkout), encoding="utf-8") as file:
            raw = json.load(file)
        if raw["v"] != _VERSION:
            return None
        found = {
            str(path): File(
                tuple(each["paths"]), [str(h) for h in each["results"]],
                [(int(number), tuple(where), choice) for number, where, choice in each["settled"]],
            )
            for path, each in raw["files"].items()
        }  # fmt: skip
        return Record(str(raw["ours"]), str(raw["theirs"]), raw["base"], found, raw["tree"], raw["tip"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def save(checkout: Checkout, record: Record) -> None:
    """Keep it, durable."""
    body = {
        "v": _VERSION,
        "ours": record.ours,
        "theirs": record.theirs,
        "base": record.base,
        "tree": record.tree,
        "tip": record.tip,
        "files": {
            path: {"paths": each.paths, "results": each.results, "settled": each.settled}
            for path, each in sorted(record.files.items())
        },
    }
    files.replace_private(_place(checkout), (json.dumps(body, indent=1) + "\n").encode())


def forget(checkout: Checkout) -> None:
    """The merge is done or given up."""
    try:
        os.unlink(_place(checkout))
    except FileNotFoundError:
        return


def about(checkout: Checkout, ours: str, theirs: str, base: str | None) -> Record:
    """The record of a merge of these commits: the one that is kept, or an empty one."""
    found = load(checkout)
    return found if found is not None and found.of(ours, theirs) else Record(ours, theirs, base)
