"""Two states of a workspace side by side: values by key, recipients, selectors, and the policy's statements.

A side is a commit or the work tree. Nothing is decrypted here, and nothing of a side is trusted: who signed a version
is said by `versions`, and whether a log holds by `PolicyDiff.why`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from zopp.errors import UsageError, ZoppError
from zopp.policy import log, statement
from zopp.policy.statement import Statement
from zopp.repo import git, layout, versions
from zopp.repo.environment import people_name
from zopp.repo.versions import File, Version
from zopp.repo.workspace import Workspace
from zopp.sopsfile.comparing import Comparison, Place, compare, renamed


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared: a commit, or None for the work tree (of `before` also for nothing at all, with `empty`)."""

    before: str | None
    after: str | None
    empty: bool = False


@dataclass(slots=True)
class FileDiff:
    """One file; another name on either side where the file was renamed."""

    before: File | None
    after: File | None
    comparison: Comparison
    renamed: dict[Place, Place] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """What it is called now, or was."""
        side = self.after or self.before
        assert side is not None
        return side.path

    @property
    def moved_from(self) -> str | None:
        """The name before, if it has another now."""
        if self.before is None or self.after is None or self.before.path == self.after.path:
            return None
        return self.before.path

    def unreadable(self) -> list[str]:
        """The sides that are no sops files."""
        return [side.path for side in (self.before, self.after) if side is not None and side.sops is None]


@dataclass(slots=True)
class EnvironmentDiff:
    """An environment on both sides; only files that differ."""

    before: Version
    after: Version
    files: list[FileDiff]

    @property
    def scope(self) -> str:
        return self.after.scope

    def __bool__(self) -> bool:
        return bool(self.files)


@dataclass(slots=True)
class PolicyDiff:
    """Statements that only one side has. `parted`: neither log begins with the other. `why`: why the log of the side
    with more does not hold, '' if it does."""

    added: list[Statement] = field(default_factory=list)
    removed: list[Statement] = field(default_factory=list)
    why: str = ""

    @property
    def parted(self) -> bool:
        return bool(self.added and self.removed)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.why)


def sides(root: str, typed: str | None) -> Sides:
    """`A..B`, `A...B` (since their merge base), `REV` (against the work tree), nothing (HEAD against the work tree).
    NotFound for what is no commit."""
    if typed is None:
        head = git.resolve(root, "HEAD")
        return Sides(head, None, empty=head is None)
    if typed.startswith("-"):
        raise UsageError("a revision does not begin with a dash", code="revision")
    first, dots, last = typed.partition("...")
    if dots:
        a, b = versions.commit_of(root, first or "HEAD"), versions.commit_of(root, last or "HEAD")
        done = git.run(root, "merge-base", a, b, check=False)
        base = done.stdout.decode("ascii", "replace").strip()
        if done.returncode or not base:
            raise UsageError("the two have no commit in common", code="revision", hint=f"zopp diff {first}..{last}")
        return Sides(base, b)
    first, dots, last = typed.partition("..")
    if dots:
        return Sides(versions.commit_of(root, first or "HEAD"), versions.commit_of(root, last or "HEAD"))
    return Sides(versions.commit_of(root, typed), None)


def environments(ws: Workspace, pair: Sides, scopes: Iterable[str], batch: git.Batch) -> list[EnvironmentDiff]:
    """Those of `scopes` that differ."""
    out = []
    for scope in scopes:
        named = versions.named(ws, scope)
        configured = ws.settings.files.get(named.name, ()) if named.project == ws.project else ()
        after = versions.read(ws, scope, pair.after, batch, also=configured)
        before = (
            Version(scope, None, None)
            if pair.empty
            else versions.read(ws, scope, pair.before, batch, also=[*configured, *after.files])
        )
        found = EnvironmentDiff(before, after, _files(before, after))
        if found:
            out.append(found)
    return out


def _files(before: Version, after: Version) -> list[FileDiff]:
    pairs: list[tuple[File | None, File | None]] = []
    gone = [file for path, file in before.files.items() if path not in after.files]
    for path, file in after.files.items():
        old = before.files.get(path)
        if old is None:
            old = next((g for g in gone if _same_key(g, file)), None)
            if old is not None:
                gone.remove(old)
        pairs.append((old, file))
    pairs += [(file, None) for file in gone]
    out = []
    for one, other in pairs:
        if one is not None and other is not None and one.path == other.path and one.data == other.data:
            continue
        was, now = (None if side is None else side.outline for side in (one, other))
        found = compare(was, now)
        names = renamed(was, now, found) if was is not None and now is not None else {}
        out.append(FileDiff(one, other, found, names))
    return out


def _same_key(one: File, other: File) -> bool:
    if one.sops is None or other.sops is None:
        return False
    return compare(one.outline, other.outline).same_data_key


def policy(ws: Workspace, pair: Sides, batch: git.Batch) -> PolicyDiff:
    """The statements that one side has and the other has not."""
    before = b"" if pair.empty else _log(ws, pair.before, batch)
    after = _log(ws, pair.after, batch)
    if before == after:
        return PolicyDiff()
    try:
        old = log.split(before) if before else []
        new = log.split(after) if after else []
        common = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        found = PolicyDiff([statement.parse(line) for line in new[common:]], [statement.parse(x) for x in old[common:]])
        for data in (before, after):
            if data and not ws.log.startswith(data):
                log.fold(data, genesis=ws.state.ws)
    except ZoppError as exc:
        return PolicyDiff(why=f"{exc.place}: {exc.message}" if exc.place else exc.message)
    return found


def _log(ws: Workspace, commit: str | None, batch: git.Batch) -> bytes:
    if commit is None:
        return ws.log
    answer = batch.get(f"{commit}:{layout.POLICY}")
    return b"" if answer is None else answer[1]


def scopes_of(ws: Workspace) -> list[str]:
    """Every environment of the workspace, also those that are archived, in the order of their names."""
    return sorted(ws.state.all_envs, key=people_name)
