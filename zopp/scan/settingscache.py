"""Parsed rule files as plain data in the user's cache folder, by blob id and zopp's version (spec guard 4.5). Lean.

A stale, damaged or foreign entry is made anew, never trusted. Where nothing can be written, nothing is kept.
"""

import os

from zopp._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# Raised whenever the shape of what is kept changes.
_SHAPE = 1


def cached(
    environ: "Mapping[str, str]", kind: str, blob: "tuple[str, bytes]", build: "Callable[[bytes], Any]"
) -> "Any":
    """What `build` makes of a rule file's bytes (lists, dicts, text, numbers, booleans, None), from the cache if it is
    there. Errors of `build` are not kept."""
    from zopp import _fast
    from zopp.repo import userdirs

    folder = os.path.join(userdirs.cache(environ), "guard")
    path = os.path.join(folder, f"{kind}-{blob[0]}")
    head = f"zopp-guard {_SHAPE} {__version__} {kind} {blob[0]} "
    try:
        with open(path, "rb") as file:
            text = file.read()
        found = text.decode()
        body = found.removeprefix(head)
        if body != found and body[:64] == _fast.sha256(body[65:].encode()).hex():
            return _fast.json_parse(body[65:])
    except (OSError, ValueError):
        pass
    made = build(blob[1])
    _keep(folder, path, head, made)
    return made


def _keep(folder: str, path: str, head: str, made: "Any") -> None:
    import json

    from zopp import _fast

    body = json.dumps(made, separators=(",", ":"))
    staged = f"{path}.{os.getpid()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(f"{head}{_fast.sha256(body.encode()).hex()} {body}".encode())
        os.replace(staged, path)
    except OSError:
        # A read-only home, a server without one: the next run parses again.
        try:
            os.unlink(staged)
        except OSError:
            pass
