"""Where zopp's own key files lie and how a private file is read. Lean.

<config>/keys/<name>.age      an age identity, or a passphrase-encrypted age file of one
<config>/keys/<name>.age.pub  its recipient, so that a protected key is unlocked only for a file that it opens
<config>/keys/<name>.ssh      an OpenSSH Ed25519 private key, protected or not; absent if an agent holds it
<config>/keys/<name>.ssh.pub  its public line
<config>/keys/current         the name in use
"""

import os
import stat

from zopp.errors import NotFound, Unknown, UsageError, ZoppError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 1 << 20
CURRENT = "current"


def folder(config_dir: str) -> str:
    return os.path.join(config_dir, "keys")


def check_name(name: str) -> str:
    """`name` itself: `[a-z0-9][a-z0-9-]{0,62}`, the form of all names in zopp. Raises UsageError."""
    if not 0 < len(name) <= 63 or name[0] == "-" or name.strip("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise UsageError("a key name is lower-case letters, digits and hyphens, at most 63", code="key_name")
    return name


def read_private(path: str, *, strict: bool = True) -> bytes:
    """The bytes of the key file `path`. With `strict` a regular file that group or others may read or write is refused
    (Unknown, `key_mode`), the fix named; pipes, as shells make them for `<(command)`, have no such mode.

    Raises NotFound if there is no such file, Unknown if it cannot be read. The opened file is the one that is judged.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound("no such key file", code="no_key_file", place=path) from None
    except (OSError, ValueError) as exc:
        raise _unreadable(path, exc) from None
    try:
        mode = os.fstat(fd).st_mode
        if strict and stat.S_ISREG(mode) and mode & 0o077:
            raise Unknown(
                f"others may read or change the key file (mode {mode & 0o777:04o})",
                code="key_mode",
                place=path,
                hint=f"chmod 600 {quote(path)}",
            )
        data = b""
        while part := os.read(fd, MAX_BYTES + 1 - len(data)):
            data += part
        if len(data) > MAX_BYTES:
            raise Unknown("the key file is larger than a megabyte", code="key_size", place=path)
        return data
    except OSError as exc:
        raise _unreadable(path, exc) from None
    finally:
        os.close(fd)


def _unreadable(path: str, exc: "OSError | ValueError") -> ZoppError:
    reason = (os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else "not a path").lower()
    return Unknown(f"the key file cannot be read ({reason})", code="key_unreadable", place=path)


def quote(path: str) -> str:
    """`path` as one shell word, for a hint that is a command to type."""
    plain = "/._-+@%,:="
    if path and all(c in plain or (c.isascii() and c.isalnum()) for c in path):
        return path
    return "'" + path.replace("'", "'\\''") + "'"


def current(config_dir: str) -> "str | None":
    """The name in use: what `current` says, else the only key there is, else None. Raises Unknown if `current` is
    damaged, since guessing would sign as somebody else."""
    keys = folder(config_dir)
    try:
        text = read_private(os.path.join(keys, CURRENT), strict=False).decode("ascii", "replace")
    except NotFound:
        names = listed(config_dir)
        return names[0] if len(names) == 1 else None
    try:
        return check_name(text.removesuffix("\n"))
    except UsageError:
        raise Unknown(
            "the name of the key in use is damaged", code="key_current", place=os.path.join(keys, CURRENT)
        ) from None


def listed(config_dir: str) -> "list[str]":
    """The names of complete keys, sorted. A key exists once its `.age` file does, which `Store` writes last."""
    try:
        found = os.listdir(folder(config_dir))
    except OSError:
        return []
    return sorted([name[:-4] for name in found if name.endswith(".age") and name[0] != "."])


def config_home(env: "Mapping[str, str]", home: str) -> str:
    """The folder of per-user settings of other tools, as sops finds it (sops-compat §13.6)."""
    import sys

    chosen = env.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(chosen):  # others are to be ignored, says the XDG specification
        return chosen
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Application Support")
    return os.path.join(home, ".config")
