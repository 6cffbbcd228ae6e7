"""The one door to pyrage: what it raises stays behind it. Lean, but pyrage costs 1-2 ms: import where it is needed.

pyrage's errors may quote what they were given, and a Rust panic arrives as pyo3's PanicException, which is no
Exception. Both become `AgeError`, whose text is one of this module's own; an interrupt passes as it is.
"""

import pyrage  # type: ignore[import-untyped, unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class AgeError(Exception):
    """pyrage refused. `no_match`: well formed, and none of the keys opens it."""

    def __init__(self, *, no_match: bool = False) -> None:
        super().__init__("no key opens it" if no_match else "age refused its input")
        self.no_match = no_match


def _call(function: "Callable[..., Any]", *arguments: object, **options: object) -> "Any":
    try:
        return function(*arguments, **options)
    except BaseException as exc:
        if isinstance(exc, Exception) or type(exc).__name__ == "PanicException":
            raise AgeError(no_match=str(exc) == "No matching keys found") from None
        raise


def generate() -> "tuple[str, str]":
    made = pyrage.x25519.Identity.generate()
    return str(made), str(made.to_public())


def x25519_identity(text: str) -> "Any":
    return _call(pyrage.x25519.Identity.from_str, text)


def ssh_identity(openssh: bytes) -> "Any":
    return _call(pyrage.ssh.Identity.from_buffer, openssh)


def encrypt(recipient: str, payload: bytes) -> bytes:
    """Armored. `recipient` must have been checked: some points make pyrage panic, others make it encrypt to nobody."""
    kind = pyrage.ssh if recipient.startswith("ssh-") else pyrage.x25519
    made: bytes = _call(pyrage.encrypt, payload, [_call(kind.Recipient.from_str, recipient)], armored=True)
    return made


def decrypt(data: bytes, identities: "list[Any]") -> bytes:
    made: bytes = _call(pyrage.decrypt, data, identities)
    return made


def encrypt_passphrase(payload: bytes, passphrase: str) -> bytes:
    made: bytes = _call(pyrage.passphrase.encrypt, payload, passphrase, armored=True)
    return made


def decrypt_passphrase(data: bytes, passphrase: str) -> bytes:
    """pyrage itself refuses work factors that would take much longer than those it writes."""
    made: bytes = _call(pyrage.passphrase.decrypt, data, passphrase)
    return made
