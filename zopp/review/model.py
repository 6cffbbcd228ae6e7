"""What a review says: remarks, and per environment the names of what differs (review-and-ci.md §4 to §6)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from zopp.policy.statement import Statement
from zopp.sopsfile.comparing import Comparison

Severity = Literal["blocker", "unknown", "warning", "note"]
BLOCKER: Severity = "blocker"
UNKNOWN: Severity = "unknown"
WARNING: Severity = "warning"
NOTE: Severity = "note"
_ORDER = {BLOCKER: 0, UNKNOWN: 1, WARNING: 2, NOTE: 3}

SCHEMA = 1
"""Of `Review.json`."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to know. `code` is stable; `place` a path below the root or ''; `environment` as people type it; `fix`
    the command or act that settles it. `old`: the base is so already. `line` of the head's file, or 0."""

    severity: Severity
    code: str
    message: str
    place: str = ""
    environment: str = ""
    fix: str = ""
    old: bool = False
    line: int = 0

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "severity": self.severity, "code": self.code, "message": self.message, "place": self.place,
            "environment": self.environment, "fix": self.fix, "in_base": self.old,
            **({"line": self.line} if self.line else {}),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileReview:
    """One secrets file: what differs between the merge base and the head. `there`: whether each side has it."""

    path: str
    comparison: Comparison
    there: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Recipient:
    """Someone who may open the files of an environment from now on, or no longer. `name` is the policy's, or the key's
    short form where policy knows none; `why` when and by whom it was granted or taken, in words."""

    name: str
    why: str = ""


@dataclass(slots=True)
class EnvironmentReview:
    """One environment that the range touches. `data_key`: `same` (proven by a common ciphertext), `new` (no text in
    common, which a key would prove), `mixed` over several files, `none` where there is nothing to compare.
    `generations`: of the manifests, None where there is none. `classes`: what a keyed review found, key → classes."""

    scope: str
    name: str
    files: list[FileReview] = field(default_factory=list)
    added: list[Recipient] = field(default_factory=list)
    removed: list[Recipient] = field(default_factory=list)
    data_key: str = "none"
    generations: tuple[int | None, int | None] = (None, None)
    signer: str = ""
    holds: bool = True
    classes: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def full_rewrap(self) -> bool:
        """Whether every value of every compared file is under new ciphertext."""
        compared = [each for each in self.files if all(each.there)]
        return bool(compared) and all(each.comparison.full_rewrap for each in compared)

    def json(self) -> dict[str, Any]:
        """For machines: names and classes."""
        return {
            "environment": self.name,
            "data_key": self.data_key,
            "full_rewrap": self.full_rewrap,
            "manifest": {
                "base": self.generations[0], "head": self.generations[1], "signer": self.signer, "ok": self.holds,
            },
            "recipients": {
                "added": [{"name": each.name, "why": each.why} for each in self.added],
                "removed": [{"name": each.name, "why": each.why} for each in self.removed],
            },
            "files": [_file(each, self.classes.get(each.path, {})) for each in self.files],
        }  # fmt: skip


def _file(each: FileReview, classes: Mapping[str, list[str]]) -> dict[str, Any]:
    found = each.comparison
    keys = {what: [change.name for change in found.of(what)] for what in ("added", "removed", "changed")}
    out: dict[str, Any] = {
        "path": each.path,
        "in_base": each.there[0],
        "in_head": each.there[1],
        "keys": keys,
        "other_type": [change.name for change in found.changes if change.other_type],
        "clear": [change.name for change in found.changes if change.clear and change.what != "removed"],
        "comments": len(found.comments),
        "reordered": found.reordered,
        "selector_changed": all(each.there) and found.selector is not None,
        "groups_changed": all(each.there) and found.shape is not None,
    }
    if classes:
        out["classes"] = {key: list(names) for key, names in sorted(classes.items())}
    return out


@dataclass(slots=True)
class Review:
    """A judged range. `base`, `head`, `fork`: commit ids, `fork` the newest commit that both have. `statements`: what
    the head's policy log adds. `behind`: commits that the base has and the head does not."""

    base: str
    head: str
    fork: str
    workspace: str = ""
    keyed: bool = False
    behind: int = 0
    statements: list[Statement] = field(default_factory=list)
    environments: list[EnvironmentReview] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def say(
        self, severity: Severity, code: str, message: str, place: str = "", *, environment: str = "", fix: str = "",
        old: bool = False, line: int = 0,
    ) -> None:  # fmt: skip
        """One more remark, unless it stands there."""
        remark = Remark(severity, code, message, place, environment, fix, old, line)
        if remark not in self.remarks:
            self.remarks.append(remark)

    def sort(self) -> None:
        """Remarks: the gravest first, then by place."""
        self.remarks.sort(key=lambda r: (_ORDER[r.severity], r.environment, r.place, r.code, r.message))

    @property
    def exit_code(self) -> int:
        """1 with a blocker, else 3 if something could not be told, else 0 (review-and-ci.md §6)."""
        severities = {remark.severity for remark in self.remarks}
        return 1 if BLOCKER in severities else 3 if UNKNOWN in severities else 0

    @property
    def verdict(self) -> str:
        """In a word."""
        return {0: "clean", 1: "blocked", 3: "could not tell"}[self.exit_code]
