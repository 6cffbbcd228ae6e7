"""A team whose environment `prod` is brokered, with a stand-in for the server."""

from __future__ import annotations

from tests.brokered.standin import StandIn
from tests.support import Team, User
from zopp import sopsfile
from zopp.keys import agefile, bech32
from zopp.sopsfile import SopsFile


def adopt(team: Team, standin: StandIn) -> None:
    """Alice takes the workspace to this server."""
    team.alice.ok("server", "adopt", standin.origin, "--code", "-", "--yes", stdin=standin.code)


def sops_of(user: User, env: str = "prod", path: str = "") -> SopsFile:
    path = path or f"secrets/{env}.yaml"
    return sopsfile.read(user.read(path), sopsfile.format_of(path), strict=False)


def shares_of(user: User, standin: StandIn, env: str = "prod", path: str = "") -> tuple[bytes, bytes]:
    """Both shares, by the user's own key and the server's."""
    meta = sops_of(user, env, path).metadata
    first = next(e for e in meta.groups[0] if e.recipient == user.recipient)
    second = meta.groups[1][0]
    stanza, body = _stanza(second.enc)
    for _, key in standin.server_keys[f"api/{env}"]:
        file_key = key.open(stanza, body)
        if file_key is not None:
            from zopp.keys import filekey

            share = filekey.payload(agefile.dearmor(second.enc), file_key)
            return agefile.unwrap(first.enc, user.identities), share
    raise AssertionError("no server key opens it")


def _stanza(enc: str) -> tuple[bytes, bytes]:
    from zopp.keys import filekey

    return filekey.stanza_of(agefile.dearmor(enc))


def data_key(user: User, standin: StandIn, env: str = "prod", path: str = "") -> bytes:
    return sopsfile.join_key(list(shares_of(user, standin, env, path)))


def server_identity(standin: StandIn, env: str = "prod", generation: int = -1) -> str:
    """The server's private key as stock sops takes it, which no user ever has."""
    secret, _ = standin.server_keys[f"api/{env}"][generation]
    return bech32.encode("age-secret-key-", secret).upper()
