"""Git hooks of this clone: installed by name, taken out again, looked at.

A hook of zopp's is a small shell script that names the program it runs. A hook that somebody else wrote is kept: it is
moved aside as `NAME.before-zopp`, and ours runs it first and stops where it stops; without `chain` the installation is
refused with words. `core.hooksPath` is followed when it points out of the tree, and refused when it points into it,
since a commit could then change what runs (A15).
"""

import os
import shlex
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from zopp.errors import NotFound, Unknown, UsageError
from zopp.repo import git
from zopp.repo.layout import Checkout

_MARK = "# zopp-hook-v1"
_BEFORE = ".before-zopp"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hook:
    """A hook that zopp knows. `module` and `args`: what Python runs for it; `stdin`: it reads what git hands it, so a
    hook that was there before gets a copy. `lean`: the program runs under `-I -S`, for speed."""

    name: str
    what: str
    module: str
    args: tuple[str, ...] = ()
    stdin: bool = False
    lean: bool = True


# The hooks by name, in the order in which they are shown. Others are added here.
HOOKS: dict[str, Hook] = {
    hook.name: hook
    for hook in (
        Hook(name="pre-commit", what="stops what must not enter git", module="zopp.scan.guard"),
        Hook(
            name="pre-push",
            what="stops what must not leave: rebased and picked commits, and those made with --no-verify",
            module="zopp.scan.guard",
            args=("--pre-push",),
            stdin=True,
        ),
        Hook(
            name="pre-merge-commit",
            what="signs what the merge driver merged from two verified sides",
            module="zopp.cli.main",
            args=("hooks", "run", "pre-merge-commit"),
            lean=False,
        ),
        Hook(
            name="post-merge",
            what="puts those signatures into the merge commit",
            module="zopp.cli.main",
            args=("hooks", "run", "post-merge"),
            lean=False,
        ),
    )
}

MERGE_HOOKS = ("pre-merge-commit", "post-merge")
"""With both a plain `git merge` finishes by itself (review-and-ci.md §1.3)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """`state`: installed, missing, foreign (somebody else's alone), outdated (ours, of another place or version),
    not-executable. `chained`: there is one from before that runs first."""

    name: str
    path: str
    state: str
    chained: bool = False


def folder(checkout: Checkout) -> str:
    """Where git looks for hooks. Unknown `hooks.in_tree` if `core.hooksPath` points into the work tree."""
    set_to = git.config(checkout.root, "core.hooksPath")
    if not set_to:
        return os.path.join(checkout.common_dir, "hooks")
    path = os.path.normpath(os.path.join(checkout.root, os.path.expanduser(set_to)))
    inside = os.path.realpath(path) + os.sep
    git_dir = os.path.realpath(checkout.common_dir) + os.sep
    if inside.startswith(os.path.realpath(checkout.root) + os.sep) and not inside.startswith(git_dir):
        raise Unknown(
            "core.hooksPath points into the work tree, where any commit can change what runs",
            code="hooks.in_tree",
            place=set_to,
            hint="let its manager run zopp-guard, and zopp hooks run pre-merge-commit and post-merge; or: "
            "git config --unset core.hooksPath",
        )
    return path


def import_path() -> list[str]:
    """The folders that hold zopp and what it may load, for a Python that is started without `site`."""
    from importlib.util import find_spec

    folders: list[str] = []
    for name in ("zopp", "yaml", "re2", "cryptography"):
        spec = find_spec(name)
        if spec is not None and spec.origin:
            up = (
                os.path.dirname(os.path.dirname(spec.origin))
                if spec.submodule_search_locations
                else os.path.dirname(spec.origin)
            )
            folders.append(os.path.abspath(up))
    return list(dict.fromkeys(folders))


def script(hook: Hook) -> str:
    """The text of a hook. The program's name is checked first, so that a removed zopp stops a commit with words."""
    python = os.path.abspath(sys.executable)
    program = "; ".join(
        (
            "import sys",
            # Behind the standard library, which is looked through first and cannot be shadowed.
            f"sys.path += {import_path()!r}",
            f"from {hook.module} import main",
            "sys.exit(main())",
        )
    )
    flags = "-I -S" if hook.lean else "-I"
    run = f'exec {shlex.quote(python)} {flags} -c {shlex.quote(program)} {" ".join((*hook.args, ""))}"$@"'
    lines = [
        "#!/bin/sh",
        f"{_MARK} {hook.name}: {hook.what}. Written by `zopp hooks install`; take it out with `zopp hooks uninstall`.",
        # Not by dirname(1): a process more is a tenth of what the whole hook takes.
        'case "$0" in */*) before="${0%/*}" ;; *) before=. ;; esac',
        f'before="$before/{hook.name}{_BEFORE}"',
        f"if [ ! -x {shlex.quote(python)} ]; then",
        f"  echo 'zopp: error: {python} is gone, so {hook.name} cannot check this: zopp hooks install' >&2",
        "  exit 3",
        "fi",
    ]
    if hook.stdin:
        lines += [
            'if [ -x "$before" ]; then',
            "  given=$(cat; echo .)",
            "  given=${given%.}",
            '  printf %s "$given" | "$before" "$@" || exit $?',
            f'  printf %s "$given" | {run.removeprefix("exec ")}',
            "  exit $?",
            "fi",
        ]
    else:
        lines += ['if [ -x "$before" ]; then', '  "$before" "$@" || exit $?', "fi"]
    return "\n".join([*lines, run]) + "\n"


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Unknown(f"cannot be read ({exc.strerror})", code="hooks.unreadable", place=path) from None


def _is_ours(text: str) -> bool:
    return f"\n{_MARK} " in text


def _known(names: Iterable[str]) -> list[Hook]:
    found = []
    for name in names:
        if name not in HOOKS:
            raise NotFound(f"zopp has no hook {name}", code="hooks.unknown", candidates=list(HOOKS))
        found.append(HOOKS[name])
    return found


def status(checkout: Checkout, names: Iterable[str] = HOOKS) -> list[Status]:
    """How each hook stands."""
    where = folder(checkout)
    found = []
    for hook in _known(names):
        path = os.path.join(where, hook.name)
        text = _read(path)
        state = "installed"
        if text is None:
            state = "missing"
        elif not _is_ours(text):
            state = "foreign"
        elif not os.access(path, os.X_OK):
            state = "not-executable"
        elif text != script(hook):
            state = "outdated"
        found.append(Status(name=hook.name, path=path, state=state, chained=os.path.lexists(path + _BEFORE)))
    return found


def enrolled(checkout: Checkout) -> bool:
    """Whether the hooks that sign a merge are there and run: then the driver may leave manifests to them."""
    try:
        return all(each.state in ("installed", "outdated") for each in status(checkout, MERGE_HOOKS))
    except Unknown:
        return False  # a folder in the work tree, whose hooks are not ours


def install(checkout: Checkout, names: Iterable[str], *, chain: bool = False) -> list[Status]:
    """Write the hooks. UsageError `hooks.foreign` if a foreign one is there and `chain` is false; nothing is written
    then."""
    hooks = _known(names)
    before = {each.name: each for each in status(checkout, [hook.name for hook in hooks])}
    foreign = [each for each in before.values() if each.state == "foreign"]
    if foreign and not chain:
        raise UsageError(
            "is a hook that zopp did not write",
            code="hooks.foreign",
            place=foreign[0].path,
            hint="keep it, run before zopp's: zopp hooks install --chain",
        )
    for each in foreign:
        if each.chained:
            raise UsageError(
                "two hooks from before are in the way", code="hooks.foreign", place=each.path + _BEFORE,
                hint=f"join them into one by hand, then: zopp hooks install {each.name}",
            )  # fmt: skip
    for hook in hooks:
        each = before[hook.name]
        if each.state == "foreign":
            os.rename(each.path, each.path + _BEFORE)
        _write(each.path, script(hook))
    return status(checkout, [hook.name for hook in hooks])


def _write(path: str, text: str) -> None:
    staged = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(staged, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(staged, 0o755)  # noqa: S103 - git runs no hook that is not executable
        os.replace(staged, path)
    except OSError as exc:
        raise Unknown(f"cannot be written ({exc.strerror})", code="hooks.unwritable", place=path) from None
    finally:
        if os.path.lexists(staged):
            os.unlink(staged)


def uninstall(checkout: Checkout, names: Iterable[str]) -> list[Status]:
    """Take our hooks out; one that was there before is put back. Foreign ones stay."""
    for each in status(checkout, names):
        if each.state in ("missing", "foreign"):
            continue
        os.unlink(each.path)
        if each.chained:
            os.rename(each.path + _BEFORE, each.path)
    return status(checkout, names)


def faults(checkout: Checkout) -> list[tuple[str, str]]:
    """(level, text) for `doctor`: whether each hook is there, executable and reached."""
    try:
        found = status(checkout)
    except (Unknown, NotFound) as exc:
        return [("warn", f"hooks: {exc}: {exc.hint}")]
    words = {
        "installed": ("ok", "installed"),
        "missing": ("warn", "not installed: zopp hooks install"),
        "foreign": ("warn", "somebody else's, which does not run zopp: zopp hooks install --chain"),
        "outdated": ("warn", "of another zopp or place: zopp hooks install"),
        "not-executable": ("warn", "not executable, so git does not run it: zopp hooks install"),
    }
    rows = []
    for each in found:
        level, text = words[each.state]
        if each.state == "foreign" and _by_framework(checkout, each.path):
            level, text = "ok", "the pre-commit framework's, which runs zopp-guard"
        if each.chained and each.state == "installed":
            before = each.path + _BEFORE
            runs = bool(os.stat(before).st_mode & stat.S_IXUSR)
            text += (
                ", after the one from before" if runs else "; the one from before is not executable and does not run"
            )
        rows.append((level, each.name, text))
    # One line for all of which the same is to be said.
    said: dict[tuple[str, str], list[str]] = {}
    for level, name, text in rows:
        said.setdefault((level, text), []).append(name)
    return [
        (level, f"hook{'s' * (len(names) > 1)} {', '.join(names)}: {text}") for (level, text), names in said.items()
    ]


def _by_framework(checkout: Checkout, path: str) -> bool:
    """Whether a hook is the pre-commit framework's, and its configuration has ours."""
    text = _read(path)
    if text is None or "File generated by pre-commit" not in text:
        return False
    return "zopp-guard" in (_read(os.path.join(checkout.root, ".pre-commit-config.yaml")) or "")
