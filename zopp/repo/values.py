"""Reading and changing single values across the files of one environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zopp import sopsfile
from zopp.errors import FormatError, IntegrityError, NotFound, UsageError, ZoppError
from zopp.repo import exposure
from zopp.repo.clock import timestamp
from zopp.repo.environment import Environment, require_changeable, require_readable
from zopp.repo.unlock import Keyring, data_keys, decrypt_all
from zopp.repo.workspace import Workspace
from zopp.sopsfile import Drop, Put, Tree

if TYPE_CHECKING:
    from zopp.repo.draft import Draft  # what only reads does not wait for it

Path = tuple[str | int, ...]
Change = Put | Drop


def parse_key(text: str) -> Path:
    """A typed KEY: `DB.password`, `servers.0.host`, `"a.b".c`. A part of digits only is a list index where a list is,
    else a key; `resolve` decides. UsageError if a quote is left open or a part is empty."""
    parts: list[str | int] = []
    at = 0
    while True:
        if at < len(text) and text[at] == '"':
            end = text.find('"', at + 1)
            if end < 0 or (end + 1 < len(text) and text[end + 1] != "."):
                raise UsageError("a quote in the key is not closed", code="key.malformed")
            parts.append(text[at + 1 : end])
            at = end + 1
        else:
            end = text.find(".", at)
            end = len(text) if end < 0 else end
            if end == at:
                raise UsageError("the key has an empty part", code="key.malformed")
            parts.append(text[at:end])
            at = end
        if at >= len(text):
            return tuple(parts)
        at += 1
        if at == len(text):
            raise UsageError("the key ends in a dot", code="key.malformed")


@dataclass(slots=True)
class Opened:
    """A file of an environment, decrypted."""

    path: str
    tree: Tree
    leaves: list[Path]


def open_all(
    ws: Workspace, env: Environment, keyring: Keyring, purpose: str = "read", known: dict[str, bytes] | None = None
) -> list[Opened]:
    """Every file of a readable environment, decrypted; a key that stands in two files is an error. `purpose` and
    `known` as in `unlock.data_keys`."""
    require_readable(env)
    found = []
    seen: dict[Path, str] = {}
    for path, file in env.files.items():
        assert file.sops is not None
        leaves = file.sops.paths()
        for leaf in leaves:
            if seen.setdefault(leaf, path) != path:
                raise IntegrityError(
                    f"{exposure.dotted(leaf)} stands in {seen[leaf]} too; one environment has each key once",
                    code="key.twice",
                    place=path,
                )
        found.append((path, leaves))
    trees = decrypt_all(ws, env, list(env.files.values()), keyring, purpose, known)
    return [Opened(path, tree, leaves) for (path, leaves), tree in zip(found, trees, strict=True)]


def locate(env: Environment, path: Path) -> tuple[str, Path] | None:
    """The file that holds `path` (a leaf or a mapping above one) and its exact form; None if no file does."""
    return locate_all(env, [path]).get(path)


def locate_all(env: Environment, paths: Iterable[Path]) -> dict[Path, tuple[str, Path]]:
    """`locate` for many paths at once, in one walk over the leaves; those that no file holds are left out."""
    wanted = {tuple(map(str, path)): path for path in paths}
    depths = sorted({len(path) for path in wanted})
    found: dict[Path, tuple[str, Path]] = {}
    for name, file in env.files.items():
        for leaf in file.sops.paths() if file.sops is not None else ():
            typed = tuple(map(str, leaf))
            for depth in depths:
                path = wanted.get(typed[:depth]) if depth <= len(typed) else None
                if path is None:
                    continue
                if found.setdefault(path, (name, leaf[:depth]))[0] != name:
                    raise IntegrityError(
                        f"{exposure.dotted(path)} stands in {found[path][0]} and {name}; one environment has each key "
                        "once",
                        code="key.twice",
                    )
    return found


def missing(env: Environment, path: Path) -> NotFound:
    """The error for a key that no file holds, with near names."""
    known = sorted({exposure.dotted(leaf) for file in env.files.values() if file.sops for leaf in file.sops.paths()})
    return NotFound(
        f"{env.project}/{env.name} has no key {exposure.dotted(path)}", code="key.missing", candidates=known
    )


@dataclass(slots=True)
class Edited:
    """What a change did: per file the dotted keys, nothing for files that stayed as they were."""

    changed: dict[str, list[str]]

    def __bool__(self) -> bool:
        return bool(self.changed)


def target_file(ws: Workspace, env: Environment, wanted: str | None) -> str:
    """Where new keys of `env` go: `--file`, else its first file, else the first of zopp.toml, else the usual place."""
    configured = list(ws.settings.files.get(env.name, ())) if env.project == ws.project else []
    known = list(env.files) or configured
    if wanted is not None:
        full = f"{ws.folder}/{wanted}" if ws.folder and wanted not in known else wanted
        if full not in known and full not in configured:
            raise NotFound(
                f"{env.project}/{env.name} has no file {wanted}",
                code="file.unlisted",
                candidates=[*known, *configured],
                hint=f"list it in zopp.toml under [env.{env.name}] first",
            )
        return full
    if known:
        return known[0]
    return f"{ws.folder}/secrets/{env.name}.yaml" if ws.folder else f"secrets/{env.name}.yaml"


def check_writable(draft: Draft, env: Environment, *, on_old_base: bool = False) -> None:
    """Refuse what `apply` would refuse whatever the value: Denied, or the findings that stop a writer."""
    from zopp.repo.signer import require

    require(draft.state, draft.signer.principal, "write", env.scope)
    require_changeable(env, on_old_base=on_old_base)


def apply(
    draft: Draft,
    env: Environment,
    keyring: Keyring,
    changes: Sequence[Change],
    *,
    file: str | None = None,
    allow_clear: bool = False,
    on_old_base: bool = False,
) -> Edited:
    """Draft `changes`, each in the file that holds its key; new keys in `target_file`, and there too what concerns
    another document than the first. Equal values change nothing, not even `lastmodified`. Exposed values that change
    are marked."""
    ws = draft.ws
    check_writable(draft, env, on_old_base=on_old_base)
    by_file: dict[str, list[Change]] = {}
    places = locate_all(env, [change.path for change in changes if not change.document])
    for change in changes:
        place = None if change.document else places.get(change.path)
        if place is None:
            if isinstance(change, Drop) and not change.document:
                raise missing(env, change.path)
            by_file.setdefault(target_file(ws, env, file), []).append(change)
        else:
            change.path = place[1]
            by_file.setdefault(place[0], []).append(change)
    edited = Edited({})
    present = [path for path in by_file if path in env.files]
    opened = data_keys(ws, env, [env.files[path] for path in present], keyring, "edit", draft.keys)
    keys = {path: key.data for path, key in zip(present, opened, strict=True)}
    for path, todo in by_file.items():
        if path in env.files:
            _edit_existing(draft, env, keys[path], path, todo, allow_clear=allow_clear, edited=edited)
        else:
            _create(draft, env, path, todo, allow_clear=allow_clear, edited=edited)
    for name, data in exposure.mark_changed(ws, env.scope, edited.changed).items():
        draft.put(name, data)
    return edited


def _edit_existing(
    draft: Draft,
    env: Environment,
    key: bytes,
    path: str,
    todo: list[Change],
    *,
    allow_clear: bool,
    edited: Edited,
) -> None:
    listed = env.files[path]
    assert listed.sops is not None
    assert listed.data is not None
    try:
        before = listed.sops.decrypt(key)
        data = sopsfile.edit(listed.sops, key, todo, lastmodified=timestamp(draft.now), allow_clear=allow_clear)
    except ZoppError as exc:
        exc.place = exc.place or path
        raise
    if data == listed.data:
        return
    # A walk down to each of many would cost their square.
    leaves = leaf_map(before) if len(todo) > 1 else {}
    edited.changed[path] = [_name(one) for one in todo if isinstance(one, Drop) or not _same(before, one, leaves)]
    draft.secrets(env, path, data, key, made=False)


def _name(change: Change) -> str:
    """As `sopsfile.comparing.name` has it, which is not on the way of `zopp set`."""
    return f"[document {change.document}] " * bool(change.document) + exposure.dotted(change.path)


def _same(tree: Tree, change: Put, leaves: dict[tuple[int, Path], tuple[str, object]]) -> bool:
    leaf = leaves.get((change.document, change.path))
    if leaf is not None and not isinstance(change.value, (dict, list, tuple)):
        return sopsfile.same(leaf[1], change.value)
    try:
        value = sopsfile.lookup(tree.documents[change.document], change.path)
    except ZoppError:
        return False
    return sopsfile.same(value, sopsfile.from_plain(change.value))


def _create(
    draft: Draft, env: Environment, path: str, todo: list[Change], *, allow_clear: bool, edited: Edited
) -> None:
    fmt = sopsfile.format_of(path)
    if draft.ws.read(path) is not None:
        raise IntegrityError(
            "exists, but no manifest lists it; zopp does not write over it", code="file.unlisted", place=path
        )
    key = os.urandom(32)
    tree = _new_tree(path, [change for change in todo if isinstance(change, Put)], allow_clear=allow_clear)
    wrapped = draft.wrap(env, key)
    data = sopsfile.encrypt(
        tree,
        fmt,
        key,
        wrapped.groups,
        threshold=wrapped.threshold,
        lastmodified=timestamp(draft.now),
        allow_clear=allow_clear,
    )
    edited.changed[path] = [exposure.dotted(change.path) for change in todo]
    draft.secrets(env, path, data, key, made=True, share=wrapped.share)


def _new_tree(place: str, puts: list[Put], *, allow_clear: bool) -> Tree:
    """The plaintext of a new file: nested mappings as the paths say, notes as comment lines above their keys."""
    top = sopsfile.Mapping()
    # Beside the tree, as a walk over its keys for each of many puts would cost their square.
    made: dict[Path, object] = {(): top}
    for put in puts:
        if not allow_clear and not sopsfile.DEFAULT_SELECTOR.selects(put.path):
            raise FormatError(
                f"{exposure.dotted(put.path)} would lie in the clear: "
                f"its name ends in {sopsfile.DEFAULT_SELECTOR.pattern}",
                code="clear_value",
                place=place,
                hint="choose another name, or say --clear",
            )
        path = tuple(map(str, put.path))
        node = top
        for depth in range(1, len(path)):
            if path[:depth] not in made:
                made[path[:depth]] = sopsfile.Mapping()
                node.items.append((path[depth - 1], made[path[:depth]]))
            below = made[path[:depth]]
            if not isinstance(below, sopsfile.Mapping):
                raise UsageError(f"{exposure.dotted(put.path)} leads through a value", code="through_scalar")
            node = below
        if path in made:
            raise UsageError(f"{exposure.dotted(put.path)} is given twice", code="key.twice")
        _note_made(made, path, sopsfile.from_plain(put.value))
        node.items += [(sopsfile.Comment(" " + line), None) for line in (put.note or "").splitlines() if line.strip()]
        node.items.append((path[-1], made[path]))
    return Tree([top])


def _note_made(made: dict[Path, object], path: Path, node: object) -> None:
    made[path] = node
    for name, below in node.items if isinstance(node, sopsfile.Mapping) else ():
        if isinstance(name, str):
            _note_made(made, (*path, name), below)


def flatten(opened: Iterable[Opened]) -> dict[str, object]:
    """Name → scalar for `run` and `export`: nested names joined with `_`, list items by their index. IntegrityError if
    two leaves get one name."""
    out: dict[str, object] = {}
    origin: dict[str, Path] = {}
    for file in opened:
        for leaf in file.leaves:
            name = "_".join(str(part) for part in leaf)
            if name in out:
                raise IntegrityError(
                    f"{exposure.dotted(leaf)} and {exposure.dotted(origin[name])} both become {name}",
                    code="name.twice",
                    place=file.path,
                )
            origin[name] = leaf
            out[name] = sopsfile.lookup(file.tree, leaf)
    return out


def plain(node: object) -> object:
    """A node as JSON can hold it."""
    value = sopsfile.to_plain(node)
    if isinstance(value, sopsfile.Timestamp):
        return value.text
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def leaf_map(tree: Tree) -> dict[tuple[int, Path], tuple[str, object]]:
    """(document, path) → (type name, value) of every leaf, null and empty containers included; comments left out."""
    out: dict[tuple[int, Path], tuple[str, object]] = {}

    def walk(document: int, path: Path, node: object) -> None:
        if isinstance(node, sopsfile.Mapping):
            for key, value in node.items:
                if not isinstance(key, sopsfile.Comment):
                    walk(document, (*path, key), value)
            if not path or node.items:
                return
        elif isinstance(node, sopsfile.Sequence):
            index = 0
            for item in node.items:
                if not isinstance(item, sopsfile.Comment):
                    walk(document, (*path, index), item)
                    index += 1
            if node.items:
                return
        out[(document, path)] = (type(node).__name__, node if not hasattr(node, "items") else None)

    for number, document in enumerate(tree.documents):
        walk(number, (), document)
    return out
