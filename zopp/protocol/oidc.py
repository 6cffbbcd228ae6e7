"""What ties a CI token to the key and the recipient that use it (policy-server.md §3.3).

GitHub lets a job choose its token's audience. A token whose audience ends in the hash of the job's signing key and of
the service's recipient serves nobody else: a thief can neither sign with another key nor have answers sealed to
another recipient. The job computes it before it asks for the token, the server when it validates.
"""

from __future__ import annotations

from zopp import _fast
from zopp.errors import FormatError
from zopp.keys import agefile, bech32, signing
from zopp.policy import canonical


def binding(job_key: bytes, recipient: str) -> str:
    """base64url of SHA-256(`job_key` ‖ the 32 bytes of `recipient`): 43 characters. `job_key` is a raw Ed25519 public
    key. FormatError for a weak key (A8) and for all but a canonical `age1…` recipient."""
    signing.check_public(job_key)
    point = bech32.decode("age", agefile.canonical_recipient(recipient))
    if point is None:
        raise FormatError("a CI job's recipient is an age1… one", code="recipient_kind")
    return canonical.b64(_fast.sha256(job_key + point))


def audience(base: str, job_key: bytes, recipient: str) -> str:
    """The audience to ask GitHub for: `base` is the rule's audience, or where it has none the server's origin."""
    return f"{base}#{binding(job_key, recipient)}"
