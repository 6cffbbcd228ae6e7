"""The server's time, signed: so that a client with a wrong clock can sign again (policy-server.md §3.1, A24).

The log key signs the time together with the client's nonce, in a namespace of its own (SSHSIG preimage), so that an
answer fits one request only. The client moves by at most MAX_OFFSET, for this command: a lying clock must not make it
sign for a far future.
"""

from __future__ import annotations

from zopp import _fast
from zopp.errors import Denied, IntegrityError
from zopp.keys.signing import SigningKey
from zopp.keys.sshsig import preimage
from zopp.policy import canonical

NAMESPACE = "zopp-time-v1"
MAX_OFFSET = 600
"""Seconds."""


def _message(nonce: bytes, time: int) -> bytes:
    return preimage(NAMESPACE, canonical.encode({"nonce": canonical.b64(nonce), "time": time, "v": 1}))


def attest(key: SigningKey, *, nonce: bytes, time: int) -> dict[str, object]:
    """The members `nonce`, `time` (Unix seconds) and `sig` of a `clock_skew` problem."""
    return {"nonce": canonical.b64(nonce), "sig": canonical.b64(key.sign(_message(nonce, time))), "time": time}


def offset(members: dict[str, object], public: bytes, *, nonce: bytes, now: int) -> int:
    """Seconds to add to the local clock `now` for the one retry. `members` are those of the problem (their form was
    checked by `problem.parse`), `public` the log key of the policy log, `nonce` that of the refused request.
    IntegrityError (`server_time`): not signed by that key for that nonce. Denied (`clock_skew`): too far off."""
    time, sig = members.get("time"), members.get("sig")
    if type(time) is not int or type(sig) is not str or members.get("nonce") != canonical.b64(nonce):
        raise IntegrityError("the server's time answers another request", code="server_time")
    if not _fast.ed25519_verify(public, canonical.unb64(sig, 64), _message(nonce, time)):
        raise IntegrityError("the server's time is not signed by the log key", code="server_time")
    if abs(time - now) > MAX_OFFSET:
        raise Denied(
            f"this clock and the server's are {abs(time - now)} s apart, more than {MAX_OFFSET}", code="clock_skew"
        )
    return time - now
