"""The newest checkpoint of each log that this user has verified, in user state (policy-server.md §5.3, A29).

One file a log, `logs/GENESIS.note`, holds the exact signed note. It only moves forward: to a checkpoint that was proven
to extend it. It is trust, not cache: a file that cannot be read stops the command rather than starting over.
"""

from __future__ import annotations

import fcntl
import os

from zopp.errors import FormatError, IntegrityError, ZoppError
from zopp.repo import files
from zopp.tlog import checkpoint
from zopp.tlog.checkpoint import Checkpoint
from zopp.tlog.note import Note, Verifier, parse as parse_note


def path_of(state_dir: str, genesis: str) -> str:
    """Where the checkpoint of the workspace with this genesis is kept."""
    return os.path.join(state_dir, "logs", genesis + ".note")


def load(state_dir: str, genesis: str, *logs: Verifier) -> Checkpoint | None:
    """The kept checkpoint, None if none is. IntegrityError (`checkpoint.kept`) if the file is not a checkpoint of one
    of `logs`: somebody changed it, or the log key changed without a receipt."""
    path = path_of(state_dir, genesis)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    try:
        return checkpoint.read(data, *logs)
    except ZoppError as exc:
        raise IntegrityError(
            f"the checkpoint that this user keeps does not fit the server in force: {exc.message}",
            code="checkpoint.kept",
            place=path,
            hint="compare with a colleague; if the server was set up anew on purpose: zopp trust --reset",
        ) from None


def advance(state_dir: str, genesis: str, note: Note) -> None:
    """Keep `note`, whose checkpoint the caller has verified to extend the kept one. Of two commands at once the larger
    tree stays."""
    path = path_of(state_dir, genesis)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            with open(path, "rb") as file:
                kept = checkpoint.parse_text(parse_note(file.read()).text).size
        except (FileNotFoundError, FormatError):
            kept = 0
        if checkpoint.parse_text(note.text).size > kept:
            files.replace_private(path, note.serialise())
    finally:
        os.close(lock)
