"""The plain forms of get, list, run, set and textconv, parsed by hand and answered on the short way. Lean.

`get KEY`, `list`, `run -- CMD…` and `set KEY` from a pipe, with nothing but -e and -p. Anything else, anything unusual
and everything that would have to be said in words is None: the full path runs.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from zopp.repo.quick import Quick


def try_fast(argv: "list[str]", env: "Mapping[str, str]") -> "int | None":
    """The exit code if this was a plain form and nothing was unusual, else None: the full path decides and words it."""
    if argv and argv[0] == "textconv":
        from zopp.cli import textconv

        return textconv.lean(argv[1:])
    if not argv or argv[0] not in ("get", "list", "run", "set"):
        return None
    words: list[str] = []
    command: list[str] = []
    flags: dict[str, str] = {}
    at = 1
    while at < len(argv):
        word = argv[at]
        if word == "--":
            command = argv[at + 1 :]
            break
        if word in ("-e", "--env", "-p", "--project"):
            at += 1
            flag = "e" if word in ("-e", "--env") else "p"
            if at == len(argv) or flag in flags or argv[at].startswith("-"):
                return None
            flags[flag] = argv[at]
        elif word.startswith("-"):
            return None
        else:
            words.append(word)
        at += 1
    verb = argv[0]
    if bool(command) != (verb == "run") or len(words) != (0 if verb in ("list", "run") else 1):
        return None
    project, name = flags.get("p"), flags.get("e")
    if verb == "set":
        return _set(env, project, name, words[0])
    from zopp.repo import quick

    found = quick.open_quick(os.getcwd(), env, project, name)
    if found is None:
        return None
    if verb == "list":
        return _list(found)
    if verb == "get":
        return _get(found, words[0])
    return _run(found, env, command)


def _list(found: "Quick") -> "int | None":
    out = []
    for path in found.names_of:
        for part in path:
            if not isinstance(part, int) and ("." in part or not part):
                return None  # the full path quotes such parts
        out.append(".".join([str(part) for part in path]) + "\n")
    return _say("".join(out))


def _text(value: object) -> "str | None":
    """A text, number or boolean as `get` prints it; None for other types."""
    if value.__class__ is str or value.__class__ is int:
        return str(value)
    if value.__class__ is bool:
        return "true" if value else "false"
    if value.__class__ is float:
        from zopp.sopsfile.cipher import float_text

        return float_text(value)
    return None


def _get(found: "Quick", key: str) -> "int | None":
    if '"' in key:
        return None
    parts = key.split(".")
    place = None if "" in parts else found.file_of(parts)
    if place is None:
        return None
    path, exact = place
    values = found.values(path)
    if values is None:
        return None
    text = next((_text(value) for leaf, value in values if leaf == exact), None)
    if text is None:
        return None
    return _say(text + ("\n" if sys.stdout.isatty() else ""))


def _say(text: str) -> "int | None":
    try:
        sys.stdout.write(text)
    except UnicodeError:  # nothing of it was written; the full path says so without quoting it
        return None
    return 0


def _run(found: "Quick", env: "Mapping[str, str]", command: "list[str]") -> "int | None":
    from zopp.exchange import names
    from zopp.keys.find import KEY_VARIABLES

    if env.get("CI", "").lower() in ("true", "1"):  # its output is redacted
        return None
    values = found.values()
    if values is None:
        return None
    child = dict(env)
    for name in KEY_VARIABLES:
        child.pop(name, None)
    taken: set[str] = set()
    for path, value in values:
        name = "_".join([str(part) for part in path])
        text = _text(value)
        if text is None or name in taken or names.reason(name) or "\0" in text:
            return None
        taken.add(name)
        child[name] = text
    try:
        os.execvpe(command[0], command, child)  # noqa: S606 - the point of the command; no shell is involved
    except (OSError, ValueError):
        return None


def _set(env: "Mapping[str, str]", project: "str | None", name: "str | None", key: str) -> "int | None":
    if os.isatty(0) or "." in key or '"' in key or "=" in key:
        return None
    from zopp.exchange import names

    if names.reason(key):
        return None
    from time import time

    from zopp.repo import quick

    # Read once and kept: if the full path has to take over, it finds the text here.
    try:
        value = _stdin().decode()
    except (OSError, UnicodeDecodeError):
        return None
    if not value or "\0" in value:
        return None
    done = quick.set_text(os.getcwd(), env, project, name, key, value, int(time()))
    if done is None:
        return None
    what, found = done
    if what == quick.UNCHANGED:
        sys.stderr.write(f"{key} in {found.shown()} is that already; nothing written\n")
    else:
        count = found.readers()
        sys.stderr.write(f"set {key} in {found.shown()} ({count} reader{'s' * (count != 1)})\n")
    return 0


_read: "list[bytes]" = []


def _stdin() -> bytes:
    if not _read:
        parts = []
        while part := os.read(0, 1 << 16):
            parts.append(part)
        _read.append(b"".join(parts))
    return _read[0]


def stdin_bytes() -> bytes:
    """All of standard input, also if the short way has read it already. UsageError if there is none."""
    try:
        return _stdin()
    except OSError as exc:
        from zopp.errors import UsageError

        raise UsageError(
            f"cannot be read ({exc.strerror})",
            code="stdin",
            place="standard input",
            hint="pipe something in, or < FILE",
        ) from None
