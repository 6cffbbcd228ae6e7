"""Base, head and the commit they have in common, opened from git's objects.

Anchor and settings are the base's. The head's policy log counts if it verifiably extends the base's; where it does not,
the base's does, and why is a remark. Nothing of the head is checked out, run or obeyed.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from zopp.errors import NotFound, Unknown, UsageError, ZoppError
from zopp.policy import log, statement
from zopp.policy.state import State
from zopp.repo import git, layout, pins, settings as settings_module, userdirs
from zopp.repo.layout import Checkout
from zopp.repo.settings import Settings
from zopp.repo.trees import CommitTree
from zopp.repo.workspace import Workspace, check_anchor, standing
from zopp.review.model import BLOCKER, NOTE, WARNING, Review


@dataclass(slots=True)
class Sides:
    """`base` and `head` are workspaces whose files are those of the commits, `base_tree` and `head_tree`; `fork` is the
    tree that changes are told against, `place` the base's zopp.toml."""

    review: Review
    base: Workspace
    head: Workspace
    fork: CommitTree
    base_tree: CommitTree
    head_tree: CommitTree
    place: str


def default_base(root: str) -> str:
    """What a branch is compared with when nobody says: the branch that `origin` calls its default, else `main` or
    `master`. UsageError if there is none."""
    for name in ("refs/remotes/origin/HEAD", "refs/remotes/origin/main", "refs/remotes/origin/master",
                 "refs/heads/main", "refs/heads/master"):  # fmt: skip
        if git.resolve(root, name) is not None:
            return name
    raise UsageError(
        "there is no origin/HEAD, main or master to compare with",
        code="review.base",
        hint="say: zopp review BASE..HEAD",
    )


def _commit(root: str, revision: str) -> str:
    found = None if revision.startswith("-") else git.resolve(root, revision)
    if found is not None:
        return found
    known = [name.removeprefix("refs/heads/").removeprefix("refs/remotes/") for _, name in git.branches(root)]
    near = difflib.get_close_matches(revision, known, n=1)
    fetch = "in CI fetch the whole history (fetch-depth: 0, GIT_DEPTH: 0); here: git fetch"
    raise NotFound(
        f"git knows no commit {revision}",
        code="review.revision",
        hint=f"did you mean {near[0]}?" if near else fetch,
    )


def open_sides(start: str, env: Mapping[str, str], revisions: tuple[str, str]) -> Sides:
    """Open both sides of a review of `revisions` (base, head).

    NotFound for a revision that git does not know; Unknown `review.no_base` where the two have no commit in common here
    (unrelated, or a shallow clone), `review.no_workspace` where the base has no zopp.toml; IntegrityError for a base
    that is not the workspace of this clone's pin, or whose log does not verify."""
    checkout = layout.find_checkout(start)
    root = checkout.root
    base, head = (_commit(root, revision) for revision in revisions)
    common = git.run(root, "merge-base", base, head, check=False)
    if common.returncode:
        raise Unknown(
            f"{base[:12]} and {head[:12]} have no commit in common in this clone",
            code="review.no_base",
            hint="fetch the whole history: git fetch --unshallow (in CI: fetch-depth: 0, GIT_DEPTH: 0)",
        )
    fork = common.stdout.decode().strip()
    behind = int(git.run(root, "rev-list", "--count", f"{head}..{base}").stdout)
    review = Review(base, head, fork, behind=behind)
    base_tree, head_tree = CommitTree(root, base), CommitTree(root, head)
    place = _anchor(checkout, start, base_tree)
    folder = place.rpartition("/")[0]
    settings = settings_module.parse(_required(base_tree, place), place=place, folder=folder)
    pin = pins.find(userdirs.state(env), checkout, env)
    check_anchor(settings, pin, place, folder, new_project=True)
    try:
        base_log = _required(base_tree, layout.POLICY)
        base_state = log.fold(base_log, genesis=settings.genesis)
    except ZoppError as exc:
        exc.place = f"{base[:12]}:{layout.POLICY}" + (f": {exc.place}" if exc.place else "")
        raise
    review.workspace = base_state.name
    base_ws = Workspace(
        checkout=checkout, env=env, settings=settings, folder=folder, pin=pin, state=base_state, log=base_log,
        place=standing(base_state, pin), receipt=base_tree.read(layout.RECEIPT), at=base_tree,
    )  # fmt: skip
    state, lines, receipt = _policy(review, base_ws, head_tree)
    head_ws = Workspace(
        checkout=checkout, env=env, settings=settings, folder=folder, pin=pin, state=state, log=lines,
        place=standing(state, pin), receipt=receipt, at=head_tree,
    )  # fmt: skip
    fork_tree = base_tree if fork == base else CommitTree(root, fork)
    _compare_settings(review, settings, head_tree, place, folder)
    return Sides(review, base_ws, head_ws, fork_tree, base_tree, head_tree, place)


def _required(tree: CommitTree, path: str) -> bytes:
    data = tree.read(path)
    if data is None:
        raise Unknown(f"{tree.revision[:12]} has no such file", code="review.no_workspace", place=path)
    return data


def _anchor(checkout: Checkout, start: str, tree: CommitTree) -> str:
    """The zopp.toml of the base for the folder `start`: the nearest above, else the one least deep."""
    folder = os.path.relpath(os.path.realpath(start), checkout.root)
    folder = "" if folder == os.curdir else folder
    while True:
        place = f"{folder}/{layout.SETTINGS}" if folder else layout.SETTINGS
        if place in tree:
            return place
        if not folder:
            break
        folder = folder.rpartition("/")[0]
    every = [path for path in tree.paths() if path.rpartition("/")[2] == layout.SETTINGS]
    if not every:
        raise Unknown(
            f"the base {tree.revision[:12]} has no zopp.toml, so there is no policy to judge by",
            code="review.no_workspace",
            hint="where this change brings zopp in, compare the fingerprint that `zopp trust` shows with its author",
        )
    return min(every, key=lambda path: (path.count("/"), path))


def _policy(review: Review, base: Workspace, tree: CommitTree) -> tuple[State, bytes, bytes | None]:
    """The policy that the head is judged by, and the receipt that goes with it."""
    kept = base.state, base.log, base.receipt
    try:
        data = tree.read(layout.POLICY)
        if data is None:
            review.say(BLOCKER, "policy.lost", "the policy log is gone", layout.POLICY, fix=_restore(review))
            return kept
        if data == base.log:
            return base.state, base.log, tree.read(layout.RECEIPT)
        if base.log.startswith(data):
            review.say(
                NOTE, "policy.behind", "the base has newer policy, which is what this was judged by", layout.POLICY
            )
            return kept
        if not data.startswith(base.log):
            review.say(
                BLOCKER, "policy.parted", "has parted from the base's policy log", layout.POLICY,
                fix="in the branch: git merge (or rebase) the base, then zopp policy rebase",
            )  # fmt: skip
            return kept
        more = log.split(data[len(base.log) :])
        state = log.extend(base.state, more)
        review.statements = [statement.parse(line) for line in more]
        return state, data, tree.read(layout.RECEIPT)
    except ZoppError as exc:
        place = f"{layout.POLICY}: {exc.place}" if exc.place and exc.place != layout.POLICY else layout.POLICY
        review.say(BLOCKER, f"policy.{exc.code.rpartition('.')[2]}", f"does not verify: {exc.message}", place)
        return kept


def _restore(review: Review) -> str:
    return f"git checkout {review.base[:12]} -- {layout.POLICY}"


def _compare_settings(review: Review, base: Settings, tree: CommitTree, place: str, folder: str) -> None:
    """Remarks on what the head's zopp.toml says otherwise. It decides nothing here."""
    try:
        data = tree.read(place)
        if data is None:
            review.say(
                BLOCKER, "anchor.lost", "zopp.toml is gone", place, fix=f"git checkout {review.base[:12]} -- {place}"
            )
            return
        settings = settings_module.parse(data, place=place, folder=folder)
    except ZoppError as exc:
        review.say(BLOCKER, "anchor.broken", exc.message, exc.place or place)
        return
    for name, was, now in (
        ("workspace", base.workspace, settings.workspace),
        ("genesis", base.genesis, settings.genesis),
        ("project", base.project, settings.project),
    ):
        if was != now:
            review.say(BLOCKER, "anchor.changed", f"{name} was {was} and is now {now}", place)
    if base.default_env != settings.default_env:
        was, now = base.default_env or "none", settings.default_env or "none"
        review.say(
            WARNING, "default_env.changed", f"the default environment was {was} and is now {now}: "
            "commands without -e go elsewhere", place,
        )  # fmt: skip
    for env in sorted({*base.files, *settings.files}):
        was_at, now_at = base.files.get(env, ()), settings.files.get(env, ())
        if was_at != now_at:
            words = f"{', '.join(was_at) or 'nothing'} → {', '.join(now_at) or 'nothing'}"
            severity = WARNING if was_at else NOTE
            review.say(severity, "settings.files", f"new values of {env} go elsewhere: {words}", place)
