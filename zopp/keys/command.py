"""Run the command that a sops variable names, to get a key from its output. Off the lean path."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping

from zopp.errors import Unknown

_SECONDS = 120.0  # it may ask a password manager, which may ask its user
_MAX_BYTES = 1 << 20


def output(command: str, env: Mapping[str, str], variable: str) -> bytes:
    """What `command` prints, split as by shlex and run without a shell, its errors going to our stderr. Raises Unknown;
    no message quotes the command, which may hold a secret, or its output."""
    try:
        words = shlex.split(command)
    except ValueError:
        raise Unknown("the command cannot be split into words", code="key_command", place=variable) from None
    if not words:
        raise Unknown("the command is empty", code="key_command", place=variable)
    try:
        done = subprocess.run(  # the user's own environment names it, as for sops
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=dict(env), timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unknown(f"the command took more than {_SECONDS:.0f} s", code="key_command", place=variable) from None
    except (OSError, ValueError):
        raise Unknown("the command cannot be started", code="key_command", place=variable) from None
    if done.returncode != 0 or len(done.stdout) > _MAX_BYTES:
        raise Unknown(f"the command failed (exit {done.returncode})", code="key_command", place=variable)
    return done.stdout
