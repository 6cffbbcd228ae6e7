"""What git calls for each file that both sides changed: the driver (review-and-ci.md §1.2, §2 rules 1, 8 and 9).

It never asks, never falls back to merging text, and marks both sides as they are where it cannot answer for a result.
Secrets are merged here and now; manifests, the policy and zopp's blocks are made anew by whoever signs, so for them it
only says whether a hook will do that (exit 0) or git has to stop (exit 1).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp._fast import sha512
from zopp.errors import IntegrityError, NotFound, ZoppError
from zopp.repo import blocks, exposure, git, hooks, layout, mergerecord, mergework, merging, revision
from zopp.repo.clock import now
from zopp.repo.environment import people_name
from zopp.repo.layout import Checkout
from zopp.repo.merging import Sides, Trio, shown
from zopp.repo.revision import Listed, Revision
from zopp.repo.unlock import Keyring
from zopp.sopsfile import merging as sops_merging
from zopp.sopsfile.merging import WHOLE


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What git passes: three temporary files (%O %A %B), the length of markers (%L), the path (%P)."""

    base: str
    ours: str
    theirs: str
    marker: int
    path: str


@dataclass(slots=True)
class Answer:
    """`clean`: exit 0. `said`: lines for the person, names only."""

    clean: bool
    said: list[str] = field(default_factory=list)


def drive(checkout: Checkout, env: Mapping[str, str], keyring: Keyring, call: Call) -> Answer:
    """Merge into the file %A. ZoppError with the reason where nothing was merged: of secrets %A holds both sides
    between markers then, else it stays ours."""
    path = call.path
    versions = _read(call.base), _read(call.ours), _read(call.theirs)
    if path == layout.POLICY:
        return _policy(call, versions)
    if path.startswith(layout.EXPOSURE + "/"):
        _write(call.ours, exposure.merge(*versions, path))
        return Answer(True)
    other = _named_by_git(checkout, env)
    if path.startswith(layout.MANIFESTS + "/") or path == layout.RECEIPT:
        return _left_to_a_hook(checkout, env, other, path)
    if path in (blocks.SOPS_CONFIG, blocks.ATTRIBUTES):
        own, whole = mergework.merge_text(checkout.root, *map(blocks.without_block, versions))
        merged = blocks.with_block_of(own, versions[1]) if whole else None
        if merged is None:
            raise IntegrityError("has lines of your own that both sides changed", code="merge.text", place=path)
        answer = _left_to_a_hook(checkout, env, other, path)
        if answer.clean:
            _write(call.ours, merged)
        return answer
    try:
        return _secrets(checkout, env, keyring, call, versions, other)
    except ZoppError:
        # Not just ours: with it a blind `git add`, or `checkout -m`, which keeps no stages, would lose the other side
        # without a word. Nothing takes this for a secrets file.
        _write(call.ours, sops_merging.marked_whole(versions[1], versions[2], call.marker))
        raise


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _named_by_git(checkout: Checkout, env: Mapping[str, str]) -> str | None:
    """The other commit, where git says so: a merge in GITHEAD_<id>, a rebase in the last line it has done."""
    named = [name.removeprefix("GITHEAD_") for name in env if name.startswith("GITHEAD_")]
    if len(named) == 1:
        return git.resolve(checkout.root, named[0])
    if len(named) > 1:
        raise IntegrityError("git merges several branches at once", code="merge.octopus", hint="merge them one by one")
    try:
        with open(os.path.join(checkout.git_dir, "rebase-merge", "done"), encoding="utf-8", errors="replace") as file:
            words = file.read().rstrip("\n").rpartition("\n")[2].split(" ")
    except OSError:
        return None
    return git.resolve(checkout.root, words[1]) if len(words) > 1 else None


def _merging(env: Mapping[str, str]) -> bool:
    """Whether this is a merge or pull, the only operations in which hooks run that may sign."""
    return any(name.startswith("GITHEAD_") for name in env)


def _policy(call: Call, versions: tuple[bytes, bytes, bytes]) -> Answer:
    """Rule 9: logs merge only where one continues the other."""
    _, ours, theirs = versions
    if ours.startswith(theirs):
        return Answer(True)
    if theirs.startswith(ours):
        _write(call.ours, theirs)
        return Answer(True)
    raise mergework.policy_parted()


def _left_to_a_hook(checkout: Checkout, env: Mapping[str, str], other: str | None, path: str) -> Answer:
    """Ours stays; a hook that signs comes, or git stops here."""
    if _merging(env) and other is not None and hooks.enrolled(checkout):
        head = git.resolve(checkout.root, "HEAD")
        assert head is not None
        record = mergerecord.about(checkout, head, other, revision.merge_base(checkout.root, head, other))
        mergework.note(record, path)
        mergerecord.save(checkout, record)
        return Answer(True)
    return Answer(False, [f"{path}: a writer has to sign the merge: zopp merge --continue"])


# --- secrets


def _secrets(
    checkout: Checkout, env: Mapping[str, str], keyring: Keyring, call: Call, versions: tuple[bytes, bytes, bytes],
    other: str | None,
) -> Answer:  # fmt: skip
    sides, found = _sides(checkout, env, call.path, versions, other)
    if sides.restate is not None:
        raise mergework.policy_parted()
    merging.require_trust(sides)
    scopes = {each.scope for each in found if each is not None}
    if len(scopes) != 1:
        raise IntegrityError(
            "is listed by different environments on the two sides", code="path.shared", place=call.path
        )
    base, ours, theirs = found
    assert ours is not None
    assert theirs is not None
    trio = Trio(call.path, base, ours, theirs)
    state = sides.ws.state
    keys = merging.open_all(sides.ws, ours.scope, [trio], keyring)
    result = merging.merge_file(state, trio, keys, now(), marker=call.marker)
    _write(call.ours, result.data)
    if not result.conflicts:
        _check(call, result)
    record = mergerecord.about(checkout, sides.ours.id, sides.theirs.id, None if sides.base is None else sides.base.id)
    paths = (None if base is None else base.path, ours.path, theirs.path)
    record.files[call.path] = mergerecord.File(paths, [sha512(result.data).hex()])
    mergerecord.save(checkout, record)
    where = people_name(ours.scope)
    said = [f"{where}: both sides changed the comment above {shown(place)}; both are kept" for place in result.both]
    for conflict in result.conflicts:
        what = f"{call.path}: {conflict.why}" if conflict.place == WHOLE else shown(conflict.place)
        said.append(f"{where}: both sides changed {what}; choose with: zopp resolve {_typed(call, conflict.place)}")
    return Answer(not result.conflicts, said)


def _typed(call: Call, place: tuple[int, tuple[str | int, ...]]) -> str:
    return call.path if place == WHOLE else shown(place)


def _check(call: Call, result: merging.Result) -> None:
    """Rule 8: what lies in %A now is what was meant."""
    there = sopsfile.read(_read(call.ours), sopsfile.format_of(call.path))
    if there.decrypt(result.key) != result.tree:
        raise IntegrityError("does not read back as it was merged", code="merge.unread", place=call.path)


def _sides(
    checkout: Checkout, env: Mapping[str, str], path: str, versions: tuple[bytes, bytes, bytes], other: str | None
) -> tuple[Sides, tuple[Listed | None, Listed, Listed]]:
    """The commits that the three files come from, and the files as those list them (rule 1)."""
    head = git.resolve(checkout.root, "HEAD")
    if head is None:
        raise NotFound("there is no commit yet", code="merge.root")
    start = os.path.join(checkout.root, os.path.dirname(path))
    problem: ZoppError | None = None
    for theirs, base in _candidates(checkout, head, path, versions[2], other):
        try:
            names = "ours (HEAD)", f"theirs ({theirs[:9]})"
            sides = merging.settle(checkout, env, start, ours=head, theirs=theirs, base=base, names=names)
            if sides.restate is not None:
                raise mergework.policy_parted()
            mine = _listed(sides, sides.ours, versions[1], path)
            its = _listed(sides, sides.theirs, versions[2], path)
        except ZoppError as exc:
            if exc.code == "merge.policy":
                raise
            problem = problem or exc
            continue
        return sides, (_base(checkout, env, sides, versions[0], path), mine, its)
    if problem is not None:
        raise problem
    raise IntegrityError(
        "no commit here lists their version of it, so nobody says that a writer made it",
        code="merge.unsigned",
        place=path,
    )


def _candidates(
    checkout: Checkout, head: str, path: str, theirs: bytes, other: str | None
) -> Iterator[tuple[str, str | None]]:
    """(their commit, the commit to compare with), the likeliest first."""
    root = checkout.root
    rebasing = os.path.isdir(os.path.join(checkout.git_dir, "rebase-merge"))

    def parent(commit: str) -> str | None:
        return next(iter(git.parents(root, commit)), None)

    if other is not None:
        yield other, parent(other) if rebasing else revision.merge_base(root, head, other)
    for commit in revision.commit_that_brought(root, theirs, path):
        if git.show(root, commit, path) == theirs and commit != other:
            yield commit, parent(commit)


def _listed(sides: Sides, side: Revision, data: bytes, path: str) -> Listed:
    found = revision.lists(side, sides.scopes(), data, path)
    if found is None:
        for scope in sides.scopes():
            if side.signed(scope) is None and side.read([layout.manifest_path(scope)]):
                revision.require(side, scope, sides.ws.state)  # says what is wrong with it
        raise IntegrityError(
            "is not what a manifest of that commit lists: it was changed without zopp, or not signed",
            code="merge.unsigned",
            place=f"{side.name}: {path}",
            hint="a writer looks at it there and signs it: zopp sign",
        )
    scope, name = found
    manifest = revision.require(side, scope, sides.ws.state)
    return revision.listed(side, manifest, scope, name, data)


def _base(checkout: Checkout, env: Mapping[str, str], sides: Sides, data: bytes, path: str) -> Listed | None:
    """The common ancestor's file: judged by its own time. An empty one is none: both sides added the file."""
    if not data:
        return None
    before = [] if sides.base is None else [sides.base]
    problem: ZoppError | None = None
    for side in [*before, *_bringing(checkout, sides, data, path)]:
        found = None if side.state is None else revision.lists(side, sides.scopes(), data, path)
        if found is None:
            continue
        try:
            manifest = revision.require(side, found[0], None)
            return revision.listed(side, manifest, *found, data)
        except ZoppError as exc:
            problem = problem or exc
    raise problem or IntegrityError(
        "no commit lists the common ancestor of the two, so nobody says that a writer made it",
        code="merge.unsigned",
        place=path,
    )


def _bringing(checkout: Checkout, sides: Sides, data: bytes, path: str) -> Iterator[Revision]:
    for commit in revision.commit_that_brought(checkout.root, data, path):
        try:
            yield revision.load(
                checkout.root, commit, f"the common ancestor ({commit[:9]})", sides.ws.settings.genesis, sides.ws.state
            )
        except ZoppError:
            continue  # a commit of some other history that holds the same bytes
