"""A client of the ssh-agent protocol (draft-miller-ssh-agent) for two questions: which Ed25519 keys, and sign this.

Nothing an agent says is trusted: sizes and times are bounded, and a signature is verified before it is returned.
"""

from zopp import _fast
from zopp.errors import FormatError, Unknown
from zopp.keys import wire

_FAILURE = 5
_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
_MAX_ANSWER = 1 << 18
_MAX_KEYS = 1024
_CONNECT_SECONDS = 5.0
_SIGN_SECONDS = 60.0  # an agent may ask its user to confirm or to touch a token


def _ask(path: str, request: bytes, want: int, seconds: float) -> wire.Reader:
    """Send one message, return a reader over the body of its answer, which must be of type `want`."""
    if not path:
        raise Unknown("no ssh-agent (SSH_AUTH_SOCK is not set)", code="agent")
    import socket
    from time import monotonic

    end = monotonic() + seconds

    def take(count: int) -> bytes:
        data = b""
        while len(data) < count:
            # the whole answer is bounded, not each byte of it
            link.settimeout(max(end - monotonic(), 0.001))
            part = link.recv(count - len(data))
            if not part:
                raise Unknown("ssh-agent closed the connection", code="agent")
            data += part
        return data

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(min(seconds, _CONNECT_SECONDS))
            link.connect(path)
            link.sendall(wire.string(request))
            size = int.from_bytes(take(4), "big")
            if not 0 < size <= _MAX_ANSWER:
                raise Unknown("ssh-agent gave an answer of impossible size", code="agent")
            answer = take(size)
    except (OSError, ValueError) as exc:
        raise Unknown("ssh-agent does not answer", code="agent") from exc
    if answer[0] != want:
        said = "refused" if answer[0] == _FAILURE else "gave an answer of another kind"
        raise Unknown(f"ssh-agent {said}", code="agent")
    return wire.Reader(answer[1:], "ssh-agent answer")


def list_keys(path: str) -> "list[bytes]":
    """The public halves (32 bytes each, points not checked) of the Ed25519 keys that the agent offers."""
    reader = _ask(path, bytes([_REQUEST_IDENTITIES]), _IDENTITIES_ANSWER, _CONNECT_SECONDS)
    count = reader.uint32()
    if count > _MAX_KEYS:
        raise Unknown("ssh-agent offers too many keys", code="agent")
    found = []
    for _ in range(count):
        blob, _comment = reader.string(), reader.string()
        # other types, certificates and security-key types have other names
        if blob.startswith(wire.string(wire.ED25519)):
            found.append(wire.parse_public_blob(blob, "ssh-agent answer"))
    reader.end()
    return found


def sign(path: str, public: bytes, message: bytes) -> bytes:
    """The agent's raw 64-byte signature of `message` by `public`, verified. Raises Unknown, FormatError."""
    request = bytes([_SIGN_REQUEST]) + wire.string(wire.public_blob(public)) + wire.string(message) + bytes(4)
    reader = _ask(path, request, _SIGN_RESPONSE, _SIGN_SECONDS)
    inner = wire.Reader(reader.string(), "ssh-agent answer")
    reader.end()
    inner.expect(wire.ED25519)
    signature = inner.string()
    inner.end()
    if len(signature) != 64 or not _fast.ed25519_verify(public, signature, message):
        raise FormatError("ssh-agent gave a signature that does not verify", code="agent")
    return signature
