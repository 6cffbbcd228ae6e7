"""The op of PATH as a child: what it gets, how long it may take, how much it may say.

No argument and no variable of it is ever a value. Source: importers.md §1 (rule 10), §4.2.
"""

import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from zopp.errors import Unknown
from zopp.exchange.sources import op

# It may have its user asked for a fingerprint.
SECONDS = 120.0
_MAX_OUTPUT = 64 << 20
_MAX_ERRORS = 1 << 16

# What op finds itself, its account, the desktop app and the network by.
_PASSED_TEXT = """
    PATH HOME USER LOGNAME SHELL TERM TMPDIR TZ LANG LANGUAGE NO_COLOR DISPLAY WAYLAND_DISPLAY DBUS_SESSION_BUS_ADDRESS
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy SSL_CERT_FILE SSL_CERT_DIR
"""
_PASSED = frozenset(_PASSED_TEXT.split())
_PASSED_PREFIXES = ("LC_", "XDG_", "OP_")
# These would change what is printed, or print more than an error.
_DROPPED = frozenset({"OP_FORMAT", "OP_DEBUG", "OP_INCLUDE_ARCHIVE", "OP_ISO_TIMESTAMPS", "OP_RUN_NO_MASKING"})


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """What op gets of this process' environment."""
    return {
        name: value
        for name, value in env.items()
        if (name in _PASSED or name.startswith(_PASSED_PREFIXES)) and name not in _DROPPED
    }


def runner(env: Mapping[str, str]) -> op.Run:
    """Starts the op of PATH, with arguments and an environment that hold no value. Unknown (`op.missing`) without one,
    `op.slow` for one that does not end, `op.size` for one that says too much."""
    # An entry that is relative would let the folder at hand say what op is.
    folders = [folder for folder in env.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    program = shutil.which("op", path=os.pathsep.join(folders)) if folders else None
    if program is None:
        raise Unknown(
            "op, 1Password's command, is not on PATH", code="op.missing",
            hint="install it, or export a .1pux file: zopp import 1password FILE.1pux",
        )  # fmt: skip
    passed = environment(env)
    secrets = [value for name, value in passed.items() if name.startswith("OP_") and len(value) >= 16]

    def run(arguments: Sequence[str]) -> bytes:
        try:
            child = subprocess.Popen(
                [program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=passed,
            )  # fmt: skip
        except (OSError, ValueError):
            raise Unknown("op cannot be started", code="op.missing") from None
        try:
            out, err = _outputs(child)
        finally:
            child.kill()
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
            child.wait()
        if child.returncode:
            # What was cut off may end in a piece of a value, which no filter knows.
            said = err[: err.rfind(b"\n") + 1 if len(err) >= _MAX_ERRORS else None].decode("utf-8", "replace")
            for secret in secrets:
                said = said.replace(secret, "[…]")
            raise op.Failed(said)
        return out

    return run


def _outputs(child: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
    """Everything that the child says until it ends, within a time and a size."""
    assert child.stdout is not None  # both are pipes
    assert child.stderr is not None
    said = {child.stdout: bytearray(), child.stderr: bytearray()}
    end = time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        for stream in said:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(end - time.monotonic(), 0))
            if not ready:
                raise _slow()
            for key, _ in ready:
                stream = child.stdout if key.fileobj is child.stdout else child.stderr
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    selector.unregister(stream)
                elif stream is child.stderr:
                    said[stream] += piece[: _MAX_ERRORS - len(said[stream])]
                else:
                    said[stream] += piece
                if len(said[child.stdout]) > _MAX_OUTPUT:
                    raise Unknown(f"op says more than {_MAX_OUTPUT >> 20} MiB", code="op.size")
    try:
        child.wait(max(end - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        raise _slow() from None
    return bytes(said[child.stdout]), bytes(said[child.stderr])


def _slow() -> Unknown:
    return Unknown(f"op did not answer within {SECONDS:.0f} s", code="op.slow", hint="unlock 1Password and try again")
