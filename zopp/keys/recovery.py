"""The recovery file: one device's identity and signing key under a passphrase, to be stored offline.

It is an age file (scrypt, armored) of an ordinary age key file, in whose comments the signing key stands. So stock age
and sops use it as it is (`sops` with SOPS_AGE_KEY_FILE), and nothing of zopp is needed to read secrets from it.
"""

from __future__ import annotations

from collections.abc import Callable

from zopp.errors import FormatError
from zopp.keys import identity, signing

_BEGIN = "# -----BEGIN OPENSSH PRIVATE KEY-----"
_END = "# -----END OPENSSH PRIVATE KEY-----"


def seal(secret: str, signer: signing.SigningKey | None, name: str, passphrase: str) -> bytes:
    """The recovery file of an identity's secret text and a signing key. `name` stands inside, for its finder."""
    made = identity.from_secret(secret, "recovery")
    lines = [f"# zopp recovery keys: {name}", f"# public key: {made.recipient}", secret]
    if signer is not None:
        openssh = signing.dump_openssh(signer, f"zopp {name}").decode("ascii")
        lines += [f"# {line}" for line in openssh.splitlines()]
    return identity.protect("\n".join(lines) + "\n", passphrase)


def open_sealed(data: bytes, passphrase: Callable[[], str]) -> tuple[str, signing.SigningKey | None]:
    """(secret text, signing key or None) of a recovery file. Raises Unknown (`locked`) for a wrong passphrase,
    FormatError for anything that `seal` does not write."""
    text = identity.unprotect(data, "recovery file", passphrase).decode("ascii", "replace")
    lines = text.split("\n")
    secrets = [line for line in lines if line and not line.startswith("#")]
    if len(secrets) != 1:
        raise FormatError("a recovery file holds exactly one identity", code="recovery")
    identity.from_secret(secrets[0], "recovery file")
    if _BEGIN not in lines:
        return secrets[0], None
    if _END not in lines:
        raise FormatError("the signing key in the recovery file is cut", code="recovery")
    block = lines[lines.index(_BEGIN) : lines.index(_END) + 1]
    openssh = "\n".join([line.removeprefix("# ") for line in block]) + "\n"
    return secrets[0], signing.load_openssh(openssh.encode())
