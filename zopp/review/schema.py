"""Which keys a project's example and schema files know (review-and-ci.md §4, 'Names').

They lie in a folder that holds files of the environment; the first kind may lie beside the project's zopp.toml, too:

    .env.example, app.env.sample, .env.schema, …     names as in a .env file
    secrets.example.yaml, prod.yaml.template, …      the same keys with other values (YAML, JSON)
    schema.json, *.schema.json                       a JSON Schema's `properties`, nested

Names of a .env file are compared with the joined name (`db.user` is `db_user`), all others with the path. Only names
are read. Files come from commits and are hostile: each is at most 1 MiB, and what cannot be read knows nothing.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from zopp.errors import ZoppError
from zopp.exchange import dotenv
from zopp.repo.trees import CommitTree
from zopp.sopsfile import format_of
from zopp.sopsfile.comparing import Place
from zopp.sopsfile.file import load_plain
from zopp.sopsfile.tree import Mapping

MAX_BYTES = 1 << 20
MAX_FILES = 100
_MARKS = (".example", ".sample", ".template", ".dist", ".schema")
_MAX_DEPTH = 50

Path = tuple[str, ...]


@dataclass(slots=True)
class Known:
    """`files`: the example and schema files of one commit that count, `unread` those of them that cannot be read."""

    files: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    paths: set[Path] = field(default_factory=set)
    joined: set[str] = field(default_factory=set)

    def knows(self, place: Place) -> bool:
        """Whether one of them has this key. A list is known as a whole."""
        path = _up_to_list(place[1])
        return path in self.paths or "_".join(path) in self.joined


def _up_to_list(path: tuple[str | int, ...]) -> Path:
    out: list[str] = []
    for part in path:
        if isinstance(part, int):
            break
        out.append(part)
    return tuple(out)


def every(tree: CommitTree) -> list[str]:
    """All files of a commit that are examples or schemas by their names, sorted."""
    return [path for path in tree.paths() if _kind(path)]


def of_project(paths: Iterable[str], project: str, folders: Collection[str]) -> list[str]:
    """Those of `every` that count for an environment whose files lie in `folders`, of a project whose zopp.toml lies
    in `project`; the first MAX_FILES."""
    found = []
    for path in paths:
        folder = path.rpartition("/")[0]
        # Beside a zopp.toml lies much that is called a template and is none of secrets.
        if folder in folders or (folder == project and _kind(path) == "dotenv"):
            found.append(path)
    return found[:MAX_FILES]


def read(tree: CommitTree, paths: Iterable[str]) -> Known:
    """What these files of a commit know."""
    known = Known(list(paths))
    for path in known.files:
        try:
            data = tree.read(path) or b""
            if len(data) > MAX_BYTES:
                raise ValueError
            kind = _kind(path)
            if kind == "dotenv":
                known.joined.update(each.name for each in dotenv.parse(data).assignments)
            elif kind == "schema":
                known.paths.update(_schema(json.loads(data)))
            else:
                known.paths.update(path for doc in load_plain(data, kind).documents for path in _example(doc))
        except (ZoppError, ValueError, RecursionError):
            known.unread.append(path)
    return known


def _kind(path: str) -> str:
    """`dotenv`, `yaml`, `json` (examples), `schema`, '' for what is neither."""
    name = path.rpartition("/")[2].lower()
    if name == "schema.json" or name.endswith(".schema.json"):
        return "schema"
    for mark in _MARKS:
        stem, found, rest = name.rpartition(mark)
        if found and (not rest or rest.startswith(".")):
            if stem == ".env" or stem.endswith(".env") or stem.startswith(".env."):
                return "dotenv"
            fmt = format_of(stem + rest)
            return fmt if fmt in ("dotenv", "yaml", "json") and mark != ".schema" else ""
    return ""


def _example(node: Mapping) -> Iterator[Path]:
    # Parsers bound the depth of what they read.
    for key in node.keys():  # noqa: SIM118 - no dict
        value = node.get(key)
        if isinstance(value, Mapping) and value.keys():
            yield from ((str(key), *rest) for rest in _example(value))
        else:
            yield (str(key),)


def _schema(node: object, depth: int = 0) -> Iterator[Path]:
    properties = node.get("properties") if isinstance(node, dict) else None
    if depth > _MAX_DEPTH:
        raise ValueError
    for name, inner in properties.items() if isinstance(properties, dict) else ():
        nested = list(_schema(inner, depth + 1))
        yield from ((name, *rest) for rest in nested) if nested else [(name,)]
