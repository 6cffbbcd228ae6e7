"""Print a sops file without its values, as git's diff driver does for `git diff`, `git log -p` and `git show`.

One line a key: name, type, and a short digest of the ciphertext; then recipients and selector. Needs no key, no project
and no network, takes any file and always exits 0, since git ends a whole command when a converter fails.
Set up by: zopp git enroll. Lean.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from zopp.cli.context import Context

EXAMPLES = """examples:
  zopp textconv secrets/production.yaml
  git diff                       calls it for the files that .gitattributes names"""


def configure(parser: "argparse.ArgumentParser") -> None:
    """The flags of `zopp textconv`."""
    parser.add_argument("file", metavar="FILE", help="any file, in a project or not")


def run(ctx: "Context", args: "argparse.Namespace") -> int:
    """Do it."""
    return convert(args.file)


def lean(words: "list[str]") -> "int | None":
    """The plain form, `textconv FILE`; anything else is None: argparse words it."""
    if words[:1] == ["--"]:
        words = words[1:]
    elif words and words[0].startswith("-"):
        return None
    return convert(words[0]) if len(words) == 1 else None


def convert(path: str) -> int:
    """Print the file at `path`, whatever it is."""
    try:
        # A pipe or a device would be waited for; git never names one.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
        with open(fd, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "no such name"
        sys.stdout.write(f"(cannot be read: {why})\n")
        return 0
    from zopp.sopsfile import redacting

    out = sys.stdout
    try:
        _write(out, redacting.redacted(data, _format(path)))
    except BrokenPipeError:
        raise
    except Exception as exc:
        # Whatever this is, git must not stop for it, and its text may quote the file.
        out.write(f"(cannot be shown: {type(exc).__name__})\n")
    return 0


def _write(out: "object", lines: "object") -> None:
    buffer: "list[str]" = []
    for line in lines:  # type: ignore[attr-defined]
        buffer.append(line)
        if len(buffer) >= 4096:
            _flush(out, buffer)
    _flush(out, buffer)


def _flush(out: "object", buffer: "list[str]") -> None:
    text = "".join([line + "\n" for line in buffer])
    buffer.clear()
    raw = getattr(out, "buffer", None)
    if raw is None:
        out.write(text)  # type: ignore[attr-defined]
    else:
        # The locale of whoever runs git is not the file's.
        out.flush()  # type: ignore[attr-defined]
        raw.write(text.encode("utf-8", "backslashreplace"))


def _format(path: str) -> str:
    """As `sopsfile.format_of`, whose module is not loaded for it."""
    name = path.rsplit("/", 1)[-1]
    for suffix, fmt in ((".yaml", "yaml"), (".yml", "yaml"), (".json", "json"), (".env", "dotenv"), (".ini", "ini")):
        if name.endswith(suffix):
            return fmt
    return "binary"
