"""zopp's attributes in git's own folder, `info/attributes`, where no tracked file wins (A15).

Linked work trees share it. `zopp init` and `zopp trust` write it, a change of the listed files brings it up to date.
"""

import os
import tempfile
from collections.abc import Iterable

from zopp.errors import Unknown, ZoppError
from zopp.policy import manifest as manifests
from zopp.repo import blocks, git, layout
from zopp.repo.layout import Checkout
from zopp.repo.workspace import Workspace


def _path(checkout: Checkout) -> str:
    return os.path.join(checkout.common_dir, "info", "attributes")


def _text(checkout: Checkout) -> str:
    try:
        with open(_path(checkout), encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise _unusable(checkout, exc) from None


def _unusable(checkout: Checkout, exc: OSError) -> Unknown:
    return Unknown(f"cannot be read or written ({exc.strerror})", code="git.info", place=_path(checkout))


def managed(ws: Workspace) -> list[str]:
    """The secrets files that manifests here list or zopp.toml names."""
    found = {path for paths in ws.settings.files.values() for path in paths}
    for scope in ws.state.envs:
        data = ws.read(layout.manifest_path(scope))
        try:
            found.update(() if data is None else manifests.parse(data).files)
        except ZoppError:
            continue  # `verify` names it
    return sorted(found)


def asked(ws: Workspace, paths: Iterable[str], names: Iterable[str]) -> bytes:
    """`git check-attr -z` of `paths`: (path, name, value) thrice a NUL. Of a work tree that git's own folder protects
    both answers, with that protection and without, since what the tree does to other clones counts, too."""
    ask = ("check-attr", "-z", "--stdin")
    data = "\0".join(paths).encode("utf-8", "surrogateescape") + b"\0"
    if ws.at is None:
        found = git.run(ws.root, *ask, *names, data=data).stdout
        if not is_protected(ws.checkout):
            return found
        with tempfile.TemporaryDirectory(prefix="zopp-") as bare:
            _empty_repository(bare)
            return found + git.run(ws.root, "--git-dir", bare, "--work-tree", ws.root, *ask, *names, data=data).stdout
    kind = git.run(ws.root, "rev-parse", "--show-object-format").stdout.decode().strip()
    objects = git.run(ws.root, "rev-parse", "--path-format=absolute", "--git-path", "objects").stdout
    with tempfile.TemporaryDirectory(prefix="zopp-") as bare:
        git.run(ws.root, "init", "-q", "--bare", "--template=", f"--object-format={kind}", bare)
        with open(os.path.join(bare, "objects", "info", "alternates"), "wb") as file:
            file.write(objects)
        git.run(bare, "--git-dir", bare, "read-tree", ws.at.revision)
        return git.run(bare, "--git-dir", bare, *ask, "--cached", *names, data=data).stdout


def _empty_repository(folder: str) -> None:
    """What `git init --bare` would make, of which git only asks for these three."""
    for name in ("objects", "refs"):
        os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, "HEAD"), "w", encoding="ascii") as file:
        file.write("ref: refs/heads/main\n")


def is_protected(checkout: Checkout) -> bool:
    """Whether zopp's block is there, in whatever state."""
    return blocks.has_block(_text(checkout))


def protect(checkout: Checkout, paths: Iterable[str]) -> None:
    """Write the block for `paths`, last in the file, so that it wins; other lines stay. Unknown `git.info` where git's
    folder cannot be written."""
    old = _text(checkout)
    new = blocks.update_attributes(old, paths)
    if new == old:
        return
    path = _path(checkout)
    staged = f"{path}.zopp-{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(staged, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(new)
        os.replace(staged, path)
    except OSError as exc:
        raise _unusable(checkout, exc) from None
    finally:
        if os.path.exists(staged):
            os.unlink(staged)


def fault(checkout: Checkout, paths: Iterable[str]) -> str | None:
    """What is wrong with the block, None if it is there, current and last."""
    text = _text(checkout)
    if not blocks.has_block(text):
        return "git's info/attributes does not protect the signed files from attributes in the tree"
    if blocks.update_attributes(text, paths) != text:
        return "zopp's block in git's info/attributes is out of date, or overridden by lines after it"
    return None
