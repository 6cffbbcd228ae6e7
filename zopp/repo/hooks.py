"""git hooks that zopp installs: one short script each, beside whatever is there (review-and-ci.md §1.3).

A hook of somebody else is kept under another name and runs first. Nothing is installed into a folder of the work tree,
where a commit would decide what runs here (A15).
"""

import os
import stat
from dataclasses import dataclass

from zopp.errors import IntegrityError, Unknown
from zopp.repo import git
from zopp.repo.layout import Checkout

MERGE_HOOKS = ("pre-merge-commit", "post-merge")
_MARK = "# zopp:hook "
_BEFORE = ".zopp-before"
_SCRIPT = """#!/bin/sh
# zopp:hook {name} (zopp hooks install wrote it; zopp hooks uninstall takes it away)
# What stood here before runs first; if it fails, so does this.
if [ -x "$0{before}" ]; then "$0{before}" "$@" || exit $?; fi
command -v zopp >/dev/null 2>&1 || exit 0
exec zopp hooks run {name} "$@"
"""


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook: `ours` says that zopp's script is there, `runs` that git runs what is there and that it calls zopp,
    `chained` that another hook runs before zopp's."""

    name: str
    path: str
    ours: bool
    runs: bool
    chained: bool


def folder(checkout: Checkout) -> str:
    """Where git looks for this clone's hooks: its own folder, or that of `core.hooksPath`."""
    done = git.run(checkout.root, "rev-parse", "--git-path", "hooks")
    return os.path.normpath(os.path.join(checkout.root, os.fsdecode(done.stdout).rstrip("\n")))


def look(checkout: Checkout, names: tuple[str, ...] = MERGE_HOOKS) -> list[Hook]:
    """What there is."""
    where = folder(checkout)
    found = []
    for name in names:
        path = os.path.join(where, name)
        calls = f"zopp hooks run {name}" in _text(path) and os.access(path, os.X_OK)
        found.append(Hook(name, path, _is_ours(path), calls, os.path.lexists(path + _BEFORE)))
    return found


def enrolled(checkout: Checkout) -> bool:
    """Whether the hooks that sign a merge are there: then the driver may leave manifests to them."""
    return all(hook.runs for hook in look(checkout))


def install(checkout: Checkout, names: tuple[str, ...] = MERGE_HOOKS) -> list[Hook]:
    """Install each; those that are there already stay. IntegrityError `hooks.tree` where the folder lies in the work
    tree, `hooks.chain` where a hook could not be put aside; then nothing is changed."""
    where = folder(checkout)
    _outside_tree(checkout, where)
    for name in names:
        path = os.path.join(where, name)
        if os.path.lexists(path) and not _is_ours(path) and os.path.lexists(path + _BEFORE):
            raise IntegrityError(
                f"is not zopp's, and {name}{_BEFORE} is there already from an earlier one",
                code="hooks.chain",
                place=path,
                hint=f"keep one of the two as {name}{_BEFORE}, remove the other, then: zopp hooks install",
            )
    try:
        os.makedirs(where, exist_ok=True)
        for name in names:
            path = os.path.join(where, name)
            if os.path.lexists(path) and not _is_ours(path):
                os.rename(path, path + _BEFORE)
            _put(path, _script(name))
    except OSError as exc:
        raise Unknown(f"cannot be written ({exc.strerror})", code="hooks.write", place=where) from None
    return look(checkout, names)


def uninstall(checkout: Checkout, names: tuple[str, ...] = MERGE_HOOKS) -> list[str]:
    """Take zopp's hooks away and put back what stood there; the names that were there."""
    where = folder(checkout)
    _outside_tree(checkout, where)
    gone = []
    try:
        for name in names:
            path = os.path.join(where, name)
            if not _is_ours(path):
                continue
            if os.path.lexists(path + _BEFORE):
                os.rename(path + _BEFORE, path)
            else:
                os.unlink(path)
            gone.append(name)
    except OSError as exc:
        raise Unknown(f"cannot be written ({exc.strerror})", code="hooks.write", place=where) from None
    return gone


def _script(name: str) -> str:
    return _SCRIPT.format(name=name, before=_BEFORE)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(65536)
    except OSError:
        return ""


def _is_ours(path: str) -> bool:
    """Whether zopp wrote it, this version or an older one. A link is somebody's arrangement and never ours."""
    lines = _text(path).split("\n", 2)
    return not os.path.islink(path) and len(lines) > 1 and lines[1].startswith(_MARK)


def _put(path: str, text: str) -> None:
    staged = f"{path}.zopp-{os.getpid()}"
    with open(staged, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    os.replace(staged, path)


def _outside_tree(checkout: Checkout, where: str) -> None:
    real, root = os.path.realpath(where), os.path.realpath(checkout.root)
    own = os.path.realpath(checkout.common_dir)
    if real == own or real.startswith(own + os.sep) or not (real == root or real.startswith(root + os.sep)):
        return
    raise IntegrityError(
        "core.hooksPath leads into the work tree, where a commit could change what runs here",
        code="hooks.tree",
        place=where,
        hint="call zopp from your own hooks: zopp hooks run pre-merge-commit, and zopp hooks run post-merge",
    )
