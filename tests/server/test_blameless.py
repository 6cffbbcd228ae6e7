"""Whatever somebody sends who may only ask: no record of it is one that `audit verify --replay` calls a finding. Else
any member could bury a true finding under false ones."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.conftest import Database
from tests.server.live import Live, Member, Office, stanza
from tests.server.test_auth import raw
from tests.server.test_ci import Job, ci, keys_of_issuers  # noqa: F401
from zopp.client.transport import idem
from zopp.errors import ZoppError
from zopp.policy import canonical, statement
from zopp.protocol import messages, release, signing
from zopp.protocol.replay import Found, Replay

PROD = "api/production"


def found(office: Office, database: Database) -> list[Found]:
    made = Replay(genesis=office.now.ws, policy=list(office.lines))

    async def read(connection: Any) -> list[bytes]:
        rows = await connection.fetch("SELECT body FROM audit.entry WHERE log_id = $1 ORDER BY seq", office.now.ws)
        return [row["body"] for row in rows]

    for index, body in enumerate(database.run("zopp_app", read)):
        made.add(body, index)
    return made.end()


def entries(database: Database) -> int:
    return int(database.value("zopp_app", "SELECT count(*) FROM audit.entry WHERE log_id <> 'system'"))


def asked(office: Office) -> bytes:
    """A release request, whatever it names."""
    item = stanza(office.members["carol-laptop"].recipient)[0]
    sealed = office.now.envs[PROD].server_key
    if sealed is not None:
        item = stanza(sealed)[0]
    made = release.Request(ws=office.now.ws, env=PROD, purpose="read", size=0, idem=idem(), items=(item,))
    return release.build_request(made)


def signed(office: Office, who: str, *, seq: int = 1, prev: str = "", at: int = 0) -> bytes:
    """A statement that is out of place in some way."""
    member = office.members[who]
    body = statement.draft(
        "group.create", {"group": "x"}, ws=office.now.ws, seq=office.now.seq + seq, prev=prev or office.now.head,
        at=int(time.time()) + at, by=who,
    )  # fmt: skip
    line = statement.seal(body, [member.key.sign(statement.to_sign(body))])
    return messages.build_request("statement", idem=canonical.b64(idem()), line=line.decode(), size=0, ws=office.now.ws)


def key_of(office: Office, env: str) -> bytes:
    return messages.build_request("key", env=env, idem=canonical.b64(idem()), size=0, ws=office.now.ws)


def manifest(office: Office, env: str) -> bytes:
    return messages.build_request(
        "manifest", env=env, generation=1, hash="0" * 64, idem=canonical.b64(idem()), size=0, ws=office.now.ws
    )


ODD: dict[str, tuple[str, str, Callable[[Office], bytes]]] = {
    "an escaped name": ("carol-laptop", "/v1/releases/%61cme", asked),
    "an escaped route": ("carol-laptop", "/v1/%72eleases/acme", asked),
    "a query where there is none": ("carol-laptop", "/v1/releases/acme?x=y", asked),
    "a wrong seq": ("carol-laptop", "/v1/policy/acme", lambda o: signed(o, "carol-laptop", seq=5)),
    "a seq of the past": ("carol-laptop", "/v1/policy/acme", lambda o: signed(o, "carol-laptop", seq=-1)),
    "a wrong prev": ("carol-laptop", "/v1/policy/acme", lambda o: signed(o, "carol-laptop", prev="0" * 64)),
    "a far date": ("carol-laptop", "/v1/policy/acme", lambda o: signed(o, "carol-laptop", at=4000)),
    "a statement of another": ("carol-laptop", "/v1/policy/acme", lambda o: signed(o, "alice-laptop")),
    "a key of nowhere, by an admin": ("alice-laptop", "/v1/keys/acme", lambda o: key_of(o, "api/nowhere")),
    "a key of nowhere": ("carol-laptop", "/v1/keys/acme", lambda o: key_of(o, "nowhere/nowhere")),
    "a key": ("carol-laptop", "/v1/keys/acme", lambda o: key_of(o, PROD)),
    "a manifest": ("carol-laptop", "/v1/manifests/acme", lambda o: manifest(o, PROD)),
    "a manifest of nowhere": ("carol-laptop", "/v1/manifests/acme", lambda o: manifest(o, "api/nowhere")),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_request_is_no_finding(office: Office, database: Database, name: str) -> None:
    office.brokered("alice-laptop", PROD)
    who, path, body = ODD[name]
    with contextlib.suppress(ZoppError):
        office.members[who].server.post(path, body(office))
    assert found(office, database) == []


def test_a_refused_statement_of_a_wrong_seq_is_recorded_as_that(office: Office, database: Database) -> None:
    """It follows the head, so it is not stale; a client that was told so would look for a newer head in vain."""
    with pytest.raises(ZoppError) as refused:
        office.members["carol-laptop"].server.post("/v1/policy/acme", signed(office, "carol-laptop", seq=5))
    assert refused.value.code == "refused"


def test_a_refused_token_is_no_finding(office: Office, ci: Member, database: Database) -> None:  # noqa: F811
    job = Job(office, ci)
    with pytest.raises(ZoppError):
        job.register(job.token(ref="refs/heads/feature"))
    assert found(office, database) == []


def test_a_refused_token_sent_twice_is_no_finding(office: Office, ci: Member, database: Database) -> None:  # noqa: F811
    """The very bytes again: the request's nonce is used up by a refusal too."""
    job = Job(office, ci)
    path = "/v1/oidc/acme"
    body = messages.build_request(
        "oidc", jwt=job.token(ref="refs/heads/feature"), key=canonical.b64(job.key.public), recipient=ci.recipient,
        ws=office.now.ws,
    )  # fmt: skip
    sent = signing.sign(
        job.key, method="POST", target=office.origin + path, body=body, created=int(time.time()), nonce=b"n" * 16
    )
    before = entries(database)
    answers = [raw(office.origin, "POST", path, signing.headers(sent), body)[0] for _ in range(3)]
    assert answers == [403, 401, 401]
    assert entries(database) == before + 1
    assert found(office, database) == []


def test_a_job_that_registers_its_key_twice_disturbs_nobody(office: Office, ci: Member, server: Live) -> None:  # noqa: F811
    """A job can have as many tokens as it likes; the second with one key must not fail the batch that it is in."""
    job = Job(office, ci)
    member = job.register(job.token(jti="one"))
    with pytest.raises(ZoppError) as refused:
        job.register(job.token(jti="two"))
    assert (refused.value.code, refused.value.data["rule"]) == ("refused", "key_reuse")
    assert server.service is not None
    assert server.service.batcher.failing_since is None
    sealed = office.brokered("alice-laptop", PROD)
    assert office.release(member.principal, [stanza(sealed)[0]], PROD).keys[0] is not None


def test_two_registrations_of_one_key_at_once_disturb_nobody(
    office: Office,
    ci: Member,  # noqa: F811
    server: Live,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of two replicas: neither knows of the other's when it looks."""
    from zopp_server.service import Service

    async def nothing(*_: object) -> None:
        return None

    job = Job(office, ci)
    monkeypatch.setattr(Service, "ci_jobs", nothing)
    names = {job.register(job.token(jti=jti)).principal for jti in ("one", "two")}
    monkeypatch.undo()
    assert len(names) == 2
    assert server.service is not None
    assert server.service.batcher.failing_since is None
